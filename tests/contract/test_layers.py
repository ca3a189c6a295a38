"""Layers beside what a real containerd made of them: silent where all is as it should be, exact where it is not."""

import asyncio
import gzip
import os
import tarfile
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from agent.runtime.blobs import Budget
from agent.runtime.layers.apart import Layers
from agent.runtime.layers.records import Layer, What
from stage.containerd import Containerd, PullError
from stage.registries import Registry
from tests.contract.unpacked import Entry, entry, folder, link, tar_of, unpack, zipped

XATTR = "SCHILY.xattr."
CAPABILITY = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

LOWEST = [
    folder("usr"),
    folder("usr/lib", mode=0o2775, uid=7, gid=8),
    entry("usr/lib/a", b"a" * 3000),
    link("lib", "usr/lib"),
    entry("lib/through", b"through a link"),
    link("lib/up", "../../..//etc"),
    entry("lib/up/cleaned", b"made below etc"),
    entry("etc/gone", b"gone"),
    entry("etc/dir/inside", b"inside"),
    entry("var/cache/one", b"1"),
    entry("hidden", b"whited out in its own layer"),
    entry(".wh.hidden"),
    entry("./opaque//implied/x", b"x"),
    entry("opaque/.wh..wh..opq"),
]
ODD = [
    folder("./"),
    folder("bin/", mode=0o1777),
    entry("bin/su", b"#!su", mode=0o4755),
    entry("bin/cap", b"capable", mode=0o755, pax_headers={XATTR + "security.capability": CAPABILITY}),
    entry("bin/noted", b"noted", pax_headers={XATTR + "user.note": "yes", XATTR + "trusted.no": "no"}),
    folder("bin/marked", pax_headers={XATTR + "user.dir": "d"}),
    link("bin/soft", "cap", pax_headers={XATTR + "user.soft": "refused"}),
    entry("bin/fraction", b"f", pax_headers={"mtime": "1700000000.123456789", "uid": "70000", "gid": "3000000"}),
    entry("bin/early", b"e", pax_headers={"mtime": "-5.5"}),
    entry("bin/late", b"l", pax_headers={"mtime": "4000000000"}),
    entry("bin/" + "long" * 60, b"long"),
    entry("bin/\udcff\udcfe", b"no text"),
    link("bin/hard", "bin/su", tarfile.LNKTYPE, mode=0o755, uid=3, mtime=5),
    link("bin/hardcap", "./bin/cap", tarfile.LNKTYPE, mode=0o700),
    link("bin/hardsoft", "bin/soft", tarfile.LNKTYPE, mtime=9),
    entry("bin/fifo", kind=tarfile.FIFOTYPE, mode=0o600),
    entry("bin/device", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666, uid=5),
    entry("bin/block", kind=tarfile.BLKTYPE, devmajor=7, devminor=300),
    entry("bin/empty"),
    entry("twice", b"first"),
    entry("twice", b"second, and longer"),
    folder("became", mode=0o700, mtime=1),
    entry("became/lost", b"dropped"),
    entry("became", b"a file"),
    entry("was", b"file"),
    folder("was"),
    entry("was/kept", b"kept"),
    link("turned", "bin"),
    entry("turned/here", b"in bin"),
    folder("bin", mode=0o755, uid=1, mtime=77),
    entry("etc/.wh.gone", uid=12, gid=13),
    entry("etc/dir/new", b"new"),
    entry("var/.wh..wh..opq"),
    folder("var", mode=0o711),
    entry("lib/real", b"lib is a directory here"),
    entry("../../escape", b"ends at the root"),
    entry("/absolute", b"starts at the root"),
    entry("big", os.urandom(3_000_000)),
    entry("sparse", b"4\n0\n512\n1048576\n3\n2000000\n0\n2000000\n0\n".ljust(512, b"\0") + b"s" * 512 + b"end",
          pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes",
                       "GNU.sparse.realsize": "2000000"}),
    entry("oldsparse", b"midend", pax_headers={"GNU.sparse.map": "5,3,100,3", "GNU.sparse.numblocks": "2",
"GNU.sparse.size": "200"}), ]  # fmt: skip


def packed(entries: list[Entry]) -> list[bytes]:
    """The same tar in all the ways a layer may be packed; each is followed by what must not matter."""
    tar = tar_of(entries)
    members = b"".join(gzip.compress(tar[at : at + 5000], 1, mtime=0) for at in range(0, len(tar), 5000))
    frames = b"".join(zstandard.compress(tar[at : at + 50000]) for at in range(0, len(tar), 50000))
    return [tar, gzip.compress(tar), members, frames]


