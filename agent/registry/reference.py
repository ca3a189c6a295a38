"""Image names in containerd's normal form.

Facts: distribution/reference v0.6.0, normalize.go (``splitDockerDomain``, ``ParseNormalizedNamed``),
regexp.go and reference.go; containerd drops the tag of a name that has tag and digest.
"""

import re

from agent.causes import Cause
from agent.model import Fault, ImageRef

HUB = "docker.io"
_HUB_LEGACY = "index.docker.io"
_PATH_LIMIT = 255
_SHOWN = 200
_SIZES = {"sha256": 64, "sha384": 96, "sha512": 128}

_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*):([0-9a-fA-F]{32,})")


def parse(text: str) -> ImageRef:
    """The normal form of an image name; ``latest`` where it names neither tag nor digest.

    Raises Fault(INVALID_REFERENCE) with what is wrong and where.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise Fault(Cause.INVALID_REFERENCE, f"{_shown(text)}: {error}", {"image": _shown(text)}) from None


def _parse(text: str) -> ImageRef:
    if not text:
        raise ValueError("the image name is empty")
    _refuse_foreign_characters(text)
    if _IDENTIFIER.fullmatch(text):
        raise ValueError("64 hexadecimal characters are an image ID, not a name")
    registry, remainder = _split(text)
    name, digest = _cut_digest(remainder)
    path, colon, tag = name.partition(":")
    _check_host(registry)
    _check_path(path)
    if colon:
        _check_tag(tag)
    return ImageRef(registry, path, None if digest else tag or "latest", digest)


def _refuse_foreign_characters(text: str) -> None:
    for position, char in enumerate(text, start=1):
        if char.isspace():
            raise ValueError(f"white space at character {position}")
        if not char.isprintable():
            raise ValueError(f"control character U+{ord(char):04X} at character {position}")
        if not char.isascii():
            raise ValueError(f"{char!r} at character {position} is not ASCII")


def _split(text: str) -> tuple[str, str]:
    """Registry and the rest, ``library/`` added where Docker Hub means it."""
    first, slash, rest = text.partition("/")
    if not slash:
        return HUB, f"library/{text}"
    if first == _HUB_LEGACY:
        first = HUB
    elif not _names_host(first):
        first, rest = HUB, text
    if first == HUB and "/" not in rest:
        rest = f"library/{rest}"
    return first, rest


def _names_host(first: str) -> bool:
    """Whether the part before the first slash is a registry; upper case cannot be a repository."""
    return first == "localhost" or "." in first or ":" in first or first.lower() != first


def _cut_digest(remainder: str) -> tuple[str, str | None]:
    name, at, digest = remainder.partition("@")
    if not at:
        return name, None
    match = _DIGEST.fullmatch(digest)
    if not match:
        raise ValueError(f"the digest {_shown(digest, 100)} is not algorithm:hexadecimal")
    algorithm, value = match.groups()
    if algorithm not in _SIZES:
        raise ValueError(f"the digest algorithm {_shown(algorithm, 40)} is not one of {', '.join(_SIZES)}")
    if len(value) != _SIZES[algorithm]:
        raise ValueError(f"a {algorithm} digest has {_SIZES[algorithm]} hexadecimal digits, this one {len(value)}")
    if value != value.lower():
        raise ValueError("the digest has upper-case digits")
    return name, digest


def _check_host(registry: str) -> None:
    if not _HOST.fullmatch(registry):
        raise ValueError(f"the registry host {_shown(registry, 100)} is not host, host:port or [IPv6]:port")


def _check_path(path: str) -> None:
    if path != path.lower():
        upper = next(char for char in path if char.isupper())
        raise ValueError(f"the repository name {_shown(path, 100)} must be lower case ({upper!r})")
    for component in path.split("/"):
        if not component:
            raise ValueError("an empty component in the repository name (a slash too many or nothing after it)")
        if not _COMPONENT.fullmatch(component):
            raise ValueError(f"the component {_shown(component, 100)} of the repository name is not allowed")
    if len(path) > _PATH_LIMIT:
        raise ValueError(f"the repository name has {len(path)} characters, at most {_PATH_LIMIT} are allowed")


def _check_tag(tag: str) -> None:
    if not tag:
        raise ValueError("the tag after the colon is empty")
    if len(tag) > 128:
        raise ValueError(f"the tag has {len(tag)} characters, at most 128 are allowed")
    if not _TAG.fullmatch(tag):
        raise ValueError(f"the tag {_shown(tag, 100)} is not allowed")


def _shown(text: str, limit: int = _SHOWN) -> str:
    """A bounded ``repr`` in ASCII: the name itself may be hostile."""
    shown = ascii(text[:limit])
    return shown if len(shown) <= limit and len(text) <= limit else shown[: limit - 3] + "..."
