"""Runtimes that are not containerd 1.6, as far as the agent asks them: another CRI runtime, and one that is too old.

The one fake of the stage: no package here has a CRI-O. It promises what CRI promises and no more.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from agent.rpc import cri_pb2 as pb
from agent.rpc import cri_pb2_grpc


class OtherRuntime:
    """A gRPC server on ``folder/other.sock`` that answers CRI ``v1`` as CRI-O would, with no image.

    ``only_alpha`` serves nothing but the Version of ``v1alpha2``, as runtimes before containerd 1.6 did.
    """

    def __init__(self, folder: Path, *, only_alpha: bool = False) -> None:
        self.endpoint = f"unix://{folder}/other.sock"
        self._server = grpc.server(ThreadPoolExecutor(2))
        if only_alpha:
            self._server.add_generic_rpc_handlers([_alpha()])
        else:
            cri_pb2_grpc.add_RuntimeServiceServicer_to_server(_Runtime(), self._server)
            cri_pb2_grpc.add_ImageServiceServicer_to_server(_Images(), self._server)
        self._server.add_insecure_port(self.endpoint)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.stop(0).wait()


class _Runtime(cri_pb2_grpc.RuntimeServiceServicer):
    def Version(self, request: pb.VersionRequest, context: grpc.ServicerContext) -> pb.VersionResponse:  # noqa: ARG002, N802
        return pb.VersionResponse(version="0.1.0", runtime_name="cri-o", runtime_version="1.31.0")

    def Status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusResponse:  # noqa: ARG002, N802
        ready = pb.RuntimeCondition(type="RuntimeReady", status=True)
        return pb.StatusResponse(status=pb.RuntimeStatus(conditions=[ready]))

    def ListContainers(  # noqa: N802
        self,
        request: pb.ListContainersRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ListContainersResponse:
        return pb.ListContainersResponse()

    def ContainerStatus(  # noqa: N802
        self,
        request: pb.ContainerStatusRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> pb.ContainerStatusResponse:
        return pb.ContainerStatusResponse()


class _Images(cri_pb2_grpc.ImageServiceServicer):
    def ListImages(self, request: pb.ListImagesRequest, context: grpc.ServicerContext) -> pb.ListImagesResponse:  # noqa: ARG002, N802
        return pb.ListImagesResponse()

    def ImageStatus(self, request: pb.ImageStatusRequest, context: grpc.ServicerContext) -> pb.ImageStatusResponse:  # noqa: ARG002, N802
        return pb.ImageStatusResponse()

    def PullImage(self, request: pb.PullImageRequest, context: grpc.ServicerContext) -> pb.PullImageResponse:  # noqa: N802
        context.abort(grpc.StatusCode.UNKNOWN, f"reading manifest in {request.image.image}: connection refused")

    def RemoveImage(self, request: pb.RemoveImageRequest, context: grpc.ServicerContext) -> pb.RemoveImageResponse:  # noqa: ARG002, N802
        return pb.RemoveImageResponse()

    def ImageFsInfo(self, request: pb.ImageFsInfoRequest, context: grpc.ServicerContext) -> pb.ImageFsInfoResponse:  # noqa: ARG002, N802
        usage = pb.FilesystemUsage(fs_id=pb.FilesystemIdentifier(mountpoint="/tmp"))  # noqa: S108 - a path that exists
        return pb.ImageFsInfoResponse(image_filesystems=[usage])


def _alpha() -> grpc.GenericRpcHandler:
    def version(request: pb.VersionRequest, context: grpc.ServicerContext) -> pb.VersionResponse:  # noqa: ARG001
        return pb.VersionResponse(version="0.1.0", runtime_name="containerd", runtime_version="1.4.13")

    handler = grpc.unary_unary_rpc_method_handler(
        version,
        request_deserializer=pb.VersionRequest.FromString,
        response_serializer=pb.VersionResponse.SerializeToString,
    )
    handlers = {"Version": handler}
    found: grpc.GenericRpcHandler = grpc.method_handlers_generic_handler("runtime.v1alpha2.RuntimeService", handlers)
    return found
