"""containerd's content store: blobs by digest, their labels, and downloads under way (ingests)."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from agent.causes import Cause
from agent.model import Fault
from agent.rpc import content_pb2 as pb
from agent.rpc.content_pb2_grpc import ContentStub
from agent.runtime.channel import Absent, ask, ask_stream, fault_of

WRITE_SECONDS = 1800.0
"""Limit of storing one blob."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """containerd's record of a blob: what it should be, not what is on the disk. ``size`` in bytes."""

    digest: str
    size: int
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ingest:
    """A write under way: ``ref`` such as ``layer-sha256:…``, ``offset`` of ``total`` bytes (0: not known)."""

    ref: str
    offset: int
    total: int
    updated: datetime
    started: datetime

    @property
    def digest(self) -> str:
        """What is being fetched, as containerd's fetcher names its writes; empty for the writes of others."""
        return self.ref.partition("-")[2] if self.ref.count("sha256:") == 1 else ""


class Content:
    """containerd's content service. Records are per namespace, files are shared by all namespaces."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self._stub = ContentStub(channel)
        self._metadata = metadata
        self._timeout = timeout

    async def info(self, digest: str) -> BlobInfo | None:
        """The record of `digest` in this namespace."""
        call = self._stub.Info(pb.InfoRequest(digest=digest), metadata=self._metadata, timeout=self._timeout)
        try:
            info = (await ask(call, f"look up {digest}")).info
        except Absent:
            return None
        return BlobInfo(info.digest, info.size, dict(info.labels))

    async def blobs(self) -> tuple[BlobInfo, ...]:
        """Every record of this namespace."""
        found: list[BlobInfo] = []
        stream = self._stub.List(pb.ListContentRequest(), metadata=self._metadata, timeout=self._timeout)
        async for message in ask_stream(stream, "list content"):
            found.extend(BlobInfo(info.digest, info.size, dict(info.labels)) for info in message.info)
        return tuple(found)

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a blob, at most 1 MiB at a time; they simply end where a truncated file ends.

        Raises `Absent` when record or file is missing. Three times the cost of reading the file itself.
        """
        stream = self._stub.Read(pb.ReadContentRequest(digest=digest), metadata=self._metadata)
        async for message in ask_stream(stream, f"read {digest}"):
            yield message.data

    async def ingests(self) -> tuple[Ingest, ...]:
        """Downloads under way or left behind by a killed pull."""
        call = self._stub.ListStatuses(pb.ListStatusesRequest(), metadata=self._metadata, timeout=self._timeout)
        statuses = (await ask(call, "list ingests")).statuses
        return tuple(_ingest(status) for status in statuses)

    async def abort(self, ref: str) -> None:
        """Throw away an unfinished write. Under a living writer it answers OK, and the writer goes on."""
        call = self._stub.Abort(pb.AbortRequest(ref=ref), metadata=self._metadata, timeout=self._timeout)
        with contextlib.suppress(Absent):
            await ask(call, f"abort {ref}")

    async def forget(self, digest: str) -> None:
        """Delete the record only: the file goes at the next collection, and until then a pull adopts it again."""
        request = pb.DeleteContentRequest(digest=digest)
        call = self._stub.Delete(request, metadata=self._metadata, timeout=self._timeout)
        with contextlib.suppress(Absent):
            await ask(call, f"delete the record of {digest}")

    async def adopt(self, info: BlobInfo) -> None:
        """Make a record, with its labels, of a file that lies in the store (after `forget`).

        One COMMIT message whose offset is the whole size: any other offset fails with "size validation".
        Raises `Fault` (``metadata_broken``) where there is no such file.
        """
        messages = iter([_commit(info, f"node-agent-{secrets.token_hex(8)}")])
        await self._write(messages, f"put {info.digest} back", self._timeout)

    async def write(self, info: BlobInfo, chunks: Iterable[bytes], lease: str) -> None:
        """Store the bytes of `info` under `lease`; containerd hashes them. Raises `Fault` (``metadata_broken``)."""
        ref = f"node-agent-{secrets.token_hex(8)}"
        try:
            leased = (("containerd-lease", lease),)
            await self._write(_messages(info, ref, chunks), f"store {info.digest}", WRITE_SECONDS, leased)
        except BaseException:
            await self.abort(ref)
            raise

    async def _write(
        self,
        messages: Iterator[pb.WriteContentRequest],
        what: str,
        seconds: float,
        more: tuple[tuple[str, str], ...] = (),
    ) -> None:
        stream = self._stub.Write(messages, metadata=(*self._metadata, *more), timeout=seconds)
        try:
            async for _ in stream:
                pass
        except grpc.aio.AioRpcError as error:
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise fault_of(error, what) from None
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise Fault(Cause.METADATA_BROKEN, f"cannot {what}: {error.details()}") from None

    async def label(self, digest: str, key: str, value: str) -> None:
        """Set one label; an empty `value` removes it."""
        request = pb.UpdateRequest(
            info=pb.Info(digest=digest, labels={key: value}), update_mask=FieldMask(paths=[f"labels.{key}"])
        )
        call = self._stub.Update(request, metadata=self._metadata, timeout=self._timeout)
        with contextlib.suppress(Absent):  # a blob without a record has no labels either
            await ask(call, f"label {digest} with {key}")


def _ingest(status: pb.Status) -> Ingest:
    updated, started = status.updated_at.ToDatetime(UTC), status.started_at.ToDatetime(UTC)
    return Ingest(status.ref, status.offset, status.total, updated, started)


def _commit(info: BlobInfo, ref: str) -> pb.WriteContentRequest:
    return pb.WriteContentRequest(
        action=pb.COMMIT, ref=ref, total=info.size, offset=info.size, expected=info.digest, labels=info.labels
    )


def _messages(info: BlobInfo, ref: str, chunks: Iterable[bytes]) -> Iterator[pb.WriteContentRequest]:
    offset = 0
    for chunk in chunks:
        yield pb.WriteContentRequest(
            action=pb.WRITE, ref=ref, total=info.size, offset=offset, expected=info.digest, data=chunk
        )
        offset += len(chunk)
    yield _commit(info, ref)
