"""Containers of containerd: which image each one was made from."""

from dataclasses import dataclass

import grpc.aio

from agent.rpc import containers_pb2 as pb
from agent.rpc.containers_pb2_grpc import ContainersStub
from agent.runtime.channel import ask


@dataclass(frozen=True, slots=True)
class Container:
    """A container or sandbox, running or not yet removed; ``image`` is the name of an image record."""

    id: str
    image: str


class Containers:
    """containerd's container service in the namespace of ``metadata``."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self._stub = ContainersStub(channel)
        self._metadata = metadata
        self._timeout = timeout

    async def all(self) -> tuple[Container, ...]:
        """Every container."""
        call = self._stub.List(pb.ListContainersRequest(), metadata=self._metadata, timeout=self._timeout)
        return tuple(Container(each.id, each.image) for each in (await ask(call, "list containers")).containers)
