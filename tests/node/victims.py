"""Images that have everything which can be damaged, and the faults that befall them: one table for all the tests."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stage.containerd import Containerd
from stage.damage import blobs, files
from stage.entries import NET_BIND, Entry, device, fifo, file, folder, hard_link, opaque, symlink, whiteout
from stage.images import FOREIGN_PLATFORM, PAUSE, Built, Layer, exactly, image, index, layer

Depth = Literal["quick", "blobs", "full"]
DEPTHS: tuple[Depth, ...] = ("quick", "blobs", "full")
BOTTOM, MIDDLE, TOP = 0, 1, 2
_CAPABILITY = {"security.capability": NET_BIND.decode("utf-8", "surrogateescape")}


@dataclass(frozen=True, slots=True)
class FileFault:
    """One thing that befalls a path of the unpacked layer `at`; ``seen`` is the quickest depth that must see it.

    ``told`` is the path that must be named, `path` itself unless something beside it is what is wrong.
    """

    name: str
    at: int
    path: str
    befall: Callable[[Path], None]
    seen: Depth = "full"
    told: str = ""

    def strike(self, folder: Path) -> None:
        self.befall(folder / self.path)

    @property
    def named(self) -> str:
        return self.told or self.path


FILE_FAULTS = (
    FileFault("truncated", BOTTOM, "bin/app", files.truncate, "quick"),
    FileFault("emptied", BOTTOM, "bin/app", files.empty, "quick"),
    FileFault("zeroed", BOTTOM, "bin/app", files.zero),
    FileFault("changed-quietly", BOTTOM, "bin/app", files.change_quietly),
    FileFault("small-file-changed-quietly", TOP, "share/notes", files.change_quietly),
    FileFault("deleted", BOTTOM, "bin/app", files.delete, "quick"),
    FileFault("mode", BOTTOM, "etc/conf", files.loosen),
    FileFault("setuid-mode", BOTTOM, "bin/suid", files.loosen),
    FileFault("folder-mode", BOTTOM, "etc", files.loosen),
    FileFault("owner", BOTTOM, "home/one", files.give_away),
    FileFault("link-elsewhere", BOTTOM, "bin/link", files.point_elsewhere),
    FileFault("xattr-changed", BOTTOM, "bin/net", files.change_xattrs),
    FileFault("xattr-lost", BOTTOM, "bin/net", files.lose_xattrs),
    FileFault("hard-link-broken", BOTTOM, "bin/twin", files.break_link, "quick"),
    FileFault("extra-file", BOTTOM, "bin/app", files.add_beside, "quick", "bin/planted"),
    FileFault("whiteout-lost", MIDDLE, "etc/old", files.unhide, "quick"),
    FileFault("opaque-lost", MIDDLE, "data", files.lose_opaque),
    FileFault("implicit-file-deleted", MIDDLE, "implicit/deep/file", files.delete, "quick"),
    FileFault("device-deleted", MIDDLE, "dev/zero", files.delete, "quick"),
    FileFault("folder-emptied", BOTTOM, "data", files.clear, "quick", "data/keep"),
    FileFault("snapshot-emptied", TOP, ".", files.clear, "quick", "share"),
)


def victim(mark: str | None = None, *, bottom: Layer | None = None) -> Built:
    """An image that runs, of three layers, unlike any other unless the same `mark` is given."""
    mark = mark or secrets.token_hex(8)
    layers = bottom or exactly(*_bottom(mark)), exactly(*_middle(mark)), exactly(*_top(mark))
    return image(*layers, config={"config": {"Entrypoint": ["/pause"]}})


def sharing(built: Built) -> Built:
    """Another image on the lowest layer of `built`, which alone they share: as a blob and as a snapshot."""
    return victim(bottom=built.layers[BOTTOM])


def _bottom(mark: str) -> list[Entry]:
    noise = secrets.token_bytes(100_000)
    return [
        file("pause", PAUSE, 0o755),
        *(folder(name) for name in ("bin", "etc", "data", "home")),
        file("bin/app", noise + mark.encode(), 0o755, mtime=1_000_000_000.25),
        file("bin/suid", b"\x7fELF suid", 0o4755),
        file("bin/net", b"\x7fELF net", 0o755, xattrs=_CAPABILITY | {"user.origin": mark}),
        file("bin/first", b"linked " * 1000, 0o755),
        hard_link("bin/twin", "bin/first"),
        symlink("bin/link", "app"),
        file("etc/conf", mark.encode() * 100, 0o640, owner=(0, 42)),
        file("etc/old", b"to be hidden"),
        file("data/keep", b"beneath an opaque folder"),
        file("data/more", b"x" * 9000),
        file("home/one", mark.encode(), owner=(1000, 1000)),
    ]


def _middle(mark: str) -> list[Entry]:
    return [
        folder("etc"),
        whiteout("etc/old"),
        folder("data"),
        opaque("data"),
        file("data/new", mark.encode()),
        file("implicit/deep/file", mark.encode() * 2000),
        folder("dev"),
        device("dev/zero", 1, 5),
        fifo("dev/pipe"),
    ]


def _top(mark: str) -> list[Entry]:
    return [folder("share"), file("share/notes", mark.encode()), file("share/empty", b"")]


DOCUMENTS = ("index", "manifest", "config")
_CAUSES = {"flipped": "blob_corrupt", "altered": "blob_corrupt", "deleted": "blob_missing"}


@dataclass(frozen=True, slots=True)
class BlobFault:
    """What befalls the blob of a `part` of an image that is found in an index: how, and what it is called."""

    part: str
    how: str
    befall: Callable[[Path], None]

    @property
    def name(self) -> str:
        return f"{self.part}-{self.how}"

    @property
    def cause(self) -> str:
        return _CAUSES.get(self.how, "blob_truncated")

    @property
    def seen(self) -> Depth:
        """Sizes tell of all but other bytes."""
        return "blobs" if self.cause == "blob_corrupt" else "quick"

    def strike(self, containerd: Containerd, index: Built) -> None:
        self.befall(containerd.blob(part(index, self.part)))


BLOB_FAULTS = (
    *(BlobFault(each, how, befall) for each in (*DOCUMENTS, "layer") for how, befall in blobs.FAULTS.items()),
    *(BlobFault(each, "altered", blobs.alter_json) for each in DOCUMENTS),
)


def with_other_platform(built: Built) -> Built:
    """An index of `built` and of an image that this node never fetches."""
    return index(built, image(layer({"bin/app": b"other"}), platform=FOREIGN_PLATFORM))


def part(both: Built, which: str) -> str:
    """The digest of a part of an index whose first child is this node's: what is to be damaged."""
    own = both.children[0]
    parts = {"index": both.digest, "manifest": own.digest, "config": own.id, "layer": own.layers[BOTTOM].digest}
    return parts[which]
