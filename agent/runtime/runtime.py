"""Meeting the runtime: what it is, and which doors it opens."""

from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from agent.runtime.cri import Cri, Version
from agent.runtime.store import Store, plugin_root

CONTENT_PLUGIN = ("io.containerd.content.v1", "content")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that answered. ``store`` is None for a runtime that is not containerd: what needs it is unknown."""

    cri: Cri
    version: Version
    store: Store | None


async def meet(channel: grpc.aio.Channel, timeout: float, root: Path) -> Runtime:
    """Ask the runtime who it is; `root` is the root directory of the file system that it sees.

    Raises `Fault` (``runtime_unavailable``, ``runtime_error``).
    """
    cri = Cri(channel, timeout)
    version = await cri.version()
    store = await _store(channel, timeout, root) if version.name == "containerd" else None
    return Runtime(cri, version, store)


async def _store(channel: grpc.aio.Channel, timeout: float, root: Path) -> Store:
    place = await plugin_root(channel, timeout, *CONTENT_PLUGIN)
    folder = root / place.lstrip("/") if place else None
    return Store(channel, timeout, folder if folder and folder.is_dir() else None)
