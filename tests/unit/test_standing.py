"""What is known of the cached images, and that it outlives a restart."""

import json
import math
import os
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Depth, Finding, Image, ImageReport, Verdict
from agent.round import standing as standing_module
from agent.round.standing import Standing, Standings, decode, encode, noted, summary

BAD = Standing(1.0, 2.0, Verdict.BAD, (Cause.BLOB_CORRUPT,), 3, "boot")
OK = Standing(5.0, 5.0, boot="boot")


def image(name: str) -> Image:
    return Image(f"sha256:{name}", (f"registry.example/{name}:1",), ())


def report(name: str, verdict: Verdict, *causes: Cause) -> ImageReport:
    findings = tuple(Finding("cache", "x", verdict, cause) for cause in causes)
    return ImageReport(image(name), verdict, findings)


@pytest.mark.parametrize(
    ("old", "verdict", "depth", "new"),
    [
        (Standing(), Verdict.OK, Depth.FULL, Standing(9.0, 9.0, boot="now")),
        (Standing(), Verdict.OK, Depth.QUICK, Standing(looked=9.0)),
        (OK, Verdict.OK, Depth.BLOBS, Standing(5.0, 9.0, boot="boot")),
        (BAD, Verdict.OK, Depth.FULL, Standing(9.0, 9.0, boot="now")),
        (BAD, Verdict.OK, Depth.QUICK, Standing(1.0, 9.0, Verdict.BAD, (Cause.BLOB_CORRUPT,), 3, "boot")),
        (BAD, Verdict.BAD, Depth.FULL, Standing(9.0, 9.0, Verdict.BAD, (Cause.SNAPSHOT_CORRUPT,), 4, "now")),
        (OK, Verdict.BAD, Depth.QUICK, Standing(5.0, 9.0, Verdict.BAD, (Cause.SNAPSHOT_CORRUPT,), 1, "boot")),
        (OK, Verdict.UNKNOWN, Depth.FULL, Standing(5.0, 9.0, Verdict.UNKNOWN, (Cause.SNAPSHOT_CORRUPT,), 1, "boot")),
        (BAD, Verdict.UNKNOWN, Depth.FULL, Standing(1.0, 9.0, Verdict.BAD, (Cause.BLOB_CORRUPT,), 4, "boot")),
    ],
)
def test_only_a_full_look_that_could_tell_counts_and_only_one_clears(
    old: Standing, verdict: Verdict, depth: Depth, new: Standing
) -> None:
    causes = () if verdict is Verdict.OK else (Cause.SNAPSHOT_CORRUPT,)
    assert noted(old, report("a", verdict, *causes), depth, 9.0, "now") == new


def test_an_image_that_was_mended_has_no_causes_any_more() -> None:
    mended = ImageReport(image("a"), Verdict.OK, report("a", Verdict.BAD, Cause.BLOB_CORRUPT).findings)
    assert noted(BAD, mended, Depth.FULL, 9.0, "now").causes == ()


def test_the_summary_counts_states_and_causes_and_names_the_corrupt() -> None:
    standings = {
        "sha256:a": OK,
        "sha256:b": BAD,
        "sha256:c": Standing(looked=3.0),
        "sha256:d": Standing(0.0, 3.0, Verdict.UNKNOWN, (Cause.UNKNOWN,), 1),
        "sha256:gone": BAD,
    }
    found = summary([image(name) for name in "abcde"], standings, stuck=2)
    assert found.states == {"ok": 1, "bad": 1, "unknown": 1, "unverified": 2}
    assert found.causes == {Cause.BLOB_CORRUPT: 1, Cause.UNKNOWN: 1, Cause.INGEST_STUCK: 2}
    assert found.oldest == 1.0
    assert found.corrupt == ("registry.example/b:1",)


def test_the_summary_of_nothing_has_every_state_and_no_age() -> None:
    found = summary([], {})
    assert found.states == {"ok": 0, "bad": 0, "unknown": 0, "unverified": 0}
    assert math.isnan(found.oldest)


