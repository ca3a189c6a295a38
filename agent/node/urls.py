"""URLs as Go's net/url reads them, where that differs from what Python's urllib makes of them.

Only what a proxy's address needs: which values are no URL at all, and what becomes the host of those that
are. Source: Go net/url url.go (Parse, getScheme, parseAuthority, parseHost, unescape, validUserinfo).
"""

import ipaddress
import re
from dataclasses import dataclass, field

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_LOW_ESCAPE = re.compile(r"%[0-7]")  # in a host only bytes outside ASCII may be escaped
_USERINFO = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:%@]*")
_HOST_FORBIDDEN = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:\[\]<>\"%\x80-\U0010ffff]")
_PORT = re.compile(r"(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class GoUrl:
    """``host`` is without port and brackets, ``port`` the digits or empty; the user parts are unescaped."""

    scheme: str
    host: str = ""
    port: str = ""
    username: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)


def parse(raw: str) -> GoUrl:
    """`ValueError`, without the value in its text, where Go returns an error."""
    text, _, fragment = raw.partition("#")
    if _CONTROL.search(text) or text.startswith(":"):
        raise ValueError("control character, or no scheme before the colon")
    found = _SCHEME.fullmatch(text)
    scheme, rest = (found[1].lower(), found[2]) if found else ("", text)
    rest = rest.partition("?")[0]
    if not rest.startswith("/"):
        return _without_authority(scheme, rest)
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        url = _authority(scheme, authority)
        _escapes(slash + path + fragment)
        return url
    _escapes(rest + fragment)
    return GoUrl(scheme)


def _without_authority(scheme: str, rest: str) -> GoUrl:
    if not scheme and ":" in rest.partition("/")[0]:
        raise ValueError("first path segment with a colon")
    if not scheme:
        _escapes(rest)
    return GoUrl(scheme)


def _authority(scheme: str, authority: str) -> GoUrl:
    userinfo, at, host = authority.rpartition("@")
    name, port = _host(host)
    if not at:
        return GoUrl(scheme, name, port)
    if not _USERINFO.fullmatch(userinfo):
        raise ValueError("character in the user part that must be escaped")
    username, _, password = userinfo.partition(":")
    return GoUrl(scheme, name, port, _unescape(username), _unescape(password))


def _host(text: str) -> tuple[str, str]:
    if text.startswith("["):
        return _bracketed(text)
    name, colon, port = text.rpartition(":")
    if not colon:
        name, port = text, ""
    if not _PORT.fullmatch(colon + port):
        raise ValueError("port that is not a number")
    if _HOST_FORBIDDEN.search(name) or _LOW_ESCAPE.search(name):
        raise ValueError("character that no host may have")
    return _unescape(name), port


def _bracketed(text: str) -> tuple[str, str]:
    name, bracket, port = text[1:].rpartition("]")
    if not bracket or not _PORT.fullmatch(port):
        raise ValueError("bracket without its partner, or port that is not a number")
    address = name.replace("%25", "%", 1)
    ipaddress.IPv6Address(address)
    return address, port.removeprefix(":")


def _escapes(text: str) -> None:
    if _BAD_ESCAPE.search(text):
        raise ValueError("percent sign without two hexadecimal digits")


def _unescape(text: str) -> str:
    _escapes(text)
    raw = text.encode(errors="surrogateescape")
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw).decode(errors="surrogateescape")
