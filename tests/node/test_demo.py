"""The demo is what the README shows first: it does what it says, and leaves nothing, however it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "stage.demo")


def left(folder: Path) -> list[str]:
    """Processes that were started with this folder for their temporary files, and the files."""
    mark = f"TMPDIR={folder}".encode()
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal() and mark in environment(entry)]
    return [*map(str, processes), *map(str, folder.iterdir())]


def environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []


@pytest.fixture
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, in a process group of its own as a shell starts it, with `folder` for its temporary files."""
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        yield process
        process.kill()


def test_every_step_does_what_it_says_and_nothing_is_left(demo: subprocess.Popen[str], folder: Path) -> None:
    output, _ = demo.communicate(timeout=100)
    assert demo.returncode == 0, output
    assert "nothing is left" in output
    assert "\x1b" not in output
    assert left(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_it_is_interrupted(
    demo: subprocess.Popen[str], folder: Path, number: signal.Signals
) -> None:
    assert demo.stdout is not None
    next(line for line in demo.stdout if line.startswith("$ node-agent diagnose"))
    assert left(folder)
    os.killpg(demo.pid, number)  # as Ctrl-C does: everything that was started gets it
    time.sleep(0.05)
    os.killpg(demo.pid, number)  # impatience changes nothing
    output, _ = demo.communicate(timeout=30)
    assert output.endswith("demo: interrupted; everything was removed\n")
    assert demo.returncode == 130
    assert left(folder) == []


def test_without_root_it_says_so_in_one_line() -> None:
    code = "import os; from stage.demo.__main__ import main; os.seteuid(65534); raise SystemExit(main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "demo: it starts a containerd and makes network namespaces, which takes root: run `sudo make demo`\n"
    )


def test_what_the_machine_lacks_is_named_in_one_line() -> None:
    code = (
        "import stage.namespaces as n; n.PROGRAMS = {'no-such-program': 'no-such-package'}\n"
        "from stage.demo.__main__ import main; raise SystemExit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "demo: missing: no-such-program; on Debian `make setup` as root installs them (no-such-package)\n"
    )
