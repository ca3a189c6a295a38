"""hosts.toml, and the directory of certificates that stands in for it.

Facts: containerd remotes/docker/config/hosts.go (parseHostsFile, parseHostConfig, loadCertFiles): hosts
in the order of the file, then the server; an unknown capability or a wrong type fails the whole file.
"""

import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.quoting import quote
from agent.registry import hostpaths

PULL, RESOLVE = "pull", "resolve"
EVERYTHING = frozenset({PULL, RESOLVE, "push", "referrers"})
_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns))")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

Pair = tuple[Path, Path | None]


@dataclass(frozen=True, slots=True)
class Section:
    """One host of the file, or its root. ``authority`` is empty where the server is to be the default one.

    Paths are absolute, as containerd sees them; a client certificate without a key holds its key itself.
    ``dial_timeout`` is seconds.
    """

    scheme: str = ""
    authority: str = ""
    path: str = ""
    capabilities: frozenset[str] = EVERYTHING
    ca: tuple[Path, ...] | None = None
    client: tuple[Pair, ...] | None = None
    skip_verify: bool | None = None
    headers: tuple[tuple[str, str], ...] = ()
    dial_timeout: float | None = None


def parse(data: bytes, directory: Path, *, tree_required: bool = False) -> tuple[Section, ...]:
    """The sections of a hosts.toml in ``directory``, in the order of trying, the server last.

    ``tree_required``: containerd 1.5 and 1.6 refuse a file without a ``[host]`` table.
    Raises ValueError with what is wrong.
    """
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not TOML: {quote(str(error))}") from None
    hosts = _table(document.get("host", {}), "host")
    if tree_required and not hosts:
        raise ValueError("invalid `host` tree: this containerd wants at least one [host] table")
    server = _text(document.get("server", ""), "server")
    sections = [_section(url, _table(fields, f'host."{url}"'), directory) for url, fields in hosts.items()]
    return (*sections, _section(server, document, directory))


def docker_layout(directory: Path, prefix: Path) -> Section:
    """The directory read as Docker's: ``*.crt`` are CAs, ``*.cert`` and ``*.key`` a client. Raises OSError."""
    names = hostpaths.listing(directory, prefix)
    ca = tuple(directory / name for name in names if name.endswith(".crt"))
    client = tuple(_docker_pair(directory, name, names) for name in names if name.endswith(".cert"))
    return Section(ca=ca or None, client=client or None)


def _docker_pair(directory: Path, name: str, names: tuple[str, ...]) -> Pair:
    key = name.removesuffix(".cert") + ".key"
    return directory / name, directory / key if key in names else None


def _section(url: str, fields: Mapping[str, object], directory: Path) -> Section:
    override = _flag(fields.get("override_path", False), "override_path")
    scheme, authority, path = _address(url, override=override) if url else ("", "", "")
    return Section(
        scheme,
        authority,
        path,
        _capabilities(fields.get("capabilities", [])),
        _authorities(fields["ca"], directory) if "ca" in fields else None,
        tuple(_pairs(fields["client"], directory)) if "client" in fields else None,
        _flag(fields["skip_verify"], "skip_verify") if "skip_verify" in fields else None,
        tuple(_headers(_table(fields.get("header", {}), "header"))),
        _duration(fields["dial_timeout"]) if "dial_timeout" in fields else None,
    )


def _address(url: str, *, override: bool) -> tuple[str, str, str]:
    """Scheme, host with port, and path of a host's URL; ``/v2`` is added unless it is there or forbidden."""
    parts = urlsplit(url if url.startswith("http") else f"https://{url}")
    authority = parts.netloc.rpartition("@")[2]
    if parts.scheme not in {"http", "https"} or not authority or re.search(r"\s", url):
        raise ValueError(f"unable to parse server {quote(url, 100)}")
    parts.port  # noqa: B018 - raises ValueError for a port that is none
    path = posixpath.normpath(parts.path) if parts.path else ""
    if not path.endswith("/v2") and not override:
        path += "/v2"
    return parts.scheme, authority, "/" + path.strip("/") if path else ""


def _capabilities(value: object) -> frozenset[str]:
    words = _texts(value, "capabilities")
    if unknown := [word for word in words if word not in EVERYTHING]:
        raise ValueError(f"unknown capability {quote(unknown[0], 40)}")
    return frozenset(words) or EVERYTHING


def _authorities(value: object, directory: Path) -> tuple[Path, ...]:
    names = [value] if isinstance(value, str) else _texts(value, "ca")
    return tuple(directory / name for name in names)


def _pairs(value: object, directory: Path) -> Iterator[Pair]:
    if not isinstance(value, str | list):
        raise ValueError('invalid type for "client"')  # noqa: TRY004 - one kind of error for all that is wrong in a file
    for each in [value] if isinstance(value, str) else value:
        if isinstance(each, str):
            yield directory / each, None
            continue
        names = _texts(each, "client")
        if len(names) != 2:
            raise ValueError('a pair of "client" does not have two files')
        yield directory / names[0], directory / names[1] if names[1] else None


def _headers(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        for each in [value] if isinstance(value, str) else _texts(value, f"header {quote(name, 40)}"):
            yield name, each


def _duration(value: object) -> float:
    text = _text(value, "dial_timeout")
    found = _DURATION.findall(text)
    if "".join(number + unit for number, unit in found) != text or not text:
        raise ValueError(f"dial_timeout {quote(text, 40)!r} is no duration")
    return sum(float(number) * _SECONDS[unit] for number, unit in found)


def _table(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{quote(what, 100)} is not a table")  # noqa: TRY004 - as above
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is not a string")  # noqa: TRY004 - as above
    return value


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{what} is not true or false")  # noqa: TRY004 - as above
    return value


def _texts(value: object, what: str) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f'invalid type for "{what}"')  # noqa: TRY004 - as above
    return [_text(each, what) for each in value]
