"""The daemon: rounds on a schedule, the scan of the cache beside them, and the port that tells of both.

One event loop, one task group. The runtime may be absent at the start and come and go: a round then says so, and the
next one looks again. After an unclean shutdown of the node the cache is verified before the first round.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from agent.causes import Cause
from agent.checks.climb import Climber, node_steps
from agent.checks.ladder import Deadline
from agent.checks.view import View
from agent.config import Settings
from agent.model import CacheReport, Diagnosis, Fault, Image, ImageReport, Report, Trigger
from agent.node.boot import Boot
from agent.node.clock import boot_id
from agent.registry.apart import JudgeApart
from agent.registry.credentials import Keyring
from agent.round.look import Eyes, look
from agent.round.mender import Mender, outcome
from agent.round.scan import Listeners, Scan
from agent.round.standing import Standings, Summary
from agent.round.verify import store_of
from agent.round.watch import Pace, registries
from agent.sinks import log
from agent.sinks.http import Health, Server
from agent.sinks.metrics import Metrics

BEAT = 1.0
RETRY = 10.0
"""Seconds between rounds while the runtime is away."""


class Daemon:
    """Everything that ``run`` keeps between its rounds."""

    def __init__(self, settings: Settings, eyes: Eyes, version: str) -> None:
        self._settings = settings
        self._eyes = eyes
        eyes.judge = JudgeApart()
        self._version = version
        probe = settings.probe
        self._pace = Pace(probe.per_registry_per_hour, probe.interval * (1 - probe.jitter) * 0.9)
        self._log = log.configure(settings.log.level)
        self._complain = log.Once(self._log.warning)
        self._mender = Mender(settings, eyes, warn=self._log.warning, complain=self._complain)
        self._wanted: tuple[str, ...] = ()

    async def run(self) -> int:
        """Serve and probe until SIGTERM or SIGINT; answers the exit status."""
        health, metrics = Health(), Metrics(self._version)
        server = self._bind(metrics, health)
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        server.start()
        self._log.info("node-agent started", version=self._version, port=server.port)
        boot, standings = self._state()
        metrics.cache.booted(boot.mark.unclean_boots)
        tell = self._listeners(metrics)
        scan = Scan(self._settings, self._eyes, boot=boot, standings=standings, mender=self._mender, tell=tell)
        try:
            async with asyncio.TaskGroup() as group:
                works = (_beat(health), scan.run(), self._rounds(metrics, health, scan.probes))
                tasks = [group.create_task(work) for work in works]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            standings.save(time.monotonic(), at_once=True)
            await asyncio.to_thread(server.stop)
        boot.end()
        self._log.info("node-agent stopped")
        return 0

    def _state(self) -> tuple[Boot, Standings]:
        """What the last start left on the node's disk; the mark of this one is set."""
        folder = Path(self._settings.state_dir)
        boot = Boot(folder / "boot.json", boot_id(), self._log.warning)
        boot.begin()
        return boot, Standings(folder / "verified.json", self._log.warning)

    def _listeners(self, metrics: Metrics) -> Listeners:
        def report(found: CacheReport) -> None:
            self._hand_over(lambda: log.tell_cache(self._log, found), lambda: metrics.cache.take(found))

        def mended(found: ImageReport) -> None:
            self._hand_over(lambda: log.tell_mended(self._log, found), lambda: metrics.cache.mended(outcome(found)))

        def summary(found: Summary) -> None:
            self._hand_over(lambda: metrics.cache.state(found.states, found.causes, found.oldest, found.corrupt))

        return Listeners(report, mended, summary, self._log.info, self._complain)

    def _bind(self, metrics: Metrics, health: Health) -> Server:
        listen = self._settings.listen
        try:
            return Server(listen.address, listen.port, metrics.registry, health)
        except OSError as error:
            detail = f"cannot listen on {listen.address} port {listen.port}: {error.strerror or error}"
            raise Fault(Cause.UNKNOWN, f"{detail}; set listen.port to a free one") from None

    async def _rounds(self, metrics: Metrics, health: Health, allowed: asyncio.Event) -> None:
        if not allowed.is_set():
            health.ready("the cache is verified first, after an unclean shutdown of the node")
        await allowed.wait()
        trigger = Trigger.STARTUP
        while True:
            report = await self.once(trigger)
            self._tell(report, metrics)
            problem = next((f.detail for f in report.findings if f.check == "runtime" and f.cause), "")
            health.ready(problem)
            await asyncio.sleep(self._wait(away=bool(problem)))
            trigger = Trigger.SCHEDULE

    def _tell(self, report: Report, metrics: Metrics) -> None:
        self._hand_over(lambda: log.tell(self._log, report), lambda: metrics.take(report, time.time()))

    def _hand_over(self, *sinks: Callable[[], None]) -> None:
        """To every sink; one that fails is told of, and keeps neither the others nor the daemon."""
        for sink in sinks:
            try:
                sink()
            except Exception as error:  # noqa: BLE001 - a sink's mistake must not stop the probes; it is in the log
                self._log.error("a sink failed", error=repr(error))

    def _wait(self, *, away: bool) -> float:
        probe = self._settings.probe
        interval = min(RETRY, probe.interval) if away else probe.interval
        return interval * random.uniform(1 - probe.jitter, 1 + probe.jitter)  # noqa: S311 - spreads load, hides nothing

    async def once(self, trigger: Trigger = Trigger.COMMAND) -> Report:
        """One full round: the node, then every registry that may be asked now."""
        began = time.monotonic()
        view = await look(self._eyes)
        await self._mender.settle(view)
        findings = await node_steps(view)
        cached = await self._cached(view)
        self._wanted = self._what_to_probe(cached)
        asked = [name for name in self._wanted if self._pace.allows(name, time.time())]
        diagnoses = await self._probe(view, asked)
        count = None if cached is None else len(cached)
        return Report(trigger, findings, diagnoses, self._wanted, count, time.monotonic() - began)

    async def _cached(self, view: View) -> tuple[Image, ...] | None:
        """The cached images; None, and a line in the log, when they cannot be listed."""
        try:
            images = await store_of(view.runtime).cached()
            reason = ""
        except Fault as fault:
            images, reason = None, fault.detail
        self._complain("the cached images cannot be listed", reason)
        return images

    def _what_to_probe(self, cached: tuple[Image, ...] | None) -> tuple[str, ...]:
        """While the images cannot be listed, what was probed before is probed on."""
        probe = self._settings.probe
        if cached is None and probe.cached_images and self._wanted:
            return self._wanted
        return registries(probe.registries, cached or () if probe.cached_images else ())

    async def _probe(self, view: View, names: list[str]) -> tuple[Diagnosis, ...]:
        probe = self._settings.probe
        climber = Climber(view, Keyring(), Deadline(probe.deadline), full=False)
        slots = asyncio.Semaphore(probe.concurrency)

        async def one(name: str) -> Diagnosis:
            async with slots:
                return await climber.registry(name)

        diagnoses = tuple(await asyncio.gather(*(one(name) for name in names)))
        for diagnosis in diagnoses:
            self._pace.heed(diagnosis, time.time())
        return diagnoses


async def _beat(health: Health) -> None:
    while True:
        health.beat()
        await asyncio.sleep(BEAT)
