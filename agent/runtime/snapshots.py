"""Snapshots: which chains of unpacked layers exist, who stands on them, and where their files are."""

import contextlib
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import grpc
import grpc.aio

from agent.causes import Cause
from agent.model import OVERLAYFS, Fault
from agent.rpc import snapshots_pb2 as pb
from agent.rpc.snapshots_pb2_grpc import SnapshotsStub
from agent.rpc.types_pb2 import Mount
from agent.runtime.channel import Absent, ask, ask_stream, fault_of
from agent.runtime.layers.records import Usage

REMOTE_LABEL = "containerd.io/snapshot/remote"
REF_LABEL = "containerd.io/snapshot.ref"
_NO_FOLDER = re.compile(r"failed to stat parent: stat \S+: no such file or directory")


@dataclass(frozen=True, slots=True)
class Row:
    """One snapshot as it is listed: ``key`` is the chain ID of a committed one, the container's id of an active one."""

    key: str
    parent: str
    committed: bool
    remote: bool = False


class Snapshots:
    """containerd's snapshot service in the namespace of ``metadata``."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self._stub = SnapshotsStub(channel)
        self._metadata = metadata
        self._timeout = timeout

    async def all(self, snapshotter: str) -> tuple[Row, ...]:
        """Every snapshot of `snapshotter` (``overlayfs``, ``native``, …)."""
        request = pb.ListSnapshotsRequest(snapshotter=snapshotter)
        stream = self._stub.List(request, metadata=self._metadata, timeout=self._timeout)
        found: list[Row] = []
        async for message in ask_stream(stream, f"list {snapshotter} snapshots"):
            found.extend(_row(info) for info in message.info)
        return tuple(found)

    async def has(self, snapshotter: str, key: str) -> bool:
        """Whether there is a record of `key`; its directory is not looked at.

        Raises `Fault` (``metadata_broken``) when containerd has the record and its snapshotter has lost it: the texts
        of the two databases differ ("snapshot KEY does not exist" is that of containerd's own; 1.6 to 2.1).
        """
        request = pb.StatSnapshotRequest(snapshotter=snapshotter, key=key)
        try:
            await ask(self._stub.Stat(request, metadata=self._metadata, timeout=self._timeout), f"look up {key}")
        except Absent as absent:
            if f"snapshot {key} does not exist" in str(absent):
                return False
            detail = f"containerd has a record of {key} that its snapshotter {snapshotter} has lost ({absent})"
            raise Fault(Cause.METADATA_BROKEN, detail) from None
        return True

    async def usage(self, snapshotter: str, key: str) -> Usage:
        """Inodes and bytes as they were counted when the layer was unpacked. Raises `Absent`."""
        request = pb.UsageRequest(snapshotter=snapshotter, key=key)
        answer = await ask(
            self._stub.Usage(request, metadata=self._metadata, timeout=self._timeout), f"ask for the usage of {key}"
        )
        return Usage(answer.inodes, answer.size)

    async def folders(self, key: str, lease: str) -> tuple[str, ...] | None:
        """Directories of `key` and of the layers below it, nearest first, as containerd sees them (overlayfs only).

        None when the directory of `key` itself is gone. A view is made under `lease` and removed again: nothing is
        mounted. Raises `Absent` when there is no such snapshot.
        """
        view = f"node-agent-{secrets.token_hex(8)}"
        metadata = (*self._metadata, ("containerd-lease", lease))
        request = pb.ViewSnapshotRequest(snapshotter=OVERLAYFS, key=view, parent=key)
        try:
            mounts = (await self._stub.View(request, metadata=metadata, timeout=self._timeout)).mounts
        except grpc.aio.AioRpcError as error:
            if _NO_FOLDER.search(error.details() or ""):
                return None
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise Absent(error.details()) from None
            raise fault_of(error, f"view {key}") from None
        await self.remove(OVERLAYFS, view)
        return _lower_folders(mounts[0])

    async def prepare(self, key: str, parent: str, chain: str, lease: str) -> tuple[Mount, ...]:
        """A writable snapshot on `parent` that is to become `chain`; raises `Present` when `chain` is there already."""
        request = pb.PrepareSnapshotRequest(snapshotter=OVERLAYFS, key=key, parent=parent, labels={REF_LABEL: chain})
        metadata = (*self._metadata, ("containerd-lease", lease))
        call = self._stub.Prepare(request, metadata=metadata, timeout=self._timeout)
        with _present_is_told():
            return tuple((await call).mounts)

    async def commit(self, key: str, chain: str, lease: str) -> None:
        """Make `key` the snapshot of `chain`; raises `Present` when another one made it meanwhile."""
        request = pb.CommitSnapshotRequest(snapshotter=OVERLAYFS, key=key, name=chain, labels={REF_LABEL: chain})
        metadata = (*self._metadata, ("containerd-lease", lease))
        call = self._stub.Commit(request, metadata=metadata, timeout=max(self._timeout, 60))
        with _present_is_told():
            await call

    async def remove(self, snapshotter: str, key: str) -> None:
        """Remove a view or a half-made snapshot of ours."""
        request = pb.RemoveSnapshotRequest(snapshotter=snapshotter, key=key)
        call = self._stub.Remove(request, metadata=self._metadata, timeout=self._timeout)
        with contextlib.suppress(Absent):
            await ask(call, "remove a snapshot of ours")


class Present(Exception):  # noqa: N818 - gRPC's ALREADY_EXISTS: an answer, not an error
    """There is such a snapshot already."""


@contextlib.contextmanager
def _present_is_told() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.ALREADY_EXISTS:
            raise Present(error.details()) from None
        raise fault_of(error, "unpack a layer") from None


class Chains:
    """The snapshots of one snapshotter as chains: who stands on each, and which layers each has."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {row.key: row for row in rows}
        self._users: dict[str, list[str]] = defaultdict(list)
        for row in self._rows.values():
            if not row.committed:
                for ancestor in self._ancestors(row.key):
                    self._users[ancestor].append(row.key)

    def users(self, key: str) -> tuple[str, ...]:
        """Keys of the active snapshots and views (containers, pulls that unpack) that stand on chain ID `key`."""
        return tuple(sorted(self._users.get(key, ())))

    def layers(self, top: str) -> tuple[Row, ...]:
        """The committed snapshots of the chain of `top`, the lowest first; none where there is no such snapshot."""
        keys = [top, *self._ancestors(top)] if top in self._rows else []
        return tuple(self._rows[key] for key in reversed(keys) if key in self._rows)

    def depth(self, top: str) -> int:
        """How many layers the chain of `top` has; 0 where there is no such snapshot."""
        return 1 + len(self._ancestors(top)) if top in self._rows else 0

    def _ancestors(self, key: str) -> list[str]:
        seen: dict[str, None] = {}
        while (row := self._rows.get(key)) and (key := row.parent) and key not in seen:
            seen[key] = None
        return list(seen)


def _row(info: pb.Info) -> Row:
    return Row(info.name, info.parent, info.kind == pb.COMMITTED, REMOTE_LABEL in info.labels)


def _lower_folders(mount: Mount) -> tuple[str, ...]:
    """One layer is bound by itself, several are the lower directories of an overlay."""
    lower = [option.removeprefix("lowerdir=") for option in mount.options if option.startswith("lowerdir=")]
    return tuple(lower[0].split(":")) if lower else (mount.source,)
