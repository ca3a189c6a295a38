"""size: whether what is still to be fetched fits on the disk."""

from collections.abc import Sequence

from agent.checks.disk import room
from agent.checks.view import View
from agent.node import disk
from agent.registry.manifests import Descriptor

UNPACKED = 2
"""Each layer is stored twice, as a blob and unpacked, and unpacking never makes it smaller: a lower bound."""


async def size(view: View, wanted: Sequence[Descriptor]) -> int:
    """Bytes to download. Raises `Fault` (``disk_full``, ``disk_too_small``)."""
    count = sum(layer.size for layer in wanted)
    disk.check(room(view), count * UNPACKED)
    return count


def tell(count: int) -> str:
    """Bytes, for people."""
    return f"{disk.human(count)} to fetch"
