"""containerd's diff service: unpacking a layer's blob into a snapshot that is being made."""

from collections.abc import Iterable

import grpc.aio

from agent.causes import Cause
from agent.model import Fault
from agent.rpc import diff_pb2 as pb
from agent.rpc.diff_pb2_grpc import DiffStub
from agent.rpc.types_pb2 import Descriptor, Mount
from agent.runtime.anatomy import ImageLayer
from agent.runtime.channel import Absent, ask

SECONDS = 1800.0
"""Limit of unpacking one layer."""


class Diff:
    """containerd's diff service in the namespace of ``metadata``."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = DiffStub(channel)
        self._metadata = metadata

    async def apply(self, layer: ImageLayer, mounts: Iterable[Mount], lease: str) -> None:
        """Unpack `layer` into `mounts` and write it out to the disk (``sync_fs``; containerd 1.6 does not know it).

        Raises `Fault`: ``unpack_failed`` when what came out is not what the config says, ``blob_missing`` when the
        blob has no record.
        """
        descriptor = Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size)
        request = pb.ApplyRequest(diff=descriptor, mounts=mounts, sync_fs=True)
        metadata = (*self._metadata, ("containerd-lease", lease))
        try:
            call = self._stub.Apply(request, metadata=metadata, timeout=SECONDS)
            applied = (await ask(call, f"unpack {layer.digest}")).applied.digest
        except Absent as absent:
            raise Fault(Cause.BLOB_MISSING, f"{layer.digest} cannot be unpacked: {absent}") from None
        if applied != layer.diff_id:
            raise Fault(
                Cause.UNPACK_FAILED,
                f"{layer.digest} unpacks to other bytes than its config says",
                {"expected": layer.diff_id, "found": applied},
            )
