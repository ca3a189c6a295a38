"""Layers that a real containerd has unpacked, and what stands in their directories: told without the product's code."""

import gzip
import hashlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agent.runtime.layers.records import Layer
from stage.containerd import Containerd
from stage.images import Layer as Blob
from stage.images import digest, image
from stage.registries import Registry

Entry = tuple[tarfile.TarInfo, bytes]
Print = dict[bytes, tuple[object, ...]]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any) -> Entry:
    """A file, or what `kind` says; ``mode``, ``uid``, ``mtime``, ``linkname``, ``pax_headers``… by their names."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.mtime = kind, len(content), 0o644, 1_700_000_000
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def folder(name: str, mode: int = 0o755, **fields: Any) -> Entry:
    return entry(name, kind=tarfile.DIRTYPE, mode=mode, **fields)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE, **fields: Any) -> Entry:
    return entry(name, kind=kind, linkname=target, **fields)


def tar_of(entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(tar: bytes, blob: bytes | None = None) -> Blob:
    """A layer of these bytes, compressed by gzip unless `blob` is how they are compressed."""
    blob = gzip.compress(tar, 1, mtime=0) if blob is None else blob
    return Blob(blob, digest(blob), digest(tar), "gzip")


def unpack(containerd: Containerd, registry: Registry, blobs: list[Blob]) -> list[Layer]:
    """Have containerd pull an image of these layers; gives them from the lowest on."""
    name = registry.push(f"layers/{secrets.token_hex(6)}", "1", image(*blobs))
    containerd.pull(name)
    directories = list(reversed(snapshot_directories(containerd, chain_of(blobs))))
    assert len(directories) == len(blobs)
    return [
        Layer(
            directories[number],
            tuple(reversed(directories[:number])),
            containerd.blob(each.digest),
            each.digest,
            len(each.blob),
        )
        for number, each in enumerate(blobs)
    ]


def chain_of(blobs: list[Blob]) -> str:
    chain = blobs[0].diff_id
    for each in blobs[1:]:
        chain = digest(f"{chain} {each.diff_id}".encode())
    return chain


def snapshot_directories(containerd: Containerd, chain: str) -> list[Path]:
    """Of a chain of layers, the top first."""
    key = f"look-{secrets.token_hex(4)}"
    told = containerd.ctr("snapshots", "view", "--mounts", key, chain)
    containerd.drop_view(key)
    (mount,) = json.loads(told)
    lower = [option.removeprefix("lowerdir=") for option in mount["Options"] if option.startswith("lowerdir=")]
    return [Path(each) for each in (lower[0].split(":") if lower else [mount["Source"]])]


def fingerprint(root: Path) -> Print:
    """Each path below `root` with all that a layer says of it: kind, owner, time, bytes, links, attributes."""
    names: dict[tuple[int, int], list[bytes]] = {}
    found: Print = {}
    for path in _walk(os.fsencode(root)):
        status = os.lstat(path)
        inside = os.path.relpath(path, os.fsencode(root))
        names.setdefault((status.st_dev, status.st_ino), []).append(inside)
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in _xattrs(path)}
        told = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_mtime_ns, tuple(xattrs.items()))
        found[inside] = (*told, _content(path, status.st_mode), names[status.st_dev, status.st_ino])
    return found


def _walk(root: bytes) -> Iterator[bytes]:
    yield root
    for directory, folders, files in os.walk(root):
        yield from (os.path.join(directory, name) for name in sorted(folders + files))  # noqa: PTH118 - bytes


def _xattrs(path: bytes) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def _content(path: bytes, mode: int) -> str:
    if os.path.islink(path):  # noqa: PTH114 - bytes
        return os.fsdecode(os.readlink(path))  # noqa: PTH115 - bytes
    if mode & 0o170000 != 0o100000:
        return ""
    with open(path, "rb") as file:  # noqa: PTH123 - bytes
        return hashlib.file_digest(file, "sha256").hexdigest()
