"""Which hosts containerd asks for a registry, in which order, and how.

Facts: containerd remotes/docker/config/{hosts,config_unix}.go (certs.d: which directory, defaults for
Docker Hub and for loopback names), the CRI plugin's registryHosts (without config_path: mirrors, then
the default endpoint), remotes/docker/resolver.go (the ``ns`` query).
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from agent.causes import Cause
from agent.model import Fault, ImageRef
from agent.quoting import quote
from agent.registry import hostfile, hostpaths
from agent.registry.hostfile import EVERYTHING, PULL, RESOLVE, Pair, Section

_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """One host to ask: ``host`` without brackets, ``path`` like ``/v2``.

    ``explicit_port`` tells that the port was written, which containerd compares as text. ``ca`` (added to
    the node's own) and ``client`` are files as containerd sees them. ``fallback_http``: it is asked over
    TLS first, and in clear where that turns out to be plain HTTP. ``dial_timeout`` is seconds.
    """

    scheme: str
    host: str
    port: int
    path: str = "/v2"
    capabilities: frozenset[str] = EVERYTHING
    ca: tuple[Path, ...] = ()
    client: tuple[Pair, ...] = ()
    skip_verify: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    fallback_http: bool = False
    dial_timeout: float | None = None
    explicit_port: bool = False

    @classmethod
    def at(cls, scheme: str, authority: str, path: str = "/v2") -> "Host":
        """A host by its ``host[:port]``. Raises ValueError for a port that is none."""
        port = urlsplit(f"//{authority}").port
        host = authority.removesuffix(f":{port}").strip("[]")
        return cls(scheme, host, port or _PORTS[scheme], path, explicit_port=port is not None)

    @property
    def name(self) -> str:
        """Host and port as containerd writes them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.explicit_port else host

    def in_clear(self) -> "Host":
        """The same over plain HTTP, after TLS turned out to be wrong."""
        port = self.port if self.explicit_port else _PORTS["http"]
        return replace(self, scheme="http", port=port, fallback_http=False)

    def falls_back(self, fault: Fault) -> bool:
        """Whether containerd asks again in clear after this: an HTTP answer or a handshake timeout; without a port also
        where nothing can be connected to (facts: remotes/docker httpFallback)."""
        if not self.fallback_http:
            return False
        if fault.cause is Cause.TLS_HANDSHAKE:
            return "timeout" in fault.evidence
        no_connection = fault.cause in {Cause.CONNECT_REFUSED, Cause.CONNECT_TIMEOUT}
        return fault.cause is Cause.HTTP_HTTPS_MISMATCH or (no_connection and not self.explicit_port)

    def serves(self, ref: ImageRef) -> bool:
        """Whether this host is asked for ``ref``: by tag that takes ``resolve``, by digest ``pull``."""
        return (PULL if ref.digest else RESOLVE) in self.capabilities


@dataclass(frozen=True, slots=True)
class Route:
    """The hosts for one registry, in the order of trying, and what was wrong with the file that names them.

    ``source`` is the directory that was read, None where there is none; ``faults`` do not stop
    containerd: it logs them and goes on with what is left.
    """

    registry: str
    hosts: tuple[Host, ...]
    source: Path | None = None
    faults: tuple[Fault, ...] = ()

    def hosts_for(self, ref: ImageRef) -> tuple[Host, ...]:
        """The hosts that are asked for ``ref``; empty means ``no resolve hosts: not found``."""
        return tuple(host for host in self.hosts if host.serves(ref))


def is_namespace(host: Host, registry: str) -> bool:
    """Whether ``ns=registry`` is added to requests to ``host``: it is not the registry's own."""
    return host.name != registry and (registry, host.name) != (_HUB, _HUB_HOST)


def route(registry: str, roots: Sequence[Path], prefix: Path = Path("/"), *, tree_required: bool = False) -> Route:
    """How containerd reaches ``registry`` with ``roots`` as its config_path, as found under ``prefix``.

    No roots is legacy mode without mirrors. ``tree_required`` is for containerd 1.5 and 1.6, which refuse
    a hosts.toml without a ``[host]`` table. Raises Fault(HOSTS_CONFIG_INVALID) where containerd itself
    would fail the pull: a directory that cannot be read.
    """
    if not roots:
        return legacy(registry, {})
    directory = hostpaths.first_existing(_directories(registry, roots), prefix)
    if directory is None:
        return Route(registry, _hosts(registry, (Section(),)))
    try:
        sections, faults = _sections(directory, prefix, tree_required=tree_required)
    except OSError as error:
        raise _invalid(directory, f"cannot be read: {error.strerror}") from error
    return Route(registry, _hosts(registry, sections), directory, faults)


def legacy(registry: str, mirrors: Mapping[str, Sequence[str]]) -> Route:
    """As `route`, without config_path: the ``mirrors`` of config.toml, then the registry itself.

    Raises Fault(HOSTS_CONFIG_INVALID) for an endpoint that is no URL.
    """
    default = _HUB_HOST if registry == _HUB else registry
    endpoints = [_endpoint(each) for each in mirrors.get(registry, mirrors.get("*", ()))]
    if default not in {each.name for each in endpoints}:
        endpoints.append(Host.at("http" if is_local(default) else "https", default))
    return Route(registry, tuple(endpoints))


def _endpoint(text: str) -> Host:
    """The path is taken as written; only an empty one becomes ``/v2``."""
    guess = "http" if is_local(text.partition("/")[0]) else "https"
    try:
        parts = urlsplit(text if "://" in text else f"{guess}://{text}")
        found = Host.at(parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/v2")
    except (ValueError, KeyError):
        found = None
    if found is None or not found.host:
        raise Fault(Cause.HOSTS_CONFIG_INVALID, f"the mirror endpoint {quote(text, 100)!r} is no URL")
    return found


def _directories(registry: str, roots: Sequence[Path]) -> list[Path]:
    name, colon, port = registry.rpartition(":")
    names = [f"{name}_{port}_", registry, "_default"] if colon and name else [registry, "_default"]
    return [root / each for root in roots for each in names]


def _sections(directory: Path, prefix: Path, *, tree_required: bool) -> tuple[tuple[Section, ...], tuple[Fault, ...]]:
    """A broken file is logged by containerd, and the directory then read as Docker's."""
    file = directory / "hosts.toml"
    try:
        data = hostpaths.read(file, prefix)
    except FileNotFoundError:
        data = b""
    if not data:
        return (hostfile.docker_layout(directory, prefix),), ()
    try:
        return hostfile.parse(data, directory, tree_required=tree_required), ()
    except ValueError as error:
        fault = _invalid(file, f"{error}; containerd ignores it and asks the registry itself")
        return (hostfile.docker_layout(directory, prefix),), (fault,)


def _invalid(path: Path, why: str) -> Fault:
    return Fault(Cause.HOSTS_CONFIG_INVALID, f"{path}: {why}", {"file": str(path)})


def _hosts(registry: str, sections: Sequence[Section]) -> tuple[Host, ...]:
    filled = [*sections[:-1], sections[-1] if sections[-1].authority else _default(registry, sections[-1])]
    return tuple(_host(section) for section in filled)


def _default(registry: str, section: Section) -> Section:
    """The registry itself: TLS settings stay, capabilities do not; a loopback name is not verified."""
    if registry == _HUB or not is_local(registry):
        authority = _HUB_HOST if registry == _HUB else registry
        return replace(section, scheme="https", authority=authority, path="/v2", capabilities=EVERYTHING)
    port = _port(registry)
    section = replace(section, authority=registry, path="/v2", capabilities=EVERYTHING)
    if port == 80:
        return replace(section, scheme="http")
    return replace(section, scheme="https" if port in {None, 443} else "http", skip_verify=True)


def _host(section: Section) -> Host:
    """Plain HTTP with TLS settings means: TLS first, and in clear only if that is what answers."""
    has_tls = (section.ca, section.client, section.skip_verify) != (None, None, None)
    fallback = section.scheme == "http" and has_tls and _port(section.authority) != 80
    return replace(
        Host.at("https" if fallback else section.scheme, section.authority, section.path),
        capabilities=section.capabilities,
        ca=section.ca or (),
        client=section.client or (),
        skip_verify=bool(section.skip_verify),
        headers=section.headers,
        fallback_http=fallback,
        dial_timeout=section.dial_timeout,
    )


def is_local(authority: str) -> bool:
    """Whether containerd takes this host as its own machine: ``localhost`` or a loopback address."""
    host = urlsplit(f"//{authority}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _port(authority: str) -> int | None:
    try:
        return urlsplit(f"//{authority}").port
    except ValueError:
        return None
