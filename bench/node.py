"""A node for the benches: containerd, a registry with TLS, a name server, in a folder that goes at the end."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stage.authority import Authority
from stage.containerd import Containerd
from stage.names import Nameserver
from stage.registries import Registry

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed agent is not compiled anew at each start

# structlog loads rich where the development tools brought it; an installed agent has none
AS_INSTALLED = "import sys; sys.modules['rich'] = None; from agent.__main__ import main; sys.exit(main())"
COMMAND = (sys.executable, "-c", AS_INSTALLED)


# the peak memory of a process counts that of the one that forked it: this one is small, a bench is not
_METER = (
    "import os, sys; pid = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:]); _, status, used = os.wait4(pid, 0)\n"
    "open(sys.argv[1], 'w').write(str(used.ru_maxrss)); sys.exit(os.waitstatus_to_exitcode(status))"
)


def metered(command: Sequence[str], folder: Path) -> tuple[str, int]:
    """What a command printed, and its peak RSS in KiB. Raises `CalledProcessError`."""
    peak = folder / "peak"
    meter = [sys.executable, "-ISc", _METER, str(peak), *command]
    done = subprocess.run(meter, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, int(peak.read_text())


@dataclass(frozen=True, slots=True)
class Node:
    """What a bench works on."""

    folder: Path
    authority: Authority
    names: Nameserver
    registry: Registry
    containerd: Containerd


@contextmanager
def node() -> Iterator[Node]:
    """Everything started; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="stage-bench-"))
    authority = Authority()
    certificate = authority.issue("registry.example", ips=["10.99.0.2"])
    try:
        with (
            Nameserver() as names,
            Registry(folder / "r", certificate=certificate) as registry,
            Containerd(folder / "n") as containerd,
        ):
            containerd.trust(registry.name, authority.pem)
            yield Node(folder, authority, names, registry, containerd)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
