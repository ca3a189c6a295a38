"""How soon the commands answer, and how small the daemon idles."""

import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.node import COMMAND, Node, node
from bench.promise import Promise
from stage.images import image, layer

ROUNDS = 9
IDLE = 10.0


def run() -> Iterator[Promise]:
    """Medians of 9 starts; the daemon after its first round and ten idle seconds."""
    yield Promise("node-agent --version", _version(), "s", most=0.25, note=f"bare python {_bare():.3f} s")
    with node() as made:
        made.containerd.pull(made.registry.push("bench/app", "1", image(layer({"app": b"x"}))))
        seconds, resident = _daemon(made)
    yield Promise("run: from its start to /metrics", seconds, "s", most=1.5)
    yield Promise("run: RSS when idle", resident / 1024, "MiB", most=64)


def _version() -> float:
    return _timed([*COMMAND, "--version"])


def _bare() -> float:
    return _timed([COMMAND[0], "-c", "pass"])


def _timed(command: list[str]) -> float:
    taken: list[float] = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


def _daemon(made: Node) -> tuple[float, int]:
    """Seconds until the first scrape was answered, and KiB of RSS later."""
    settings = made.folder / "run.yaml"
    settings.write_text(f"state_dir: {made.folder}/state\n")
    command = [*COMMAND, "run", "--config", str(settings), "--runtime-endpoint", made.containerd.endpoint]
    began = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            seconds = _first_scrape(began)
            time.sleep(IDLE)
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.terminate()
    (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    return seconds, resident


def _first_scrape(began: float) -> float:
    while time.monotonic() - began < 20:
        try:
            with urllib.request.urlopen("http://127.0.0.1:9100/metrics", timeout=5) as answer:
                assert b"node_agent_build_info" in answer.read()
            return time.monotonic() - began
        except OSError:
            time.sleep(0.01)
    raise TimeoutError("no /metrics within 20 s")
