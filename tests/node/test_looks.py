"""What people see on a terminal, and what a pipe gets instead."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping

import pytest

from stage.images import filler, image
from tests.node.cache import Cached, Node, flip
from tests.node.command import Agent


def on_a_terminal(arguments: list[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command writes to a terminal that is its stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the last writer hung up
                return
            shown.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        stdout=theirs,
        stderr=theirs,
        check=False,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )
    os.close(theirs)
    reader.join(10)
    os.close(ours)
    return shown.decode()


@pytest.fixture
def big(cached: Cached) -> str:
    return cached(image(filler(24, f"looks-{os.urandom(4).hex()}")))


def test_long_work_shows_its_progress_on_a_terminal_and_only_there(agent: Agent, big: str) -> None:
    arguments = ["verify", "--runtime-endpoint", agent.endpoint, big]
    shown = on_a_terminal(arguments)
    assert "verifying" in shown
    assert "48.0M" in shown  # the blob, and what it was unpacked to
    assert "1 of 1 images" in shown
    assert agent.run(*arguments).stderr == ""


def test_colour_is_for_terminals_and_not_for_those_who_do_not_want_it(agent: Agent) -> None:
    arguments = ["diagnose", "--runtime-endpoint", agent.endpoint, "nowhere.example/app:1"]
    assert "\x1b[31mbad" in on_a_terminal(arguments)
    assert "\x1b[3" not in on_a_terminal(arguments, {"NO_COLOR": "1"})
    assert "\x1b" not in agent.run(*arguments).stdout


def test_blobs_out_of_reach_are_read_over_grpc_and_nothing_is_repaired(node: Node, big: str) -> None:
    """A host root without containerd's files: what a pod sees that did not mount them."""
    empty = node.folder / "empty"
    empty.mkdir()
    away = ("--host-root", str(empty))
    status, found = node.run("verify", "--depth", "blobs", big, *away)
    assert (status, found["images"][0]["verdict"]) == (0, "ok")
    assert found["bytes"] > 24 * 1024 * 1024
    status, found = node.run("verify", big, *away)
    assert (status, found["images"][0]["verdict"]) == (3, "unknown")
    assert "unpacked files cannot be reached" in found["images"][0]["findings"][0]["detail"]

    digest = max((blob for blob in node.blobs_of(big)), key=lambda blob: node.containerd.blob(blob).stat().st_size)
    flip(node.containerd.blob(digest))
    status, found = node.run("repair", big, *away)
    (report,) = found["images"]
    assert (status, [each["cause"] for each in report["findings"]]) == (1, ["blob_corrupt", "unknown"])
    assert "files of the content store cannot be reached" in report["actions"][0]["outcome"]
    assert node.run("repair", big)[0] == 0


@pytest.mark.parametrize(("how", "cause"), [("cut", "blob_truncated"), ("gone", "blob_missing")])
def test_damage_is_named_the_same_over_grpc(node: Node, big: str, how: str, cause: str) -> None:
    digest = max((blob for blob in node.blobs_of(big)), key=lambda blob: node.containerd.blob(blob).stat().st_size)
    path = node.containerd.blob(digest)
    if how == "cut":
        os.truncate(path, 1000)
    else:
        path.unlink()
    status, found = node.run("verify", "--depth", "blobs", big, "--host-root", "/proc/self/fd")
    assert (status, [each["cause"] for each in found["images"][0]["findings"]]) == (1, [cause])
    assert node.run("repair", big)[0] == 0
