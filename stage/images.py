"""Container images out of nothing: layers, manifests and indexes, the same bytes every time."""

import gzip
import hashlib
import io
import json
import platform as machine
import struct
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Literal

import zstandard

from stage.entries import Entry, archive

MIB = 1 << 20
MEMBER = 1 << 12  # bytes of the tar in each
Compression = Literal["gzip", "none", "zstd", "members"]
"""``members`` is gzip in several members, as estargz writes it."""
Json = dict[str, object]
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PLATFORM = f"linux/{_ARCHITECTURES.get(machine.machine(), machine.machine())}"  # of this machine
FOREIGN_PLATFORM = "linux/s390x"  # of none that the stage runs on

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
_MANIFEST = {False: f"{OCI}.manifest.v1+json", True: f"{DOCKER}.distribution.manifest.v2+json"}
_INDEX = {False: f"{OCI}.index.v1+json", True: f"{DOCKER}.distribution.manifest.list.v2+json"}
_CONFIG = {False: f"{OCI}.config.v1+json", True: f"{DOCKER}.container.image.v1+json"}
_LAYER = {
    (False, "gzip"): f"{OCI}.layer.v1.tar+gzip",
    (False, "none"): f"{OCI}.layer.v1.tar",
    (False, "zstd"): f"{OCI}.layer.v1.tar+zstd",
    (False, "members"): f"{OCI}.layer.v1.tar+gzip",
    (True, "gzip"): f"{DOCKER}.image.rootfs.diff.tar.gzip",
    (True, "none"): f"{DOCKER}.image.rootfs.diff.tar",
    (True, "zstd"): f"{DOCKER}.image.rootfs.diff.tar.zstd",  # known from containerd 2 on
    (True, "members"): f"{DOCKER}.image.rootfs.diff.tar.gzip",
}
NONDISTRIBUTABLE = f"{OCI}.layer.nondistributable.v1.tar+gzip"
_EMPTY = f"{OCI.removesuffix('.image')}.empty.v1+json"
_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_STATEMENT = "application/vnd.in-toto+json"


_PROGRAMS = (b"\x7fELF", b"#!")  # what is executable by its first bytes is so by its mode

# A whole program for Linux on amd64, which does nothing until it is killed: pause(2) in a loop.
_CODE = bytes.fromhex("b822000000 0f05 ebf7")
_SIZE = 64 + 56 + len(_CODE)
PAUSE = (
    struct.pack("<16sHHIQQQI6H", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, _SIZE, _SIZE, 0x1000)
    + _CODE
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's blob as it is stored in a registry, and the digest of the tar inside (``diff_id``).

    ``media_type`` is that of its compression unless it is told here.
    """

    blob: bytes
    digest: str
    diff_id: str
    compression: Compression
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Built:
    """An image of one platform (``children`` empty) or an index (``config`` and ``layers`` empty).

    ``digest`` and ``media_type`` are those of ``manifest``, the exact bytes to be served; ``id`` is what
    CRI calls the image, the digest of its config.
    """

    manifest: bytes
    digest: str
    media_type: str
    platform: str = ""
    config: bytes = b""
    layers: tuple[Layer, ...] = ()
    children: tuple["Built", ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()  # of its entry in an index

    @property
    def id(self) -> str:
        return digest(self.config)

    @property
    def blobs(self) -> dict[str, bytes]:
        """Config and layers by digest, those of the children too."""
        own = {layer.digest: layer.blob for layer in self.layers}
        own |= {self.id: self.config} if self.config else {}
        return own | dict(chain.from_iterable(child.blobs.items() for child in self.children))


def digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def layer(
    files: Mapping[str, bytes], compression: Compression = "gzip", extra: Iterable[tarfile.TarInfo] = ()
) -> Layer:
    """A layer of these files, with the folders above them; ``extra`` takes links, folders, whiteouts."""
    return pack(_tar(files, extra), compression)


def exactly(*entries: Entry, compression: Compression = "gzip") -> Layer:
    """A layer of these entries and no others, in this order."""
    return pack(archive(entries), compression)


def pack(tar: bytes, compression: Compression = "gzip") -> Layer:
    """A layer of this tar, which may be anything at all."""
    blob = _compressed(tar, compression)
    return Layer(blob, digest(blob), digest(tar), compression)


def nondistributable(one: Layer) -> Layer:
    """The same as a layer that a registry need not have."""
    return replace(one, media_type=NONDISTRIBUTABLE)


def filler(mib: int, seed: str = "filler", compression: Compression = "none") -> Layer:
    """A layer of so many MiB that does not compress, in files of 1 MiB."""
    noise = {f"filler/{number:04}": hashlib.shake_128(f"{seed}/{number}".encode()).digest(MIB) for number in range(mib)}
    return layer(noise, compression)


def image(*layers: Layer, platform: str = PLATFORM, docker: bool = False, config: Json | None = None) -> Built:
    """An image of these layers; ``docker`` gives Docker's media types, ``config`` more keys for its config."""
    body = _json(_platform(platform) | _rootfs(layers) | (config or {}))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST[docker],
            "config": _descriptor(_CONFIG[docker], body),
            "layers": [_descriptor(each.media_type or _LAYER[docker, each.compression], each.blob) for each in layers],
        }
    )
    return Built(manifest, digest(manifest), _MANIFEST[docker], platform, body, layers)


