"""Snapshots: which chains of unpacked layers exist, and who stands on them."""

from collections import defaultdict
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


class Chains:
    """The snapshots of one snapshotter as chains: who stands on each, and how deep each is."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        listed = tuple(snapshots)
        self._parents = {snapshot.key: snapshot.parent for snapshot in listed}
        self._users: dict[str, list[str]] = defaultdict(list)
        for snapshot in listed:
            if not snapshot.committed:
                for ancestor in self._ancestors(snapshot.key):
                    self._users[ancestor].append(snapshot.key)

    def users(self, top: str) -> tuple[str, ...]:
        """Keys of the active snapshots and views (containers, pulls that unpack) that stand on chain ID `top`."""
        return tuple(sorted(self._users.get(top, ())))

    def depth(self, top: str) -> int:
        """How many layers the chain of `top` has; 0 where there is no such snapshot."""
        return 1 + len(self._ancestors(top)) if top in self._parents else 0

    def _ancestors(self, key: str) -> list[str]:
        seen: dict[str, None] = {}
        while (key := self._parents.get(key, "")) and key not in seen:
            seen[key] = None
        return list(seen)
