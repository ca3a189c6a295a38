"""The scan: every cached image read again, unpacked files and all, when nobody asked.

After an unclean shutdown the whole cache is verified before anything else: quickly first, since what a crash leaves is
mostly files that are too short, then in full. A kill in between leaves the debt as it was, but an image that was read
in full since the boot is not read again. Afterwards one image at a time is read slowly, as `agent.round.schedule` says;
beside it, faster, the images that somebody asked for. Whatever is found goes to the `Mender`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from agent.causes import Cause
from agent.config import Settings
from agent.model import CacheReport, Depth, Fault, Image, ImageReport, Trigger, Verdict
from agent.node.boot import Boot
from agent.node.roots import HostRoot
from agent.round.crashes import CrashWatch, suspects, wanted
from agent.round.inbox import Inbox, Request
from agent.round.look import Eyes, look, runtime_of
from agent.round.mender import Mender
from agent.round.reader import Reader
from agent.round.schedule import newest_first, pause, upcoming
from agent.round.standing import NEVER, Standing, Standings, Summary, summary
from agent.round.verify import store_of
from agent.runtime.cri import Cri

RETRY = 10.0
"""Seconds until the runtime is asked again when it was away."""

REST = 300.0
"""Most seconds until the cache is listed again when nothing is due: new images are seen by then."""

INGESTS_EVERY = 3600.0
"""Seconds between two looks at unfinished downloads."""

PROGRESS_EVERY = 30.0
"""Seconds between two lines of progress in the log."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who hears of what: a look at an image, an image after its mending, the state of the whole cache, and words.

    ``warn`` hears what cannot be done and why, again and again while that lasts, and an empty reason when it is over.
    """

    report: Callable[[CacheReport], None]
    mended: Callable[[ImageReport], None]
    summary: Callable[[Summary], None]
    say: Callable[[str], None]
    warn: Callable[[str, str], None]


class Scan:
    """``probes`` is set as soon as rounds of probes may begin; ``inbox`` takes requests."""

    def __init__(
        self, settings: Settings, eyes: Eyes, *, boot: Boot, standings: Standings, mender: Mender, tell: Listeners
    ) -> None:
        self._settings = settings
        self._eyes = eyes
        self._boot = boot
        self._standings = standings
        self._mender = mender
        self._tell = tell
        self._crashes = CrashWatch()
        self._asked: dict[str, float] = {}
        self._images: tuple[Image, ...] = ()
        self._stuck = 0
        self._ingests_due = 0.0
        self.inbox = Inbox()
        self.probes = asyncio.Event()

    async def run(self) -> None:
        """Never ends by itself."""
        await self._pay()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat("the cache cannot be verified now", self._pass))
            group.create_task(self._repeat("an image under suspicion cannot be verified now", self._answer))
            group.create_task(self._repeat("ended containers cannot be listed now", self._poll))

    async def _repeat(self, trouble: str, step: Callable[[], Awaitable[float]]) -> None:
        """One step after the other, answering the seconds until the next; a fault is told and waited out."""
        while True:
            try:
                rest = await step()
                self._tell.warn(trouble, "")
            except Fault as fault:
                self._tell.warn(trouble, fault.detail)
                # a runtime comes back soon; one that is not containerd stays what it is
                rest = RETRY if fault.cause is Cause.RUNTIME_UNAVAILABLE else REST
            await asyncio.sleep(rest)

    async def _pay(self) -> None:
        """What an unclean shutdown left owing. A runtime that is away is waited for, and the probes do not wait too."""
        while self._boot.owed:
            try:
                await self._whole_cache()
                self._boot.paid()
            except Fault as fault:
                self._tell.warn("the cache cannot be verified after an unclean shutdown", fault.detail)
                self.probes.set()
                await asyncio.sleep(RETRY)
        self.probes.set()

    async def _whole_cache(self) -> None:
        await self._settle()
        images = newest_first(await self._list())
        self._tell.say(f"the node went down uncleanly: verifying {len(images)} images before anything else")
        async with self._reader_at_boot() as reader:
            await self._each(reader, images, Depth.QUICK)
        async with self._reader_at_boot() as reader:  # another one: what was looked at quickly is read all the same
            left = [image for image in images if not self._read_since_boot(image)]
            # sort is stable: what was found bad goes first, the newest before all
            await self._each(reader, sorted(left, key=lambda image: not self._is_bad(image)), Depth.FULL)
            await self._ingests(reader, Trigger.UNCLEAN_BOOT)
        self._save(at_once=True)

    async def _settle(self) -> None:
        """Debts first: what a killed process had set aside is put back before it is missed."""
        if self._mender.owes:
            await self._mender.settle(await look(self._eyes))

    async def _each(self, reader: Reader, images: Sequence[Image], depth: Depth) -> None:
        """All of `images`, with progress in the log."""
        begun = told = time.monotonic()
        for number, image in enumerate(images):
            if time.monotonic() > told + PROGRESS_EVERY:
                told = time.monotonic()
                self._tell.say(f"after an unclean shutdown: {number} of {len(images)} images verified ({depth})")
            await self._verify(reader, image, depth, Trigger.UNCLEAN_BOOT)
        end = f"in {time.monotonic() - begun:.0f} s, {sum(map(self._is_bad, images))} bad by now"
        self._tell.say(f"after an unclean shutdown: all {len(images)} images verified ({depth}) {end}")

    def _read_since_boot(self, image: Image) -> bool:
        standing = self._standing(image)
        return bool(self._boot.id) and standing.boot == self._boot.id and standing.state == Verdict.OK

    async def _pass(self) -> float:
        """All that are due, one at a time; between two passes nothing is held."""
        await self._settle()
        await self._list()
        if self._settings.verify.background_bytes_per_second and self._is_due():
            await self._read_all_due()
        return self._rest()

    def _is_due(self) -> bool:
        return self._next() is not None or time.monotonic() >= self._ingests_due

    async def _read_all_due(self) -> None:
        """Until nothing is due, or an image is due once more: a reader answers what it read before, so it must go."""
        read: set[str] = set()
        begun = time.monotonic()
        verify = self._settings.verify
        async with Reader(self._eyes, verify.background_bytes_per_second, 1, verify.background_cpu_share) as reader:
            await self._ingests(reader, Trigger.SCHEDULE)
            while (image := self._next()) is not None and image.id not in read:
                read.add(image.id)
                await self._verify(reader, image, Depth.FULL, Trigger.SCHEDULE)
                await self._list()
        if read:
            end = f"in {time.monotonic() - begun:.0f} s, {sum(map(self._is_bad, self._images))} bad by now"
            self._tell.say(f"the cache was verified: {len(read)} images {end}")

    def _next(self) -> Image | None:
        return upcoming(self._images, self._standings, time.time(), self._settings.verify.interval)

    def _rest(self) -> float:
        if not self._settings.verify.background_bytes_per_second:
            return REST
        return max(1.0, pause(self._images, self._standings, time.time(), self._settings.verify.interval, REST))

    async def _answer(self) -> float:
        """The request that waits longest; it waits on if it could not be answered."""
        request = await self.inbox.first()
        await self._fulfil(request)
        self.inbox.done(request)
        return 0.0

    async def _fulfil(self, request: Request) -> None:
        image = next((each for each in await self._list() if {each.id, *each.names} & {*request.names}), None)
        if image is None or not self._wanted(image):
            return
        self._tell.say(f"{request.why}: verifying {image.title}")
        async with self._reader_at_boot() as reader:
            report = await self._verify(reader, image, Depth.FULL, request.trigger)
        self._asked[image.id] = time.time()
        if report.verdict is Verdict.OK and not report.findings:
            self._tell.say(f"{image.title} is sound: {request.why} has another cause")

    def _wanted(self, image: Image) -> bool:
        now = time.time()
        self._asked = {each: asked for each, asked in self._asked.items() if each in self._standings}
        return wanted(self._standing(image), self._asked.get(image.id, NEVER), now, self._boot.id)

    async def _poll(self) -> float:
        """Containers that ended since the last time."""
        ends = await self._crashes.poll(Cri(self._eyes.channel(), self._eyes.timeout), time.time())
        root = (await look(self._eyes)).root if ends else HostRoot()
        for end, reason in suspects(ends, root):
            why = f"a container of {end.pod or end.id} ended ({reason})"
            self.inbox.ask(Request(end.images, Trigger.CRASH, why))
        return self._settings.verify.crash_interval

    async def _verify(self, reader: Reader, image: Image, depth: Depth, trigger: Trigger) -> ImageReport:
        """Look, remember, tell; and mend what is bad, if that is wanted. Answers the image after that."""
        afresh = self._standing(image).verdict is not Verdict.OK
        found = await reader.verify(image, depth, trigger, afresh=afresh)
        (report,) = found.images
        self._note(report, depth)
        self._tell.report(found)
        if report.verdict is Verdict.BAD:
            report = await self._mended(report)
            reader.forget(image)
            if report.verdict is not Verdict.BAD:
                self._note(report, Depth.FULL)  # the mender looked again, at all of it
            if report.verdict is Verdict.OK and report.deeds:
                self._standings.retry()
        self._save()
        return report

    async def _mended(self, report: ImageReport) -> ImageReport:
        """The image after mending, if that is wanted."""
        if not self._settings.repair.automatic:
            return report
        mended = await self._mender.mend(report)
        self._tell.mended(mended)
        return mended

    async def _ingests(self, reader: Reader, trigger: Trigger) -> None:
        """Unfinished downloads, which are no images yet: from time to time."""
        if time.monotonic() < self._ingests_due:
            return
        self._ingests_due = time.monotonic() + INGESTS_EVERY
        found = await reader.ingests(trigger)
        self._tell.report(found)
        left = [await self._mended(report) for report in found.images]
        self._stuck = sum(report.verdict is Verdict.BAD for report in left)

    def _note(self, report: ImageReport, depth: Depth) -> None:
        self._standings.note(report, depth, time.time(), self._boot.id)

    async def _list(self) -> tuple[Image, ...]:
        """The cached images. What is gone is forgotten, and the state of the rest is told."""
        self._images = await store_of(await runtime_of(self._eyes)).cached()
        self._standings.keep({image.id for image in self._images})
        self._save()
        return self._images

    def _save(self, *, at_once: bool = False) -> None:
        self._tell.summary(summary(self._images, self._standings, self._stuck))
        self._standings.save(time.monotonic(), at_once=at_once)

    def _standing(self, image: Image) -> Standing:
        return self._standings.get(image.id) or Standing()

    def _is_bad(self, image: Image) -> bool:
        return self._standing(image).verdict is Verdict.BAD

    def _reader_at_boot(self) -> Reader:
        verify = self._settings.verify
        return Reader(self._eyes, verify.boot_bytes_per_second, verify.concurrency)