def pause(*layers: Layer) -> Built:
    """An image that runs, and rests; with nothing more, one for pods' sandboxes."""
    return image(layer({"pause": PAUSE}), *layers, config={"config": {"Entrypoint": ["/pause"]}})


def index(*built: Built, docker: bool = False) -> Built:
    """An image for several platforms."""
    entries = [_entry_of(each) for each in built]
    body = _json({"schemaVersion": 2, "mediaType": _INDEX[docker], "manifests": entries})
    return Built(body, digest(body), _INDEX[docker], children=built)


def artifact(content: bytes, platform: str = "") -> Built:
    """What is no image: an empty config, and a blob of a type that no runtime unpacks (a Helm chart)."""
    return _odd(_EMPTY, b"{}", _CHART, content, platform)


def attestation(built: Built) -> Built:
    """What buildx puts beside an image into its index: a statement about it, for no platform."""
    statement = _json({"_type": "https://in-toto.io/Statement/v0.1", "subject": built.digest})
    config = _json(_platform("unknown/unknown") | {"rootfs": {"type": "layers", "diff_ids": [digest(statement)]}})
    odd = _odd(_CONFIG[False], config, _STATEMENT, statement, "unknown/unknown")
    kinds = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": built.digest}
    return replace(odd, annotations=tuple(kinds.items()))


def _odd(config_type: str, config: bytes, layer_type: str, content: bytes, platform: str) -> Built:
    body = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST[False],
        "config": _descriptor(config_type, config),
        "layers": [_descriptor(layer_type, content)],
    }
    manifest = _json(body)
    only = Layer(content, digest(content), digest(content), "none", layer_type)
    return Built(manifest, digest(manifest), _MANIFEST[False], platform, config, (only,))


def _entry_of(built: Built) -> Json:
    entry = _descriptor(built.media_type, built.manifest) | {"platform": _platform(built.platform)}
    return entry | ({"annotations": dict(built.annotations)} if built.annotations else {})


def _compressed(tar: bytes, compression: Compression) -> bytes:
    match compression:
        case "gzip":
            return gzip.compress(tar, compresslevel=1, mtime=0)
        case "members":
            parts = (tar[start : start + MEMBER] for start in range(0, len(tar), MEMBER))
            return b"".join(gzip.compress(part, compresslevel=1, mtime=0) for part in parts)
        case "zstd":
            return zstandard.ZstdCompressor(level=1).compress(tar)
        case "none":
            return tar


def _rootfs(layers: Iterable[Layer]) -> Json:
    return {"config": {}, "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]}}


def _tar(files: Mapping[str, bytes], extra: Iterable[tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(_parents(files)):
            tar.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
        for name, content in files.items():
            entry = _entry(name, tarfile.REGTYPE, 0o755 if content.startswith(_PROGRAMS) else 0o644)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in extra:
            tar.addfile(entry)
    return buffer.getvalue()


def _parents(files: Iterable[str]) -> set[str]:
    return {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def _platform(platform: str) -> Json:
    return dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))


def _descriptor(media_type: str, blob: bytes) -> Json:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def _json(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
