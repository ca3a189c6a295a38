"""Every way in which an unpacked layer can be wrong: told with its path, mended in place, and then bit by bit as
before."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.runtime.blobs import Budget
from agent.runtime.layers.apart import Layers
from agent.runtime.layers.records import Layer, What
from agent.runtime.layers.replace import QUARANTINE, forget_replaced
from stage.containerd import Containerd
from stage.registries import Registry
from tests.contract.test_layers import LOWEST, ODD, told
from tests.contract.unpacked import Print, fingerprint, tar_of, unpack, zipped

Harm = Callable[[Path], object]
UNLISTED = (b".", b"etc", b"etc/dir", b"lib")  # nobody can know the times of directories that no tar lists
UNTIMED = (*UNLISTED, b"became", b"etc/gone")  # a file in place of a directory that was; a whiteout


@pytest.fixture(scope="module")
def layer(containerd: Containerd, registry: Registry) -> Layer:
    return unpack(containerd, registry, [zipped(tar_of(LOWEST)), zipped(tar_of(ODD))])[1]


@pytest.fixture(scope="module")
def before(layer: Layer) -> Print:
    return timeless(fingerprint(layer.folder))


def timeless(found: Print) -> Print:
    return {path: (*told[:4], told[5:]) if path in UNTIMED else told for path, told in found.items()}


def rewritten(name: str, at: int, content: bytes) -> Harm:
    """Other bytes, with the same size and time."""

    def harm(folder: Path) -> None:
        path = folder / name
        status = path.stat()
        with path.open("r+b") as file:
            file.seek(at)
            file.write(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return harm


def replaced(name: str, make: Harm) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        make(path)

    return harm


def broken_off(path: Path) -> None:
    """The same file, as an inode of its own."""
    other = path.with_name("su")
    shutil.copy2(other, path)
    os.chown(path, 3, 0)
    path.chmod(stat.S_IMODE(other.stat().st_mode))


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


HARMS: list[tuple[str, Harm, str, What]] = [
    ("one byte", rewritten("bin/fraction", 0, b"F"), "bin/fraction", What.CONTENT),
    ("one byte of a big file", rewritten("big", 2_500_000, b"?!"), "big", What.CONTENT),
    ("a byte in a hole", rewritten("holes", 700_000, b"x"), "holes", What.CONTENT),
    ("cut short", lambda f: os.truncate(f / "big", 100), "big", What.SIZE),
    ("emptied file", lambda f: os.truncate(f / "bin/su", 0), "bin/su", What.SIZE),
    ("deleted", lambda f: (f / "big").unlink(), "big", What.MISSING),
    ("deleted link", lambda f: (f / "bin/soft").unlink(), "bin/soft", What.MISSING),
    ("deleted fifo", lambda f: (f / "bin/fifo").unlink(), "bin/fifo", What.MISSING),
    ("deleted name of two", lambda f: (f / "bin/hard").unlink(), "bin/hard", What.MISSING),
    ("directory gone", lambda f: shutil.rmtree(f / "was"), "was", What.MISSING),
    ("directory of only names gone", lambda f: shutil.rmtree(f / "lib"), "lib/real", What.MISSING),
    ("directory emptied", lambda f: emptied(f / "was"), "was/kept", What.MISSING),
    ("all gone", lambda f: [replaced(path.name, lambda _: None)(f) for path in list(f.iterdir())], "big", What.MISSING),
    ("extra file", lambda f: (f / "bin/extra").write_text("x"), "bin/extra", What.EXTRA),
    ("extra directory", lambda f: (f / "etc/more/and/more").mkdir(parents=True), "etc/more", What.EXTRA),
    ("extra whiteout", lambda f: os.mknod(f / "usr", stat.S_IFCHR, 0), "usr", What.EXTRA),
    ("mode", lambda f: (f / "bin/su").chmod(0o4755), "bin/su", What.MODE),
    ("mode of a directory", lambda f: (f / "var").chmod(0o755), "var", What.MODE),
    ("owner", lambda f: os.chown(f / "twice", 1, 2), "twice", What.OWNER),
    ("owner of a link", lambda f: os.lchown(f / "turned", 1, 2), "turned", What.OWNER),
    ("time", lambda f: os.utime(f / "twice", (1, 1)), "twice", What.MTIME),
    ("time of a directory", lambda f: os.utime(f / "bin", (1, 1)), "bin", What.MTIME),
    ("other target", replaced("turned", lambda p: p.symlink_to("elsewhere")), "turned", What.LINK),
    ("hard link broken", replaced("bin/hard", broken_off), "bin/hard", What.HARD_LINK),
    ("capability lost", lambda f: os.removexattr(f / "bin/noted", "user.note"), "bin/noted", What.XATTR),
    ("attribute changed", lambda f: os.setxattr(f / "bin/noted", "user.note", b"no"), "bin/noted", What.XATTR),
    ("attribute added", lambda f: os.setxattr(f / "twice", "user.new", b"n"), "twice", What.XATTR),
    ("attribute of a directory", lambda f: os.removexattr(f / "bin/marked", "user.dir"), "bin/marked", What.XATTR),
    ("whiteout lost", lambda f: (f / "etc/gone").unlink(), "etc/gone", What.WHITEOUT),
    ("whiteout a file", replaced("etc/gone", lambda p: p.write_text("gone")), "etc/gone", What.WHITEOUT),
    ("opaque lost", lambda f: os.removexattr(f / "var", "trusted.overlay.opaque"), "var", What.OPAQUE),
    ("opaque added", lambda f: os.setxattr(f / "bin", "trusted.overlay.opaque", b"y"), "bin", What.OPAQUE),
    ("device", replaced("bin/device", lambda p: os.mknod(p, stat.S_IFCHR | 0o666, os.makedev(1, 5))), "bin/device",
     What.DEVICE),
    ("file a directory", replaced("twice", lambda p: (p / "deep").mkdir(parents=True)), "twice", What.TYPE),
    ("directory a file", replaced("was", lambda p: p.write_text("was")), "was", What.TYPE),
    ("directory a link out", replaced("bin/marked", lambda p: p.symlink_to("/tmp")), "bin/marked", What.TYPE),
    ("file a link to itself", replaced("big", lambda p: p.symlink_to("twice")), "big", What.TYPE),
    ("file a fifo", replaced("big", os.mkfifo), "big", What.TYPE),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "path", "what"), [each[1:] for each in HARMS], ids=[each[0] for each in HARMS])
async def test_harm_is_told_and_mended_bit_by_bit(
    layer: Layer, before: Print, harm: Harm, path: str, what: What
) -> None:
    harm(layer.folder)
    found = await told(layer)
    assert (path, what) in [each[:2] for each in found]
    assert what is What.MISSING or {each[0].split("/")[0] for each in found} == {path.split("/", maxsplit=1)[0]}
    async with Layers(1, Budget(None)) as workers:
        assert await workers.replace_files(layer) >= 1
        assert await told(layer) == []
        assert timeless(fingerprint(layer.folder)) == before
        assert await workers.replace_files(layer) == 0
    forget_replaced(layer.folder)
    assert not (layer.folder.parent / QUARANTINE).exists()
