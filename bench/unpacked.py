"""Verifying unpacked layers beside ``igzip -dc layer | tar --compare`` on the same ones, and quietly in the background.

The peer is Python's isal, which is as fast as Intel's own igzip; it compares contents, but sees neither extra files nor
xattrs, and takes whiteouts for damage.
"""

import contextlib
import ctypes
import json
import mmap
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from bench.node import COMMAND, Node, node
from bench.processes import cpu_of, descendants, rss_of
from bench.promise import Promise
from stage.images import MIB, Layer, image, layer

ROUNDS = 3
SMALL, SMALL_LAYERS = 6_000, 7  # files of 16 KiB on average
LARGE = (10, 7, 4)  # files of 64 MiB in each of as many layers
SHARING = 200
PORT = 9177


def run() -> Iterator[Promise]:
    """2 GiB and 42,000 files in 10 layers; medians of 3 rounds, ours and the peer's in turns."""
    with node() as made:
        name = made.registry.push("bench/unpacked", "1", image(*_layers()))
        made.containerd.pull(name, seconds=900)
        layers = _unpacked(made, name)
        yield from _speed(made, layers)
        yield from _hot_pages(made, layers)
        made.containerd.remove(name)
        yield from _background(made)
        yield from _sharing(made)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A layer's blob, and the directory that it was unpacked to."""

    blob: Path
    folder: Path


def _speed(made: Node, layers: list[Unpacked]) -> Iterator[Promise]:
    full: list[float] = []
    quick: list[float] = []
    theirs: list[float] = []
    peak = 0
    for _ in range(ROUNDS):
        seconds, memory = _verify(made, "full")
        full.append(seconds)
        peak = max(peak, memory)
        theirs.append(_tar_compare(layers))
        quick.append(_verify(made, "quick")[0])
    us, them, glance = statistics.median(full), statistics.median(theirs), statistics.median(quick)
    note = f"{us:.2f} s, igzip | tar {them:.2f} s"
    yield Promise("full verification, times igzip | tar --compare", them / us, "x", 2.0, note=note)
    yield Promise("quick, share of igzip | tar --compare", glance / them, "x", most=0.1, note=f"{glance:.2f} s")
    yield Promise("peak RSS of full verification, children too", peak / 1024, "MiB", most=128)


def _hot_pages(made: Node, layers: list[Unpacked]) -> Iterator[Promise]:
    """A file that somebody keeps reading stays in the page cache; one that nobody read does not come into it."""
    files = sorted((path for each in layers for path in each.folder.rglob("*") if path.is_file()), key=_size)
    hot, cold = files[-1], files[-2]
    for path in (hot, cold):
        _drop(path)
    hot.read_bytes()
    _verify(made, "full")
    yield Promise("hot file of another process that is still in the page cache", _resident(hot), "of 1", 0.99)
    yield Promise("cold file that is in the page cache afterwards", _resident(cold), "of 1", most=0.05)


def _background(made: Node) -> Iterator[Promise]:
    """The daemon's own scan, at its default of 10 MiB/s and 5 % of a core."""
    name = made.registry.push("bench/background", "1", image(_small(3000, 99), _large(1, 64)))
    made.containerd.pull(name, seconds=300)
    total = _told(made, "full")["bytes"]
    settings = made.folder / "background.yaml"
    settings.write_text(f"state_dir: {made.folder}/state\nlisten: {{port: {PORT}}}\nprobe: {{cached_images: false}}\n")
    command = [*COMMAND, "run", "--config", str(settings), "--runtime-endpoint", made.containerd.endpoint]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        try:
            began, cpu = _first_answer(), cpu_of(daemon.pid)
            while _metric("node_agent_verified_bytes_total") < total:
                time.sleep(0.5)  # each answer costs the daemon time, too
                assert time.monotonic() - began < 120
            seconds = time.monotonic() - began
            spent = cpu_of(daemon.pid) - cpu
        finally:
            daemon.terminate()
    made.containerd.remove(name)
    yield Promise("rate of the background scan", total / seconds / MIB, "MiB/s", 9.0, 11.0)
    yield Promise("its share of a core", spent / seconds, "of 1", most=0.06)


def _sharing(made: Node) -> Iterator[Promise]:
    """200 images of 5 layers each; 20 bases of 4 layers, which 10 images share."""
    bases = [
        [layer({f"lib/{base}-{n}": random.Random(base * 4 + n).randbytes(200_000)}) for n in range(4)]
        for base in range(20)
    ]
    for number in range(SHARING):
        own = layer({"bin/app": random.Random(-number).randbytes(20_000)})
        made.containerd.pull(made.registry.push(f"bench/sharing-{number}", "1", image(*bases[number % 20], own)))
    told = _told(made, "full")
    there = sum(path.stat().st_size for path in _blobs(made)) + sum(map(_taken, _snapshots(made)))
    note = f"{len(told['images'])} images, {told['bytes'] / MIB:.0f} MiB in {told['seconds']:.1f} s"
    yield Promise(
        "bytes read for 200 images that share, times what is there", told["bytes"] / there, "x", most=1.001, note=note
    )


