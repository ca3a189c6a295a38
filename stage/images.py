"""Container images out of nothing: layers, manifests and indexes, the same bytes every time."""

import gzip
import hashlib
import io
import json
import platform as machine
import struct
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Literal

MIB = 1 << 20
Compression = Literal["gzip", "none"]
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
    (True, "gzip"): f"{DOCKER}.image.rootfs.diff.tar.gzip",
    (True, "none"): f"{DOCKER}.image.rootfs.diff.tar",
}


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
    """A layer's blob as it is stored in a registry, and the digest of the tar inside (``diff_id``)."""

    blob: bytes
    digest: str
    diff_id: str
    compression: Compression


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
    tar = _tar(files, extra)
    blob = gzip.compress(tar, compresslevel=1, mtime=0) if compression == "gzip" else tar
    return Layer(blob, digest(blob), digest(tar), compression)


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
            "layers": [_descriptor(_LAYER[docker, each.compression], each.blob) for each in layers],
        }
    )
    return Built(manifest, digest(manifest), _MANIFEST[docker], platform, body, layers)


def pause(*layers: Layer) -> Built:
    """An image that runs, and rests; with nothing more, one for pods' sandboxes."""
    return image(layer({"pause": PAUSE}), *layers, config={"config": {"Entrypoint": ["/pause"]}})


def index(*built: Built, docker: bool = False) -> Built:
    """An image for several platforms."""
    entries = [_descriptor(each.media_type, each.manifest) | {"platform": _platform(each.platform)} for each in built]
    body = _json({"schemaVersion": 2, "mediaType": _INDEX[docker], "manifests": entries})
    return Built(body, digest(body), _INDEX[docker], children=built)


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
