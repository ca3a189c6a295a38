"""The agent as its users start it: a process of its own, judged by its exit status and by what it prints."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.causes import Cause, scope_of
from agent.checks import CHECKS

USER = "robot"
PASSWORD = "hunter2/Zq7+tr0ub4dor"  # what must never be printed, in any spelling
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
HERE = Path(__file__).parents[2]
GRACE = 1.0  # seconds past the deadline within which a command must be done, by its own clock
ALWAYS = ("runtime", "disk", "reference", "hosts", "proxy", "dns", "connect")

# The peak memory of a process counts that of the one that forked it: this one is small, pytest is not.
_METER = (
    "import os, sys; pid = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:]); _, status, used = os.wait4(pid, 0)\n"
    "open(sys.argv[1], 'w').write(str(used.ru_maxrss)); sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command answered: ``memory`` is its peak in bytes, ``seconds`` the time of the whole process."""

    status: int
    stdout: str
    stderr: str
    memory: int
    seconds: float

    @property
    def images(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.stdout)["images"]
        return found

    @property
    def only(self) -> dict[str, Any]:
        (image,) = self.images
        return image

    def each(self) -> "list[Outcome]":
        """As if each image had been asked for alone; all bad or all ok, since they share one status."""
        return [replace(self, stdout=json.dumps({"images": [image]})) for image in self.images]

    @property
    def fall(self) -> dict[str, Any]:
        """The first step that is not ok."""
        step: dict[str, Any] = next(step for step in self.only["steps"] if step["verdict"] != "ok")
        return step


class Agent:
    """Runs ``node-agent`` against one runtime; whatever it prints is searched for secrets and tracebacks."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self.endpoint, self._folder = endpoint, folder

    def diagnose(self, *images: str, options: tuple[str, ...] = (), timeout: float | None = None) -> Outcome:
        """``diagnose`` with one JSON document as its answer."""
        limits = () if timeout is None else ("--timeout", str(timeout))
        return self.run(
            "diagnose", "--output", "json", "--runtime-endpoint", self.endpoint, *limits, *options, "--", *images
        )

    def run(self, *arguments: str) -> Outcome:
        """Any command. The parts of its answer that hold for all of them are judged here."""
        peak = self._folder / "peak"
        command = [sys.executable, "-ISc", _METER, str(peak), sys.executable, "-m", "agent", *arguments]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
        seconds = time.monotonic() - began
        outcome = Outcome(done.returncode, done.stdout, done.stderr, int(peak.read_text()) * 1024, seconds)
        assert "Traceback" not in outcome.stderr, outcome.stderr
        assert not [secret for secret in SECRETS if secret in outcome.stdout + outcome.stderr]
        return outcome


def auth_file(folder: Path, registry: str, password: str = PASSWORD) -> tuple[str, str]:
    """Options with a pull secret's content for `registry`."""
    entry: Mapping[str, str] = {"username": USER, "password": password}
    file = folder / "auth.json"
    file.write_text(json.dumps({"auths": {registry: entry}}))
    return "--auth-file", str(file)


def assert_ok(outcome: Outcome, words: str = "can be pulled") -> None:
    """One image, which can be pulled."""
    told = outcome.only
    assert (told["verdict"], told["cause"], told["scope"]) == ("ok", None, None), told
    assert outcome.status == 0
    assert words in told["summary"]
    assert told["fix"] == []
    assert_timed(outcome)


def assert_fell(outcome: Outcome, cause: str, step: str, host: str) -> None:
    """One image, which cannot be pulled for this one cause; all that was done before `step` on `host` went well."""
    told, fall = outcome.only, outcome.fall
    assert (told["verdict"], told["cause"]) == ("bad", cause), told
    assert told["scope"] == scope_of(Cause(cause))
    assert outcome.status == 1
    assert (fall["step"], fall["host"], fall["verdict"], fall["cause"]) == (step, host, "bad", cause), fall
    assert told["summary"] == fall["detail"]
    assert told["fix"]
    assert all(told["fix"])
    assert outcome.stderr == ""
    assert_climbed(told["steps"], step)
    assert_timed(outcome)


def assert_climbed(steps: list[dict[str, Any]], top: str) -> None:
    """Every rung below `top` that each image needs was climbed, once and in order."""
    names = [step["step"] for step in steps]
    below = names[: names.index(top)]
    assert below == [check for check in CHECKS if check in below]
    assert set(ALWAYS[: ALWAYS.index(top)] if top in ALWAYS else ALWAYS) <= set(below)


def assert_timed(outcome: Outcome) -> None:
    """Each step has its time, and the image has at least the longest of them."""
    told = outcome.only
    assert all(step["seconds"] >= 0 for step in told["steps"])
    assert told["seconds"] >= max(step["seconds"] for step in told["steps"] if step["step"] not in {"runtime", "disk"})
    assert outcome.seconds > told["seconds"]
