"""Which ends of a container put its image under suspicion."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.model import Verdict
from agent.node.roots import HostRoot
from agent.round.crashes import HOUR, TAIL, CrashWatch, suspects, suspicion, tail, wanted
from agent.round.standing import Standing
from agent.runtime.cri import Exit

END = Exit("id", ("sha256:a",), "default/app-1", "app", 0, 1, "Error", "", "", 1000.0)


@pytest.mark.parametrize(
    ("code", "reason", "message", "log", "suspicious"),
    [
        (0, "Completed", "", "exec format error", False),
        (1, "Error", "", "", False),
        (1, "Error", "", "KeyError: 'x'", False),
        (1, "Error", "", "open /etc/app.conf: no such file or directory", False),
        (137, "OOMKilled", "", "", False),
        (143, "Error", "", "", False),
        (255, "Unknown", "", "", False),
        (128, "Error", "", "", False),
        (1, "Error", "", "2026-01-01T00:00:00Z stderr F exec /pause: exec format error", True),
        (1, "Error", "", "standard_init_linux.go:228: exec user process caused: exec format error", True),
        (1, "Error", "", "standard_init_linux.go:228: exec user process caused: no such file or directory", True),
        (1, "Error", "", "app: error while loading shared libraries: libc.so.6: invalid ELF header", True),
        (1, "Error", "", "Error loading shared library libz.so.1: Exec format error", True),
        (1, "Error", "", "ImportError: /usr/lib/x.so: invalid ELF header", True),
        (1, "Error", "", "ImportError: /usr/lib/x.so: file too short", True),
        (2, "Error", "", "sh: /bin/app: cannot execute binary file", True),
        (
            128,
            "StartError",
            'runc create failed: exec: "/app": stat /app: no such file or directory: unknown',
            "",
            True,
        ),
        (128, "StartError", "failed to create containerd task: mount failed", "", True),
        (126, "Error", "", "", True),
        (127, "Error", "", "", True),
        (132, "Error", "", "", True),
        (135, "Error", "", "", True),
        (139, "Error", "", "", True),
    ],
)
def test_an_end_as_damaged_files_make_it_is_suspicious_and_others_are_not(
    code: int, reason: str, message: str, log: str, *, suspicious: bool
) -> None:
    end = replace(END, code=code, reason=reason, message=message)
    assert bool(suspicion(end, log)) is suspicious


def test_the_reason_says_where_it_was_read() -> None:
    assert suspicion(replace(END, message="Exec format error"), "") == "the runtime says 'exec format error'"
    assert suspicion(END, "exec format error") == "its log says 'exec format error'"
    assert suspicion(replace(END, code=139), "") == "exit code 139 (SIGSEGV)"


NOW = 100_000.0
SOUND = Standing(NOW - 10, NOW - 10, boot="now")


@pytest.mark.parametrize(
    ("standing", "asked", "worth"),
    [
        (Standing(), 0.0, True),
        (Standing(), NOW - HOUR + 1, False),
        (Standing(), NOW - HOUR, True),
        (Standing(), NOW + 5, True),  # the clock went back
        (SOUND, 0.0, False),
        (replace(SOUND, verified=NOW - HOUR), 0.0, True),
        (replace(SOUND, boot="before"), 0.0, True),
        (replace(SOUND, verdict=Verdict.BAD), 0.0, True),
        (replace(SOUND, verdict=Verdict.BAD), NOW - 1, False),
    ],
)
def test_an_image_is_verified_once_an_hour_and_not_while_it_is_known_to_be_sound(
    standing: Standing, asked: float, *, worth: bool
) -> None:
    assert wanted(standing, asked, NOW, "now") is worth


class FakeCri:
    """The two calls of `Cri` that are polled; it promises no more than CRI does."""

    def __init__(self) -> None:
        self.ends: dict[str, Exit] = {}
        self.asked: list[str] = []

    async def exited(self) -> frozenset[str]:
        return frozenset(self.ends)

    async def exit_of(self, id: str) -> Exit | None:  # noqa: A002 - CRI's word
        self.asked.append(id)
        return self.ends[id] if self.ends[id].id else None


async def test_each_container_that_ended_is_asked_about_once() -> None:
    cri, watch = FakeCri(), CrashWatch()
    cri.ends = {"a": replace(END, id="a"), "b": replace(END, id="b", code=0)}
    assert [end.id for end in await watch.poll(cri, 1000.0)] == ["a"]
    cri.ends["c"] = replace(END, id="c")
    assert [end.id for end in await watch.poll(cri, 1030.0)] == ["c"]
    assert await watch.poll(cri, 1060.0) == ()
    assert cri.asked == ["a", "b", "c"]


async def test_old_ends_and_containers_that_were_removed_meanwhile_are_no_news() -> None:
    cri = FakeCri()
    cri.ends = {"old": END, "gone": replace(END, id=""), "nameless": replace(END, images=())}
    assert await CrashWatch().poll(cri, 1000.0 + HOUR) == ()


async def test_a_node_full_of_ended_jobs_is_asked_about_in_turns() -> None:
    cri, watch = FakeCri(), CrashWatch()
    cri.ends = {f"{number:03}": replace(END, id=f"{number:03}") for number in range(120)}
    assert [len(await watch.poll(cri, 1000.0)) for _ in range(4)] == [50, 50, 20, 0]


def test_only_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"exec format error\n" + b"x" * TAIL)
    assert tail(HostRoot(tmp_path), "/log") == "x" * TAIL


def test_a_log_is_read_below_the_root_of_the_node_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "logs").mkdir(parents=True)
    (tmp_path / "secret").write_text("exec format error")
    (root / "logs" / "link").symlink_to("../../secret")
    (root / "logs" / "absolute").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "logs" / "fifo")
    for name in ("link", "absolute", "fifo", "absent", ""):
        assert tail(HostRoot(root), f"/logs/{name}") == ""
    assert tail(HostRoot(root), "") == ""
    (root / "logs" / "0.log").write_text("exec format error")
    (root / "logs" / "inside").symlink_to("/logs/0.log")
    assert tail(HostRoot(root), "/logs/inside") == "exec format error"


def test_the_suspects_are_those_whose_log_or_end_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("exec /app: exec format error")
    (tmp_path / "b.log").write_text("panic: no money")
    ends = [replace(END, id=name, log=f"/{name}.log") for name in "ab"]
    assert [(end.id, reason) for end, reason in suspects(ends, HostRoot(tmp_path))] == [
        ("a", "its log says 'exec format error'")
    ]