@pytest.fixture(scope="module")
def layers(containerd: Containerd, registry: Registry) -> list[Layer]:
    """The lowest layer, then `ODD` in several forms, and layers of nothing."""
    blobs = [zipped(tar_of(LOWEST))]
    plain = [each for each in ODD if not each[0].pax_headers and each[0].name not in {"bin/hardcap", "bin/hardsoft"}]
    blobs += [zipped(tar_of(plain, tarfile.GNU_FORMAT))]
    blobs += [zipped(tar, blob) for tar, blob in zip([tar_of(ODD)] * 4, packed(ODD), strict=True)]
    blobs += [zipped(bytes(1024)), zipped(bytes(10240))]
    return unpack(containerd, registry, blobs)


async def told(layer: Layer) -> list[tuple[str, What, str, str]]:
    async with Layers(1, Budget(None)) as workers:
        comparison = await workers.compare(layer)
        assert not comparison.incomparable
        usage = await workers.usage(layer.folder)
        assert comparison.usage == usage
        assert comparison.count >= len(comparison.differences)
        return [(each.path, each.what, each.expected, each.found) for each in comparison.differences]


async def test_what_containerd_made_of_a_layer_is_right(layers: list[Layer]) -> None:
    for layer in layers:
        assert await told(layer) == []


NAMES = st.sampled_from(["a", "b", "d", "l", "\udcff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENTS = st.binary(max_size=600) | st.just(b"z" * 5000)
OWNERS = st.fixed_dictionaries(
    {
        "uid": st.integers(0, 9),
        "gid": st.integers(0, 9),
        "mode": st.integers(0, 0o7777),
        "mtime": st.integers(-5, 1 << 34),
    }
)
NOTES = st.dictionaries(st.sampled_from([XATTR + "user.a", XATTR + "user.b"]), st.text("xy", min_size=1), max_size=2)


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:  # noqa: C901, PLR0912 - one branch for each kind
    """Entries that containerd can unpack over one another: nothing below a file, links only to files of the layer."""
    made: dict[str, str] = {}
    found: list[Entry] = []
    for path in draw(st.lists(PATHS, max_size=12)):
        parents = [path[:at] for at, sign in enumerate(path) if sign == "/"]
        files = [name for name, kind in made.items() if kind == "file"]
        if any(made.get(parent, "folder") != "folder" for parent in parents):
            continue
        kind = draw(st.sampled_from(["file", "file", "folder", "symlink", "hard", "whiteout", "opaque", "fifo"]))
        if kind == "opaque" and made.get(path, "folder") != "folder":
            continue
        if (kind == "hard" and (not files or path in files)) or (kind == "whiteout" and path in made):
            continue
        if made.get(path) == "folder" and kind not in {"folder", "opaque"}:
            made = {name: each for name, each in made.items() if not name.startswith(path + "/")}
            files = [name for name in files if name in made]
        if kind == "hard" and not files:
            continue
        fields: Any = draw(OWNERS)
        front, _, last = path.rpartition("/")
        match kind:
            case "file":
                found.append(entry(path, draw(CONTENTS), pax_headers=draw(NOTES), **fields))
            case "folder":
                found.append(folder(path, pax_headers=draw(NOTES), **fields))
            case "symlink":
                found.append(link(path, draw(PATHS), **fields))
            case "hard":
                found.append(link(path, draw(st.sampled_from(files)), tarfile.LNKTYPE, **fields))
            case "whiteout":
                found.append(entry(f"{front}/.wh.{last}", **fields))
            case "opaque":
                found.append(entry(f"{path}/.wh..wh..opq", **fields))
                kind = "folder"
            case "fifo":
                found.append(entry(path, kind=tarfile.FIFOTYPE, **fields))
        made |= dict.fromkeys(parents, "folder") | {path: "file" if kind == "hard" else kind}
    return found


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(tars=st.lists(entries(), min_size=3, max_size=5))
def test_random_layers_are_what_containerd_made_of_them(
    containerd: Containerd, registry: Registry, tars: list[list[Entry]]
) -> None:
    blobs = [zipped(tar_of([*each, entry(f"unlike-{number}")])) for number, each in enumerate([LOWEST, *tars])]
    try:
        layers = unpack(containerd, registry, blobs)
    except PullError:  # not all that can be written in a tar can be unpacked
        reject()
    for layer in layers:
        assert asyncio.run(told(layer)) == []
