"""containerd's own services in the namespace ``k8s.io``, and the cached images put together from them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from agent.model import Blob, Image, Role
from agent.rpc import introspection_pb2, namespaces_pb2
from agent.rpc.introspection_pb2_grpc import IntrospectionStub
from agent.rpc.namespaces_pb2_grpc import NamespacesStub
from agent.runtime.channel import ask
from agent.runtime.content import BlobInfo, Content
from agent.runtime.images import Images, Record
from agent.runtime.leases import Leases
from agent.runtime.snapshots import Snapshots, users

NAMESPACE = "k8s.io"
DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{32,128}")
SNAPSHOT_LABEL = "containerd.io/gc.ref.snapshot."
CONTENT_LABEL = "containerd.io/gc.ref.content."


class Store:
    """Everything of containerd that CRI does not show.

    ``content_root`` is the folder of the content store as this process can open it, or None when its files are
    not reachable (then blobs are read over gRPC, and nothing is repaired).
    """

    def __init__(
        self, channel: grpc.aio.Channel, timeout: float, content_root: Path | None, sandbox_image: str = ""
    ) -> None:
        metadata = (("containerd-namespace", NAMESPACE),)
        self._channel = channel
        self._timeout = timeout
        self._sandbox_image = sandbox_image
        self.content_root = content_root
        self.content = Content(channel, metadata, timeout)
        self.images = Images(channel, metadata, timeout)
        self.leases = Leases(channel, metadata, timeout)
        self.snapshots = Snapshots(channel, metadata, timeout)

    def blob_path(self, digest: str) -> Path | None:
        """The file of a blob, whether or not it exists; None where files are out of reach."""
        if self.content_root is None or not DIGEST.fullmatch(digest):
            return None
        algorithm, _, encoded = digest.partition(":")
        return self.content_root / "blobs" / algorithm / encoded

    async def cached(self) -> tuple[Image, ...]:
        """Every image of the namespace, the newest name first inside each. Reads records only, no blob."""
        names: dict[str, list[Record]] = defaultdict(list)
        for record in await self.images.records():
            names[record.digest].append(record)
        infos = {info.digest: info for info in await self.content.blobs()}
        holders = await self._holders(infos, names)
        in_use = await self._in_use(infos)
        images = (_image(digest, records, infos, holders, in_use) for digest, records in sorted(names.items()))
        # containerd 1.6 marks nothing as pinned, not even the image that every pod's sandbox needs
        return tuple(replace(i, pinned=i.pinned or self._sandbox_image in i.names) for i in images)

    async def _holders(self, infos: Mapping[str, BlobInfo], names: Iterable[str]) -> dict[str, set[str]]:
        """Who has each blob: target digests of this namespace, and the names of other namespaces."""
        holders: dict[str, set[str]] = defaultdict(set)
        for target in names:
            for digest in _reach(target, infos):
                holders[digest].add(target)
        for namespace in await self._other_namespaces():
            content = Content(self._channel, (("containerd-namespace", namespace),), self._timeout)
            for info in await content.blobs():
                holders[info.digest].add(f"namespace {namespace}")
        return holders

    async def _other_namespaces(self) -> tuple[str, ...]:
        stub = NamespacesStub(self._channel)
        answer = await ask(stub.List(namespaces_pb2.ListNamespacesRequest(), timeout=self._timeout), "list namespaces")
        return tuple(namespace.name for namespace in answer.namespaces if namespace.name != NAMESPACE)

    async def _in_use(self, infos: Mapping[str, BlobInfo]) -> dict[str, tuple[str, ...]]:
        """Keys of the active snapshots on the chain of each config blob."""
        chains = {info.digest: snapshot_labels(info) for info in infos.values()}
        snapshotters = {name for chain in chains.values() for name in chain}
        listed = {name: await self.snapshots.all(name) for name in snapshotters}
        return {
            config: tuple(key for name, top in chain.items() for key in users(listed[name], top))
            for config, chain in chains.items()
            if chain
        }


def snapshot_labels(info: BlobInfo) -> dict[str, str]:
    """Snapshotter → top chain ID, from the labels that a finished unpack leaves on a config blob."""
    found = info.labels.items()
    return {key.removeprefix(SNAPSHOT_LABEL): value for key, value in found if key.startswith(SNAPSHOT_LABEL)}


def _children(info: BlobInfo) -> dict[str, Role]:
    """The blobs that a blob refers to, by its labels: they outlive unreadable JSON."""
    found: dict[str, Role] = {}
    for key, digest in sorted(info.labels.items()):
        kind = key.removeprefix(CONTENT_LABEL)
        if kind == key:
            continue
        found[digest] = Role.CONFIG if kind == "config" else Role.LAYER if kind.startswith("l.") else Role.MANIFEST
    return found


def _reach(target: str, infos: Mapping[str, BlobInfo]) -> dict[str, Role]:
    """Every digest that `target` leads to, with or without a record, in the order index, manifest, config, layers."""
    found = {target: Role.TARGET}
    queue = [target]
    while queue:
        info = infos.get(queue.pop(0))
        for digest, role in (_children(info) if info else {}).items():
            if digest not in found:
                found[digest] = role
                queue.append(digest)
    return found


def _image(
    target: str,
    records: list[Record],
    infos: Mapping[str, BlobInfo],
    holders: Mapping[str, set[str]],
    in_use: Mapping[str, tuple[str, ...]],
) -> Image:
    reach = _reach(target, infos)
    present = tuple(Blob(digest, infos[digest].size, role) for digest, role in reach.items() if digest in infos)
    return Image(
        id=target,
        names=tuple(sorted(record.name for record in records)),
        blobs=present,
        # a layer or another platform's manifest without a record is normal; a target or a config is not
        lost=tuple(d for d, role in reach.items() if d not in infos and role in {Role.TARGET, Role.CONFIG}),
        pinned=any(record.pinned for record in records),
        in_use=tuple(sorted({user for blob in present for user in in_use.get(blob.digest, ())})),
        shared=tuple(sorted({h for blob in present for h in holders.get(blob.digest, ()) if h != target})),
    )


async def plugin_root(channel: grpc.aio.Channel, timeout: float, plugin_type: str, plugin_id: str) -> str | None:
    """The folder that a containerd plugin keeps its files in, as containerd sees it."""
    stub = IntrospectionStub(channel)
    request = introspection_pb2.PluginsRequest(filters=[f"type=={plugin_type},id=={plugin_id}"])
    answer = await ask(stub.Plugins(request, timeout=timeout), "ask containerd for its plugins")
    roots = [plugin.exports.get("root", "") for plugin in answer.plugins]
    return next((root for root in roots if root), None)


async def server_pid(channel: grpc.aio.Channel, timeout: float) -> int:
    """containerd's process ID; 0 from versions that do not tell (before 1.7)."""
    stub = IntrospectionStub(channel)
    return int((await ask(stub.Server(Empty(), timeout=timeout), "ask containerd for its process")).pid)
