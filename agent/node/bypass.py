"""``NO_PROXY`` as Go reads it: which hosts are reached without the proxy, and which entries do nothing.

Source: golang.org/x/net/http/httpproxy proxy.go (config.init, useProxy). Entries are separated by commas
only; names are never resolved, so an address or CIDR entry meets hosts that are written as addresses.
"""

import ipaddress
import re
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MASK_DIGITS = re.compile(r"[0-9]{1,3}")
_PART_OF_ADDRESS = re.compile(r"[0-9.]+(\.\*)?")


@dataclass(frozen=True, slots=True)
class _Anything:
    def meets(self, host: str, port: str, address: Address | None) -> bool:  # noqa: ARG002
        return True


@dataclass(frozen=True, slots=True)
class _Range:
    network: Network

    def meets(self, host: str, port: str, address: Address | None) -> bool:  # noqa: ARG002
        return address is not None and address in self.network


@dataclass(frozen=True, slots=True)
class _Single:
    address: Address
    port: str

    def meets(self, host: str, port: str, address: Address | None) -> bool:  # noqa: ARG002
        return address == self.address and self.port in ("", port)


@dataclass(frozen=True, slots=True)
class _Domain:
    """``suffix`` starts with a dot; ``itself``: the name without it counts too."""

    suffix: str
    port: str
    itself: bool

    def meets(self, host: str, port: str, address: Address | None) -> bool:  # noqa: ARG002
        named = host.endswith(self.suffix) or (self.itself and host == self.suffix[1:])
        return named and self.port in ("", port)


_Entry = _Anything | _Range | _Single | _Domain


@dataclass(frozen=True, slots=True)
class Bypass:
    """A parsed ``NO_PROXY``."""

    entries: tuple[_Entry, ...]

    @classmethod
    def parse(cls, value: str) -> "Bypass":
        """Never fails: what Go cannot read, it leaves out."""
        parts = entries_of(value)
        if "*" in parts:
            return cls((_Anything(),))
        return cls(tuple(entry for entry in map(_entry, parts) if entry is not None))

    def meets(self, host: str, port: str) -> bool:
        """Whether a request to ``host`` goes around the proxy; ``port`` is the effective one."""
        if host == "localhost":  # Go compares the case here, and only here
            return True
        address = parse_address(host)
        if address is not None and address.is_loopback:
            return True
        name = host.strip().lower()
        return any(entry.meets(name, port, address) for entry in self.entries)


def entries_of(value: str) -> tuple[str, ...]:
    """The entries as Go compares them: trimmed, in lower case, none of them empty."""
    parts = (part.strip().lower() for part in value.split(","))
    return tuple(part for part in parts if part)


def parse_address(text: str) -> Address | None:
    """As Go's net.ParseIP: no zone; an IPv4 address in IPv6 form is the IPv4 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return None if address.scope_id is not None else address.ipv4_mapped or address


def ascii_name(name: str) -> str:
    """A name outside ASCII in its DNS form; as it is if it has none."""
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def inert(part: str) -> str | None:
    """Why an entry of `entries_of` meets nothing that anyone would write, if that is so."""
    name, port = _split_port(part)
    return _inert_form(part) or _inert_name(name, port)


def _inert_form(part: str) -> str | None:
    if any(character.isspace() for character in part) or ";" in part:
        return "only commas separate entries"
    if "://" in part:
        return "an entry has no scheme"
    if "/" in part and _range(part) is None:
        return "it has a slash and is no CIDR range (which takes no port)"
    return None


def _inert_name(name: str, port: str) -> str | None:
    if not name or (port and not port.isdigit()):
        return "it has no host, or its port is no number"
    if "[" in name or "]" in name:
        return "brackets need a port behind them: write the address alone"
    if parse_address(name) is None and _PART_OF_ADDRESS.fullmatch(name):
        return "it is a part of an address: write a CIDR range such as 10.0.0.0/8"
    if "*" in name.removeprefix("*."):
        return "a star stands alone, or as *. in front of a domain"
    if name.endswith("."):
        return "the dot at its end is only met by names that are asked for with one"
    return None


def _entry(part: str) -> _Entry | None:
    network = _range(part)
    if network is not None:
        return _Range(network)
    name, port = _split_port(part)
    address = parse_address(name)
    if address is not None:
        return _Single(address, port)
    return _domain(name, port) if name else None


def _domain(name: str, port: str) -> _Domain:
    suffix = name.removeprefix("*") if name.startswith("*.") else name
    itself = not suffix.startswith(".")
    return _Domain(ascii_name(f".{suffix}" if itself else suffix), port, itself)


def _range(part: str) -> Network | None:
    """As Go's net.ParseCIDR: the mask in digits; bits beyond it do not matter."""
    address, slash, digits = part.partition("/")
    if not slash or not _MASK_DIGITS.fullmatch(digits) or "%" in address:
        return None
    try:
        network = ipaddress.ip_network(part, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network


def _split_port(part: str) -> tuple[str, str]:
    """As Go's net.SplitHostPort, and where that is an error, the whole as the host."""
    host, colon, port = part.rpartition(":")
    if not colon:
        return part, ""
    if host.startswith("[") and host.endswith("]"):
        inner = host[1:-1]
        return (inner, port) if not set("[]") & set(inner + port) else (part, "")
    return (part, "") if ":" in host or set("[]") & set(part) else (host, port)
