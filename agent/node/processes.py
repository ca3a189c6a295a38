"""Processes of the node: who listens on a socket, and with which environment it was started.

Proxies, ``SSL_CERT_FILE`` and the resolver's switches work from the environment in which containerd was
started; only ``/proc/<pid>/environ`` tells it. Reading that, and ``/proc/<pid>/root``, asks for ptrace
rights (proc(5), ptrace(2) "PTRACE_MODE_READ_FSCREDS"); ``cmdline`` and ``stat`` ask for nothing.
"""

import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from agent.causes import Cause
from agent.model import Fault

PROC = Path("/proc")
_PEERCRED = struct.Struct("iII")  # struct ucred: pid, uid, gid


@dataclass(frozen=True, slots=True)
class Process:
    """A process as ``/proc`` shows it. ``started`` is in epoch seconds, ``root`` is its ``/`` as a path of ours.

    The environment may hold a proxy's password: ``repr`` leaves it out.
    """

    pid: int
    cmdline: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    started: float
    root: Path


def peer_pid(socket_path: Path, seconds: float = 2.0) -> int | None:
    """The process that listens on a unix socket; None if it is in a PID namespace that we cannot see.

    `Fault` RUNTIME_UNAVAILABLE if nothing listens there, UNKNOWN if we may not connect. Of a socket that
    systemd opened (socket activation) the answer is process 1 (unix(7), SO_PEERCRED).
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect(str(socket_path))
        except PermissionError as error:
            raise Fault(
                Cause.UNKNOWN, f"may not connect to {socket_path}: it takes root, and under SELinux the type spc_t"
            ) from error
        except OSError as error:
            raise Fault(Cause.RUNTIME_UNAVAILABLE, f"nothing answers on {socket_path}: {_words(error)}") from error
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid: int = _PEERCRED.unpack(credentials)[0]
    return pid or None


def read_process(pid: int, proc: Path = PROC) -> Process:
    """Everything of `Process`; `Fault` UNKNOWN names the permission that is missing."""
    folder = proc / str(pid)
    started = _started(folder, proc)
    cmdline = _strings(_read(folder / "cmdline"))
    environ = dict(entry.partition("=")[::2] for entry in _strings(_read(folder / "environ")) if "=" in entry)
    return Process(pid, cmdline, MappingProxyType(environ), started, folder / "root")


def _started(folder: Path, proc: Path) -> float:
    """Boot time plus field 22 of ``stat``, in ticks; the name in brackets may hold spaces and brackets itself."""
    fields = _read(folder / "stat").rpartition(b")")[2].split()
    boot = [line.split()[1] for line in _read(proc / "stat").splitlines() if line.startswith(b"btime ")]
    try:
        return int(boot[0]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (IndexError, ValueError) as error:
        raise Fault(Cause.UNKNOWN, f"{folder / 'stat'} is not in the form of proc(5)") from error


def _strings(content: bytes) -> tuple[str, ...]:
    return tuple(part.decode(errors="surrogateescape") for part in content.split(b"\0") if part)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise Fault(
            Cause.UNKNOWN,
            f"may not read {path}: it takes the capability SYS_PTRACE, and an AppArmor profile Unconfined",
        ) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Fault(
            Cause.UNKNOWN, f"no {path}: the process has ended, or the pod lacks hostPID: true to see it"
        ) from error
    except OSError as error:
        raise Fault(Cause.UNKNOWN, f"cannot read {path}: {_words(error)}") from error


def _words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
