"""containerd's own services in the namespace ``k8s.io``."""

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import grpc.aio

from agent.model import Fault, Image, Role
from agent.rpc import introspection_pb2, namespaces_pb2
from agent.rpc.introspection_pb2_grpc import IntrospectionStub
from agent.rpc.namespaces_pb2_grpc import NamespacesStub
from agent.runtime.anatomy import Anatomy, config_of, dissect
from agent.runtime.census import Census, snapshot_labels
from agent.runtime.channel import Absent, ask
from agent.runtime.containers import Containers
from agent.runtime.content import BlobInfo, Content
from agent.runtime.cri import Cri
from agent.runtime.diff import Diff
from agent.runtime.images import Images
from agent.runtime.layout import blob_file, ingest_file
from agent.runtime.leases import Leases
from agent.runtime.snapshots import Chains, Snapshots

NAMESPACE = "k8s.io"
DOCUMENT_LIMIT = 4 * 1024 * 1024
"""Bytes; a registry need take no manifest over 4 MiB (OCI distribution-spec), and a config is smaller."""


class Store:
    """Everything of containerd that CRI does not show.

    ``content_root`` is the folder of the content store as this process can open it, or None when its files are
    not reachable (then blobs are read over gRPC, and nothing is repaired); ``root`` is the root directory of the file
    system that containerd sees. ``isolated`` tells that namespaces do not share content, so that what was forgotten
    cannot be adopted again.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        timeout: float,
        content_root: Path | None,
        cri: Cri,
        *,
        root: Path = Path("/"),
        sandbox_image: str = "",
        isolated: bool = False,
    ) -> None:
        metadata = (("containerd-namespace", NAMESPACE),)
        self._channel = channel
        self._timeout = timeout
        self._sandbox_image = sandbox_image
        self._containers = Containers(channel, metadata, timeout)
        self._root = root
        self.cri = cri
        self.content_root = content_root
        self.isolated = isolated
        self.content = Content(channel, metadata, timeout)
        self.images = Images(channel, metadata, timeout)
        self.leases = Leases(channel, metadata, timeout)
        self.snapshots = Snapshots(channel, metadata, timeout)
        self.diff = Diff(channel, metadata)

    def blob_path(self, digest: str) -> Path | None:
        """The file of a blob, whether or not it exists; None where files are out of reach."""
        return blob_file(self.content_root, digest) if self.content_root else None

    def ingest_path(self, ref: str) -> Path | None:
        """The bytes so far of an unfinished write; None where there are none, or files are out of reach."""
        return ingest_file(self.content_root, NAMESPACE, ref) if self.content_root else None

    def file(self, path: str) -> Path:
        """A path of containerd's own file system, as this process can open it."""
        return self._root / path.lstrip("/")

    async def document(self, digest: str) -> bytes:
        """A manifest, index or config; empty for one that is gone, damaged or larger than containerd reads."""
        found = b""
        with contextlib.suppress(Absent):
            async for chunk in self.content.read(digest):
                found += chunk
                if len(found) > DOCUMENT_LIMIT:
                    return b""
        return found if f"sha256:{hashlib.sha256(found).hexdigest()}" == digest else b""

    async def anatomies(self, image: Image) -> tuple[Anatomy, ...]:
        """What each manifest of `image` whose config is here says that it is unpacked to; damaged ones are left out."""
        documents = [await self.document(b.digest) for b in image.blobs if b.role in {Role.TARGET, Role.MANIFEST}]
        found: list[Anatomy] = []
        for manifest in documents:
            info = await self.content.info(config) if (config := config_of(manifest)) else None
            if info and (body := await self.document(config)):
                found.append(dissect(manifest, body, snapshot_labels(info)))
        return tuple(found)

    async def unknown_to_cri(self, image: Image) -> tuple[str, ...]:
        """Names of `image` that CRI manages and does not know; an artifact, which has no layers, is none of its own."""
        if not any(each.layers for each in await self.anatomies(image)):
            return ()
        records = [await self.images.record(name) for name in image.names]
        managed = [record.name for record in records if record and record.managed and record.digest == image.id]
        return tuple([name for name in managed if await self.cri.image(name) is None])

    async def cached(self) -> tuple[Image, ...]:
        """Every image of the namespace. Reads records only, no blob."""
        infos = {info.digest: info for info in await self.content.blobs()}
        census = Census(
            records=await self.images.records(),
            infos=infos,
            elsewhere=await self._elsewhere(),
            chains=await self._chains(infos),
            containers=await self._containers.all(),
            sandbox_image=self._sandbox_image,
        )
        return census.images()

    async def _elsewhere(self) -> dict[str, frozenset[str]]:
        """Digest → the other namespaces that have a record of it."""
        stub = NamespacesStub(self._channel)
        answer = await ask(stub.List(namespaces_pb2.ListNamespacesRequest(), timeout=self._timeout), "list namespaces")
        found: dict[str, set[str]] = defaultdict(set)
        for namespace in answer.namespaces:
            if namespace.name != NAMESPACE:
                content = Content(self._channel, (("containerd-namespace", namespace.name),), self._timeout)
                for info in await content.blobs():
                    found[info.digest].add(namespace.name)
        return {digest: frozenset(names) for digest, names in found.items()}

    async def _chains(self, infos: Mapping[str, BlobInfo]) -> dict[str, Chains | None]:
        """The chains of each snapshotter that a config names; None for one that does not answer."""
        found: dict[str, Chains | None] = {}
        for name in {name for info in infos.values() for name in snapshot_labels(info)}:
            try:
                found[name] = Chains(await self.snapshots.all(name))
            except Fault:
                found[name] = None  # the census takes its images as in use
        return found


async def plugin_exports(
    channel: grpc.aio.Channel, timeout: float, plugin_type: str, plugin_id: str
) -> Mapping[str, str]:
    """What a containerd plugin tells of itself, such as ``root``: the folder of its files, as containerd sees it."""
    stub = IntrospectionStub(channel)
    request = introspection_pb2.PluginsRequest(filters=[f"type=={plugin_type},id=={plugin_id}"])
    answer = await ask(stub.Plugins(request, timeout=timeout), "ask containerd for its plugins")
    return {key: value for plugin in answer.plugins for key, value in plugin.exports.items()}
