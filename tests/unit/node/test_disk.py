"""Room on real file systems, and on made-up ones where a real one would have to be full."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.node.disk import Disk, check, human, look
from agent.node.roots import HostRoot

GIB = 1024**3
DISK = Disk("/var/lib/containerd", "/var", total=10 * GIB, free=2 * GIB, inodes_free=1000, read_only=False)


def test_a_real_file_system_is_told_as_statvfs_tells_it(tmp_path: Path) -> None:
    disk = look(tmp_path)
    room = os.statvfs(tmp_path)
    assert disk.total == room.f_blocks * room.f_frsize
    assert 0 < disk.free <= disk.total
    assert not disk.read_only
    assert Path(disk.mount).stat().st_dev == tmp_path.stat().st_dev


def test_the_mount_point_is_named_as_the_host_names_it(tmp_path: Path) -> None:
    (tmp_path / "var/lib").mkdir(parents=True)
    assert look("/var/lib", HostRoot(tmp_path)).mount == "/"
    assert look("/dev/shm").mount == "/dev/shm"


def test_links_are_followed_below_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "var").symlink_to("/data")
    assert look("/var", HostRoot(tmp_path)).path == "/var"


def test_a_path_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look("/none", HostRoot(tmp_path))


def test_a_read_only_disk_is_told_from_the_pods_own_read_only_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    read_only = next(
        (
            Path(fields[4])
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if "ro" in (fields := line.split())[5].split(",") and Path(fields[4]).is_dir()
        ),
        None,
    )
    if read_only is None:
        pytest.skip("no read-only mount at hand")
    assert look(read_only).read_only
    about = read_only.stat().st_dev
    device = f"{os.major(about)}:{os.minor(about)}"
    line = f"1 0 {device} / {read_only} ro,relatime - ext4 /dev/x %s\n"
    mounts.write_text(line % "rw")
    assert not look("/", HostRoot(read_only), mounts).read_only
    mounts.write_text(line % "ro,errors=remount-ro")
    assert look("/", HostRoot(read_only), mounts).read_only


@pytest.mark.parametrize(
    ("disk", "need", "cause"),
    [
        (replace(DISK, read_only=True), 0, Cause.DISK_READ_ONLY),
        (DISK, 11 * GIB, Cause.DISK_TOO_SMALL),
        (DISK, 3 * GIB, Cause.DISK_FULL),
        (replace(DISK, free=0), 0, Cause.DISK_FULL),
        (replace(DISK, inodes_free=0), 0, Cause.DISK_FULL),
    ],
)
def test_each_lack_has_its_cause(disk: Disk, need: int, cause: Cause) -> None:
    with pytest.raises(Fault) as caught:
        check(disk, need)
    assert caught.value.cause is cause
    assert "/var" in caught.value.detail
    assert caught.value.evidence["free"] == str(disk.free)


def test_sizes_are_said_in_units_of_people() -> None:
    with pytest.raises(Fault, match=r"2\.0 GiB of 10\.0 GiB free, 3\.0 GiB are needed"):
        check(DISK, 3 * GIB)


@pytest.mark.parametrize("disk", [DISK, replace(DISK, inodes_free=None)])
def test_enough_room_is_no_fault(disk: Disk) -> None:
    check(disk)
    check(disk, 2 * GIB)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (GIB, "1.0 GiB"),
        (5 * 1024 * GIB, "5.0 TiB"),
    ],
)
def test_sizes_have_binary_units(size: int, text: str) -> None:
    assert human(size) == text
