"""Passes of the background scan in virtual time: only the reader and the list of images are stood in for."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Self

import pytest

from agent.causes import Cause
from agent.checks.view import Limits
from agent.config import check
from agent.model import CacheReport, Depth, Finding, Image, ImageReport, Trigger, Verdict
from agent.node.boot import Boot
from agent.round import scan as scan_module
from agent.round.look import Eyes
from agent.round.mender import Mender
from agent.round.scan import Listeners, Scan
from agent.round.standing import Standings

BEGIN = 1_000_000.0


class Node:
    """A cache of two images; a look at one takes ``minutes``. ``looks`` are names and seconds since the start."""

    def __init__(self, folder: Path, interval: str, minutes: float) -> None:
        settings = check(f"state_dir: {folder}\nverify: {{interval: {interval}}}\nrepair: {{automatic: false}}", "yaml")
        self.now = BEGIN
        self.minutes = minutes
        self.bad: set[str] = set()
        self.looks: list[tuple[str, float]] = []
        self._readers: list[list[str]] = []
        self.said: list[str] = []
        eyes = Eyes(None, 1.0, None, "test", Limits(1.0, 1.0, 1.0))
        tell = Listeners(lambda _: None, lambda _: None, lambda _: None, self.said.append, lambda _, __: None)
        self.scan = Scan(
            settings,
            eyes,
            boot=Boot(folder / "boot.json", "one", self.said.append),
            standings=Standings(folder / "verified.json", self.said.append),
            mender=Mender(settings, eyes, warn=self.said.append, complain=lambda _, __: None),
            tell=tell,
        )

    async def cached(self) -> tuple[Image, ...]:
        return (Image("old", ("old",), (), created=1.0), Image("new", ("new",), (), created=2.0))

    def reader(self, *_: object) -> "Reading":
        self._readers.append([])
        return Reading(self, self._readers[-1])

    @property
    def passes(self) -> list[list[str]]:
        """What each reader read, but for those that only looked at unfinished downloads."""
        return [read for read in self._readers if read]

    def until(self, seconds: float) -> None:
        async def run() -> None:
            while self.now < BEGIN + seconds:
                rest = await self.scan._pass()
                self.now += rest

        asyncio.run(run())


class Reading:
    def __init__(self, node: Node, read: list[str]) -> None:
        self._node = node
        self._read = read

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def verify(self, image: Image, depth: Depth, trigger: Trigger, *, afresh: bool) -> CacheReport:
        name = f"{image.id}{' afresh' if afresh else ''}"
        self._read.append(name)
        self._node.looks.append((name, self._node.now - BEGIN))
        self._node.now += self._node.minutes * 60
        bad = Finding("cache", "x", Verdict.BAD, Cause.BLOB_CORRUPT)
        findings = (bad,) if image.id in self._node.bad else ()
        report = ImageReport(image, Verdict.BAD if findings else Verdict.OK, findings)
        return CacheReport(trigger, depth, (report,))

    async def ingests(self, trigger: Trigger) -> CacheReport:
        return CacheReport(trigger, Depth.BLOBS, ())

    def forget(self, image: Image) -> None: ...


Made = Callable[[str, float], Node]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    def make(interval: str, minutes: float) -> Node:
        node = Node(tmp_path, interval, minutes)
        store = SimpleNamespace(cached=node.cached)
        clock = SimpleNamespace(time=lambda: node.now, monotonic=lambda: node.now)

        async def runtime_of(_: Eyes) -> object:
            return store

        monkeypatch.setattr(scan_module, "time", clock)
        monkeypatch.setattr(scan_module, "runtime_of", runtime_of)
        monkeypatch.setattr(scan_module, "store_of", lambda runtime: runtime)
        monkeypatch.setattr(scan_module, "Reader", node.reader)
        return node

    return make


def test_a_pass_reads_what_is_due_the_newest_first_and_the_next_one_waits_for_its_time(made: Made) -> None:
    node = made("1h", 1)
    node.until(3540)
    assert node.passes == [["new", "old"]]
    node.until(3720)
    assert node.passes == [["new", "old"], ["new", "old"]]


def test_a_pass_longer_than_the_interval_ends_so_that_nothing_is_answered_from_memory(made: Made) -> None:
    node = made("1h", 70)
    node.until(6 * 70 * 60)
    assert node.passes == [["new", "old"]] * 3


def test_what_is_corrupt_is_read_afresh_after_an_hour_then_after_two_and_four(made: Made) -> None:
    node = made("168h", 0)
    node.bad = {"old"}
    node.until(20 * 3600)
    assert [(name, round(when / 3600)) for name, when in node.looks] == [
        ("new", 0),
        ("old", 0),
        ("old afresh", 1),
        ("old afresh", 3),
        ("old afresh", 7),
        ("old afresh", 15),
    ]
