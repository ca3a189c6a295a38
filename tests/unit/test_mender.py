"""How many images are mended in an hour, what a repair came to, and that asking twice is asking once."""

import asyncio

import pytest

from agent.model import Deed, Image, ImageReport, Trigger, Verdict
from agent.round.inbox import Inbox, Request
from agent.round.mender import HOUR, Allowance, outcome

IMAGE = Image("sha256:a", ("registry.example/a:1",), ())


def test_so_many_an_hour_and_no_more() -> None:
    allowance = Allowance(2)
    for now in (0.0, 10.0):
        assert allowance.allows(now)
        allowance.spend(now)
    assert not allowance.allows(20.0)
    assert not allowance.allows(HOUR - 1)
    assert allowance.allows(HOUR)
    allowance.spend(HOUR)
    assert not allowance.allows(HOUR + 5)
    assert allowance.allows(HOUR + 10)


@pytest.mark.parametrize(
    ("verdict", "deeds", "word"),
    [
        (Verdict.OK, ("fetch",), "mended"),
        (Verdict.OK, (), "mended"),  # it shared the damage with one that was mended before
        (Verdict.BAD, ("leave",), "left"),
        (Verdict.BAD, (), "left"),
        (Verdict.BAD, ("fetch",), "failed"),
        (Verdict.UNKNOWN, ("fetch", "leave"), "failed"),
    ],
)
def test_a_repair_mended_or_failed_or_left_the_image(verdict: Verdict, deeds: tuple[str, ...], word: str) -> None:
    done = tuple(Deed(action, IMAGE.title, "done", 0.1) for action in deeds)
    assert outcome(ImageReport(IMAGE, verdict, (), done)) == word


def request(*names: str, why: str = "a pod crashed") -> Request:
    return Request(names, Trigger.CRASH, why)


async def test_asking_twice_is_asking_once_and_the_first_come_is_served_first() -> None:
    inbox = Inbox()
    for each in (request("a"), request("b"), request("a", why="another pod crashed")):
        inbox.ask(each)
    first = await inbox.first()
    assert first == await inbox.first() == request("a")
    assert first.why == "a pod crashed"
    inbox.done(first)
    assert await inbox.first() == request("b")
    inbox.done(request("b"))
    waiting = asyncio.ensure_future(inbox.first())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.ask(request("a"))
    assert await waiting == request("a")
