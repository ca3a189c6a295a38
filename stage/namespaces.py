"""The ground the stage stands on: a mount and a network namespace of this process's own.

``10.99.0.1`` to ``10.99.0.60`` are addresses for servers; `BLACK_HOLE` takes packets and never answers (a
neighbour entry for a machine that is not there, so that a connect times out instead of failing at once);
`RESOLVER` is where ``/etc/resolv.conf`` points. Every other address is unreachable, so nothing that is
tested can talk to the outside.
"""

import ctypes
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESSES = tuple(f"10.99.0.{number}" for number in range(1, 61))
BLACK_HOLE = "10.99.1.99"
RESOLVER = "10.99.0.53"
RESOLV_CONF = Path("/etc/resolv.conf")

# What each program is packaged in (Debian); `missing` and its one-line message go by this.
PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "docker-registry": "docker-registry",
    "tinyproxy": "tinyproxy",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "setpriv": "util-linux",
}
# Debian keeps some of them where only root's PATH leads.
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# A caller's proxy or CA settings would silently change what is tested.
FOREIGN_VARIABLES = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "FTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_FILES = {
    "/etc/resolv.conf": f"nameserver {RESOLVER}\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    # Whatever else the machine asks for names (systemd-resolved, mDNS) is not there.
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_entered_by: set[int] = set()


class StageError(RuntimeError):
    """The stage cannot be set up; the text says in one line what to change."""


def enter() -> None:
    """Put this process, while it has but one thread that matters, on its own ground; once only.

    Threads and programs started later stand there too. Threads started before stay outside (harmless for
    pytest-xdist's, which only reads a pipe). Raises `StageError` when that is impossible.
    """
    if os.getpid() in _entered_by:
        return
    _refuse_unless_possible()
    libc = ctypes.CDLL(None, use_errno=True)
    _call("unshare", libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET))
    _call("mount /", libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    _lay_network()
    _cover_files(libc)
    # Wherever its state is, containerd 1.6 keeps the sockets of its shims here, and runc what it runs.
    Path("/run/containerd").mkdir(exist_ok=True)
    _call("mount tmpfs", libc.mount(b"stage", b"/run/containerd", b"tmpfs", 0, None))
    _forget_foreign_variables()
    _entered_by.add(os.getpid())


def missing() -> dict[str, str]:
    """Programs of the stage that are not on PATH, with the package that has each."""
    return {program: package for program, package in PROGRAMS.items() if shutil.which(program, path=SEARCHED) is None}


@contextmanager
def resolvers(*addresses: str, options: str = "") -> Iterator[None]:
    """Let ``/etc/resolv.conf`` name other servers for a while.

    Go reads the file again at most every 5 s: restart a containerd that has looked something up before.
    """
    before = RESOLV_CONF.read_text()
    RESOLV_CONF.write_text("".join(f"nameserver {address}\n" for address in addresses) + options)
    try:
        yield
    finally:
        RESOLV_CONF.write_text(before)


def _refuse_unless_possible() -> None:
    if os.geteuid() != 0:
        raise StageError("the stage needs root, to make namespaces: run `make test` as root")
    if shutil.which("ip", path=SEARCHED) is None:
        raise StageError("the stage needs the program `ip`: install the package iproute2 (`make test` does)")


def _call(what: str, result: int) -> None:
    if result == 0:
        return
    number = ctypes.get_errno()
    hint = " (a container needs CAP_SYS_ADMIN: run it privileged)" if number in {errno.EPERM, errno.EINVAL} else ""
    raise StageError(f"the stage cannot make its namespaces: {what}: {os.strerror(number)}{hint}")


def _lay_network() -> None:
    commands = [
        "link set lo up",
        *(f"address add {address}/32 dev lo" for address in ADDRESSES),
        "link add veth0 type veth peer name veth1",
        "address add 10.99.1.1/24 dev veth0",
        "link set veth0 up",
        "link set veth1 up",
        f"neigh add {BLACK_HOLE} lladdr 02:00:00:00:00:01 dev veth0",
    ]
    program = shutil.which("ip", path=SEARCHED) or "ip"
    text = "\n".join(commands)
    done = subprocess.run([program, "-batch", "-"], input=text, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise StageError(f"the stage cannot lay its network: ip: {' '.join(done.stderr.split())}")


def _cover_files(libc: ctypes.CDLL) -> None:
    """Lay files of ours over the machine's: from a file system in memory that lives as long as they are used.

    Deleted files on disk would do as well, but nothing can be mounted over those: no stage within a stage.
    """
    with tempfile.TemporaryDirectory(prefix="stage-") as folder:
        _call("mount tmpfs", libc.mount(b"stage", folder.encode(), b"tmpfs", 0, None))
        try:
            for number, (target, text) in enumerate(_FILES.items()):
                _cover(libc, Path(folder, str(number)), Path(target), text)
        finally:
            _call("umount tmpfs", libc.umount2(folder.encode(), _MNT_DETACH))


def _cover(libc: ctypes.CDLL, ours: Path, target: Path, text: str) -> None:
    ours.write_text(text)
    ours.chmod(0o644)
    # A link is followed, since the file that it leads to is the one that is read.
    _call(f"mount {target}", libc.mount(bytes(ours), bytes(target.resolve()), None, _MS_BIND, None))


def _forget_foreign_variables() -> None:
    for name in [name for name in os.environ if name.upper() in FOREIGN_VARIABLES]:
        del os.environ[name]
