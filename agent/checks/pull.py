"""pull: the pull itself, through CRI, with the bytes of its ingests as progress."""

import asyncio
from collections.abc import Callable

from agent.model import Credential
from agent.runtime.content import Content
from agent.runtime.runtime import Runtime

PERIOD = 0.25


async def pull(
    runtime: Runtime, name: str, credential: Credential | None, timeout: float, seen: Callable[[int, int], None]
) -> str:
    """Pull `name` and answer its image ID; ``seen`` is told (bytes so far, bytes in all) four times a second.

    Raises `Fault` with the cause that the runtime's text tells.
    """
    watch = asyncio.create_task(_watch(runtime.store.content, seen)) if runtime.store else None
    try:
        return await runtime.cri.pull(name, credential, timeout)
    finally:
        if watch:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)  # progress is a courtesy: its troubles are the pull's


async def _watch(content: Content, seen: Callable[[int, int], None]) -> None:
    while True:
        await asyncio.sleep(PERIOD)
        layers = [ingest for ingest in await content.ingests() if ingest.total]
        if layers:
            seen(sum(ingest.offset for ingest in layers), sum(ingest.total for ingest in layers))
