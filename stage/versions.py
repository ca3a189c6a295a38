"""Which containerds there are to test on: the one on PATH, and those that ``setup.sh containerds`` unpacked beside it.

The folders of ``.containerd`` are named by Debian's suites, since what a suite has changes; what each really is, it
tells itself.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stage.namespaces import SEARCHED, StageError

UNPACKED = Path(__file__).resolve().parents[1] / ".containerd"
SUITES = ("trixie", "sid")
_VERSION = re.compile(r"\bv?(\d+\.\d+)\.\d+\S*")


@dataclass(frozen=True, slots=True)
class Version:
    """A containerd's ``name`` ("1.7"; the suite's where there is none), its binary, what it calls itself in full."""

    name: str
    binary: Path
    full: str

    def expect(self) -> None:
        """Raise `StageError` unless it is there."""
        if not self.full:
            raise StageError(
                f"there is no {self.binary}: run `make setup`, which unpacks the containerd of {self.name}"
            )


@cache
def versions() -> tuple[Version, ...]:
    """All of them, the installed one first; one that is missing is among them, so that a test of it fails."""
    installed = Path(shutil.which("containerd", path=SEARCHED) or "containerd")
    binaries = {"installed": installed} | {suite: UNPACKED / suite / "usr/bin/containerd" for suite in SUITES}
    found = {(version := _ask(suite, binary)).name: version for suite, binary in reversed(binaries.items())}
    return tuple(reversed(found.values()))


def _ask(suite: str, binary: Path) -> Version:
    """Its own words are ``containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1``."""
    if not binary.is_file():
        return Version(suite, binary, "")
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    match = _VERSION.search(done.stdout)
    if match is None:
        raise StageError(f"{binary} --version says no version: {done.stdout.strip() or done.stderr.strip()}")
    return Version(match[1], binary, match[0])
