"""A name server for tests that does as it is told, on 127.0.0.1 over UDP and TCP."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

# (name, record) of the question → the words of a script: see `Script`
Script = Callable[[str, str], "tuple[str, ...] | str"]
"""Addresses, or one of: NXDOMAIN, NODATA, SERVFAIL, REFUSED, drop, lame, garbage, truncated, foreign."""


def zone(**names: tuple[str, ...]) -> Script:
    """``registry_example=("10.0.0.1",)``: A and AAAA by the look of each address; every other name is NXDOMAIN."""
    known = {name.replace("_", ".") + ".": addresses for name, addresses in names.items()}

    def answer(name: str, record: str) -> tuple[str, ...] | str:
        if name not in known:
            return "NXDOMAIN"
        mine = tuple(address for address in known[name] if (":" in address) == (record == "AAAA"))
        return mine or "NODATA"

    return answer


@dataclass
class ScriptedDns(asyncio.DatagramProtocol):
    """One server. ``asked`` lists (transport, name, record); ``delay`` is waited before each answer."""

    script: Script
    address: str = "127.0.0.1"
    port: int = 0
    delay: float = 0.0
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._stream, self.address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.address, self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()
        self._server.close()
        await self._server.wait_closed()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for wire in self._answers(data, "udp"):
            asyncio.get_running_loop().call_later(self.delay, self._transport.sendto, wire, addr)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        for wire in self._answers(await reader.readexactly(size), "tcp"):
            writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()
        await writer.wait_closed()

    def _answers(self, data: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, record = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((transport, name, record))
        said = self.script(name, record)
        if said == "drop":
            return []
        if said == "garbage":
            return [b"\xff" * 40, b"", data[:2] + b"\x84"]
        reply = dns.message.make_response(query, recursion_available=True)
        if said == "foreign":
            reply.id ^= 1
        elif said == "truncated":
            reply.flags |= dns.flags.TC if transport == "udp" else 0
            said = () if transport == "udp" else ("10.9.9.9",)
        elif said == "lame":
            reply = dns.message.make_response(query)
            reply.use_edns(-1)
            said = ()
        if isinstance(said, tuple):  # a set for each address: dnspython shuffles within a set
            reply.answer += [dns.rrset.from_text(question.name, 60, "IN", record, address) for address in said]
        elif said in ("NXDOMAIN", "SERVFAIL", "REFUSED"):
            reply.set_rcode(dns.rcode.from_text(str(said)))
        return [reply.to_wire()]