def _layers() -> Iterator[Layer]:
    yield from (_small(SMALL, number) for number in range(SMALL_LAYERS))
    yield from (_large(count, 64) for count in LARGE)


def _small(count: int, seed: int) -> Layer:
    """A layer of many files of 1 to 31 KiB, fifty in a folder."""
    draw = random.Random(seed)
    return layer({f"usr/lib/{seed}/{n // 50}/{n}.py": _text(draw, draw.randrange(1, 32) * 1024) for n in range(count)})


def _large(count: int, mib: int) -> Layer:
    draw = random.Random(count)
    return layer({f"opt/{number}.bin": _text(draw, mib * MIB) for number in range(count)})


def _text(draw: random.Random, size: int) -> bytes:
    """Words, which compress about as programs and their libraries do: to a third."""
    found = bytearray()
    while len(found) < size:
        start = draw.randrange(len(WORDS) // 2)
        found += draw.randbytes(16) + WORDS[start : start + min(size - len(found), MIB)]
    return bytes(found[:size])


def _words() -> bytes:
    draw = random.Random(0)
    vocabulary = [draw.randbytes(draw.randrange(2, 10)).hex().encode() for _ in range(3000)]
    return b" ".join(draw.choices(vocabulary, k=400_000))


WORDS = _words()


def _unpacked(made: Node, name: str) -> list[Unpacked]:
    """The layers of the one image that is cached, in the order in which they lie on each other."""
    target = made.containerd.ctr("images", "list", f"name=={name}").splitlines()[1].split()[2]
    manifest = json.loads(made.containerd.blob(target).read_bytes())
    top = next(line.split()[0] for line in _tops(made))
    (mount,) = json.loads(made.containerd.ctr("snapshots", "view", "--mounts", "bench", top))
    made.containerd.drop_view("bench")
    lower = next(each for each in mount["Options"] if each.startswith("lowerdir=")).removeprefix("lowerdir=")
    blobs = [made.containerd.blob(each["digest"]) for each in manifest["layers"]]
    return [Unpacked(*pair) for pair in zip(blobs, map(Path, reversed(lower.split(":"))), strict=True)]


def _tops(made: Node) -> Iterator[str]:
    lines = made.containerd.ctr("snapshots", "list").splitlines()[1:]
    parents = {parts[1] for line in lines if len(parts := line.split()) > 2}
    return (line for line in lines if line.split()[0] not in parents)


def _told(made: Node, depth: str) -> dict[str, Any]:
    """What ``verify`` answers about all images."""
    command = [*COMMAND, "verify", "--depth", depth, "--output", "json"]
    done = subprocess.run(
        [*command, "--runtime-endpoint", made.containerd.endpoint], check=True, stdout=subprocess.PIPE, text=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _verify(made: Node, depth: str) -> tuple[float, int]:
    """Seconds that the command says it took, and the peak of the RSS of it and its children together, in KiB."""
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, sum(map(rss_of, descendants(os.getpid()))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        seconds = _told(made, depth)["seconds"]
    finally:
        done.set()
        thread.join()
    return seconds, peak


def _tar_compare(layers: list[Unpacked]) -> float:
    """One layer after the other. Status 1 is a difference: tar takes the times of folders for one."""
    began = time.monotonic()
    for each in layers:
        with subprocess.Popen([sys.executable, "-m", "isal.igzip", "-dc", each.blob], stdout=subprocess.PIPE) as igzip:
            tar = ["tar", "--compare", "--file=-", f"--directory={each.folder}"]
            done = subprocess.run(tar, stdin=igzip.stdout, capture_output=True, text=True, check=False)
        assert done.returncode in {0, 1}, done.stderr
        assert igzip.returncode == 0
    return time.monotonic() - began


def _blobs(made: Node) -> Iterator[Path]:
    return (made.containerd.root / "io.containerd.content.v1.content/blobs/sha256").iterdir()


def _snapshots(made: Node) -> Iterator[Path]:
    return made.containerd.root.glob("io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs")


def _taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _size(path: Path) -> int:
    return path.stat().st_size


def _drop(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _resident(path: Path) -> float:
    """The share of a file's pages that are in the page cache (mincore)."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        pages = (len(view) + mmap.PAGESIZE - 1) // mmap.PAGESIZE
        states = (ctypes.c_ubyte * pages)()
        buffer = (ctypes.c_ubyte * len(view)).from_buffer(view)
        failed = ctypes.CDLL(None).mincore(buffer, ctypes.c_size_t(len(view)), states)
        del buffer
        assert not failed
        return sum(state & 1 for state in states) / pages


def _first_answer() -> float:
    """When the daemon begins to answer, which is when its scan begins."""
    while True:
        with contextlib.suppress(URLError, ConnectionError):
            _metric("node_agent_verified_bytes_total")
            return time.monotonic()
        time.sleep(0.02)


def _metric(name: str) -> float:
    with urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))
