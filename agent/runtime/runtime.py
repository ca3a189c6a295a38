"""Meeting the runtime: what it is, and which doors it opens."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from agent.runtime.cri import Cri, Status, Version
from agent.runtime.store import Store, plugin_exports

CONTENT_PLUGIN = ("io.containerd.content.v1", "content")
METADATA_PLUGIN = ("io.containerd.metadata.v1", "bolt")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that answered. ``store`` is None for a runtime that is not containerd: what needs it is unknown."""

    cri: Cri
    version: Version
    status: Status
    store: Store | None


async def meet(channel: grpc.aio.Channel, timeout: float, root: Path, normal: Callable[[str], str] = str) -> Runtime:
    """Ask the runtime who it is; `root` is the root directory of the file system that it sees.

    `normal` gives a reference the form of image records. Raises `Fault` (``runtime_unavailable``, ``runtime_error``).
    """
    cri = Cri(channel, timeout)
    version, status = await cri.version(), await cri.status()
    if version.name != "containerd":
        return Runtime(cri, version, status, None)
    place = (await plugin_exports(channel, timeout, *CONTENT_PLUGIN)).get("root", "")
    policy = (await plugin_exports(channel, timeout, *METADATA_PLUGIN)).get("policy", "")
    folder = root / place.lstrip("/")
    store = Store(
        channel,
        timeout,
        folder if place and folder.is_dir() else None,
        cri,
        root=root,
        sandbox_image=normal(status.sandbox_image) if status.sandbox_image else "",
        isolated=policy == "isolated",
    )
    return Runtime(cri, version, status, store)
