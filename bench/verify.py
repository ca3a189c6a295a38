"""Verifying blobs beside ``openssl dgst -sha256`` on the same files, with as many processes as we have readers."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.node import COMMAND, Node, metered, node
from bench.promise import Promise
from stage.images import filler, image

LAYERS, MIB = 4, 512
READERS = 2
ROUNDS = 5


def run() -> Iterator[Promise]:
    """2 GiB in 4 layers; medians of 5 rounds, ours and the peer's in turns."""
    with node() as made:
        name = made.registry.push("bench/big", "1", image(*(filler(MIB, f"bench-{i}") for i in range(LAYERS))))
        made.containerd.pull(name, seconds=300)
        blobs = (made.containerd.root / "io.containerd.content.v1.content/blobs/sha256").iterdir()
        files = sorted(blobs, key=lambda path: path.stat().st_size)[-LAYERS:]
        for state, prepare in (("warm", _warm), ("cold", _cold)):
            yield from _compare(made, files, state, prepare)


def _compare(made: Node, files: list[Path], state: str, prepare: Callable[[list[Path]], None]) -> Iterator[Promise]:
    ours: list[float] = []
    theirs: list[float] = []
    peak = 0
    for _ in range(ROUNDS):
        prepare(files)
        seconds, memory = _verify(made)
        ours.append(seconds)
        peak = max(peak, memory)
        prepare(files)
        theirs.append(_openssl(files))
    us, them = statistics.median(ours), statistics.median(theirs)
    note = f"{LAYERS * MIB / us:.0f} MiB/s, openssl {LAYERS * MIB / them:.0f} MiB/s"
    yield Promise(f"throughput {state}, times openssl dgst with {READERS} processes", them / us, "x", 0.95, note=note)
    yield Promise(f"peak RSS of verify, {state}", peak / 1024, "MiB", most=96)


def _verify(made: Node) -> tuple[float, int]:
    """Seconds that the command says it took, and its peak RSS in KiB."""
    settings = made.folder / "settings.yaml"
    settings.write_text(f"verify: {{concurrency: {READERS}}}\n")
    command = [*COMMAND, "verify", "--depth", "blobs", "--output", "json", "--config", str(settings)]
    command += ["--runtime-endpoint", made.containerd.endpoint]
    printed, peak = metered(command, made.folder)
    answer: dict[str, float] = json.loads(printed)
    return answer["seconds"], peak


def _openssl(files: list[Path]) -> float:
    """The same files, dealt out to as many processes."""
    began = time.monotonic()
    shares = [files[number::READERS] for number in range(READERS)]
    processes = [
        subprocess.Popen(["openssl", "dgst", "-sha256", *map(str, share)], stdout=subprocess.DEVNULL)
        for share in shares
    ]
    assert [process.wait() for process in processes] == [0] * READERS
    return time.monotonic() - began


def _warm(files: list[Path]) -> None:
    for path in files:
        with path.open("rb") as file:
            while file.read(1 << 22):
                pass


def _cold(files: list[Path]) -> None:
    os.sync()
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
