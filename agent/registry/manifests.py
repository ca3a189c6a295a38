"""Manifests, indexes and configs: foreign JSON until parsed, and only what a pull needs of them.

Facts: OCI image-spec; containerd images/mediatypes.go, remotes/docker/resolver.go (the Accept header,
4 x 1048 x 1048 bytes as the largest manifest).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote
from agent.registry import answers
from agent.registry.platforms import Platform

__all__ = [
    "ACCEPT",
    "MANIFEST_LIMIT",
    "Config",
    "Descriptor",
    "Index",
    "Manifest",
    "Platform",
    "check_digest",
    "digest_of",
    "is_digest",
    "parse",
    "parse_config",
]

MANIFEST_LIMIT = 4_393_216
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
ACCEPT = ", ".join((_DOCKER_MANIFEST, _DOCKER_LIST, _OCI_MANIFEST, _OCI_INDEX, "*/*"))
INDEX_TYPES = frozenset({_DOCKER_LIST, _OCI_INDEX})
MANIFEST_TYPES = frozenset({_DOCKER_MANIFEST, _OCI_MANIFEST})
_MOST_CHILDREN = 10_000
_DIGEST = re.compile(r"(sha256):[0-9a-f]{64}|(sha384):[0-9a-f]{96}|(sha512):[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What points to a blob or manifest: ``size`` in bytes. ``urls`` are where a foreign layer lies."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    urls: tuple[str, ...] = ()

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def foreign(self) -> bool:
        """A layer that lies elsewhere: containerd asks its ``urls`` first, without any settings of the host."""
        return bool(self.urls)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    digest: str = ""

    @property
    def size(self) -> int:
        """Bytes to download where nothing is there yet."""
        return self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """One image for several platforms."""

    manifests: tuple[Descriptor, ...]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """What of an image's config says how it unpacks: diff IDs, and the platform it was built for, if told."""

    platform: Platform | None
    diff_ids: tuple[str, ...] = field(default=())


def digest_of(body: bytes, algorithm: str = "sha256") -> str:
    """``algorithm:hexadecimal`` of a body."""
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def check_digest(body: bytes, digest: str) -> None:
    """Raises Fault(REGISTRY_CONTENT_CORRUPT) where ``body`` is not what ``digest`` names."""
    found = digest_of(body, digest.partition(":")[0])
    if found != digest:
        detail = f"the registry sent {len(body)} bytes with digest {found} for {digest}"
        raise Fault(Cause.REGISTRY_CONTENT_CORRUPT, detail, {"expected": digest, "found": found})


def is_digest(text: str) -> bool:
    """Whether this is a digest of an algorithm that containerd knows."""
    return _DIGEST.fullmatch(text) is not None


def parse(body: bytes, media_type: str, digest: str = "") -> Manifest | Index:
    """The manifest or index in ``body``, which was sent as ``media_type``.

    Raises Fault(UNSUPPORTED_MANIFEST) for what is neither, schema 1 too; Fault(REGISTRY_ERROR) for what
    is not JSON.
    """
    if media_type == "text/html":
        raise Fault(Cause.REGISTRY_ERROR, f"an HTML page instead of a manifest: {quote(body, 80)!r}")
    fields = _object(answers.read_json(body, "the manifest"), "the manifest")
    kind = _kind(fields, media_type)
    if kind in INDEX_TYPES:
        return Index(_descriptors(fields, "manifests"), digest)
    return Manifest(_descriptor(fields.get("config"), "config"), _descriptors(fields, "layers"), digest)


def parse_config(body: bytes) -> Config:
    """The config in ``body``. Raises Fault(UNSUPPORTED_MANIFEST) or, for what is not JSON, Fault(REGISTRY_ERROR)."""
    fields = _object(answers.read_json(body, "the image config"), "the image config")
    rootfs = _object(fields.get("rootfs") or {}, "rootfs")
    ids = rootfs.get("diff_ids") or []
    if not isinstance(ids, list) or not all(isinstance(each, str) and is_digest(each) for each in ids):
        raise _unsupported("rootfs.diff_ids of the image config is not a list of digests")
    platform = _platform(fields)
    return Config(platform if platform.architecture else None, tuple(ids))


def _kind(fields: Mapping[str, object], sent: str) -> str:
    """The media type the body claims, else the one it was sent as, else what its shape says."""
    claimed = fields.get("mediaType")
    kind = claimed if isinstance(claimed, str) and claimed else sent
    if fields.get("schemaVersion") == 1 or "fsLayers" in fields:
        raise _unsupported("a schema 1 manifest, which containerd no longer pulls")
    if kind not in INDEX_TYPES | MANIFEST_TYPES:
        raise _unsupported(f"the media type {quote(kind, 80) or 'nothing'!r} is no image")
    if kind in MANIFEST_TYPES and "manifests" in fields:
        raise _unsupported("expected manifest but found index")
    if kind in INDEX_TYPES and ("config" in fields or "layers" in fields):
        raise _unsupported("expected index but found manifest")
    return kind


def _unsupported(why: str) -> Fault:
    return Fault(Cause.UNSUPPORTED_MANIFEST, why)


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _unsupported(f"{what} is not an object")
    return value


def _descriptors(fields: Mapping[str, object], name: str) -> tuple[Descriptor, ...]:
    listed = fields.get(name)
    if not isinstance(listed, list) or len(listed) > _MOST_CHILDREN:
        raise _unsupported(f"{name} is not a list, or has more than {_MOST_CHILDREN} entries")
    return tuple(_descriptor(each, f"{name}[{number}]") for number, each in enumerate(listed))


def _descriptor(value: object, what: str) -> Descriptor:
    fields = _object(value, what)
    media_type, digest, size = fields.get("mediaType"), fields.get("digest"), fields.get("size")
    if not isinstance(digest, str) or not is_digest(digest):
        raise _unsupported(f"{what} has no usable digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise _unsupported(f"{what} has no usable size")
    if not isinstance(media_type, str):
        raise _unsupported(f"{what} has no media type")
    urls = fields.get("urls")
    places = tuple(url for url in urls if isinstance(url, str)) if isinstance(urls, list) else ()
    platform = fields.get("platform")
    return Descriptor(media_type, digest, size, _platform(platform) if isinstance(platform, dict) else None, places)


def _platform(fields: Mapping[str, object]) -> Platform:
    def text(name: str) -> str:
        value = fields.get(name)
        return quote(value, 40) if isinstance(value, str) else ""

    return Platform(text("os"), text("architecture"), text("variant"))
