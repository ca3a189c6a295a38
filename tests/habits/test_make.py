"""The commands that the README promises work on a machine that has nothing yet, and say in one line what it lacks."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stage.namespaces import PROGRAMS, missing

ROOT = Path(__file__).resolve().parents[2]
TARGETS = {"help", "setup", "demo", "test", "unit", "bench", "stubs", "clean"}
TOOLS = ("bash", "cat", "dirname", "grep", "mktemp", "rm", "sh", "tail", "tee")
CLOSING = "===== 3 passed in 1.20s ====="
PINNED = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The only folder on PATH: the few tools of any Debian, root's ``id``, none of the stage's programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    program(folder, "id", "echo 0")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def run(path: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(path), "PYTHON": sys.executable}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As from a shell, although the tests themselves may be run by make."""
    shell = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=shell, capture_output=True, text=True, check=True)


def programs(path: Path) -> subprocess.CompletedProcess[str]:
    return run(path, ROOT / "stage/setup.sh", "programs")


def lacking(path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that the stage itself would name with this PATH."""
    monkeypatch.setattr("stage.namespaces.SEARCHED", f"{path}:/usr/sbin:/sbin")
    return set(missing().values())


class TestMakefile:
    def test_help_is_the_default_and_lists_every_target_with_a_line(self) -> None:
        done = make()
        listed = dict(re.findall(r"^make ([a-z]+) +(\S.*)$", done.stdout, re.MULTILINE))
        assert listed.keys() == TARGETS
        assert len(done.stdout.splitlines()) == len(TARGETS)

    def test_every_recipe_is_one_that_make_understands(self) -> None:
        for target in sorted(TARGETS):
            make("--dry-run", target)


class TestPrograms:
    def test_exactly_the_packages_that_the_stage_misses_are_installed(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(path, "apt-get", f'echo "$@" >>{tmp_path}/asked')
        done = programs(path)
        assert done.returncode == 0, done.stderr
        update, install = (tmp_path / "asked").read_text().splitlines()
        assert update.startswith("update")
        asked = {word for word in install.split()[1:] if not word.startswith("-")}
        assert {"containerd", "docker-registry"} <= asked == lacking(path, monkeypatch) | {"prometheus"}

    def test_where_all_is_there_nothing_is_installed_and_nothing_said(self, path: Path) -> None:
        for name in (*PROGRAMS, "promtool"):
            program(path, name, "exit 0")
        done = programs(path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_without_root_one_line_names_what_is_missing(self, path: Path) -> None:
        program(path, "id", "echo 1000")
        program(path, "apt-get", "exit 1")
        line = only_line(programs(path))
        assert "as root" in line
        assert "apt-get install containerd" in line

    def test_what_takes_root_says_so_in_one_line_before_anything_is_installed(self, path: Path) -> None:
        program(path, "id", "echo 1000")
        assert "takes root" in only_line(run(path, ROOT / "stage/setup.sh", "root"))
        for target in ("demo", "test", "unit"):
            done = make("--dry-run", target)
            assert done.stdout.startswith("stage/setup.sh root\n")

    def test_without_apt_one_line_names_what_is_missing(self, path: Path) -> None:
        line = only_line(programs(path))
        assert "no Debian" in line
        assert "docker-registry" in line

    def test_an_old_python_is_named_in_one_line(self, path: Path) -> None:
        program(path, "python3", "case $1 in -V) echo Python 3.9.2;; *) exit 1;; esac")
        done = run(path, "bash", "-c", f"unset PYTHON; {ROOT}/stage/setup.sh programs")
        assert "3.11 or newer is needed, python3 is Python 3.9.2" in only_line(done)

    def test_what_apt_says_when_it_fails_is_shown(self, path: Path) -> None:
        program(path, "apt-get", "echo E: Unable to locate package; exit 100")
        done = programs(path)
        assert done.returncode == 1
        assert "E: Unable to locate package\nsetup: apt-get could not install" in done.stderr


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


class TestPins:
    def test_every_dependency_of_the_project_is_pinned(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
        for requirement in map(Requirement, wanted):
            assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)]), requirement

    def test_so_is_what_they_depend_on_in_turn_and_nothing_else(self) -> None:
        assert closure("node-agent", frozenset({"dev"})) - {"node-agent"} == set(PINNED)


def closure(name: str, extras: frozenset[str] = frozenset(), seen: set[str] | None = None) -> set[str]:
    """All that is installed with a distribution, by its name as the index spells it."""
    seen = set() if seen is None else seen
    seen.add(canonicalize_name(name))
    for requirement in map(Requirement, requires(name) or []):
        wanted = not requirement.marker or any(
            requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""})
        )
        if wanted and canonicalize_name(requirement.name) not in seen:
            closure(requirement.name, frozenset(requirement.extras), seen)
    return seen


class TestCi:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        """The script in a checkout of its own, where `make` is whatever the test says."""
        (tmp_path / ".ci").mkdir()
        return Path(shutil.copy(ROOT / ".ci/run", tmp_path / ".ci"))

    def test_it_can_be_run(self) -> None:
        assert os.access(ROOT / ".ci/run", os.X_OK)

    def test_it_runs_make_test_and_ends_with_the_closing_line_of_the_tests(self, path: Path, script: Path) -> None:
        program(path, "make", f'echo "make $@"; echo "{CLOSING}"; echo more')
        done = run(path, script)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["make test", CLOSING, "more", CLOSING]

    def test_it_fails_as_the_tests_do(self, path: Path, script: Path) -> None:
        program(path, "make", f'echo "{CLOSING}"; exit 2')
        assert run(path, script).returncode == 2

    def test_no_tests_are_no_success(self, path: Path, script: Path) -> None:
        program(path, "make", "exit 0")
        assert run(path, script).returncode != 0


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="asks git for the project's files")
@pytest.mark.parametrize(
    "pattern",
    [
        "(^|[^/a-z0-9}])/(work|root)/",  # where somebody's machine has its files
        "[p]ypi[.]|[i]ndex-url|[f]ind-links|[t]rusted-host|GO[P]ROXY=",  # where it gets its packages from
    ],
)
def test_no_file_depends_on_the_machine_it_was_written_on(pattern: str) -> None:
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "grep", "--untracked", "-nIE", pattern]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
