"""The daemon as a process on the stage: started with its settings, watched through its port and its log."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stage.containerd import Containerd

PORT = 9100
FAST = "background_bytes_per_second: 1GiB, background_cpu_share: 1, boot_bytes_per_second: 1GiB, crash_interval: 1s"
SLOW = "background_bytes_per_second: 64KiB, boot_bytes_per_second: 64KiB"


class Run:
    """A ``node-agent run`` under way; ``get`` answers status and text of a page."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self.log = log

    def get(self, page: str, accept: str = "*/*") -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}{page}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def value(self, series: str) -> float:
        """The value of one series in /metrics."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(series + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no series {series}")


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not _holds(condition):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (OSError, AssertionError):
        return False


# structlog loads rich where the development tools brought it; an installed agent has none
AS_INSTALLED = "import sys; sys.modules['rich'] = None; from agent.__main__ import main; sys.exit(main())"


@contextmanager
def running(folder: Path, endpoint: str, settings: str = "") -> Iterator[Run]:
    config = folder / "settings.yaml"
    config.write_text(f"state_dir: {folder}/state\nlisten: {{address: 127.0.0.1}}\n{settings}")
    log = folder / "log"
    command = [sys.executable, "-c", AS_INSTALLED, "run", "--config", str(config), "--runtime-endpoint", endpoint]
    with log.open("w") as err, subprocess.Popen(command, stderr=err, text=True) as process:
        try:
            yield Run(process, log)
        finally:
            process.kill()


def settings(verify: str = FAST, repair: str = "") -> str:
    return f"verify: {{{verify}}}\nrepair: {{{repair}}}\nprobe: {{cached_images: false}}\n"


def unpacked(containerd: Containerd, name: str, content: bytes) -> Path:
    """The file that an image's layer was unpacked to, found by what is in it."""
    folders = (containerd.root / "io.containerd.snapshotter.v1.overlayfs" / "snapshots").iterdir()
    (found,) = (each / "fs" / name for each in folders if holds(each / "fs" / name, content))
    return found


def holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def events(run: Run, words: str) -> list[dict[str, Any]]:
    return [line for line in run.lines() if words in str(line["event"])]


def mark(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "state" / "boot.json").read_text())
    return found


def standings(folder: Path) -> dict[str, Any]:
    file = folder / "state" / "verified.json"
    found: dict[str, Any] = json.loads(file.read_text())["images"] if file.exists() else {}
    return found


def stop(run: Run) -> None:
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(5) == 0
