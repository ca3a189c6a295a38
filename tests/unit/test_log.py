"""What the log says of the cache: each fault and each deed, and nothing of what is sound."""

from typing import Any

import structlog

from agent.causes import Cause
from agent.model import CacheReport, Deed, Depth, Finding, Image, ImageReport, Trigger, Verdict
from agent.sinks.log import Once, tell_cache, tell_mended

IMAGE = Image("sha256:a", ("registry.example/a:1",), ())
FINDING = Finding(
    "cache",
    "sha256:layer",
    Verdict.BAD,
    Cause.SNAPSHOT_CORRUPT,
    "bin/app: other bytes",
    {"path": "bin/app", "expected": "aa", "found": "bb", "secret": "x"},
)


def told(*reports: ImageReport) -> list[Any]:
    with structlog.testing.capture_logs() as lines:
        tell_cache(structlog.get_logger(), CacheReport(Trigger.CRASH, Depth.FULL, reports))
    return lines


def test_a_sound_image_is_not_news() -> None:
    assert told(ImageReport(IMAGE, Verdict.OK, ())) == []


def test_each_fault_has_a_line_with_its_proof() -> None:
    (line,) = told(ImageReport(IMAGE, Verdict.BAD, (FINDING,)))
    assert line == {
        "event": "registry.example/a:1 is corrupt: bin/app: other bytes",
        "log_level": "warning",
        "trigger": "crash",
        "image": "registry.example/a:1",
        "cause": "snapshot_corrupt",
        "subject": "sha256:layer",
        "path": "bin/app",
        "expected": "aa",
        "found": "bb",
    }


def test_what_could_not_be_told_is_no_warning() -> None:
    unknown = Finding("cache", "x", Verdict.UNKNOWN, Cause.UNKNOWN, "it changed")
    (line,) = told(ImageReport(IMAGE, Verdict.UNKNOWN, (unknown,)))
    assert (line["log_level"], line["event"]) == ("info", "registry.example/a:1 could not be verified: it changed")


def mended(verdict: Verdict, *deeds: Deed) -> Any:
    with structlog.testing.capture_logs() as lines:
        tell_mended(structlog.get_logger(), ImageReport(IMAGE, verdict, (FINDING,), deeds))
    (line,) = lines
    return line


def test_a_repair_says_what_was_done_and_what_that_came_to() -> None:
    line = mended(Verdict.OK, Deed("fetch", "a", "done", 0.25))
    assert (line["log_level"], line["event"]) == ("info", "registry.example/a:1 is sound again")
    assert line["deeds"] == [{"action": "fetch", "outcome": "done", "seconds": 0.25}]
    line = mended(Verdict.BAD, Deed("leave", "a", "it is in use by pod x", 0.0))
    assert (line["log_level"], line["event"]) == ("warning", "registry.example/a:1 is as it was: it is in use by pod x")
    assert mended(Verdict.BAD, Deed("fetch", "a", "done", 0.1))["event"].endswith("mending did not help")


def test_each_trouble_is_told_once_for_as_long_as_its_reason_stays_the_same() -> None:
    said: list[str] = []
    once = Once(said.append)
    for trouble, reason in (("a", "x"), ("b", "y"), ("a", "x"), ("b", "y"), ("a", ""), ("a", "x"), ("b", "z")):
        once(trouble, reason)
    assert said == ["a: x", "b: y", "a: x", "b: z"]
