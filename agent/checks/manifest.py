"""manifest: whether the tag or digest is there, asked with HEAD, which no registry counts as a pull."""

from agent.model import ImageRef
from agent.registry.client import Client, Resolved


async def manifest(client: Client, ref: ImageRef) -> Resolved:
    """Raises `Fault` (``tag_not_found``, ``auth_denied``, ``rate_limited``, …)."""
    return await client.head_manifest(ref)


def tell(resolved: Resolved) -> str:
    """The digest that a pull would fetch."""
    return resolved.descriptor.digest
