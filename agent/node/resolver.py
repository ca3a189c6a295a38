"""The addresses of a name, as containerd on this node would find them, and what each name server says.

Go asks the servers of resolv.conf one after the other and believes the first that answers, a "no such name"
included; SERVFAIL, REFUSED and silence lead to the next one. Here every server is asked at once, so that a
bad second one is seen too; the result is then picked in Go's order. Source: Go net/dnsclient_unix.go.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.causes import Cause
from agent.model import Fault
from agent.node.nameserver import Nameserver, ServerAnswer
from agent.node.resolvconf import (
    NameOrder,
    ResolvConf,
    host_key,
    is_address,
    parse_hosts,
    parse_nsswitch,
    parse_resolv_conf,
)
from agent.node.roots import HostRoot

FILES_FIRST = NameOrder()
RECORDS = ("A", "AAAA")
GRACE = 1.0  # seconds that a server whom Go would not have waited for gets to show that it lives
EVIDENCE_LIMIT = 24


@dataclass(frozen=True, slots=True)
class Resolution:
    """``addresses``: IPv4 then IPv6, each as answered (Go sorts them by RFC 6724 when it dials).

    ``source`` is literal, hosts or dns; ``answers`` holds one entry for each server, record and name asked.
    ``remarks``: what is amiss although the name was found.
    """

    name: str
    addresses: tuple[str, ...]
    source: str
    answers: tuple[ServerAnswer, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Resolver:
    """Name lookup with this configuration. ``hosts`` as of `parse_hosts`."""

    conf: ResolvConf
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    order: NameOrder = FILES_FIRST
    port: int = 53

    async def resolve(self, name: str, limit: float) -> Resolution:
        """Within ``limit`` seconds; a try of one server takes what resolv.conf says, cut to fit in.

        `Fault` DNS_NOT_FOUND: the server that Go believes says that there is no such name, or no address.
        DNS_FAILURE: no server could tell. The evidence is what each one said.
        """
        if is_address(name):
            return Resolution(name, (name,), "literal")
        files = self.hosts.get(host_key(name), ())
        first = self.order.sources[0]
        if files and first == "files":
            return Resolution(name, files, "hosts")
        try:
            return await self._by_dns(name, limit)
        except Fault:
            if files and "files" in self.order.sources:
                return Resolution(name, files, "hosts")
            raise

    async def _by_dns(self, name: str, limit: float) -> Resolution:
        if not is_domain_name(name) or "dns" not in self.order.sources:
            raise Fault(Cause.DNS_NOT_FOUND, f"{name[:253]} is not a name that Go asks a server for")
        began = time.monotonic()
        asked: list[ServerAnswer] = []
        trouble: Fault | None = None
        for full in self.candidates(name):
            answers = await self._ask_all(full, began + limit)
            asked += answers
            addresses = _found(answers)
            if addresses:
                remarks = tuple(_remarks(name, full, answers))
                return Resolution(name, addresses, "dns", tuple(asked), remarks, time.monotonic() - began)
            if trouble is None or full == f"{name}.":
                trouble = _fault(name, answers)
            if time.monotonic() - began >= limit:
                break
        raise _with_evidence(trouble or Fault(Cause.DNS_NOT_FOUND, f"{name} is too long a name"), asked)

    def candidates(self, name: str) -> tuple[str, ...]:
        """The names that are asked for, in order: Go's dnsConfig.nameList, with the search list and ndots."""
        if name.endswith("."):
            return (name,)
        itself = f"{name}."
        longer = tuple(full for suffix in self.conf.search if len(full := itself + suffix) <= 254)
        every = (itself, *longer) if name.count(".") >= self.conf.ndots else (*longer, itself)
        return tuple(full for full in every if not full.lower().endswith(".onion."))

    async def _ask_all(self, name: str, deadline: float) -> tuple[ServerAnswer, ...]:
        """One answer per server and record, the servers in their order."""
        heard: dict[tuple[str, str], ServerAnswer] = {}
        servers = [Nameserver(address, self.port, self.conf.use_tcp) for address in self.conf.servers]
        began = time.monotonic()
        pending = {asyncio.create_task(self._ask(server, name, deadline, heard)) for server in servers}
        try:
            while pending and not _decided(servers, heard):
                left = max(deadline - time.monotonic(), 0) + 0.05  # each ask ends by itself; this is for what hangs
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
            if pending:
                await asyncio.wait(pending, timeout=min(GRACE, max(deadline - time.monotonic(), 0)))
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        waited = time.monotonic() - began
        silent = f"no reply in {waited:.1f} s"
        return tuple(
            heard.get((str(server), record)) or ServerAnswer(str(server), name, record, silent, (), waited)
            for server in servers
            for record in RECORDS
        )

    async def _ask(
        self, server: Nameserver, name: str, deadline: float, heard: dict[tuple[str, str], ServerAnswer]
    ) -> None:
        async def one(record: str) -> None:
            left = max(deadline - time.monotonic(), 0.001)
            seconds = min(self.conf.timeout, left / self.conf.attempts)
            heard[str(server), record] = await server.ask(name, record, seconds, self.conf.attempts)

        if self.conf.single_request:
            for record in RECORDS:
                await one(record)
        else:
            await asyncio.gather(*map(one, RECORDS))


