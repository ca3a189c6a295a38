"""Pods as the kubelet makes them: a sandbox and a container through CRI, on the node's own network (no CNI).

The calls that start them are not in the agent's part of CRI, which only looks; so the few messages are
written here by hand, with the numbers of k8s.io/cri-api/pkg/apis/runtime/v1/api.proto.
"""

from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import grpc

from agent.rpc import cri_pb2
from stage.containerd import Containerd

Value = str | int | bytes
_NODE_NETWORK = 2  # NamespaceMode.NODE


class Pod:
    """A running pod of one container; stopped and removed on leaving.

    ``image`` has to be on the node and to run (`stage.images.pause`), and so has containerd's sandbox
    image. ``id`` is the sandbox's, ``container_id`` the container's; with ``start=False`` the container
    is created only.
    """

    def __init__(
        self, containerd: Containerd, image: str, *, name: str = "app", namespace: str = "default", start: bool = True
    ) -> None:
        self.containerd, self.image, self.name, self.namespace = containerd, image, name, namespace
        self.uid = str(uuid4())
        self.id = self.container_id = ""
        self._start = start

    def __enter__(self) -> Self:
        sandbox = self._sandbox()
        self.id = self._call("RunPodSandbox", _field(1, sandbox))
        container = _field(1, _field(1, self.name)) + _field(2, _field(1, self.image)) + self._labels(9, self.name)
        try:
            self.container_id = self._call(
                "CreateContainer", _field(1, self.id) + _field(2, container) + _field(3, sandbox)
            )
            if self._start:
                self._call("StartContainer", _field(1, self.container_id))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def _remove(self) -> None:
        self._call("StopPodSandbox", _field(1, self.id))
        self._call("RemovePodSandbox", _field(1, self.id))

    def _sandbox(self) -> bytes:
        metadata = _field(1, self.name) + _field(2, self.uid) + _field(3, self.namespace)
        logs = Path(self.containerd.folder, "logs")
        linux = _field(1, f"/{self.containerd.cgroup}") + _field(2, _field(1, _field(1, _NODE_NETWORK)))
        return _field(1, metadata) + _field(3, str(logs)) + self._labels(6) + _field(8, linux)

    def _labels(self, number: int, container: str = "") -> bytes:
        """The labels by which the kubelet finds its own again."""
        labels = {"pod.name": self.name, "pod.namespace": self.namespace, "pod.uid": self.uid}
        labels |= {"container.name": container} if container else {}
        entries = [_field(1, f"io.kubernetes.{key}") + _field(2, value) for key, value in labels.items()]
        return b"".join(_field(number, entry) for entry in entries)

    def _call(self, method: str, request: bytes) -> str:
        """The one string that the answers of these calls hold, if any."""
        with grpc.insecure_channel(self.containerd.endpoint) as channel:
            call = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}", _as_is, _one_string)
            return call(request, timeout=30)


def _as_is(message: bytes) -> bytes:
    return message


def _one_string(message: bytes) -> str:
    """Read as another message of the same shape: one string, in field 1."""
    return cri_pb2.PullImageResponse.FromString(message).image_ref


def _field(number: int, value: Value) -> bytes:
    """One field of a protobuf message: a number, a string, or a message within."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
