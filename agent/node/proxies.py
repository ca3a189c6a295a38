"""The proxy that a Go program takes for a request, given the environment it was started with.

Source: golang.org/x/net/http/httpproxy proxy.go; net/http transport.go for the credentials. Go decides by
the scheme of the *request*, reads its environment once, knows no ``ALL_PROXY``, and ignores in silence what
it cannot parse: `ProxySettings.remarks` says aloud what it does not.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agent.causes import Cause
from agent.model import Fault
from agent.node import urls
from agent.node.bypass import Bypass, ascii_name, entries_of, inert

_SCHEMES = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}
_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_NO_PORT = 65536  # stands for a number that is too large, and is itself refused by connect


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where to connect to instead. ``scheme`` is http, https, socks5 or socks5h; ``host`` has no brackets.

    ``authorization`` is the whole value of ``Proxy-Authorization`` (``Basic …``); ``shown`` is the address
    for people: no user, no password.
    """

    scheme: str
    host: str
    port: int
    authorization: str | None = field(repr=False)
    shown: str


@dataclass(frozen=True, slots=True)
class _Setting:
    """One of HTTP_PROXY and HTTPS_PROXY. ``proxy`` is None if it is empty or Go cannot parse it."""

    name: str
    given: bool
    proxy: Proxy | None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The variables of one environment, parsed as Go parses them. Holds no value but the parsed ones."""

    http: _Setting
    https: _Setting
    bypass: Bypass
    no_proxy: str
    cgi: bool
    strays: tuple[str, ...]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "ProxySettings":
        """Never fails; see `remarks` for what is wrong with the values."""
        no_proxy = _either(environ, "NO_PROXY")
        return cls(
            http=_setting("HTTP_PROXY", _either(environ, "HTTP_PROXY")),
            https=_setting("HTTPS_PROXY", _either(environ, "HTTPS_PROXY")),
            bypass=Bypass.parse(no_proxy),
            no_proxy=no_proxy,
            cgi=bool(environ.get("REQUEST_METHOD")),
            strays=tuple(_strays(environ)),
        )

    def proxy_for(self, scheme: str, host: str, port: int | None = None) -> Proxy | None:
        """The proxy for a request to ``scheme://host:port``, or None: directly.

        `Fault` PROXY_MISCONFIGURED where Go refuses to use HTTP_PROXY: in the environment of a CGI program.
        """
        setting = {"http": self.http, "https": self.https}.get(scheme)
        if setting is None or setting.proxy is None:
            return None
        if scheme == "http" and self.cgi:
            raise Fault(
                Cause.PROXY_MISCONFIGURED,
                "REQUEST_METHOD is set in containerd's environment: Go then refuses to use HTTP_PROXY",
            )
        name = ascii_name(host.removeprefix("[").removesuffix("]"))
        return None if self.bypass.meets(name, str(port or _PORTS[scheme])) else setting.proxy

    def remarks(self) -> tuple[str, ...]:
        """What is set without the effect that it seems to have, and why; one line each, without a secret."""
        return (*self._about_proxies(), *self.strays, *self._about_no_proxy())

    def _about_proxies(self) -> Iterator[str]:
        yield from (setting.trouble for setting in (self.http, self.https) if setting.trouble)
        if self.http.given and not self.https.given:
            yield "HTTP_PROXY is set and HTTPS_PROXY is not: https registries are reached directly"
        if self.cgi and self.http.proxy is not None:
            yield "REQUEST_METHOD is set: Go refuses to use HTTP_PROXY"

    def _about_no_proxy(self) -> Iterator[str]:
        parts = entries_of(self.no_proxy)
        if "*" in parts:
            yield "NO_PROXY has the entry *: no proxy is used at all"
            return
        for part in parts:
            reason = inert(part)
            if reason is not None:
                yield f"NO_PROXY entry {_harmless(part)} has no effect: {reason}"


def _either(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower()) or ""


def _strays(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in sorted(environ.items()):
        upper = name.upper()
        if not value or name == upper == "NO_PROXY":
            continue
        if upper == "ALL_PROXY":
            yield f"{name} is set: Go does not read it"
        elif upper in _NAMES and name not in (upper, upper.lower()):
            yield f"{name} is set: Go reads only {upper} and {upper.lower()}"
        elif upper in _NAMES and name == upper.lower() and environ.get(upper) not in (None, "", value):
            yield f"{name} differs from {upper}: Go reads {upper}"


def _setting(name: str, value: str) -> _Setting:
    if not value:
        return _Setting(name, given=False, proxy=None)
    try:
        url = _parse(value)
    except ValueError:
        return _Setting(
            name, given=True, proxy=None, trouble=f"{name} is not a URL: Go ignores it in silence and connects directly"
        )
    # Misread, the host may be a piece of the user part, unless it is the scheme's own word.
    doubtful = "@" in value and url.username is None and url.host != value.partition("://")[0]
    proxy = _proxy(url, hide=doubtful)
    return _Setting(name, given=True, proxy=proxy, trouble=_trouble(name, value, proxy, url))


def _parse(value: str) -> urls.GoUrl:
    """As httpproxy's parseProxy: what has no known scheme is tried again behind ``http://``."""
    try:
        url = urls.parse(value)
    except ValueError:
        return urls.parse(f"http://{value}")
    if url.scheme in _SCHEMES:
        return url
    try:
        return urls.parse(f"http://{value}")
    except ValueError:
        return url


def _trouble(name: str, value: str, proxy: Proxy, url: urls.GoUrl) -> str | None:
    if not url.host:
        return f"{name} names no host"
    if "@" in value and url.username is None:
        return f"{name} is misread: a character in its user or password must be escaped (# is %23, / is %2F, …)"
    if "://" in value and value[: value.index("://")].lower() not in _SCHEMES:
        return (
            f"{name} is read as a proxy called {proxy.host}: Go knows only http, https, socks5 and socks5h, no quotes"
        )
    if "://" in value and url.host == value.partition("://")[0]:
        return f"{name} is read as a proxy called {proxy.host}: what is behind :// is not in the form of a URL"
    if proxy.port > 65535:
        return f"{name} has a port beyond 65535"
    return None


def _proxy(url: urls.GoUrl, *, hide: bool) -> Proxy:
    scheme = url.scheme if url.scheme in _SCHEMES else "http"
    digits = (url.port or _PORTS[scheme]).lstrip("0") or "0"
    port = int(digits) if len(digits) <= 5 else _NO_PORT
    host = ascii_name(url.host)
    place = f"[{host}]" if ":" in host else host
    shown = f"{scheme}://(unreadable)" if hide else f"{scheme}://{place}:{port}"
    return Proxy(scheme, host, port, _authorization(url), shown)


def _authorization(url: urls.GoUrl) -> str | None:
    if url.username is None:
        return None
    pair = f"{url.username}:{url.password}".encode(errors="surrogateescape")
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def _harmless(part: str) -> str:
    """An entry, cut, and without what looks like a user part."""
    return repr(part.rpartition("@")[2][:80])
