"""Headers of a tar, beside what the standard library reads of the same bytes, as far as Go agrees with it."""

import io
import tarfile
from decimal import Decimal

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from agent.runtime.layers.headers import Headers
from agent.runtime.layers.tape import NotTar, Tape

XATTR = "SCHILY.xattr."
KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
LATEST = (1 << 63) - 1

Told = tuple[object, ...]

parts = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30) | st.just("\udcff")
paths = st.lists(parts, min_size=1, max_size=12).map("/".join).filter(lambda path: len(path.strip("./ ")) > 0)
times = st.integers(-100, 1 << 36)
fractions = st.from_regex(r"[0-9]{1,10}(\.[0-9]{1,9})?", fullmatch=True)
notes = st.dictionaries(st.sampled_from(["user.a", "user.b", "security.capability"]), st.text("xyz", min_size=1))


@st.composite
def infos(draw: st.DrawFn, form: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(draw(paths))
    info.type = draw(st.sampled_from(KINDS))
    info.mode = draw(st.integers(0, 0o7777))
    largest = 0o7777777 if form == tarfile.USTAR_FORMAT else (1 << 31)
    info.uid, info.gid = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    info.mtime = draw(times.filter(lambda time: form != tarfile.USTAR_FORMAT or 0 <= time < 1 << 33))
    info.size = draw(st.integers(0, 2000)) if info.type == tarfile.REGTYPE else 0
    info.linkname = draw(paths) if info.type in {tarfile.SYMTYPE, tarfile.LNKTYPE} else ""
    if info.type == tarfile.CHRTYPE:
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 99999))
    if form == tarfile.PAX_FORMAT:
        info.pax_headers = {XATTR + name: value for name, value in draw(notes).items()}
        if draw(st.booleans()):
            info.pax_headers["mtime"] = draw(fractions)
    return info


def packed(made: list[tarfile.TarInfo], form: int) -> bytes:
    buffer = io.BytesIO()
    try:
        with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
            for info in made:
                tar.addfile(info, io.BytesIO(b"x" * info.size))
    except (ValueError, UnicodeEncodeError):  # too long for the form
        reject()
    return buffer.getvalue()


def expected(tar: bytes) -> list[Told]:
    """As the standard library reads it; times as containerd bounds them."""
    found: list[Told] = []
    with tarfile.open(fileobj=io.BytesIO(tar), errors="surrogateescape") as opened:
        for info in opened:
            said = Decimal(info.pax_headers.get("mtime", int(info.mtime)))
            time = int(said * 10**9)
            xattrs = {
                name.removeprefix(XATTR): value.encode(errors="surrogateescape")
                for name, value in info.pax_headers.items()
                if name.startswith(XATTR)
            }
            device = (info.devmajor, info.devminor) if info.ischr() else (0, 0)
            owner = (info.mode, info.uid, info.gid, info.size, time if 0 <= time <= LATEST else 0)
            link = info.linkname if info.issym() or info.islnk() else ""
            found.append((info.name, ord(info.type), *owner, link, device, xattrs or None))
    return found


def told(tar: bytes, piece: int) -> list[Told]:
    chunks = (tar[at : at + piece] for at in range(0, len(tar), piece))
    return [
        (
            each.name.rstrip("/"),
            each.kind,
            *(each.mode, each.uid, each.gid, each.size, each.mtime),
            each.link,
            each.device,
            each.xattrs,
        )
        for each in Headers(Tape(chunks))
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_random_tars_of_each_form_say_what_the_standard_library_reads(form: int, data: st.DataObject) -> None:
    tar = packed(data.draw(st.lists(infos(form), min_size=1, max_size=6)), form)
    piece = data.draw(st.sampled_from([100, 512, 700, 1 << 18]))
    assert told(tar, piece) == expected(tar)


def changed(info: tarfile.TarInfo, at: int, field: bytes) -> bytes:
    """The header with other bytes at a place, and the sum for them."""
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT)[:512])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


@pytest.mark.parametrize(
    ("at", "field", "which", "value"),
    [
        (100, b"   644 \0", 2, 0o644),  # old tars fill up with spaces
        (100, b"0100755\0", 2, 0o755),  # the kind is in the mode as well
        (108, b"\x80\0\0\0\0\1\0\0", 3, 65536),  # base-256, as GNU and star write it
        (108, b"\xff" * 8, 3, -1),
        (136, b"\xff" * 12, 6, 0),  # a second before 1970: what containerd sets then
        (136, b"77777777777\0", 6, 8589934591 * 10**9),
        (136, b"\0" * 12, 6, 0),
        (124, b"00000000000 ", 5, 0),
        (156, b"\0", 1, ord("0")),  # V7 says so of a file
        (345, b"front\0behind", 0, "front/name"),
        (345, b"\0behind", 0, "name"),
    ],
)
def test_what_a_field_may_hold(at: int, field: bytes, which: int, value: object) -> None:
    ((*found,),) = told(changed(tarfile.TarInfo("name"), at, field), 512)
    assert found[which] == value


@pytest.mark.parametrize(
    ("at", "field"),
    [(124, b"none of them"), (156, b"S"), (156, b"7"), (124, b"\xff" * 12)],
    ids=["a size that is no number", "GNU's old sparse file", "a contiguous file", "a negative size"],
)
def test_what_containerd_does_not_unpack_is_no_tar(at: int, field: bytes) -> None:
    with pytest.raises(NotTar):
        told(changed(tarfile.TarInfo("name"), at, field), 512)


def test_a_header_whose_sum_is_wrong_is_none() -> None:
    block = bytearray(tarfile.TarInfo("name").tobuf()[:512])
    block[0] ^= 1
    with pytest.raises(NotTar, match="no header"):
        told(bytes(block) + bytes(1024), 512)
