"""Paths below a prefix: real folders, real links, real attacks."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.node.roots import HostRoot


@pytest.fixture
def host(tmp_path: Path) -> HostRoot:
    (tmp_path / "secret").write_text("outside")
    prefix = tmp_path / "host"
    (prefix / "etc/certs").mkdir(parents=True)
    (prefix / "etc/file").write_text("inside")
    return HostRoot(prefix)


def _errno(host: HostRoot, path: str, limit: int = 100) -> int | None:
    with pytest.raises(OSError, match=r"Errno") as caught:
        host.read_bytes(path, limit)
    return caught.value.errno


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_an_absolute_link_starts_again_at_the_prefix(host: HostRoot) -> None:
    (host.prefix / "link").symlink_to("/etc/file")
    assert host.read_text("/link") == "inside"
    assert host.real("/link") == host.prefix / "etc/file"


def test_a_chain_of_relative_and_absolute_links_is_followed(host: HostRoot) -> None:
    (host.prefix / "etc/certs/a").symlink_to("../b")
    (host.prefix / "etc/b").symlink_to("/c/file")
    (host.prefix / "c").symlink_to("etc")
    assert host.read_text("/etc/certs/a") == "inside"


@pytest.mark.parametrize("path", ["../secret", "/../../secret", "/etc/../../secret", "up/secret", "out/secret", "abs"])
def test_nothing_above_the_prefix_is_reached(host: HostRoot, path: str) -> None:
    (host.prefix / "up").symlink_to("../..")
    (host.prefix / "out").symlink_to("../../../../../../..")
    (host.prefix / "abs").symlink_to(host.prefix.parent / "secret")
    assert not host.exists(path)
    with pytest.raises(FileNotFoundError):
        host.read_bytes(path)


def test_a_ring_of_links_ends_in_an_error(host: HostRoot) -> None:
    (host.prefix / "a").symlink_to("b")
    (host.prefix / "b").symlink_to("a")
    assert _errno(host, "/a") == errno.ELOOP


def test_a_file_of_just_the_limit_is_read_and_one_byte_more_refused(host: HostRoot) -> None:
    assert host.read_bytes("/etc/file", limit=6) == b"inside"
    assert _errno(host, "/etc/file", limit=5) == errno.EFBIG


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_without_waiting(host: HostRoot, make: object) -> None:
    assert callable(make)
    make(host.prefix / "odd")
    assert _errno(host, "/odd") == errno.EINVAL


def test_a_device_is_not_read() -> None:
    assert _errno(HostRoot(), "/dev/zero") == errno.EINVAL


def test_names_are_sorted_and_bounded(host: HostRoot) -> None:
    for name in "cab":
        (host.prefix / "etc/certs" / name).touch()
    assert host.names("/etc/certs") == ("a", "b", "c")
    assert len(host.names("/etc/certs", limit=2)) == 2


def test_only_a_link_has_a_target(host: HostRoot) -> None:
    (host.prefix / "link").symlink_to("/etc/file")
    assert host.link("/link") == "/etc/file"
    assert host.link("/etc/file") is None


def test_bytes_that_are_not_utf_8_are_replaced(host: HostRoot) -> None:
    (host.prefix / "etc/file").write_bytes(b"a\xffb")
    assert host.read_text("/etc/file") == "a\N{REPLACEMENT CHARACTER}b"


def test_the_root_of_a_process_is_a_prefix_like_another() -> None:
    root = HostRoot(Path(f"/proc/{os.getpid()}/root"))
    assert root.read_text("/etc/hosts") == Path("/etc/hosts").read_text()
    assert root.real("/etc") == Path(f"/proc/{os.getpid()}/root/etc")


def test_no_descriptor_is_left_open(host: HostRoot) -> None:
    before = _open_descriptors()
    (host.prefix / "loop").symlink_to("loop")
    for path in ("/etc/file", "/etc/none", "/loop", "/etc", "/etc/../etc/certs"):
        host.exists(path)
    host.names("/etc")
    host.read_bytes("/etc/file")
    assert _open_descriptors() == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    parts=st.lists(
        st.sampled_from(["..", ".", "", "etc", "up", "abs", "etc/up", "certs", "secret", "file"]), max_size=12
    )
)
def test_no_path_whatever_leads_out(host: HostRoot, parts: list[str]) -> None:
    for link, target in (("up", ".."), ("abs", "/etc/.."), ("etc/up", "../../..")):
        if not (host.prefix / link).is_symlink():
            (host.prefix / link).symlink_to(target)
    try:
        real = host.real("/".join(parts))
    except OSError:
        return
    assert real == host.prefix or host.prefix in real.parents
    assert real.resolve() == real
