"""Snapshots: which chains of unpacked layers exist, and who stands on them."""

from collections.abc import Iterable
from dataclasses import dataclass

import grpc.aio

from agent.rpc import snapshots_pb2 as pb
from agent.rpc.snapshots_pb2_grpc import SnapshotsStub
from agent.runtime.channel import ask_stream


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot: ``key`` is the chain ID of a committed one, the container's id of an active one."""

    key: str
    parent: str
    committed: bool


class Snapshots:
    """containerd's snapshot service in the namespace of ``metadata``."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self._stub = SnapshotsStub(channel)
        self._metadata = metadata
        self._timeout = timeout

    async def all(self, snapshotter: str) -> tuple[Snapshot, ...]:
        """Every snapshot of `snapshotter` (``overlayfs``, ``native``, …)."""
        request = pb.ListSnapshotsRequest(snapshotter=snapshotter)
        stream = self._stub.List(request, metadata=self._metadata, timeout=self._timeout)
        found: list[Snapshot] = []
        async for message in ask_stream(stream, f"list {snapshotter} snapshots"):
            found.extend(Snapshot(info.name, info.parent, info.kind == pb.COMMITTED) for info in message.info)
        return tuple(found)


def users(snapshots: Iterable[Snapshot], top: str) -> tuple[str, ...]:
    """Keys of the active snapshots and views (containers, pulls that unpack) that stand on chain ID `top`."""
    snapshots = tuple(snapshots)
    parents = {snapshot.key: snapshot.parent for snapshot in snapshots}
    return tuple(sorted(s.key for s in snapshots if not s.committed and top in _ancestors(s.key, parents)))


def _ancestors(key: str, parents: dict[str, str]) -> set[str]:
    seen: set[str] = set()
    while (key := parents.get(key, "")) and key not in seen:
        seen.add(key)
    return seen
