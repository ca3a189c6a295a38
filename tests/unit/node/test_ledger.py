"""Debts outlive everything: kills, full disks, torn files, a second agent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Fault
from agent.node import ledger as ledger_module
from agent.node.ledger import Debt, Ledger, LedgerBusy

DEBT = Debt(
    id="sha256:aa",
    names=("docker.io/library/nginx:1", "docker.io/library/nginx@sha256:aa"),
    what="repull",
    details={"labels": {"a": "b"}, "tries": 2},
    since=1000.5,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "debts.json"


def test_a_debt_is_there_after_a_restart_and_gone_after_it_is_struck(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.debts() == ()
        ledger.owe(DEBT)
    with Ledger(path) as ledger:
        assert ledger.debts() == (DEBT,)
        assert ledger.strike(DEBT.id)
        assert not ledger.strike(DEBT.id)
    with Ledger(path) as ledger:
        assert ledger.debts() == ()
        assert ledger.damage is None


def test_debts_are_told_oldest_first_and_one_per_image(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.owe(Debt("b", (), "repair", since=2))
        ledger.owe(Debt("a", (), "repull", since=1))
        ledger.owe(Debt("b", ("x",), "repull", since=3))
        assert [(debt.id, debt.what) for debt in ledger.debts()] == [("a", "repull"), ("b", "repull")]


def test_the_file_is_for_the_owner_alone_and_no_leftover_lies_beside_it(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.owe(DEBT)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(child.name for child in path.parent.iterdir()) == ["debts.json", "debts.json.lock"]
    assert json.loads(path.read_text())["version"] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"version": 2, "debts": []}',
        b'{"version": 1}',
        b'{"version": 1, "debts": {"a": 1}}',
        b'{"version": 1, "debts": [{"id": "x"}]}',
        b'{"version": 1, "debts": [{"id":"x","names":"abc","what":"","details":{},"since":0}]}',
        b'{"version": 1, "debts": [{"id":"x","names":[],"what":"","details":[],"since":0}]}',
        b'{"version": 1, "debts": [{"id":"x","names":[],"what":"","details":{},"since":"never"}]}',
    ],
)
def test_a_file_that_cannot_be_understood_is_set_aside_and_said(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with Ledger(path) as ledger:
        assert ledger.damage is not None
        assert ledger.debts() == ()
        ledger.owe(DEBT)
        assert ledger.debts() == (DEBT,)
    (aside,) = path.parent.glob("debts.json.corrupt-*")
    assert aside.read_bytes() == content
    assert aside.name in ledger.damage


def test_a_file_too_long_for_a_ledger_is_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "LIMIT", 10)
    path.parent.mkdir()
    path.write_text('{"version": 1, "debts": []}')
    with Ledger(path) as ledger:
        assert ledger.damage is not None


def test_a_second_agent_is_refused_while_the_first_one_lives(path: Path) -> None:
    with Ledger(path), pytest.raises(LedgerBusy, match="another agent"):
        Ledger(path)
    Ledger(path).close()


def test_an_agent_that_is_killed_lets_go(path: Path) -> None:
    with _writer(path) as child:
        _wait_for(path)
        with pytest.raises(LedgerBusy):
            Ledger(path)
        child.kill()
    Ledger(path).close()


@pytest.mark.parametrize(("number", "cause"), [(28, Cause.DISK_FULL), (30, Cause.DISK_READ_ONLY), (5, Cause.UNKNOWN)])
def test_what_cannot_be_written_is_not_owed(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, cause: Cause
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with Ledger(path) as ledger:
        ledger.owe(DEBT)
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(Fault) as caught:
            ledger.owe(Debt("other", (), "repull"))
        assert caught.value.cause is cause
        assert ledger.debts() == (DEBT,)
    with Ledger(path) as ledger:
        assert ledger.debts() == (DEBT,)


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Fault):
        Ledger(tmp_path / "file" / "debts.json")


def test_a_link_planted_as_the_new_file_is_not_written_through(path: Path, tmp_path: Path) -> None:
    with Ledger(path) as ledger:
        (path.parent / "debts.json.new").symlink_to(tmp_path / "victim")
        with pytest.raises(Fault):
            ledger.owe(DEBT)
    assert not (tmp_path / "victim").exists()


_WRITER = """
import sys
from pathlib import Path
from agent.node.ledger import Debt, Ledger
ledger = Ledger(Path(sys.argv[1]))
count = len(ledger.debts()[0].names) if ledger.debts() else 0
assert ledger.damage is None, ledger.damage
while True:
    count += 1
    ledger.owe(Debt("x", ("name" * 50,) * (count % 400), "repull", details={"count": count % 400}))
"""


def _writer(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_whenever_the_agent_is_killed_the_file_holds_the_old_or_the_new(path: Path) -> None:
    for turn in range(20):
        with _writer(path) as child:
            _wait_for(path)
            time.sleep(0.1 + turn * 0.0037)
            child.send_signal(signal.SIGKILL)
        with Ledger(path) as ledger:
            assert ledger.damage is None
            (debt,) = ledger.debts()
            assert len(debt.names) == debt.details["count"]


_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
_DEBTS = st.builds(
    Debt,
    id=_TEXT,
    names=st.lists(_TEXT, max_size=3).map(tuple),
    what=_TEXT,
    details=st.dictionaries(_TEXT, _JSON, max_size=3),
    since=st.floats(0, 1e10),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(debt=_DEBTS)
def test_every_debt_comes_back_as_it_was_written(path: Path, debt: Debt) -> None:
    with Ledger(path) as ledger:
        for old in ledger.debts():
            ledger.strike(old.id)
        ledger.owe(debt)
    with Ledger(path) as ledger:
        assert ledger.debts() == (debt,)
