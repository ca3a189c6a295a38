"""Files that outlive a crash: the old one or the new one, and a word about what cannot be written."""

import os
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.node import durable


def test_what_was_written_is_read_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert durable.read(path, 10) is None
    for content in (b"old", b"new"):
        durable.replace(path, content)
        assert durable.read(path, 10) == content
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_and_then_its_folder_are_made_durable_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def told_fsync(descriptor: int) -> None:
        steps.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def told_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", told_fsync)
    monkeypatch.setattr(Path, "replace", told_rename)
    durable.replace(tmp_path / "file", b"x")
    assert steps == [f"{tmp_path}/file.new", "rename", str(tmp_path)]


def test_more_than_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(ValueError, match="longer than 4 bytes"):
        durable.read(tmp_path / "file", 4)


@pytest.mark.parametrize(("number", "cause"), [(28, Cause.DISK_FULL), (30, Cause.DISK_READ_ONLY), (5, Cause.UNKNOWN)])
def test_a_disk_that_cannot_be_written_is_a_fault_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, cause: Cause
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    durable.replace(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Fault) as caught:
        durable.replace(tmp_path / "file", b"new")
    assert caught.value.cause is cause
    assert durable.read(tmp_path / "file", 10) == b"old"


def test_a_folder_is_made_for_the_agent_alone_or_that_is_a_fault(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(Fault):
        durable.make_folder(tmp_path / "file" / "b")


def test_a_file_that_makes_no_sense_is_renamed_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{")
    said = durable.set_aside(tmp_path / "file", ValueError("x"))
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith("file.corrupt-")
    assert aside.name in said
    assert "neither read nor renamed" in durable.set_aside(tmp_path / "absent", ValueError("x"))
