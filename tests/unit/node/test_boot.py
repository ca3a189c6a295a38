"""The mark of a boot: when a verification of the whole cache is owed, and until when."""

import json
import os
from pathlib import Path

import pytest

from agent.node.boot import Boot, Mark, begun

MARK = {"version": 1, "boot_id": "one", "clean_stop": False, "owed": False}


class Node:
    """The disk of one node, and what was said about it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state" / "boot.json"
        self.said: list[str] = []

    def start(self, boot_id: str) -> Boot:
        boot = Boot(self.path, boot_id, self.said.append)
        boot.begin()
        return boot

    def write(self, content: bytes) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_bytes(content)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize(
    ("old", "boot_id", "owed"),
    [
        (None, "one", False),
        (Mark("one"), "one", False),
        (Mark("one", clean_stop=True), "one", False),
        (Mark("one"), "two", True),
        (Mark("one", clean_stop=True), "two", False),
        (Mark("one", owed=True), "one", True),
        (Mark("one", clean_stop=True, owed=True), "one", True),
        (Mark("one", clean_stop=True, owed=True), "two", True),
        (Mark("one"), "", False),
        (Mark("one", owed=True), "", True),
        (Mark(""), "two", True),
    ],
)
def test_it_is_owed_after_another_boot_that_did_not_end_cleanly_and_until_it_is_paid(
    old: Mark | None, boot_id: str, *, owed: bool
) -> None:
    mark = begun(old, boot_id)
    assert (mark.boot_id, mark.clean_stop, mark.owed) == (boot_id, False, owed)


def test_a_node_that_loses_power_owes_until_a_verification_went_through(node: Node) -> None:
    assert not node.start("one").owed
    assert node.start("two").owed  # the power went
    again = node.start("two")  # killed in the middle of it
    assert again.owed
    again.end()  # asked to stop in the middle of it
    third = node.start("two")
    assert third.owed
    third.paid()
    assert third.mark == Mark("two", unclean_boots=1)
    assert not node.start("two").owed
    assert node.said == []


def test_a_clean_stop_before_the_reboot_owes_nothing_and_a_kill_of_the_agent_alone_neither(node: Node) -> None:
    node.start("one").end()
    assert not node.start("two").owed
    assert not node.start("two").owed


def test_unclean_boots_are_counted_over_restarts_each_once(node: Node) -> None:
    counts = [node.start(boot_id).mark.unclean_boots for boot_id in ("one", "two", "two", "three", "three")]
    assert counts == [0, 1, 1, 2, 2]


def test_the_mark_is_of_the_promised_form(node: Node) -> None:
    node.start("one").end()
    assert json.loads(node.path.read_text()) == {**MARK, "clean_stop": True, "unclean_boots": 0}


def test_a_mark_without_the_count_is_understood(node: Node) -> None:
    node.write(json.dumps(MARK).encode())
    assert node.start("two").mark == Mark("two", owed=True, unclean_boots=1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 80,
        b"{",
        b"null",
        b"[]",
        b"7",
        b"[" * 100_000,
        json.dumps(MARK | {"version": 2}).encode(),
        json.dumps(MARK | {"owed": "no"}).encode(),
        json.dumps(MARK | {"clean_stop": 0}).encode(),
        json.dumps(MARK | {"unclean_boots": "x"}).encode(),
        b'{"version": 1}',
        b" " * 100_000,
    ],
)
def test_a_mark_that_cannot_be_understood_counts_as_unclean_and_is_set_aside(node: Node, content: bytes) -> None:
    node.write(content)
    assert node.start("two").owed
    (said,) = node.said
    assert "taken for an unclean shutdown" in said
    (aside,) = node.path.parent.glob("boot.json.corrupt-*")
    assert aside.read_bytes() == content
    assert node.start("two").owed


def test_a_disk_that_cannot_be_written_keeps_nobody_from_working(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(30, os.strerror(30))

    node.start("one")
    monkeypatch.setattr(os, "fsync", fail)
    boot = node.start("two")
    assert boot.owed
    boot.paid()
    assert boot.mark == Mark("two", unclean_boots=1)
    boot.end()
    assert all("Read-only file system" in said for said in node.said)
    assert len(node.said) == 3


def test_a_node_that_does_not_tell_its_boot_owes_nothing_new_and_says_so(node: Node) -> None:
    node.start("one")
    assert not node.start("").owed
    (said,) = node.said
    assert "boot ID" in said