def read_resolver(root: HostRoot, port: int = 53) -> Resolver:
    """The resolver of the host's own files. A file that cannot be read is as one that is not there."""
    hostname = (_read(root, "/etc/hostname") or "").strip()
    return Resolver(
        conf=parse_resolv_conf(_read(root, "/etc/resolv.conf"), hostname),
        hosts=parse_hosts(_read(root, "/etc/hosts") or ""),
        order=parse_nsswitch(_read(root, "/etc/nsswitch.conf")),
        port=port,
    )


def is_domain_name(name: str) -> bool:
    """As Go's isDomainName: labels of 1 to 63, and not digits and dots alone. What is not is never asked for."""
    text = name.removesuffix(".")
    if not text or len(text) > 253 or not text.isascii():
        return False
    labels = text.split(".")
    if not any(character.isalpha() or character in "-_" for character in text):
        return False
    return all(_is_label(label) for label in labels)


def _is_label(label: str) -> bool:
    plain = label.replace("-", "").replace("_", "")
    return 0 < len(label) <= 63 and (not plain or plain.isalnum()) and not label.startswith("-") and label[-1] != "-"


def _read(root: HostRoot, path: str) -> str | None:
    try:
        return root.read_text(path)
    except OSError:
        return None


def _decided(servers: Iterable[Nameserver], heard: Mapping[tuple[str, str], ServerAnswer]) -> bool:
    """Whether Go would know by now, for both records."""
    for record in RECORDS:
        for server in servers:
            answer = heard.get((str(server), record))
            if answer is None:
                return False
            if not answer.bad:
                break
    return True


def _believed(answers: Sequence[ServerAnswer], record: str) -> ServerAnswer:
    """The first that is not bad, else the last: Go reports the last server's error."""
    mine = [answer for answer in answers if answer.record == record]
    return next((answer for answer in mine if not answer.bad), mine[-1])


def _found(answers: Sequence[ServerAnswer]) -> tuple[str, ...]:
    return tuple(address for record in RECORDS for address in _believed(answers, record).addresses)


def _fault(name: str, answers: Sequence[ServerAnswer]) -> Fault:
    believed = [_believed(answers, record) for record in RECORDS]
    negative = next((answer for answer in believed if answer.outcome == "NXDOMAIN"), None)
    if negative is None and all(answer.negative for answer in believed):
        negative = believed[0]
    if negative is None:
        said = "; ".join(dict.fromkeys(f"{answer.server} {answer.outcome}" for answer in answers if answer.bad))
        return Fault(Cause.DNS_FAILURE, f"no name server tells the address of {name}: {said}")
    why = "there is no such name" if negative.outcome == "NXDOMAIN" else "the name has no address"
    knowing = ", ".join(dict.fromkeys(answer.server for answer in answers if answer.good))
    though = f"; {knowing} knows it, but is not asked after an answer" if knowing else ""
    return Fault(Cause.DNS_NOT_FOUND, f"{name}: {why} ({negative.outcome} from {negative.server}){though}")


def _with_evidence(fault: Fault, asked: Sequence[ServerAnswer]) -> Fault:
    evidence = {f"{answer.server} {answer.record} {answer.name}": answer.outcome for answer in asked[:EVIDENCE_LIMIT]}
    return Fault(fault.cause, fault.detail, evidence)


def _remarks(name: str, full: str, answers: Sequence[ServerAnswer]) -> Iterable[str]:
    if full.removesuffix(".") != name.removesuffix("."):
        yield f"found as {full} by the search list"
    knowing = {answer.server for answer in answers if answer.good}
    told: dict[str, str] = {}
    for answer in answers:
        if answer.bad:
            kind = "" if answer.server not in knowing else f" for {answer.record}"
            told.setdefault(answer.server, f"name server {answer.server} fails{kind}: {answer.outcome}")
        elif answer.outcome == "NXDOMAIN":
            told.setdefault(answer.server, f"name server {answer.server} does not know the name: NXDOMAIN")
    yield from told.values()
