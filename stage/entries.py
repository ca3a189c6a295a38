"""The entries of a layer's tar, one function each, for layers that say exactly what is in them and in which order.

Times are of the year 2001 unless told otherwise: whatever else is younger on a node was made by unpacking.
"""

import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType

LONG_AGO = 1_000_000_000.0
NOTHING: Mapping[str, str] = MappingProxyType({})
# security.capability of cap_net_bind_service=ep, as setcap writes it (version 2, little endian)
NET_BIND = bytes.fromhex("0100000200040000000000000000000000000000")


@dataclass(frozen=True, slots=True)
class Entry:
    """One header of a tar, and the bytes that follow it."""

    info: tarfile.TarInfo
    content: bytes = b""


def file(
    name: str,
    content: bytes,
    mode: int = 0o644,
    *,
    owner: tuple[int, int] = (0, 0),
    mtime: float = LONG_AGO,
    xattrs: Mapping[str, str] = NOTHING,
) -> Entry:
    """A file; ``xattrs`` become PAX records of their own (``SCHILY.xattr.user.origin``)."""
    info = _info(name, tarfile.REGTYPE, mode, owner, mtime)
    info.size = len(content)
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in xattrs.items()}
    return Entry(info, content)


def folder(
    name: str, mode: int = 0o755, *, owner: tuple[int, int] = (0, 0), xattrs: Mapping[str, str] = NOTHING
) -> Entry:
    info = _info(name, tarfile.DIRTYPE, mode, owner)
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in xattrs.items()}
    return Entry(info)


def symlink(name: str, target: str) -> Entry:
    return _link(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> Entry:
    """Another name of a file that came before in the same layer."""
    return _link(name, tarfile.LNKTYPE, target)


def whiteout(name: str) -> Entry:
    """What hides `name` of the layers below."""
    above, slash, last = name.rpartition("/")
    return file(f"{above}{slash}.wh.{last}", b"", 0o000)


def opaque(name: str) -> Entry:
    """What hides all that the layers below have in the folder `name`."""
    return file(f"{name}/.wh..wh..opq", b"", 0o000)


def device(name: str, major: int, minor: int, mode: int = 0o666) -> Entry:
    info = _info(name, tarfile.CHRTYPE, mode)
    info.devmajor, info.devminor = major, minor
    return Entry(info)


def fifo(name: str, mode: int = 0o600) -> Entry:
    return Entry(_info(name, tarfile.FIFOTYPE, mode))


def archive(entries: Iterable[Entry]) -> bytes:
    """A tar of exactly these entries: no folder above them is added."""
    buffer = BytesIO()
    # Bytes of an xattr that are no text pass as surrogates, as tarfile reads them.
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for entry in entries:
            tar.addfile(entry.info, BytesIO(entry.content))
    return buffer.getvalue()


def _info(
    name: str, kind: bytes, mode: int, owner: tuple[int, int] = (0, 0), mtime: float = LONG_AGO
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, mtime
    info.uid, info.gid = owner
    return info


def _link(name: str, kind: bytes, target: str) -> Entry:
    info = _info(name, kind, 0o777)
    info.linkname = target
    return Entry(info)
