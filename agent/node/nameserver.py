"""One question to one name server, as Go asks it: UDP first, TCP if the answer was cut, EDNS 1232.

Source: Go net/dnsclient_unix.go (exchange, checkHeader, skipToAnswer).
"""

import asyncio
import time
from dataclasses import dataclass

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

PAYLOAD = 1232
MAILBOX_LIMIT = 64
NEGATIVE = ("NXDOMAIN", "NODATA")


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What one server said to one question.

    ``server`` is ``10.0.0.2:53`` or ``[fd00::2]:53``, ``name`` ends in a dot, ``record`` is A or AAAA.
    ``outcome`` is NOERROR (there are addresses), NODATA (the name has none of this kind), NXDOMAIN,
    another code of the protocol such as SERVFAIL, or in words what went wrong. ``seconds`` from the question.
    """

    server: str
    name: str
    record: str
    outcome: str
    addresses: tuple[str, ...]
    seconds: float

    @property
    def good(self) -> bool:
        return self.outcome == "NOERROR"

    @property
    def negative(self) -> bool:
        """It was answered, and the answer is that there is none: Go asks no other server then."""
        return self.outcome in NEGATIVE

    @property
    def bad(self) -> bool:
        return not self.good and not self.negative


@dataclass(frozen=True, slots=True)
class Nameserver:
    """A server and how to ask it. ``address`` is an IP literal, perhaps with a zone."""

    address: str
    port: int = 53
    use_tcp: bool = False

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    async def ask(self, name: str, record: str, seconds: float, attempts: int) -> ServerAnswer:
        """Ask, again after each ``seconds`` of silence, ``attempts`` times in all. Never raises but on cancellation.

        Unlike Go, which throws the earlier question away, an answer to any of them counts.
        """
        began = time.monotonic()
        addresses: tuple[str, ...] = ()
        try:
            query = dns.message.make_query(dns.name.from_text(name), record, use_edns=0, payload=PAYLOAD)
            reply = await self._exchange(query, seconds, attempts)
            addresses = _addresses(reply, record)
            outcome = _outcome(reply, found=bool(addresses))
        except (_SilenceError, dns.exception.Timeout) as error:
            outcome = _silence_words(error, time.monotonic() - began)
        except (OSError, EOFError, ValueError, dns.exception.DNSException) as error:
            outcome = _words(error)
        return ServerAnswer(
            str(self), name, record, outcome, addresses if outcome == "NOERROR" else (), time.monotonic() - began
        )

    async def _exchange(self, query: dns.message.Message, seconds: float, attempts: int) -> dns.message.Message:
        if not self.use_tcp:
            reply = await self._udp(query, seconds, attempts)
            if reply is not None:
                return reply
        try:
            return await dns.asyncquery.tcp(query, self.address, timeout=seconds * attempts, port=self.port)
        except dns.exception.Timeout:
            raise
        except (OSError, EOFError, ValueError, dns.exception.DNSException) as error:
            raise ConnectionError(f"over TCP: {_words(error)}") from error

    async def _udp(self, query: dns.message.Message, seconds: float, attempts: int) -> dns.message.Message | None:
        """The reply, or None if it was cut. On a connected socket a closed port is heard at once."""
        listening = _Listening(query)
        transport, mailbox = await asyncio.get_running_loop().create_datagram_endpoint(
            _Mailbox, remote_addr=(self.address, self.port)
        )
        try:
            for _ in range(attempts):
                transport.sendto(query.to_wire())
                if await listening.hear(mailbox, seconds):
                    return listening.reply
        finally:
            transport.close()
        raise _SilenceError(listening.junk)


class _SilenceError(Exception):
    """No answer; ``junk`` datagrams were none."""

    def __init__(self, junk: int) -> None:
        super().__init__()
        self.junk = junk


class _Mailbox(asyncio.DatagramProtocol):
    """What came in, errors of the network included; a flood is not kept."""

    def __init__(self) -> None:
        self.post: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the kernel let pass only one
        if self.post.qsize() < MAILBOX_LIMIT:
            self.post.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        self.post.put_nowait(exc)


class _Listening:
    """What came back for one query; what is no answer to it is counted and passed over, as Go does."""

    def __init__(self, query: dns.message.Message) -> None:
        self._query = query
        self.junk = 0
        self.reply: dns.message.Message | None = None

    async def hear(self, mailbox: _Mailbox, seconds: float) -> bool:
        """Whether there was an answer in that time; a cut one leaves ``reply`` empty."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    letter = await mailbox.post.get()
                    if isinstance(letter, Exception):
                        raise letter
                    if self._understand(letter):
                        return True
        except TimeoutError:
            return False

    def _understand(self, wire: bytes) -> bool:
        if len(wire) >= 4 and wire[:2] == self._query.id.to_bytes(2, "big") and wire[2] & 0x82 == 0x82:
            return True
        try:
            reply = dns.message.from_wire(wire, ignore_trailing=True)
        except (ValueError, dns.exception.DNSException):
            self.junk += 1
            return False
        if not self._query.is_response(reply):
            self.junk += 1
            return False
        self.reply = reply
        return True


def _addresses(reply: dns.message.Message, record: str) -> tuple[str, ...]:
    """In the order of the answer. Names are not compared: the server followed the aliases (RFC 1034 4.3.1)."""
    kind = dns.rdatatype.from_text(record)
    return tuple(str(item.address) for rrset in reply.answer if rrset.rdtype == kind for item in rrset)


def _outcome(reply: dns.message.Message, *, found: bool) -> str:
    code = reply.rcode()
    if code != dns.rcode.NOERROR:
        return dns.rcode.to_text(code)
    if found:
        return "NOERROR"
    recursive = reply.flags & (dns.flags.AA | dns.flags.RA)
    if not recursive and not reply.answer and not reply.additional and reply.edns < 0:
        return "lame referral: the server neither knows nor asks others"
    return "NODATA"


def _silence_words(error: Exception, seconds: float) -> str:
    junk = f", {error.junk} unreadable or foreign datagrams" if isinstance(error, _SilenceError) and error.junk else ""
    return f"no reply in {seconds:.1f} s{junk}"


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
