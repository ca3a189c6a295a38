"""Proof that an image is as it was pulled, without the product's code: by containerd's lists, ``sha256`` and a walk.

`prove` is taken right after the pull, while all is well; `assert_as_before` compares what is there with it: every blob
that had a record hashes to its digest, every layer's directory is the same down to times, links and xattrs, every
name leads where it led, and nothing of ours is left. Not compared: inode numbers, access and change times, and times
that unpacking gives (of `fs` itself, of folders that no tar names, of whiteouts): the stage's layers have no time that
is younger than `YOUNG`, so whatever is younger was given by unpacking.
"""

import hashlib
import json
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from agent.rpc.leases_pb2 import CreateRequest, DeleteRequest
from agent.rpc.leases_pb2_grpc import LeasesStub
from agent.rpc.snapshots_pb2 import RemoveSnapshotRequest, ViewSnapshotRequest
from agent.rpc.snapshots_pb2_grpc import SnapshotsStub
from stage.containerd import Containerd

YOUNG = 1_577_836_800 * 10**9  # 2020, in ns
KEY = "oracle"
QUARANTINE = "node-agent-quarantine"
_LABEL = re.compile(r"containerd\.io/gc\.ref\.snapshot\.overlayfs=(sha256:[0-9a-f]{64})")
Node = tuple[object, ...]  # kind and mode, owner, group, size, mtime, content, target, device, xattrs, first hard link
Tree = dict[str, Node]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was there; ``folders`` says where each chain ID's directory was, lowest first."""

    containerd: Containerd
    names: dict[str, str]
    blobs: frozenset[str]
    labels: dict[str, str]
    folders: dict[str, Path]
    trees: dict[str, Tree]
    standing: frozenset[str]

    @property
    def target(self) -> str:
        """The digest that the names lead to."""
        (digest,) = set(self.names.values())
        return digest

    @property
    def layers(self) -> list[tuple[str, Path]]:
        """Chain ID and directory of each layer, the lowest first."""
        return list(self.folders.items())

    @property
    def chains(self) -> list[str]:
        """The chain IDs, those above before those below."""
        return list(reversed(self.folders))


def prove(containerd: Containerd, *images: str) -> Proof:
    """What there is of these images under all their names."""
    return _prove(_Census.of(containerd), containerd, images)


def prove_each(containerd: Containerd, images: Iterable[str]) -> list[Proof]:
    """One proof for each image."""
    census = _Census.of(containerd)
    return [_prove(census, containerd, [image]) for image in images]


def assert_as_before(*proofs: Proof) -> None:
    """Fails with the first things that differ; all proofs are of one containerd."""
    census = _Census.of(proofs[0].containerd)
    for proof in proofs:
        _assert_as_before(proof, census)
    assert_nothing_left(proofs[0])


@dataclass(frozen=True, slots=True)
class _Census:
    """containerd's own lists: name → digest, digest → line with its labels, leases and what stands on layers."""

    names: dict[str, str]
    records: dict[str, str]
    standing: frozenset[str]

    @classmethod
    def of(cls, containerd: Containerd) -> Self:
        return cls(_names(containerd), _content(containerd), _standing(containerd))


def _prove(census: _Census, containerd: Containerd, images: Iterable[str]) -> Proof:
    targets = {census.names[image] for image in images}
    blobs = {digest for target in targets for digest in _reached(containerd, target, census.records)}
    labels = _labels(blobs, census.records)
    folders = _folders(containerd, labels)
    trees = {chain: tree(folder) for chain, folder in folders.items()}
    own = {name: digest for name, digest in census.names.items() if digest in targets}
    return Proof(containerd, own, frozenset(blobs), labels, folders, trees, census.standing)


def _assert_as_before(proof: Proof, census: _Census) -> None:
    containerd = proof.containerd
    assert {name: census.names.get(name) for name in proof.names} == proof.names
    assert sorted(proof.blobs - census.records.keys()) == [], "blobs without a record"
    assert [digest for digest in sorted(proof.blobs) if not right(containerd, digest)] == [], "blobs that are not right"
    assert _labels(proof.blobs, census.records) == proof.labels
    folders = _folders(containerd, proof.labels)
    assert folders.keys() == proof.folders.keys()
    for chain, folder in folders.items():
        assert differences(proof.trees[chain], tree(folder)) == [], f"{chain} in {folder}"


def _labels(blobs: Iterable[str], records: dict[str, str]) -> dict[str, str]:
    """Config → top chain ID."""
    return {digest: found[1] for digest in blobs if (found := _LABEL.search(records[digest]))}


def assert_nothing_left(proof: Proof) -> None:
    """No lease, view, half-made snapshot or quarantined file that was not there before."""
    assert sorted(_standing(proof.containerd) - proof.standing) == []
    aside = [path for path in _below(proof.containerd.root) if path.parent.name == QUARANTINE]
    assert aside == []


def right(containerd: Containerd, digest: str) -> bool:
    """Whether a blob's file hashes to its digest."""
    path = containerd.blob(digest)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest.removeprefix("sha256:")


