"""The container runtime interface, as any CRI runtime serves it (containerd, CRI-O)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import grpc.aio

from agent.causes import Cause
from agent.explain import explain
from agent.model import Credential, Fault
from agent.rpc import cri_pb2 as pb
from agent.rpc.cri_pb2_grpc import ImageServiceStub, RuntimeServiceStub
from agent.runtime.channel import Absent, Unserved, ask, shorten


@dataclass(frozen=True, slots=True)
class Version:
    """What answers on the socket: ``name`` is ``containerd`` or ``cri-o``, ``version`` as the runtime prints it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Status:
    """``problem`` is empty when the condition RuntimeReady holds; ``config`` is containerd's CRI configuration.

    NetworkReady is left out on purpose: a node without CNI pulls images all the same.
    """

    problem: str
    config: Mapping[str, object]

    @property
    def sandbox_image(self) -> str:
        """The image of every pod's sandbox, as containerd 1.x is told of it; 2.x marks it as pinned instead."""
        return str(self.config.get("sandboxImage") or "")


@dataclass(frozen=True, slots=True)
class CriImage:
    """An image as CRI knows it: ``id`` is the digest of its config, ``size`` in bytes (compressed)."""

    id: str
    names: tuple[str, ...]
    size: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended.

    ``images`` are the names that CRI has for its image: a reference, a digest, the image ID; ``pod`` is
    ``namespace/name`` and empty for a container that is not the kubelet's; ``attempt`` counts its restarts; ``reason``
    is such as ``Error``, ``OOMKilled``, ``StartError``; ``log`` is a path as the runtime sees it, empty for none;
    ``finished`` in epoch seconds.
    """

    id: str
    images: tuple[str, ...]
    pod: str
    container: str
    attempt: int
    code: int
    reason: str
    message: str
    log: str
    finished: float


class Cri:
    """The calls of ImageService and RuntimeService; each one ends within ``timeout`` seconds, a pull when told."""

    def __init__(self, channel: grpc.aio.Channel, timeout: float) -> None:
        self._images = ImageServiceStub(channel)
        self._runtime = RuntimeServiceStub(channel)
        self._channel = channel
        self._timeout = timeout

    async def version(self) -> Version:
        """Name and version of the runtime. Raises `Fault`, with its own words for a v1alpha2-only runtime."""
        call = self._runtime.Version(pb.VersionRequest(), timeout=self._timeout)
        try:
            answer = await ask(call, "CRI Version")
        except Unserved:
            if await self._speaks_v1alpha2():
                raise Fault(
                    Cause.RUNTIME_UNAVAILABLE,
                    "the runtime serves only CRI v1alpha2: containerd 1.6, CRI-O 1.24 or newer is needed",
                ) from None
            raise
        return Version(answer.runtime_name, answer.runtime_version)

    async def _speaks_v1alpha2(self) -> bool:
        method = self._channel.unary_unary(
            "/runtime.v1alpha2.RuntimeService/Version",
            request_serializer=pb.VersionRequest.SerializeToString,
            response_deserializer=pb.VersionResponse.FromString,
        )
        try:
            await method(pb.VersionRequest(), timeout=self._timeout)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def status(self) -> Status:
        """Whether the runtime calls itself ready, and (containerd) its CRI configuration."""
        answer = await ask(self._runtime.Status(pb.StatusRequest(verbose=True), timeout=self._timeout), "CRI Status")
        problems = [
            f"{condition.reason}: {condition.message}"
            for condition in answer.status.conditions
            if condition.type == "RuntimeReady" and not condition.status
        ]
        return Status(shorten("; ".join(problems)), _json_object(answer.info.get("config", "")))

    async def images(self) -> tuple[CriImage, ...]:
        """All images that CRI knows; a broken one may be missing after the runtime was restarted."""
        answer = await ask(self._images.ListImages(pb.ListImagesRequest(), timeout=self._timeout), "CRI ListImages")
        return tuple(_image(image) for image in answer.images)

    async def image(self, name: str) -> CriImage | None:
        """What `name` (a reference, digest or image ID) stands for, if it is present."""
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=name))
        try:
            answer = await ask(self._images.ImageStatus(request, timeout=self._timeout), "CRI ImageStatus")
        except Absent:
            return None
        return _image(answer.image) if answer.image.id else None

    async def pull(self, name: str, credential: Credential | None, timeout: float) -> str:
        """Pull `name` and answer the image ID.

        Raises `Fault` with the cause that `explain` reads in the runtime's text. The runtime skips every blob
        and layer that it has a record of, sound or not (facts: containerd's Writer answers AlreadyExists).
        """
        auth = pb.AuthConfig(username=credential.username, password=credential.password) if credential else None
        request = pb.PullImageRequest(image=pb.ImageSpec(image=name), auth=auth)
        try:
            return (await self._images.PullImage(request, timeout=timeout)).image_ref
        except grpc.aio.AioRpcError as error:
            raise _pull_fault(error, timeout) from None

    async def remove(self, name: str) -> None:
        """Remove every name of the image that `name` stands for, and wait for the collection of its garbage."""
        request = pb.RemoveImageRequest(image=pb.ImageSpec(image=name))
        await ask(self._images.RemoveImage(request, timeout=self._timeout), "CRI RemoveImage")

    async def exited(self) -> frozenset[str]:
        """The IDs of the containers that ended and were not removed yet. One call, however many there are."""
        state = pb.ContainerStateValue(state=pb.CONTAINER_EXITED)
        request = pb.ListContainersRequest(filter=pb.ContainerFilter(state=state))
        answer = await ask(self._runtime.ListContainers(request, timeout=self._timeout), "CRI ListContainers")
        return frozenset(container.id for container in answer.containers)

    async def exit_of(self, id: str) -> Exit | None:  # noqa: A002 - CRI's word
        """How a container of `exited` ended; None for one that was removed meanwhile."""
        request = pb.ContainerStatusRequest(container_id=id)
        try:
            answer = await ask(self._runtime.ContainerStatus(request, timeout=self._timeout), "CRI ContainerStatus")
        except Absent:
            return None
        return _exit(answer.status)

    async def image_filesystem(self) -> str | None:
        """The path that holds the images, as the runtime sees it."""
        request = pb.ImageFsInfoRequest()
        answer = await ask(self._images.ImageFsInfo(request, timeout=self._timeout), "CRI ImageFsInfo")
        mounts = [usage.fs_id.mountpoint for usage in answer.image_filesystems if usage.fs_id.mountpoint]
        return mounts[0] if mounts else None


def _pull_fault(error: grpc.aio.AioRpcError, timeout: float) -> Fault:
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Fault(Cause.PULL_TIMEOUT, f"the pull was not done after {timeout:.0f} s")
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return Fault(Cause.RUNTIME_UNAVAILABLE, f"the runtime went away: {shorten(error.details() or '')}")
    text = error.details() or error.code().name
    explanation = explain(text)
    return Fault(explanation.cause, explanation.summary, {"runtime_error": shorten(text)})


def _image(image: pb.Image) -> CriImage:
    return CriImage(image.id, (*image.repo_tags, *image.repo_digests), image.size, image.pinned)


def _exit(status: pb.ContainerStatus) -> Exit:
    labels = status.labels
    namespace, name = (labels.get(f"io.kubernetes.pod.{key}", "") for key in ("namespace", "name"))
    names = (status.image_ref, status.image_id, status.image.image)
    return Exit(
        id=status.id,
        images=tuple(dict.fromkeys(name for name in names if name)),
        pod=f"{namespace}/{name}" if name else "",
        container=status.metadata.name,
        attempt=status.metadata.attempt,
        code=status.exit_code,
        reason=status.reason,
        message=shorten(status.message),
        log=status.log_path,
        finished=status.finished_at / 1e9,
    )


def _json_object(text: str) -> Mapping[str, object]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
