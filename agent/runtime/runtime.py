"""Meeting the runtime: what it is, and which doors it opens."""

from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from agent.runtime.cri import Cri, Status, Version
from agent.runtime.store import Store, plugin_root

CONTENT_PLUGIN = ("io.containerd.content.v1", "content")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that answered. ``store`` is None for a runtime that is not containerd: what needs it is unknown."""

    cri: Cri
    version: Version
    status: Status
    store: Store | None


async def meet(channel: grpc.aio.Channel, timeout: float, root: Path) -> Runtime:
    """Ask the runtime who it is; `root` is the root directory of the file system that it sees.

    Raises `Fault` (``runtime_unavailable``, ``runtime_error``).
    """
    cri = Cri(channel, timeout)
    version, status = await cri.version(), await cri.status()
    if version.name != "containerd":
        return Runtime(cri, version, status, None)
    place = await plugin_root(channel, timeout, *CONTENT_PLUGIN)
    folder = root / place.lstrip("/") if place else None
    store = Store(channel, timeout, folder if folder and folder.is_dir() else None, status.sandbox_image)
    return Runtime(cri, version, status, store)