def damaged(proof: Proof) -> set[str]:
    """The digests and chain IDs of `proof` whose files are not as they were, looked for where they were."""
    blobs = {digest for digest in proof.blobs if not right(proof.containerd, digest)}
    return blobs | {
        chain
        for chain, folder in proof.folders.items()
        if not folder.is_dir() or differences(proof.trees[chain], tree(folder))
    }


def tree(folder: Path) -> Tree:
    """Everything in a directory by its path; the directory itself is ``"."``."""
    found: dict[str, Node] = {}
    inodes: dict[int, str] = {}
    for path in (folder, *sorted(_below(folder))):
        name = str(path.relative_to(folder))
        found[name] = _node(path, inodes.setdefault(path.lstat().st_ino, name))
    return found


def differences(before: Tree, after: Tree) -> list[str]:
    """The first paths that differ, each with what it was and what it is."""
    paths = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    return [f"{path}: {before.get(path)} became {after.get(path)}" for path in paths[:5]]


def _below(folder: Path) -> Iterator[Path]:
    for above, folders, files in os.walk(folder, followlinks=False):
        yield from (Path(above, name) for name in (*folders, *files))


def _node(path: Path, first: str) -> Node:
    status = path.lstat()
    regular, link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
    return (
        oct(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_size if regular else 0,
        status.st_mtime_ns if status.st_mtime_ns < YOUNG else "given by unpacking",
        hashlib.sha256(path.read_bytes()).hexdigest() if regular else "",
        str(path.readlink()) if link else "",
        status.st_rdev,
        tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in _xattrs(path)),
        first,
    )


def _xattrs(path: Path) -> list[str]:
    return sorted(name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("security.selinux"))


def _names(containerd: Containerd) -> dict[str, str]:
    lines = containerd.ctr("images", "list").splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines}


def _content(containerd: Containerd) -> dict[str, str]:
    """Digest → labels of every record."""
    lines = containerd.ctr("content", "list").splitlines()[1:]
    return {line.split()[0]: line for line in lines}


def _reached(containerd: Containerd, target: str, records: dict[str, str]) -> Iterator[str]:
    """The target, and what its documents name, as far as it has a record."""
    if target not in records:
        return
    yield target
    document: dict[str, Any] = json.loads(containerd.blob(target).read_bytes())
    for child in document.get("manifests", []):
        yield from _reached(containerd, child["digest"], records)
    for each in (*filter(None, [document.get("config")]), *document.get("layers", [])):
        if each["digest"] in records:
            yield each["digest"]


def _folders(containerd: Containerd, labels: dict[str, str]) -> dict[str, Path]:
    """Chain ID → directory for the chains that the labels of configs lead to, each from its lowest layer up."""
    found: dict[str, Path] = {}
    for config, top in labels.items():
        chain = _chain(json.loads(containerd.blob(config).read_bytes())["rootfs"]["diff_ids"])
        assert chain[-1] == top, f"the label of {config} leads elsewhere"
        found |= dict(zip(chain, reversed(_lower(containerd, top)), strict=True))
    return found


def _chain(diff_ids: list[str]) -> list[str]:
    """The chain IDs of the OCI image specification: each layer's over that of the layers below it."""
    chain: list[str] = []
    for diff_id in diff_ids:
        both = f"{chain[-1]} {diff_id}".encode() if chain else b""
        chain.append(f"sha256:{hashlib.sha256(both).hexdigest()}" if chain else diff_id)
    return chain


def _lower(containerd: Containerd, top: str) -> list[Path]:
    """The directories of a chain, the top first: those that a view of it would be mounted from.

    The view is held by a lease, so that it is not collected: that would leave the chain with a link to a child that is
    gone, and its records could not be removed by name any more (1.6 to 2.1).
    """
    common = (("containerd-namespace", "k8s.io"),)
    with grpc.insecure_channel(containerd.endpoint) as channel:
        snapshots, leases = SnapshotsStub(channel), LeasesStub(channel)
        leases.Create(CreateRequest(id=KEY), metadata=common)
        view = ViewSnapshotRequest(snapshotter="overlayfs", key=KEY, parent=top)
        try:
            (mount,) = snapshots.View(view, metadata=(*common, ("containerd-lease", KEY))).mounts
            snapshots.Remove(RemoveSnapshotRequest(snapshotter="overlayfs", key=KEY), metadata=common)
        except grpc.RpcError as error:
            raise AssertionError(f"no chain of directories leads to {top}: {error.details()}") from error
        finally:
            leases.Delete(DeleteRequest(id=KEY), metadata=common)
    lower = [option.removeprefix("lowerdir=") for option in mount.options if option.startswith("lowerdir=")]
    return [Path(folder) for folder in (lower[0].split(":") if lower else [mount.source])]


def _standing(containerd: Containerd) -> frozenset[str]:
    """Leases, and the snapshots that are not layers: containers, views, what is being unpacked."""
    leases = containerd.ctr("leases", "list").splitlines()[1:]
    rows = (line.split() for line in containerd.ctr("snapshots", "list").splitlines()[1:])
    kinds = defaultdict(list)
    for row in rows:
        kinds[row[-1]].append(row[0])
    return frozenset([*(f"lease {line.split()[0]}" for line in leases), *kinds["Active"], *kinds["View"]])
