"""Generated pages say what the code says."""

import re
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree

import pytest

from agent.__main__ import parser
from agent.causes import Cause
from agent.meanings import MEANINGS

ROOT = Path(__file__).resolve().parents[2]


def generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "docs" / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the pages and of what they are made from, free to be spoilt."""
    (tmp_path / "docs").mkdir()
    for page in (ROOT / "docs").iterdir():
        if page.is_file():
            copy(page, tmp_path / "docs")
    copytree(ROOT / "agent", tmp_path / "agent")
    return tmp_path


def test_the_pages_are_current() -> None:
    done = generate(ROOT, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("cause", Cause)
def test_the_page_of_causes_has_every_cause_with_its_meaning_and_steps(cause: Cause) -> None:
    page = (ROOT / "docs" / "causes.md").read_text("utf-8")
    section = page.partition(f"\n## {cause}\n")[2].partition("\n## ")[0]
    assert f"(#{cause})" in page
    assert MEANINGS[cause].meaning in section.replace("\\", "")
    assert all(step in section for step in MEANINGS[cause].fix)


def test_a_stale_page_is_named_in_one_line_and_left_as_it_is(house: Path) -> None:
    page = house / "docs" / "causes.md"
    page.write_text(page.read_text("utf-8").replace("rate_limited", "rate_limitless"), "utf-8")
    spoilt = page.read_bytes()
    done = generate(house, "--check")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "docs/causes.md" in done.stderr
    assert page.read_bytes() == spoilt


def test_a_page_that_is_missing_is_stale_and_gets_written(house: Path) -> None:
    page = house / "docs" / "causes.md"
    page.unlink()
    assert generate(house, "--check").returncode == 1
    assert generate(house).returncode == 0
    assert generate(house, "--check").returncode == 0
    assert page.read_bytes() == (ROOT / "docs" / "causes.md").read_bytes()


def test_every_command_of_ours_that_a_fix_names_can_be_typed() -> None:
    text = "\n".join(step for told in MEANINGS.values() for step in told.fix)
    named = re.findall(r"node-agent((?: (?:--[a-z-]+|[a-z]+|IMAGE))+)", text)
    assert len(named) > 8
    for arguments in named:
        parser().parse_args(arguments.split())
