"""blobs: whether the registry, or the host that it sends to, hands out the layers that this node lacks."""

import asyncio
from collections.abc import Sequence

from agent.checks.view import View
from agent.model import ImageRef
from agent.registry.client import Client
from agent.registry.manifests import Descriptor, Manifest
from agent.runtime.runtime import Runtime

MOST = 128  # more layers than any snapshotter stacks


async def blobs(client: Client, ref: ImageRef, wanted: Sequence[Descriptor]) -> tuple[str, ...]:
    """The hosts that hand the blobs out. Raises `Fault` (``blob_forbidden``, ``registry_content_corrupt``, …)."""
    reached = [await client.reach_blob(ref, layer) for layer in wanted[:MOST]]
    return tuple(dict.fromkeys(blob.host for blob in reached))


def own(manifest: Manifest) -> tuple[Descriptor, ...]:
    """The layers that the registry itself keeps, each once: foreign ones come from elsewhere."""
    return tuple(dict.fromkeys(layer for layer in manifest.layers if not layer.urls))


async def missing(view: View, manifest: Manifest) -> tuple[Descriptor, ...]:
    """The layers that containerd has no record of, and so would download; all of them when it cannot be asked."""
    layers = own(manifest)
    store = view.runtime.store if isinstance(view.runtime, Runtime) else None
    if store is None:
        return layers
    infos = await asyncio.gather(*(store.content.info(layer.digest) for layer in layers))
    return tuple(layer for layer, info in zip(layers, infos, strict=True) if info is None)


def tell(hosts: tuple[str, ...]) -> str:
    """The hosts, or that nothing is needed."""
    return f"from {', '.join(hosts)}" if hosts else "all layers are here already"
