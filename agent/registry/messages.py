"""What goes over the wire: addresses, requests and answers, without any I/O."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

_PORTS = {"http": 80, "https": 443}
_SAFE = "/%:@!$&'()*+,;=~-._"
_BAD_HOST = re.compile(r"[^A-Za-z0-9._:\-]")


class Headers:
    """Header fields in the order they came; names compare without case."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple((name.lower(), value) for name, value in pairs)

    def get(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        return next(iter(self.getall(name)), default)

    def getall(self, name: str) -> tuple[str, ...]:
        """Every value of a field, one a header line."""
        return tuple(value for key, value in self._pairs if key == name.lower())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address. ``host`` has no brackets, ``target`` is path and query as sent."""

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Raises ValueError for anything that is not an http(s) URL with a host; a user part is dropped."""
        if not text.isprintable() or " " in text:
            raise ValueError("a URL with blanks or control characters")
        parts = urlsplit(text)
        if parts.scheme not in _PORTS:
            raise ValueError(f"the scheme {parts.scheme[:20]!r} is neither http nor https")
        host = parts.hostname or ""
        if not host or _BAD_HOST.search(host):
            raise ValueError("a URL without a usable host")
        path = quote(parts.path, safe=_SAFE) or "/"
        query = "?" + quote(parts.query, safe=_SAFE + "?") if parts.query else ""
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        return cls(parts.scheme, host, port, path + query)

    def join(self, location: str) -> "Url":
        """Where a ``Location`` seen here points. Raises ValueError as `parse`."""
        return Url.parse(urljoin(str(self), location))

    @property
    def authority(self) -> str:
        """The ``Host`` header: no port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a connection, and an Authorization, belongs to."""
        return self.scheme, self.host.lower(), self.port

    @property
    def shown(self) -> str:
        """For people: without the query, which may hold a signature."""
        return f"{self.scheme}://{self.authority}{self.target.partition('?')[0]}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One request. Its default ``repr`` shows neither headers nor body: they hold credentials."""

    method: str
    url: Url
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url.shown})"


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """One answer; ``body`` is bounded by whoever asked."""

    status: int
    headers: Headers
    body: bytes = b""

    @property
    def media_type(self) -> str:
        """``Content-Type`` without parameters, lower case."""
        return self.headers.get("content-type").partition(";")[0].strip().lower()

    def __repr__(self) -> str:
        return f"Response({self.status}, {self.media_type or '-'}, {len(self.body)} bytes)"
