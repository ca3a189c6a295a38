"""TLS on a stream, judging nobody: the chain is fetched unverified and judged by Go's rules elsewhere.

Facts: containerd's Go client asks for TLS 1.2 or later, sends no ALPN, and sends SNI for names only;
in TLS 1.3 a server refuses a client certificate after the handshake, at the first read. OpenSSL's
security level is set to 0 because Go accepts keys that OpenSSL's default would refuse.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote
from agent.registry.stream import Pipe, Stream

Client = Sequence[tuple[Path, Path | None]]
_T = TypeVar("_T")
_ABOUT_CLIENT = (
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_ACCESS_DENIED",
)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a server showed: its chain as DER, leaf first and as sent; the protocol and cipher agreed on."""

    chain: tuple[bytes, ...]
    version: str
    cipher: str


async def handshake(stream: Stream, server_name: str, limit: float, client: Client = ()) -> Handshake:
    """Turns ``stream`` into TLS within ``limit`` seconds. ``client`` are PEM files to show if asked.

    Raises Fault: HTTP_HTTPS_MISMATCH where plain HTTP answers, TLS_CLIENT_CERTIFICATE where this client
    is refused, CONNECTION_INTERRUPTED for a hang-up, TLS_HANDSHAKE for the rest and for silence;
    HOSTS_CONFIG_INVALID for client files that cannot be used. On a fault the stream is closed.
    """
    try:
        pipe = TlsPipe(stream.pipe, _context(client), server_name)
        async with asyncio.timeout(limit):
            await pipe.handshake()
    except TimeoutError:
        await stream.close()
        detail = f"{server_name}: no TLS handshake within {limit:.1f} s"
        raise Fault(Cause.TLS_HANDSHAKE, detail, {"timeout": f"{limit:.1f}"}) from None
    except BaseException:
        await stream.close()
        raise
    stream.pipe = pipe
    return pipe.seen()


def _context(client: Client) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    for certificate, key in client:
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise Fault(
                Cause.HOSTS_CONFIG_INVALID,
                f"the client certificate {certificate.name} cannot be used: {quote(str(error))}",
                {"file": str(certificate)},
            ) from error
    return context


def _sni(server_name: str) -> str | None:
    """Go sends no SNI for addresses, and cuts the dot that ends a rooted name."""
    name = server_name.rstrip(".")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name or None
    return None


class TlsPipe:
    """TLS over another pipe, which may itself be TLS (an https proxy)."""

    def __init__(self, inner: Pipe, context: ssl.SSLContext, server_name: str) -> None:
        self._inner = inner
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._name = server_name
        self._first = b""
        try:
            self._tls = context.wrap_bio(self._in, self._out, server_hostname=_sni(server_name))
        except ValueError as error:  # a name that cannot be sent as SNI
            raise Fault(Cause.TLS_HANDSHAKE, f"{quote(server_name)} cannot be a TLS server name") from error

    async def handshake(self) -> None:
        try:
            await self._drive(self._tls.do_handshake)
        except ssl.SSLError as error:
            await self._flush_quietly()
            raise _refused(self._name, error, self._first) from error
        except OSError as error:
            raise _hung_up(self._name, self._first) from error

    def seen(self) -> Handshake:
        cipher = self._tls.cipher()
        return Handshake(_chain(self._tls), self._tls.version() or "", cipher[0] if cipher else "")

    async def read(self) -> bytes:
        try:
            return await self._drive(lambda: self._tls.read(65_536))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise _refused(self._name, error, b"") from error

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = await self._drive(lambda: self._tls.write(view))  # noqa: B023 - driven within this turn
            view = view[written:]

    async def close(self) -> None:
        await self._inner.close()

    async def _drive(self, step: Callable[[], _T]) -> _T:
        """Runs one step of OpenSSL, carrying bytes to and fro until it is through."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            else:
                await self._flush()
                return result

    async def _feed(self) -> None:
        data = await self._inner.read()
        if len(self._first) < 8:
            self._first = (self._first + data)[:8]
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    async def _flush(self) -> None:
        if data := self._out.read():
            await self._inner.write(data)

    async def _flush_quietly(self) -> None:
        """Sends the alert that OpenSSL has written for the server, if that still can be sent."""
        try:
            await self._flush()
        except OSError:
            return


def _chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """`SSLObject.get_unverified_chain` is public from Python 3.13 on; before, it is one level deeper."""
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return tuple(public())
    inner = tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - see the docstring
    return tuple(certificate.public_bytes(2) for certificate in inner.get_unverified_chain() or ())  # 2: DER


def _refused(name: str, error: ssl.SSLError, first: bytes) -> Fault:
    reason = error.reason or ""
    evidence = {"reason": reason} if reason else {}
    if first.startswith(b"HTTP/"):
        return Fault(Cause.HTTP_HTTPS_MISMATCH, f"{name} speaks plain HTTP where TLS was expected", evidence)
    if reason.endswith(_ABOUT_CLIENT):
        said = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return Fault(Cause.TLS_CLIENT_CERTIFICATE, f"{name} refuses this client's certificate: {said}", evidence)
    if isinstance(error, ssl.SSLEOFError):
        return _hung_up(name, first)
    if first and first[0] not in {0x15, 0x16}:
        return Fault(Cause.TLS_HANDSHAKE, f"{name} answers neither TLS nor HTTP", evidence)
    said = reason.replace("_", " ").lower() or quote(str(error))
    return Fault(Cause.TLS_HANDSHAKE, f"{name}: the TLS handshake failed: {said}", evidence)


def _hung_up(name: str, first: bytes) -> Fault:
    if first.startswith(b"HTTP/"):
        return Fault(Cause.HTTP_HTTPS_MISMATCH, f"{name} speaks plain HTTP where TLS was expected")
    return Fault(Cause.CONNECTION_INTERRUPTED, f"{name} closed the connection during the TLS handshake")
