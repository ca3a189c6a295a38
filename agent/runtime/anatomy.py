"""Anatomy: what a manifest and its config say that an image is unpacked to. Pure.

A layer's snapshot has its chain ID as key: that of the lowest layer is its diff ID, that of each other one the digest
of ``<chain ID below> <diff ID>`` (OCI image-spec config.md, "Layer ChainID").
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from agent.runtime.layout import DIGEST

T = TypeVar("T", bound=msgspec.Struct)

MOST_LAYERS = 1000
"""Overlayfs mounts at most 500 lower directories (fs/overlayfs/params.h), so no runnable image has more."""


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer as its manifest names it, and the snapshot that it becomes; ``parent`` is empty for the lowest.

    ``size`` in bytes, of the blob; ``foreign`` layers may be absent: nobody has to distribute them.
    """

    digest: str
    size: int
    media_type: str
    diff_id: str
    chain: str
    parent: str

    @property
    def foreign(self) -> bool:
        """Whether the media type allows a registry not to have it."""
        return "nondistributable" in self.media_type or "foreign" in self.media_type


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One manifest of an image whose config is here: its ``layers`` from the lowest up, none for an artifact.

    ``platform`` is ``os/architecture``; ``tops`` are the snapshotters that unpacked it, and the chain ID that the
    config's label names for each.
    """

    config: str
    platform: str
    layers: tuple[ImageLayer, ...]
    tops: Mapping[str, str] = field(default_factory=dict)

    @property
    def top(self) -> str:
        """The chain ID of the whole; empty where there is no layer."""
        return self.layers[-1].chain if self.layers else ""

    def above(self, chains: frozenset[str]) -> tuple[ImageLayer, ...]:
        """The layers from the lowest one of `chains` up to the top; none if none of them is of this image."""
        found = [number for number, layer in enumerate(self.layers) if layer.chain in chains]
        return self.layers[found[0] :] if found else ()


def config_of(manifest: bytes) -> str:
    """The digest of the config that a manifest names; empty for what is none (an index, or broken)."""
    found = _decoded(manifest, _Manifest).config.digest
    return found if DIGEST.fullmatch(found) else ""


def dissect(manifest: bytes, config: bytes, tops: Mapping[str, str]) -> Anatomy:
    """Put together what both say; whatever does not fit together (an artifact, most of all) has no layers."""
    told = _decoded(config, _Config)
    layers, diff_ids = _decoded(manifest, _Manifest).layers, told.rootfs.diff_ids
    fits = len(layers) == len(diff_ids) <= MOST_LAYERS and all(map(DIGEST.fullmatch, _digests(layers, diff_ids)))
    return Anatomy(
        config_of(manifest), f"{told.os}/{told.architecture}", _stack(layers, diff_ids) if fits else (), tops
    )


def chain_id(parent: str, diff_id: str) -> str:
    """The chain ID of a layer on `parent`."""
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest() if parent else diff_id


class _Descriptor(msgspec.Struct):
    digest: str = ""
    size: int = 0
    media_type: str = msgspec.field(default="", name="mediaType")


class _Manifest(msgspec.Struct):
    config: _Descriptor = msgspec.field(default_factory=_Descriptor)
    layers: list[_Descriptor] = []


class _RootFs(msgspec.Struct):
    diff_ids: list[str] = []


class _Config(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    rootfs: _RootFs = msgspec.field(default_factory=_RootFs)


def _decoded(content: bytes, kind: type[T]) -> T:
    """Only the named fields are ever built: a stranger's document of millions of others takes no memory."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return kind()


def _digests(layers: Iterable[_Descriptor], diff_ids: Iterable[str]) -> Iterator[str]:
    yield from diff_ids
    yield from (layer.digest for layer in layers)


def _stack(layers: Iterable[_Descriptor], diff_ids: Iterable[str]) -> tuple[ImageLayer, ...]:
    found: list[ImageLayer] = []
    parent = ""
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        chain = chain_id(parent, diff_id)
        found.append(ImageLayer(layer.digest, layer.size, layer.media_type, diff_id, chain, parent))
        parent = chain
    return tuple(found)
