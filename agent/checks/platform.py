"""platform: whether the image has a variant for this node, and whether a single manifest is meant for it."""

from agent.causes import Cause
from agent.model import Fault, ImageRef
from agent.registry.client import Client, Resolved
from agent.registry.manifests import Manifest
from agent.registry.platforms import Platform


async def platform(client: Client, ref: ImageRef, resolved: Resolved, node: Platform) -> Manifest:
    """The manifest that this node would pull. Spends a manifest GET, which Docker Hub counts as a pull.

    containerd does not compare the platform of an image that is no index: it pulls, and the container dies with
    "exec format error"; that is a finding here. Raises `Fault` (``platform_mismatch``, ``unsupported_manifest``, …).
    """
    chosen = await client.manifest(ref, resolved.descriptor, node)
    config = await client.get_config(ref, chosen.config)
    if config.platform and not node.runs(config.platform):
        raise Fault(
            Cause.PLATFORM_MISMATCH,
            f"the image is for {config.platform} only and the node is {node}: it would be pulled, "
            "and its containers would fail with exec format error",
            {"image": str(config.platform), "node": str(node)},
        )
    return chosen


def tell(manifest: Manifest) -> str:
    """Layers and bytes."""
    return f"{len(manifest.layers)} layers, {sum(layer.size for layer in manifest.layers)} bytes"
