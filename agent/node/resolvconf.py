"""resolv.conf, hosts and nsswitch.conf, read as Go's resolver reads them.

Sources: Go net/dnsconfig_unix.go, net/hosts.go, net/nss.go and, for who answers, net/conf.go. A containerd
that is built with cgo hands the question to glibc in the cases that `glibc_reasons` lists; one that is
built without (netgo) always answers by the rules of `agent.node.resolver`.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

NO_SERVERS = ("127.0.0.1", "::1")
MAX_SERVERS = 3

_DIGITS = re.compile(r"[0-9]*")
_SOURCE = re.compile(r"\[([^\]]*)\]|([^\s\[]+)")
_DEFAULT_ACTION = {"success": "return", "notfound": "continue", "unavail": "continue", "tryagain": "continue"}


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """``search`` names end in a dot; ``timeout`` in seconds is one try of one server.

    ``unknown`` are the words that make Go leave the question to glibc, where it can.
    """

    servers: tuple[str, ...] = NO_SERVERS
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: float = 5.0
    attempts: int = 2
    rotate: bool = False
    single_request: bool = False
    use_tcp: bool = False
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NameOrder:
    """The sources of names in order, of which Go knows ``files`` and ``dns``; ``reasons`` for glibc to answer."""

    sources: tuple[str, ...] = ("files", "dns")
    reasons: tuple[str, ...] = ()
    mdns: bool = False


def parse_resolv_conf(text: str | None, hostname: str = "") -> ResolvConf:
    """``text`` is None if there is no file; the domain of ``hostname`` is searched if no ``search`` is given."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    unknown: list[str] = []
    for word, values in _lines(text or ""):
        match word:
            case "nameserver":
                servers += [value for value in values[:1] if is_address(value)]
            case "domain" | "search":
                chosen = values[:1] if word == "domain" else values
                search = tuple(_rooted(value) for value in chosen if value != ".") if values else search
            case "options":
                options += values
            case "lookup":
                pass  # OpenBSD's; Go knows it everywhere and uses it only there
            case _:
                unknown.append(word)
    search = search or _domain_of(hostname)
    return _with_options(tuple(servers[:MAX_SERVERS]) or NO_SERVERS, search, options, unknown)


def parse_hosts(text: str) -> Mapping[str, tuple[str, ...]]:
    """Name, in lower case and without a dot at its end → addresses, in the order of the file."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if not is_address(address):
            continue
        for name in names:
            key = host_key(name)
            found[key] = (*found.get(key, ()), address)
    return found


def host_key(name: str) -> str:
    """How `parse_hosts` writes a name."""
    return name.lower().removesuffix(".")


def parse_nsswitch(text: str | None) -> NameOrder:
    """``text`` is None if there is no file. The line ``hosts:`` decides; without one Go takes files, then dns."""
    sources = _hosts_sources(text or "")
    reasons = [reason for name, criteria in sources if (reason := _odd(name, criteria))]
    names = tuple(name for name, _ in sources)
    known = tuple(dict.fromkeys(name for name in names if name in ("files", "dns")))
    mdns = any(name.startswith("mdns") for name in names)
    if reasons or not known:
        return NameOrder(reasons=tuple(reasons), mdns=mdns)
    return NameOrder(known, mdns=mdns)


def glibc_reasons(conf: ResolvConf, order: NameOrder, environ: Mapping[str, str], host: str = "") -> tuple[str, ...]:
    """Why a containerd with cgo and this environment lets glibc look up ``host``; empty: Go does it itself."""
    reasons = [f"resolv.conf has {word}" for word in conf.unknown]
    reasons += order.reasons
    reasons += [f"{name} is set" for name in ("RES_OPTIONS", "HOSTALIASES") if environ.get(name)]
    if "LOCALDOMAIN" in environ:
        reasons.append("LOCALDOMAIN is set")
    if "netdns=cgo" in environ.get("GODEBUG", ""):
        reasons.append("GODEBUG has netdns=cgo")
    if order.mdns and host_key(host).endswith(".local"):
        reasons.append("a .local name, and nsswitch.conf has mdns")
    return tuple(reasons)


def is_address(text: str) -> bool:
    """An IP literal, with a zone or without."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        if line.startswith((";", "#")):
            continue
        word, *values = line.split() or [""]
        if word:
            yield word, values


def _with_options(
    servers: tuple[str, ...], search: tuple[str, ...], options: Sequence[str], unknown: list[str]
) -> ResolvConf:
    numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
    flags: set[str] = set()
    for option in options:
        key, colon, value = option.partition(":")
        if colon and key in numbers:
            low, high = (0, 15) if key == "ndots" else (1, 10**6)
            numbers[key] = min(max(_number(value), low), high)
        elif option in _FLAGS:
            flags.add(_FLAGS[option])
        else:
            unknown.append(f"options {option}")
    return ResolvConf(
        servers=servers,
        search=search,
        ndots=numbers["ndots"],
        timeout=float(numbers["timeout"]),
        attempts=numbers["attempts"],
        rotate="rotate" in flags,
        single_request="single" in flags,
        use_tcp="tcp" in flags,
        unknown=tuple(unknown),
    )


_FLAGS = {
    "rotate": "rotate",
    "single-request": "single",
    "single-request-reopen": "single",
    "use-vc": "tcp",
    "usevc": "tcp",
    "tcp": "tcp",
    "trust-ad": "",
    "edns0": "",
    "no-reload": "",
}


def _number(text: str) -> int:
    """As Go's dtoi: the digits in front, at most 0xFFFFFF."""
    found = _DIGITS.match(text)
    digits = found[0][:9] if found else ""
    return min(int(digits or 0), 0xFFFFFF)


def _rooted(name: str) -> str:
    return name if name.endswith(".") else f"{name}."


def _domain_of(hostname: str) -> tuple[str, ...]:
    domain = hostname.partition(".")[2]
    return (_rooted(domain),) if domain else ()


def _hosts_sources(text: str) -> list[tuple[str, list[str]]]:
    """Each source of the line ``hosts:`` with its criteria, such as ``notfound=return``."""
    sources: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        database, colon, rest = line.partition("#")[0].partition(":")
        if not colon or database.strip() != "hosts":
            continue
        for found in _SOURCE.finditer(rest):
            if found[2]:
                sources.append((found[2], []))
            elif sources:
                sources[-1][1].extend(found[1].lower().split())
    return sources


def _odd(source: str, criteria: list[str]) -> str | None:
    """Why Go leaves a line with this source to glibc. It knows myhostname and mdns well enough to skip them."""
    if source == "myhostname" or source.startswith("mdns"):
        return None
    if source not in ("files", "dns"):
        return f"nsswitch.conf has the source {source}"
    for place, criterion in enumerate(criteria, start=1):
        status, _, action = criterion.partition("=")
        standard = _DEFAULT_ACTION.get(status)
        last = place == len(criteria) and action == "return"
        if standard is None or (action != standard and not last):
            return f"nsswitch.conf has {source} [{criterion}]"
    return None