def test_what_is_written_is_what_is_read() -> None:
    standings = {"sha256:a": OK, "sha256:b": BAD}
    assert decode(encode(standings)) == standings


class Disk:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "state" / "verified.json"
        self.said: list[str] = []

    def open(self) -> Standings:
        return Standings(self.path, self.said.append)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_it_outlives_a_restart_and_keeps_only_what_is_cached(disk: Disk) -> None:
    standings = disk.open()
    for name in "ab":
        standings.note(report(name, Verdict.OK), Depth.FULL, 9.0, "now")
    standings.save(0.0)
    assert disk.open().keys() == {"sha256:a", "sha256:b"}
    standings.keep({"sha256:b", "sha256:c"})
    standings.save(100.0)
    assert dict(disk.open()) == {"sha256:b": Standing(9.0, 9.0, boot="now")}
    assert disk.said == []


def test_what_is_corrupt_is_looked_at_again_when_something_was_mended(disk: Disk) -> None:
    standings = disk.open()
    standings.note(report("a", Verdict.BAD, Cause.BLOB_CORRUPT), Depth.FULL, 9.0, "now")
    standings.note(report("b", Verdict.OK), Depth.FULL, 9.0, "now")
    standings.retry()
    assert (standings["sha256:a"].looked, standings["sha256:b"].looked) == (0.0, 9.0)


def test_it_is_written_at_most_every_half_minute_and_when_told(disk: Disk) -> None:
    standings = disk.open()
    standings.note(report("a", Verdict.OK), Depth.FULL, 9.0, "now")
    standings.save(100.0)
    standings.note(report("b", Verdict.OK), Depth.FULL, 9.0, "now")
    standings.save(129.0)
    assert len(disk.open()) == 1
    standings.save(130.0)
    assert len(disk.open()) == 2
    standings.note(report("c", Verdict.OK), Depth.FULL, 9.0, "now")
    standings.save(131.0, at_once=True)
    assert len(disk.open()) == 3


def test_nothing_is_written_when_nothing_changed(disk: Disk) -> None:
    standings = disk.open()
    standings.keep({"sha256:a"})
    standings.save(0.0, at_once=True)
    assert not disk.path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        b'{"version": 2, "images": {}}',
        b'{"version": 1, "images": []}',
        b'{"version": 1, "images": {"a": 1}}',
        b'{"version": 1, "images": {"a": {"verified": 1}}}',
        encode({"a": OK}).replace(b'"ok"', b'"fine"'),
        encode({"a": BAD}).replace(b"blob_corrupt", b"sadness"),
        encode({"a": OK}).replace(b'"verified": 5.0', b'"verified": NaN'),
        encode({"a": OK}).replace(b'"looked": 5.0', b'"looked": Infinity'),
    ],
)
def test_a_file_that_cannot_be_understood_is_set_aside_and_all_is_verified_anew(disk: Disk, content: bytes) -> None:
    disk.path.parent.mkdir()
    disk.path.write_bytes(content)
    assert len(disk.open()) == 0
    (said,) = disk.said
    assert "verified anew" in said
    (aside,) = disk.path.parent.glob("verified.json.corrupt-*")
    assert aside.read_bytes() == content


def test_a_file_too_long_is_set_aside(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_module, "LIMIT", 10)
    disk.path.parent.mkdir()
    disk.path.write_bytes(encode({"a": OK}))
    assert len(disk.open()) == 0


def test_a_full_disk_costs_the_position_and_is_told_once(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(28, os.strerror(28))

    fsync = os.fsync
    standings = disk.open()
    standings.note(report("a", Verdict.OK), Depth.FULL, 9.0, "now")
    monkeypatch.setattr(os, "fsync", fail)
    for now in (0.0, 40.0, 80.0):
        standings.save(now)
    (said,) = disk.said
    assert "No space left" in said
    monkeypatch.setattr(os, "fsync", fsync)
    standings.save(120.0)
    assert json.loads(disk.path.read_text())["images"].keys() == {"sha256:a"}
