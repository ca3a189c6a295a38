"""The climb: one image, all rungs, every host in containerd's order; the diagnosis is what they add up to.

A host that fails sends containerd to the next one, so the climb goes on there; the first host that answers for the
manifest ends the search, as it does in containerd.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

from agent.causes import Cause
from agent.checks import blobs, disk, manifest, platform, runtime, size, token
from agent.checks.ladder import Deadline, Ladder, finding_of
from agent.checks.paths import Ascent, Paths
from agent.checks.view import View
from agent.diagnosis import judge
from agent.model import Credential, Diagnosis, Fault, Finding, ImageRef
from agent.registry.client import Client, Resolved
from agent.registry.credentials import Keyring
from agent.registry.hosts import Host, Route, route
from agent.registry.reference import parse
from agent.runtime.runtime import Runtime

AT_ONCE = 16
"""Images whose requests are under way at the same time; those that wait for a host that is silent do not count."""


@dataclass(frozen=True, slots=True)
class Found:
    """The host that answered for an image, and what it pointed at."""

    host: Host
    credential: Credential | None
    resolved: Resolved


class Climber:
    """Climbs many images under one deadline.

    ``full`` goes on to the blobs, a probe stops at the manifest's HEAD; ``fresh`` asks for every blob, also for those
    that are cached.
    """

    def __init__(
        self, view: View, keyring: Keyring, deadline: Deadline, *, full: bool = True, fresh: bool = False
    ) -> None:
        self._view = view
        self._keyring = keyring
        self._deadline = deadline
        self._full = full
        self._fresh = fresh
        self._found: dict[str, Found] = {}
        self._routes: dict[str, Route] = {}
        self._paths = Paths(view, deadline)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._node: asyncio.Task[tuple[Finding, ...]] | None = None

    async def image(self, text: str) -> Diagnosis:
        """The diagnosis of the reference `text`. Never raises `Fault`."""
        began = time.monotonic()
        ladder = Ladder()
        try:
            async with self._deadline.bound():
                ref = await ladder.rung("reference", text, _parse(text), str)
                ladder.steps[:0] = await self._node_steps()
                await self._climb(ref, ladder)
        except Fault as fault:
            _note(fault, ladder, text)
        return judge(text, ladder.steps, time.monotonic() - began)

    async def registry(self, name: str) -> Diagnosis:
        """The diagnosis of a registry, up to ``/v2/``; `name` with a repository is an image, up to its manifest."""
        if "/" in name:
            return await self.image(name)
        began = time.monotonic()
        ladder = Ladder()
        try:
            async with self._deadline.bound():
                way = await self._way(name, ladder)
                for host in _once(way.hosts):
                    ladder.steps.extend((await self._paths.ascend(host, name)).steps)
        except Fault as fault:
            _note(fault, ladder, name)
        return judge(name, ladder.steps, time.monotonic() - began, goal="registry")

    def found(self, text: str) -> Found | None:
        """Where `image` found `text`, once it did."""
        return self._found.get(str(parse(text)))

    def client(self, text: str, found: Found, limit: float) -> Client:
        """A client of the host where `text` was found, with the credential that it took, for work after the deadline.

        ``limit`` is the seconds that one request may take.
        """
        paths = Paths(self._view, Deadline(limit))
        return paths.client(found.host, parse(text).registry, found.credential, cap=limit)

    async def _node_steps(self) -> tuple[Finding, ...]:
        """The rungs that concern the node and not the image, climbed once for all images."""
        if self._node is None:
            self._node = asyncio.create_task(node_steps(self._view))
        return await asyncio.shield(self._node)

    async def _climb(self, ref: ImageRef, ladder: Ladder) -> None:
        way = await self._way(ref.registry, ladder)
        hosts = tuple(dict.fromkeys(way.hosts_for(ref)))  # the same host with the same settings answers the same
        if not hosts:
            raise Fault(
                Cause.HOSTS_CONFIG_INVALID, f"hosts.toml of {ref.registry} names no host that may resolve a tag"
            )
        for host in hosts:
            found = await self._search(ref, host, ladder)
            if found:
                self._found[str(ref)] = found
                await self._fetch(ref, found, ladder)
                return

    async def _way(self, registry: str, ladder: Ladder) -> Route:
        """The rung hosts: which hosts containerd asks, and what is wrong with the file that names them."""
        way = await ladder.rung("hosts", registry, self._route(registry), _tell_route)
        ladder.steps.extend(finding_of(fault, "hosts", registry) for fault in way.faults)
        return way

    async def _route(self, registry: str) -> Route:
        """The files are read once for all images of a registry."""
        if registry not in self._routes:
            view = self._view
            self._routes[registry] = route(
                registry, view.certs_d, prefix=view.root.prefix, tree_required=_is_strict(view)
            )
        return self._routes[registry]

    async def _search(self, ref: ImageRef, host: Host, ladder: Ladder) -> Found | None:
        """What `host` has for `ref`; None when containerd would try the next host."""
        ascent = await self._paths.ascend(host, ref.registry)
        ladder.steps.extend(ascent.steps)
        if ascent.blocked:
            return None
        async with self._slots:
            for credential in self._keyring.lookup(ref) or (None,):
                found = await self._ask(ref, ascent, credential, ladder)
                if found:
                    return found
        return None

    async def _ask(self, ref: ImageRef, ascent: Ascent, credential: Credential | None, ladder: Ladder) -> Found | None:
        name = ascent.host.name
        try:
            async with self._paths.client(ascent.host, ref.registry, credential) as client:
                if ascent.challenge:
                    await ladder.rung("token", name, token.token(client, ascent.challenge, ref))
                resolved = await ladder.rung("manifest", name, manifest.manifest(client, ref), manifest.tell)
        except Fault as fault:
            _note(fault, ladder, name)
            return None
        return Found(ascent.host, credential, resolved)

    async def _fetch(self, ref: ImageRef, found: Found, ladder: Ladder) -> None:
        """The rungs after the manifest was found: what it holds, and whether all of it can be had."""
        if not self._full:
            return
        view, name = self._view, found.host.name
        async with self._slots, self._paths.client(found.host, ref.registry, found.credential) as client:
            chosen = await ladder.rung(
                "platform", name, platform.platform(client, ref, found.resolved, view.platform), platform.tell
            )
            wanted = blobs.own(chosen) if self._fresh else await blobs.missing(view, chosen)
            await ladder.rung("blobs", name, blobs.blobs(client, ref, wanted), blobs.tell)
        await ladder.rung("size", "node", size.size(view, wanted), size.tell)


def _once(hosts: Iterable[Host]) -> tuple[Host, ...]:
    """Each host by its first entry: one that hosts.toml names comes again at the end, without its settings."""
    return tuple({host.name: host for host in reversed(tuple(hosts))}.values())[::-1]


async def node_steps(view: View) -> tuple[Finding, ...]:
    """The rungs runtime and disk; neither depends on the other."""
    ladder = Ladder()
    with contextlib.suppress(Fault):  # the finding is written down
        await ladder.rung("runtime", "node", runtime.runtime(view), runtime.tell)
    with contextlib.suppress(Fault):
        await ladder.rung("disk", "node", disk.disk(view), disk.tell, disk.show)
    return tuple(ladder.steps)


def _note(fault: Fault, ladder: Ladder, subject: str) -> None:
    """Write down a fault that no rung wrote: the deadline passed during one of them, or between two."""
    if not ladder.steps or ladder.steps[-1].detail != fault.detail:
        check, at = ladder.at
        ladder.steps.append(finding_of(fault, check, at or subject))


async def _parse(text: str) -> ImageRef:
    return parse(text)


def _is_strict(view: View) -> bool:
    """containerd 1.5 and 1.6 refuse a hosts.toml without a ``[host]`` table (k3s-io/k3s#9983)."""
    return isinstance(view.runtime, Runtime) and view.runtime.version.version.lstrip("v").startswith(("1.5.", "1.6."))


def _tell_route(way: Route) -> str:
    return ", ".join(dict.fromkeys(host.name for host in way.hosts))
