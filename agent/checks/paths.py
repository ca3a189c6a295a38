"""The ways to hosts, found once in a round and shared by all images that need them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.causes import Cause
from agent.checks import connect, dns, proxy, registry, tls
from agent.checks.ladder import Deadline, Ladder
from agent.checks.view import View
from agent.model import Credential, Fault, Finding
from agent.node.proxies import Proxy
from agent.node.resolver import Resolution
from agent.registry.challenges import Challenge
from agent.registry.client import Client
from agent.registry.hosts import Host
from agent.registry.session import Opener
from agent.registry.stream import Stream


@dataclass(frozen=True, slots=True)
class Ascent:
    """One host climbed up to ``/v2/``: its steps, and the challenge that it answered or the fault that ended it.

    ``host`` differs from the one asked for where containerd falls back to plain HTTP.
    """

    host: Host
    steps: tuple[Finding, ...]
    fault: Fault | None = None
    challenge: Challenge | None = None

    @property
    def blocked(self) -> bool:
        """Whether nothing more can be asked of the host."""
        return self.fault is not None and (self.steps[-1].check != "registry" or registry.stops(self.fault))


class Paths:
    """Opens connections the way containerd would, and remembers names and hosts for as long as the round lasts."""

    def __init__(self, view: View, deadline: Deadline) -> None:
        self._view = view
        self._deadline = deadline
        self._names: dict[str, asyncio.Task[Resolution]] = {}
        self._ascents: dict[tuple[Host, str], asyncio.Task[Ascent]] = {}

    async def ascend(self, host: Host, namespace: str) -> Ascent:
        """Climb `host` up to ``/v2/``, once for all that ask."""
        key = (host, namespace)
        if key not in self._ascents:
            self._ascents[key] = asyncio.create_task(self._ascend(host, namespace))
        return await asyncio.shield(self._ascents[key])

    def client(
        self, host: Host, namespace: str, credential: Credential | None = None, cap: float | None = None
    ) -> Client:
        """A client of `host` for images of the registry `namespace`; ``cap`` in seconds for a single request."""
        limit = self._deadline.left(cap or self._view.limits.answer)
        return Client(host, namespace, self._opener(host), self._view.agent, credential=credential, limit=limit)

    def _opener(self, host: Host) -> Opener:
        """What a client opens connections with, to `host` as to its token host and its blob host."""

        async def open_target(scheme: str, name: str, port: int) -> Stream:
            return await self._open(replace(host, scheme=scheme, host=name, port=port), Ladder())

        return open_target

    async def _ascend(self, host: Host, namespace: str) -> Ascent:
        ladder = Ladder()
        try:
            challenge = await self._ping(host, namespace, ladder)
        except Fault as fault:
            if host.falls_back(fault):
                return await self._ascend(host.in_clear(), namespace)
            return Ascent(host, tuple(ladder.steps), fault)
        return Ascent(host, tuple(ladder.steps), None, challenge)

    async def _ping(self, host: Host, namespace: str, ladder: Ladder) -> Challenge | None:
        first = await self._open(host, ladder)

        async def open_first(scheme: str, name: str, port: int) -> Stream:
            here = (scheme, name, port) == (host.scheme, host.host, host.port)  # and not where a redirect leads
            return first if here and first.reusable else await self._opener(host)(scheme, name, port)

        async with first, self._client(host, namespace, open_first) as client:
            return await ladder.rung("registry", host.name, registry.registry(client), registry.tell)

    def _client(self, host: Host, namespace: str, opener: Opener) -> Client:
        limit = self._deadline.left(self._view.limits.answer)
        return Client(host, namespace, opener, self._view.agent, limit=limit)

    async def _open(self, target: Host, ladder: Ladder) -> Stream:
        """The rungs proxy, dns, connect and tls for one target."""
        view, name = self._view, target.name
        chosen = await ladder.rung(
            "proxy", name, proxy.proxy(view, target.scheme, target.host, target.port), proxy.tell
        )
        found = await ladder.rung("dns", name, self._resolve(target, chosen), self._tell_dns(chosen))
        stream = await ladder.rung("connect", name, self._connect(target, chosen, found), lambda s: s.address)
        if target.scheme == "https":
            await self._secure(target, stream, ladder)
        return stream

    async def _secure(self, target: Host, stream: Stream, ladder: Ladder) -> None:
        """The rung tls; a stream that is not to be trusted is closed."""
        try:
            limit = self._deadline.left(self._view.limits.connect)
            await ladder.rung("tls", target.name, tls.tls(self._view, stream, target, limit), tls.tell, tls.show)
        except BaseException:
            await stream.close()
            raise

    def _tell_dns(self, chosen: Proxy | None) -> Callable[[Resolution], str]:
        return (lambda found: f"of the proxy {chosen.shown}: {dns.tell(found)}") if chosen else dns.tell

    async def _resolve(self, target: Host, chosen: Proxy | None) -> Resolution:
        """The addresses to connect to: behind a proxy they are the proxy's, which looks up the rest itself."""
        name = chosen.host if chosen else target.host
        if name not in self._names:
            limit = self._deadline.left(self._view.limits.dns)
            self._names[name] = asyncio.create_task(dns.dns(self._view, name, limit))
        try:
            return await asyncio.shield(self._names[name])
        except Fault as fault:
            if chosen is None:
                raise
            detail = f"the proxy {chosen.shown} has no address: {fault.detail}"
            raise Fault(Cause.PROXY_UNREACHABLE, detail, fault.evidence) from None

    async def _connect(self, target: Host, chosen: Proxy | None, found: Resolution) -> Stream:
        limit = self._deadline.left(self._view.limits.connect)
        if chosen is None:
            return await connect.connect(found.addresses, target, limit)
        return await connect.connect_through(chosen, found.addresses, target, limit)
