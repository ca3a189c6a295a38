"""Requests to verify an image, from whoever has a reason. Asking twice is asking once."""

import asyncio
from dataclasses import dataclass, field

from agent.model import Trigger


@dataclass(frozen=True, slots=True)
class Request:
    """An image by the names that the runtime has for it, and ``why``, in words."""

    names: tuple[str, ...]
    trigger: Trigger = field(compare=False)
    why: str = field(compare=False)


class Inbox:
    """First come, first served."""

    def __init__(self) -> None:
        self._waiting: dict[Request, None] = {}
        self._some = asyncio.Event()

    def ask(self, request: Request) -> None:
        """Ask; the image waits where it waited already."""
        self._waiting.setdefault(request)
        self._some.set()

    async def first(self) -> Request:
        """The one that waits longest, as soon as there is one. It stays until it is `done`."""
        await self._some.wait()
        return next(iter(self._waiting))

    def done(self, request: Request) -> None:
        """It was answered."""
        self._waiting.pop(request, None)
        if not self._waiting:
            self._some.clear()
