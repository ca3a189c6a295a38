"""Name servers: dnsmasq for what is healthy, a scripted one for every way in which DNS fails."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset

from stage.listeners import Connection, Listener
from stage.namespaces import BLACK_HOLE, RESOLVER
from stage.processes import Program

# Who lives where, for all that share one name server.
HOSTS: Mapping[str, str] = MappingProxyType(
    {
        "registry.example": "10.99.0.2",
        "mirror.example": "10.99.0.3",
        "auth.example": "10.99.0.4",
        "proxy.example": "10.99.0.5",
        "hostile.example": "10.99.0.6",
        "other.example": "10.99.0.7",
        "nobody.example": "10.99.0.60",  # an address where nothing listens
        "blackhole.example": BLACK_HOLE,
    }
)


class Nameserver:
    """A dnsmasq that knows these names and answers NXDOMAIN for all others; it has no upstream."""

    def __init__(self, records: Mapping[str, str] = HOSTS, *, address: str = RESOLVER) -> None:
        self.records, self.address = dict(records), address
        self._folder = Path(tempfile.mkdtemp(prefix="stage-names-"))
        self._hosts = self._folder / "hosts"
        options = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root")
        places = (f"--listen-address={address}", "--bind-interfaces", f"--pid-file={self._folder}/pid")
        # An empty address for every name not in the file: NXDOMAIN, where dnsmasq would else say REFUSED.
        names = (f"--addn-hosts={self._hosts}", "--address=/#/", "--log-facility=-")
        self.program = Program("dnsmasq", *options, *places, *names, log=self._folder / "log")

    def __enter__(self) -> Self:
        self._write()
        try:
            self.program.start(lambda: self._knows(self.records))
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.program.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, name: str, address: str) -> None:
        """Let a name point to an address from now on."""
        self._change(self.records | {name: address})

    def remove(self, name: str) -> None:
        """Let there be no such name from now on."""
        self._change({other: address for other, address in self.records.items() if other != name})

    def _change(self, records: dict[str, str]) -> None:
        gone, self.records = self.records.keys() - records.keys(), records
        self._write()
        os.kill(self.program.pid, signal.SIGHUP)
        deadline = time.monotonic() + 5
        while not self._knows(records) or any(self._lookup(name) for name in gone):
            if time.monotonic() > deadline:
                raise TimeoutError(f"dnsmasq did not read its names again: {self.program.last_words()}")
            time.sleep(0.01)

    def _write(self) -> None:
        self._hosts.write_text("".join(f"{address} {name}\n" for name, address in self.records.items()))

    def _knows(self, records: Mapping[str, str]) -> bool:
        return all(address in self._lookup(name) for name, address in records.items())

    def _lookup(self, name: str) -> set[str]:
        try:
            answer = dns.query.udp(dns.message.make_query(name, "A"), self.address, timeout=0.05)
        except (OSError, dns.exception.Timeout):
            return set()
        return {str(record) for rrset in answer.answer for record in rrset}


class Rule(StrEnum):
    """What a `ScriptedNameserver` may do to a query."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    NXDOMAIN = "nxdomain"
    NODATA = "nodata"
    DROP = "drop"
    TRUNCATED = "truncated"  # over UDP; over TCP the whole answer
    ONLY_A = "only_a"  # AAAA queries get no answer at all
    GARBAGE = "garbage"


class ScriptedNameserver:
    """Answers each name by a rule; a name with an address and no rule is answered well.

    ``rules`` and ``records`` may be changed at any time; ``default`` is for names that have neither.
    ``queries`` lists (name without the last dot, type, "udp" or "tcp") in the order they came.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        records: Mapping[str, str] = HOSTS,
        *,
        default: Rule = Rule.NXDOMAIN,
        address: str = "10.99.0.54",
    ) -> None:
        self.rules, self.records, self.default, self.address = dict(rules), dict(records), default, address
        self.queries: list[tuple[str, str, str]] = []
        self._listener = Listener(address, 53, self._serve_tcp)

    def __enter__(self) -> Self:
        self._listener.__enter__()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, 53))
        self._thread = threading.Thread(target=self._serve_udp, name="stage-names", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.__exit__(kind, error, at)
        with contextlib.suppress(OSError):  # ENOTCONN, though it does wake the thread
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve_udp(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            if (answer := self._answer(data, "udp")) is not None:
                self._socket.sendto(answer, client)

    def _serve_tcp(self, connection: Connection) -> None:
        while head := connection.wire.recv(2, socket.MSG_WAITALL):
            data = connection.wire.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL)
            if (answer := self._answer(data, "tcp")) is None:
                connection.pause()
            else:
                connection.send(struct.pack(">H", len(answer)) + answer)

    def _answer(self, data: bytes, transport: str) -> bytes | None:
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        self.queries.append((name, kind, transport))
        rule = self.rules.get(name, None if name in self.records else self.default)
        if rule is Rule.DROP or (rule is Rule.ONLY_A and kind == "AAAA"):
            return None
        if rule is Rule.GARBAGE:
            return data[:2] + b"\xff" * 7
        return self._told(query, rule, kind, transport).to_wire()

    def _told(self, query: dns.message.Message, rule: Rule | None, kind: str, transport: str) -> dns.message.Message:
        answer = dns.message.make_response(query, recursion_available=True)
        answer.set_rcode(_RCODES.get(rule, dns.rcode.NOERROR))
        address = self.records.get(query.question[0].name.to_text(omit_final_dot=True).lower())
        if rule is Rule.TRUNCATED and transport == "udp":
            answer.flags |= dns.flags.TC
        elif rule in _ANSWERED and kind == "A" and address is not None:
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 0, "IN", "A", address))
        return answer


_RCODES: Mapping[Rule | None, dns.rcode.Rcode] = {
    Rule.SERVFAIL: dns.rcode.SERVFAIL,
    Rule.REFUSED: dns.rcode.REFUSED,
    Rule.NXDOMAIN: dns.rcode.NXDOMAIN,
}
_ANSWERED = {None, Rule.TRUNCATED, Rule.ONLY_A}
