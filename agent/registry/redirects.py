"""Where a registry may send us, and where not.

A redirect or a token realm is the registry's word: it never leads to a loopback or link-local address
(the cloud's metadata service) unless the registry itself is on one, and never takes an Authorization
to another host, port or scheme.
"""

import ipaddress
import re
import socket

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote
from agent.registry.messages import Response, Url

MOST = 10
_STATUSES = frozenset({301, 302, 303, 307, 308})
_LOOPBACK_NAME = re.compile(r"(?:.*\.)?localhost\.?", re.IGNORECASE)
_OLD_NOTATION = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)


def is_redirect(response: Response) -> bool:
    """Whether this answer points elsewhere."""
    return response.status in _STATUSES and bool(response.headers.get("location"))


def target(response: Response, url: Url, seen: frozenset[str], home: str) -> Url:
    """Where ``response`` to ``url`` sends us. ``seen`` are the URLs so far; ``home`` is the registry's address.

    Raises Fault(REGISTRY_ERROR) for the eleventh redirect, a circle, a place that is no http(s) URL, or
    one that is not allowed.
    """
    try:
        found = url.join(response.headers.get("location"))
    except ValueError as error:
        raise Fault(Cause.REGISTRY_ERROR, f"{url.authority} redirects to {quote(str(error), 80)}") from None
    if str(found) in seen:
        raise Fault(Cause.REGISTRY_ERROR, f"{url.authority} redirects in a circle, to {found.shown}")
    if len(seen) > MOST:
        raise Fault(Cause.REGISTRY_ERROR, f"{url.authority} redirects more than {MOST} times")
    guard(found, home)
    return found


def guard(url: Url, home: str) -> None:
    """Raises Fault(REGISTRY_ERROR) where ``url`` leads to the inside of this machine or link, and ``home`` does not."""
    if kind := kind_of(url.host):
        guard_address(url, kind, home)


def guard_address(url: Url, kind: str, home: str) -> None:
    """As `guard`, for a host whose address turned out to be of ``kind``."""
    if kind and kind != kind_of(home):
        raise Fault(
            Cause.REGISTRY_ERROR,
            f"the registry points to {url.shown}, a {kind} address, which is not followed",
            {"url": url.shown},
        )


def kind_of(host: str) -> str:
    """``loopback``, ``link-local`` or empty; for a name empty, but for ``localhost``. All spellings of IPv4 count."""
    address = _address(host)
    if address is None:
        return "loopback" if _LOOPBACK_NAME.fullmatch(host) else ""
    if address.is_link_local:
        return "link-local"
    return "loopback" if address.is_loopback or address.is_unspecified else ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return _old_notation(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _old_notation(host: str) -> ipaddress.IPv4Address | None:
    """``127.1``, ``0x7f000001``, ``2130706433``: what the C library takes for an address."""
    if not _OLD_NOTATION.fullmatch(host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
