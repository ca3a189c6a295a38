"""Which image is next, in virtual time."""

import math

import pytest

from agent.model import Image, Verdict
from agent.round.schedule import AGAIN, SKEW, due_at, newest_first, pause, upcoming
from agent.round.standing import Standing

WEEK = 7 * 86400.0
NOW = 1_000_000_000.0


def image(name: str, created: float = 0.0) -> Image:
    return Image(name, (name,), (), created=created)


def ok(age: float) -> Standing:
    return Standing(NOW - age, NOW - age)


def bad(age: float, tries: int = 1, verdict: Verdict = Verdict.BAD) -> Standing:
    return Standing(NOW - age, NOW - age, verdict, (), tries)


@pytest.mark.parametrize(
    ("standing", "due"),
    [
        (None, -math.inf),
        (Standing(looked=NOW), -math.inf),  # a quick look only
        (ok(0), NOW + WEEK),
        (ok(WEEK), NOW),
        (bad(0), NOW + AGAIN),
        (bad(0, 2), NOW + 2 * AGAIN),
        (bad(0, 5), NOW + 16 * AGAIN),
        (bad(0, 50), NOW + WEEK),  # no longer than any other
        (bad(0, 10**6), NOW + WEEK),
        (bad(0, verdict=Verdict.UNKNOWN), NOW + AGAIN),
        (Standing(0.0, NOW, Verdict.BAD, (), 1), NOW + AGAIN),
        (ok(-SKEW), NOW + SKEW + WEEK),
        (ok(-SKEW - 1), -math.inf),  # written by a clock that was ahead
    ],
)
def test_an_image_is_due_a_week_after_it_was_found_sound_and_sooner_after_a_fault(
    standing: Standing | None, due: float
) -> None:
    assert due_at(standing, NOW, WEEK) == due


def test_an_interval_shorter_than_the_first_wait_does_not_shorten_it() -> None:
    assert due_at(bad(0, 9), NOW, 60.0) == NOW + AGAIN


@pytest.mark.parametrize(
    ("standings", "first"),
    [
        ({}, "new"),
        ({"new": ok(1)}, "mid"),
        ({"new": ok(1), "mid": ok(2)}, "old"),
        ({"new": ok(1), "mid": ok(2), "old": ok(3)}, None),
        ({"new": ok(WEEK + 1), "mid": ok(WEEK + 3), "old": ok(WEEK + 2)}, "mid"),
        ({"new": ok(WEEK + 1), "mid": ok(WEEK + 3)}, "old"),
        ({"old": bad(AGAIN)}, "old"),
        ({"old": bad(AGAIN - 1)}, "new"),
        ({"old": bad(AGAIN, verdict=Verdict.UNKNOWN)}, "new"),
        ({"new": ok(1), "mid": ok(1), "old": bad(1)}, None),
    ],
)
def test_the_newest_that_was_never_verified_comes_first_then_the_one_that_waits_longest(
    standings: dict[str, Standing], first: str | None
) -> None:
    images = [image("old", 1.0), image("new", 3.0), image("mid", 2.0)]
    found = upcoming(images, standings, NOW, WEEK)
    assert (found and found.id) == first


def test_a_year_of_passes_reads_each_image_once_a_week_and_a_corrupt_one_ever_less_often() -> None:
    """Virtual time: a look takes an hour; the one that is corrupt stays so."""
    images = [image(f"{number}", float(number)) for number in range(20)]
    standings: dict[str, Standing] = {}
    looks = dict.fromkeys((each.id for each in images), 0)
    now = NOW
    while now < NOW + 52 * WEEK:
        found = upcoming(images, standings, now, WEEK)
        if found is None:
            now += pause(images, standings, now, WEEK, 300.0)
            continue
        now += 3600.0
        looks[found.id] += 1
        tries = looks[found.id] if found.id == "7" else 0
        standings[found.id] = Standing(now, now, Verdict.BAD if tries else Verdict.OK, (), tries)
    assert looks.pop("7") < 65
    assert set(looks.values()) <= {51, 52, 53}


def test_the_pause_ends_when_the_next_is_due_and_in_time_for_new_images() -> None:
    images = [image("a"), image("b")]
    assert pause(images, {"a": ok(0), "b": ok(WEEK - 20)}, NOW, WEEK, 300.0) == 20.0
    assert pause(images, {"a": ok(0), "b": ok(0)}, NOW, WEEK, 300.0) == 300.0
    assert pause(images, {"a": ok(0)}, NOW, WEEK, 300.0) == 0.0
    assert pause([], {}, NOW, WEEK, 300.0) == 300.0


def test_the_newest_is_first_and_the_order_is_always_the_same() -> None:
    images = [image("b", 1.0), image("a", 1.0), image("c", 2.0)]
    assert [each.id for each in newest_first(images)] == ["c", "a", "b"]
