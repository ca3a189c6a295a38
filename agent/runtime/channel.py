"""Finding the runtime's socket, opening a channel to it, and naming what gRPC says went wrong."""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote

T = TypeVar("T")

USUAL_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",  # k3s and RKE2
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/k0s/containerd.sock",
    "/run/crio/crio.sock",
)
"""Where distributions put the CRI socket, in the order in which they are tried."""

MESSAGE_LIMIT = 16 * 1024 * 1024  # containerd's own limit for lists
DETAIL_LIMIT = 2000


class Absent(Exception):  # noqa: N818 - gRPC's NOT_FOUND: an answer, not an error
    """The runtime has no such thing. Turned into ``None`` by the methods of this folder."""


class Unserved(Fault):
    """The runtime answers, but does not have this service (gRPC's UNIMPLEMENTED)."""


def find_endpoint(host_root: Path) -> str:
    """The endpoint of the first usual socket that exists below ``host_root``.

    Raises `Fault` (``runtime_unavailable``) that names the places looked at.
    """
    for place in USUAL_SOCKETS:
        path = host_root / place.lstrip("/")
        with contextlib.suppress(OSError):  # a folder that may not be entered has no socket for us
            if path.is_socket():
                return f"unix://{path}"
    raise Fault(
        Cause.RUNTIME_UNAVAILABLE,
        f"no CRI socket below {host_root} at {', '.join(USUAL_SOCKETS)}: "
        "give the runtime's with --runtime-endpoint unix:///PATH",
    )


def socket_path(endpoint: str) -> Path:
    """The file of a ``unix:///…`` endpoint; a plain path is taken as one. Raises `Fault`."""
    if "://" in endpoint and not endpoint.startswith("unix:///"):
        raise Fault(Cause.RUNTIME_UNAVAILABLE, f"endpoint {endpoint!r} is no unix:///PATH")
    path = Path(endpoint.removeprefix("unix://"))
    try:
        exists, is_socket = path.exists(), path.is_socket()
    except (OSError, ValueError) as error:
        raise Fault(Cause.RUNTIME_UNAVAILABLE, f"{endpoint!r} cannot be looked at: {error}") from None
    if not exists:
        raise Fault(Cause.RUNTIME_UNAVAILABLE, f"{path} does not exist: is the runtime running, is its socket mounted?")
    if not is_socket:
        raise Fault(Cause.RUNTIME_UNAVAILABLE, f"{path} is not a socket")
    return path


def open_channel(endpoint: str) -> grpc.aio.Channel:
    """A channel that connects when first used and again by itself, within two seconds of the runtime's return."""
    path = endpoint.removeprefix("unix://")
    return grpc.aio.insecure_channel(
        f"unix://{path}",
        options=[
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.enable_http_proxy", 0),
            # the authority defaults to the percent-encoded path, which Go's HTTP/2 server refuses
            ("grpc.default_authority", "localhost"),
        ],
    )


def shorten(text: str) -> str:
    """Foreign ``text`` on one line, printable, without URLs' user parts and queries, within `DETAIL_LIMIT`."""
    half = DETAIL_LIMIT // 2  # what went wrong stands at the end of a chain of wrappers
    return quote(text if len(text) <= DETAIL_LIMIT else f"{text[:half]} … {text[-half:]}", DETAIL_LIMIT + 3)


def fault_of(error: grpc.aio.AioRpcError, what: str) -> Fault:
    """The cause behind a failed call, other than a pull (whose text `agent.explain` reads)."""
    detail = f"{what}: {shorten(error.details() or error.code().name)}"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return Fault(Cause.RUNTIME_UNAVAILABLE, detail)
        case grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
            return Fault(Cause.RUNTIME_UNAVAILABLE, f"{what}: the runtime did not answer in time")
        case grpc.StatusCode.UNIMPLEMENTED:
            return Unserved(Cause.RUNTIME_UNAVAILABLE, f"{detail} (an old runtime, or its CRI plugin failed to load)")
        case _:
            return Fault(Cause.RUNTIME_ERROR, detail)


async def ask(call: Awaitable[T], what: str) -> T:
    """The answer of a unary call. Raises `Absent` for NOT_FOUND, `Fault` for everything else."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            raise Absent(error.details()) from None
        raise fault_of(error, what) from None


async def ask_stream(call: AsyncIterable[T], what: str) -> AsyncIterator[T]:
    """The messages of a streaming call; errors as `ask`."""
    try:
        async for message in call:
            yield message
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            raise Absent(error.details()) from None
        raise fault_of(error, what) from None
