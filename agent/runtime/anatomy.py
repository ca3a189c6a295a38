"""Anatomy: what a manifest and its config say that an image is unpacked to. Pure.

A layer's snapshot has its chain ID as key: that of the lowest layer is its diff ID, that of each other one the digest
of ``<chain ID below> <diff ID>`` (OCI image-spec config.md, "Layer ChainID").
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
    return str(_descriptor(_mapping(manifest).get("config")).get("digest", ""))


def dissect(manifest: bytes, config: bytes, tops: Mapping[str, str]) -> Anatomy:
    """Put together what both say; whatever does not fit together (an artifact, most of all) has no layers."""
    told = _mapping(config)
    layers = [_descriptor(each) for each in _list(_mapping(manifest).get("layers"))]
    diff_ids = [str(each) for each in _list(_descriptor(told.get("rootfs")).get("diff_ids"))]
    fits = len(layers) == len(diff_ids)
    platform = f"{told.get('os', '')}/{told.get('architecture', '')}"
    return Anatomy(config_of(manifest), platform, _stack(layers, diff_ids) if fits else (), tops)


def chain_id(parent: str, diff_id: str) -> str:
    """The chain ID of a layer on `parent`."""
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest() if parent else diff_id


def _stack(layers: list[dict[str, Any]], diff_ids: list[str]) -> tuple[ImageLayer, ...]:
    found: list[ImageLayer] = []
    parent = ""
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        chain = chain_id(parent, diff_id)
        size = layer.get("size")
        found.append(
            ImageLayer(
                digest=str(layer.get("digest", "")),
                size=size if isinstance(size, int) else 0,
                media_type=str(layer.get("mediaType", "")),
                diff_id=diff_id,
                chain=chain,
                parent=parent,
            )
        )
        parent = chain
    return tuple(found)


def _mapping(content: bytes) -> dict[str, Any]:
    try:
        return _descriptor(json.loads(content))
    except (ValueError, RecursionError):
        return {}


def _descriptor(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
