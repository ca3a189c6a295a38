"""Pull secrets as the kubelet reads and matches them.

Facts: kubernetes pkg/credentialprovider/config.go (shapes, ``auth`` overrides user name and password,
keys compare without case, ``identitytoken`` and helpers are ignored) and keyring.go (matching: as many
labels, each a glob, equal ports, the path a plain prefix; keys sorted backwards, all that match are
tried; Docker Hub's key for names without a dot when nothing matched).
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from agent.causes import Cause
from agent.model import Credential, Fault, ImageRef
from agent.quoting import quote
from agent.registry import answers, globs

_HUB_KEY = "index.docker.io"
_LISTED = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a pull secret, as the kubelet normalises it: host, port and perhaps a path."""

    key: str
    credential: Credential = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The credentials of several secrets; secrets with the same key keep their order."""

    entries: tuple[Entry, ...] = ()

    def __add__(self, other: "Keyring") -> "Keyring":
        return Keyring(self.entries + other.entries)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key, in the order in which they are tried."""
        return tuple(sorted({entry.key for entry in self.entries}, reverse=True))

    def lookup(self, ref: ImageRef) -> tuple[Credential, ...]:
        """What the kubelet would try for this image, in its order; empty for one anonymous attempt."""
        matching = [key for key in self.keys if _matches(key, ref.repository)]
        if not matching and _falls_to_hub(ref):
            matching = [_HUB_KEY]
        return tuple(entry.credential for key in matching for entry in self.entries if entry.key == key)

    def not_for(self, ref: ImageRef) -> Fault:
        """That none of these entries is for the image's registry, and whose they are."""
        shown = ", ".join(quote(key, 80) for key in self.keys[:_LISTED]) or "no registry at all"
        more = f" and {len(self.keys) - _LISTED} more" if len(self.keys) > _LISTED else ""
        detail = f"the pull secrets are for {shown}{more}, none of which matches {ref.repository}"
        return Fault(Cause.SECRET_NOT_FOR_REGISTRY, detail, {"registry": ref.registry, "entries": shown + more})


def read(data: bytes, *, flat: bool) -> Keyring:
    """The keyring of one secret: ``flat`` for ``.dockercfg``, else ``.dockerconfigjson`` with ``auths``.

    Raises Fault(SECRET_MALFORMED), as the kubelet fails on it, naming the entry but none of its content.
    """
    try:
        body = answers.read_json(data, "it")
    except Fault:
        raise _malformed("it is not JSON") from None
    entries = _mapping(body, "the document")
    if not flat:
        entries = _mapping(_field(entries, "auths"), "auths")
    found = [(_key(host), _credential(host, entry)) for host, entry in entries.items()]
    return Keyring(tuple(Entry(key, credential) for key, credential in found if key is not None))


def _malformed(why: str) -> Fault:
    return Fault(Cause.SECRET_MALFORMED, f"the pull secret cannot be read: {why}")


def _mapping(value: object, what: str) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _malformed(f"{what} is not an object")
    return value


def _field(mapping: dict[str, object], name: str) -> object:
    """Go's JSON finds a field whatever its case; of several, the last one in the document counts."""
    return next((value for key, value in reversed(mapping.items()) if key.lower() == name), None)


def _credential(host: str, entry: object) -> Credential:
    shown = f"the entry {quote(host, 100)}"
    fields = _mapping(entry, shown)
    username, password, auth = (_text(fields, name, shown) for name in ("username", "password", "auth"))
    _text(fields, "email", shown)
    if auth:
        username, password = _decode(auth, shown)
    return Credential(username, password)


def _text(fields: dict[str, object], name: str, shown: str) -> str:
    value = _field(fields, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _malformed(f"{name} of {shown} is not a string")
    return value


def _decode(auth: str, shown: str) -> tuple[str, str]:
    """Base64 of ``user:password``, padded or not, in Go's standard alphabet; line breaks are skipped."""
    text = auth.replace("\r", "").replace("\n", "")
    if not text.rstrip().endswith("="):
        text += "=" * (-len(text) % 4)
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, UnicodeEncodeError):
        raise _malformed(f"auth of {shown} is not base64") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise _malformed(f"auth of {shown} is not base64 of user:password (no colon)")
    return username, password


def _key(host: str) -> str | None:
    """The key as the kubelet stores it; None for what is no URL (logged and skipped there)."""
    parts = _split(host.removeprefix("https://").removeprefix("http://"))
    if parts is None:
        return None
    found, path = parts
    path = path[3:] if path.startswith(("/v1/", "/v2/")) else path
    return found + ("" if path == "/" else path)


def _split(url: str) -> tuple[str, str] | None:
    """Host and path of a URL without scheme, as Go's url.Parse; None where it refuses.

    A ``?`` begins the query there, so it is never the wildcard that the kubelet's comments promise.
    """
    if any(char < " " or char == "\x7f" for char in url):
        return None
    before = url.partition("#")[0].partition("?")[0]
    authority, slash, path = before.partition("/")
    host = authority.rpartition("@")[2]
    if re.search(r'[ <>"%\\^`{|}]', host) or not re.fullmatch(r"[^:]*(:[0-9]*)?|.*\](:[0-9]*)?", host):
        return None
    return host, slash + unquote(path)


def _port_apart(host: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*):([^:]*)", host)
    return (match[1].strip("[]"), match[2]) if match else (host, "")


def _matches(key: str, repository: str) -> bool:
    glob, image = _split(key), _split(repository)
    if glob is None or image is None:
        return False
    (glob_host, glob_port), (host, port) = _port_apart(glob[0]), _port_apart(image[0])
    patterns, labels = glob_host.split("."), host.split(".")
    if glob_port != port or len(patterns) != len(labels) or not image[1].startswith(glob[1]):
        return False
    return all(globs.matches(each, label) for each, label in zip(patterns, labels, strict=True))


def _falls_to_hub(ref: ImageRef) -> bool:
    """Facts: keyring.go isDefaultRegistryMatch; hence ``localhost/x`` is offered Docker Hub's credentials."""
    return ref.registry == "docker.io" or not any(char in ref.registry for char in ".:")
