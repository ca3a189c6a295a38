"""Containers of containerd: which image each one was made from, and whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc.aio

from agent.rpc import containers_pb2 as pb
from agent.rpc.containers_pb2_grpc import ContainersStub
from agent.runtime.channel import ask

# k8s.io/kubelet/pkg/types/labels.go: the kubelet gives them to CRI, which keeps them on containerd's record
NAMESPACE, POD, CONTAINER = (f"io.kubernetes.{key}" for key in ("pod.namespace", "pod.name", "container.name"))


@dataclass(frozen=True, slots=True)
class Container:
    """A container or sandbox, running or not yet removed; ``image`` is the name of an image record.

    ``title`` is ``namespace/pod/container``, ``namespace/pod`` for a sandbox, the ID for what is not of a pod.
    """

    id: str
    image: str
    title: str


class Containers:
    """containerd's container service in the namespace of ``metadata``."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self._stub = ContainersStub(channel)
        self._metadata = metadata
        self._timeout = timeout

    async def all(self) -> tuple[Container, ...]:
        """Every container."""
        call = self._stub.List(pb.ListContainersRequest(), metadata=self._metadata, timeout=self._timeout)
        found = (await ask(call, "list containers")).containers
        return tuple(Container(each.id, each.image, _title(each.id, each.labels)) for each in found)


def _title(id: str, labels: Mapping[str, str]) -> str:  # noqa: A002 - containerd's word
    return "/".join(labels[key] for key in (NAMESPACE, POD, CONTAINER) if labels.get(key)) or id
