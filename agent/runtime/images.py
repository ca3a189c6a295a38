"""Image records of containerd's namespace ``k8s.io``: names that point at a target digest."""

import contextlib
from dataclasses import dataclass, field

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from agent.rpc import images_pb2 as pb
from agent.rpc.images_pb2_grpc import ImagesStub
from agent.rpc.types_pb2 import Descriptor
from agent.runtime.channel import Absent, ask

MANAGED_LABEL = "io.cri-containerd.image"
PINNED_LABEL = "io.cri-containerd.pinned"


@dataclass(frozen=True, slots=True)
class Record:
    """One name of an image, ``created`` in epoch seconds.

    A pull by tag through CRI makes three records of one target digest.
    """

    name: str
    digest: str
    media_type: str
    size: int
    labels: dict[str, str] = field(default_factory=dict)
    created: float = 0.0

    @property
    def managed(self) -> bool:
        """Whether CRI has taken the image for its own."""
        return self.labels.get(MANAGED_LABEL) == "managed"

    @property
    def pinned(self) -> bool:
        """Whether the kubelet is told never to collect it (containerd ≥ 1.7)."""
        return self.labels.get(PINNED_LABEL) == "pinned"


class Images:
    """containerd's image service in the namespace of ``metadata``."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self._stub = ImagesStub(channel)
        self._metadata = metadata
        self._timeout = timeout

    async def records(self) -> tuple[Record, ...]:
        """Every record, broken images among them (CRI's own list leaves those out after a restart)."""
        call = self._stub.List(pb.ListImagesRequest(), metadata=self._metadata, timeout=self._timeout)
        return tuple(_record(image) for image in (await ask(call, "list images")).images)

    async def record(self, name: str) -> Record | None:
        """The record called `name`."""
        call = self._stub.Get(pb.GetImageRequest(name=name), metadata=self._metadata, timeout=self._timeout)
        try:
            return _record((await ask(call, f"read image record {name}")).image)
        except Absent:
            return None

    async def create(self, record: Record) -> None:
        """Write `record` anew. The event makes CRI load the image within half a second."""
        request = pb.CreateImageRequest(image=_message(record))
        call = self._stub.Create(request, metadata=self._metadata, timeout=self._timeout)
        await ask(call, f"create image record {record.name}")

    async def touch(self, record: Record) -> None:
        """Write the record as it is: the event makes CRI load an image that it lost track of."""
        request = pb.UpdateImageRequest(image=_message(record), update_mask=FieldMask(paths=["target"]))
        call = self._stub.Update(request, metadata=self._metadata, timeout=self._timeout)
        with contextlib.suppress(Absent):  # removed meanwhile, by the kubelet or a person
            await ask(call, f"update image record {record.name}")

    async def delete(self, name: str) -> None:
        """Delete one name; what it alone kept alive goes at the next collection."""
        call = self._stub.Delete(pb.DeleteImageRequest(name=name), metadata=self._metadata, timeout=self._timeout)
        with contextlib.suppress(Absent):
            await ask(call, f"delete image record {name}")


def _record(image: pb.Image) -> Record:
    target = image.target
    created = image.created_at.ToMilliseconds() / 1000
    return Record(image.name, target.digest, target.media_type, target.size, dict(image.labels), created)


def _message(record: Record) -> pb.Image:
    target = Descriptor(digest=record.digest, media_type=record.media_type, size=record.size)
    return pb.Image(name=record.name, labels=record.labels, target=target)
