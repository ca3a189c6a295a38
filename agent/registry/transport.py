"""TCP to registries and proxies, as Go dials it.

The socket is read and written by ourselves: asyncio's transports throw away what was received before a
reset, and the TLS alert that says why a client was refused often comes just before one.

Facts: Go net/dial.go (second family after 300 ms, the time left divided among the addresses, at least
2 s each, the first family's first error is the one reported).
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from agent.causes import Cause
from agent.model import Fault
from agent.registry.stream import Stream, why

__all__ = ["Stream", "connect"]

_CHUNK = 65_536
_FALLBACK_DELAY = 0.3
_LEAST_PER_ADDRESS = 2.0


async def connect(addresses: Sequence[str], port: int, limit: float) -> "Stream":
    """A stream to the first of ``addresses`` (IP literals, best first) that answers within ``limit`` seconds.

    Raises Fault(CONNECT_REFUSED) for a reset, Fault(CONNECT_TIMEOUT) for silence and for no route, both
    named after the first address, as Go does; the evidence lists what each address said.
    """
    if not addresses:
        raise ValueError("no address to connect to")
    first = [address for address in addresses if _family(address) == _family(addresses[0])]
    second = [address for address in addresses if address not in first]
    errors: dict[str, OSError] = {}
    race = _Race(port, limit, errors)
    stream = await race.run(first, second)
    if stream is None:
        raise _connect_fault(addresses, port, errors)
    return stream


class _Race:
    """Two families of addresses, the second one starting a little later."""

    def __init__(self, port: int, limit: float, errors: dict[str, OSError]) -> None:
        self._port, self._limit, self._errors = port, limit, errors
        self._first_failed = asyncio.Event()

    async def run(self, first: Sequence[str], second: Sequence[str]) -> "Stream | None":
        tasks = {asyncio.ensure_future(self._primaries(first))}
        if second:
            tasks.add(asyncio.ensure_future(self._fallbacks(second)))
        try:
            return await self._winner(tasks)
        finally:
            await _discard(tasks)

    async def _winner(self, tasks: "set[asyncio.Task[Stream | None]]") -> "Stream | None":
        """The first stream; its task is taken out of ``tasks``, so that only the losers are discarded."""
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (stream := task.result()) is not None:
                    tasks.discard(task)
                    return stream
        return None

    async def _primaries(self, addresses: Sequence[str]) -> "Stream | None":
        stream = await self._in_order(addresses, self._limit)
        self._first_failed.set()
        return stream

    async def _fallbacks(self, addresses: Sequence[str]) -> "Stream | None":
        delay = min(_FALLBACK_DELAY, self._limit)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._first_failed.wait(), delay)
        return await self._in_order(addresses, self._limit - delay)

    async def _in_order(self, addresses: Sequence[str], limit: float) -> "Stream | None":
        end = asyncio.get_running_loop().time() + limit
        for number, address in enumerate(addresses):
            left = end - asyncio.get_running_loop().time()
            share = min(left, max(_LEAST_PER_ADDRESS, left / (len(addresses) - number)))
            try:
                return await _dial(address, self._port, share)
            except OSError as error:
                self._errors[address] = error
        return None


async def _discard(tasks: "set[asyncio.Task[Stream | None]]") -> None:
    """The losers of a race: stopped, or closed if they had won meanwhile."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Stream):
            await outcome.close()


async def _dial(address: str, port: int, limit: float) -> "Stream":
    sock = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
        # as Go does: else a request after a TLS handshake waits 40 ms for the other side's delayed acknowledgement
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(limit):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return Stream(SocketPipe(sock), address)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _connect_fault(addresses: Sequence[str], port: int, errors: dict[str, OSError]) -> Fault:
    told = {address: why(errors[address]) for address in addresses if address in errors}
    first = next(address for address in addresses if address in errors)
    cause = Cause.CONNECT_REFUSED if isinstance(errors[first], ConnectionRefusedError) else Cause.CONNECT_TIMEOUT
    where = f"[{first}]:{port}" if ":" in first else f"{first}:{port}"
    evidence = {"address": first, "port": str(port), "addresses": "; ".join(f"{a}: {w}" for a, w in told.items())}
    return Fault(cause, f"connecting to {where}: {told[first]}", evidence)


class SocketPipe:
    """A connected non-blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, _CHUNK)

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def close(self) -> None:
        self._sock.close()
