"""The teller: says what is to be seen, shows each command as a person types it, and holds it to what it promises."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from stage.namespaces import SEARCHED

LIMIT = 30.0
"""Seconds that one command may take."""


class MismatchError(Exception):
    """A step did not do what was promised; the text says which step, and what was expected."""


class Teller:
    """Runs the story's commands in `folder` and counts its steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps = 0
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        ours = str(Path(sys.executable).parent)  # where `node-agent` is installed
        self.environment = os.environ | {"PATH": os.pathsep.join([ours, SEARCHED])}

    def say(self, text: str) -> None:
        """A sentence between the steps."""
        self._write(f"\n{self._coloured(text, '1')}")

    def run(self, why: str, command: Sequence[str], *, status: int, words: Sequence[str] = ()) -> str:
        """One step: why, the command, its output; `MismatchError` unless it ends with `status` and says all `words`."""
        return self._shown(why, shlex.join(command), command, status, words)

    def pipe(self, why: str, line: str, *, words: Sequence[str]) -> str:
        """The same for a line of shell."""
        return self._shown(why, line, ["bash", "-c", f"set -o pipefail; {line}"], 0, words)

    def announce(self, why: str, line: str) -> None:
        """The head of a step."""
        self.steps += 1
        self.say(f"{self.steps}. {why}")
        self._write(self._coloured(f"$ {line}", "36"))

    def output(self, text: str) -> None:
        """What a program said."""
        self._write(text.rstrip("\n"))

    def mismatch(self, line: str, expected: str, got: str) -> MismatchError:
        """The step that just ran went wrong."""
        return MismatchError(f"step {self.steps} did not do what it should: `{line}`: expected {expected}, but {got}")

    def _shown(self, why: str, line: str, command: Sequence[str], status: int, words: Sequence[str]) -> str:
        self.announce(why, line)
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            self.output(late.output.decode(errors="replace") if isinstance(late.output, bytes) else "")
            raise self.mismatch(line, f"an end within {LIMIT:.0f} s", "it still ran") from None
        self.output(done.stdout)
        if done.returncode != status:
            raise self.mismatch(line, f"exit status {status}", f"it was {done.returncode}")
        if absent := [word for word in words if word not in done.stdout]:
            raise self.mismatch(line, f"the output to say {', '.join(map(repr, absent))}", "it does not")
        return done.stdout

    def _coloured(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _write(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


class Background:
    """A command that goes on while others run (``command &``); it dies with the demo at the latest."""

    def __init__(self, teller: Teller, *command: str) -> None:
        self._teller, self.line = teller, shlex.join(command)
        self._log = teller.folder / "background.log"
        self._command = ["setpriv", "--pdeathsig", "KILL", "--", *command]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._teller.folder, env=self._teller.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        if isinstance(error, MismatchError):
            self._teller.output(f"The log of `{self.line}`:\n{self.log}")

    @property
    def log(self) -> str:
        """All it has said so far."""
        return self._log.read_text(errors="replace")

    def wait_for(self, ready: Callable[[], bool], promise: str, seconds: float = 15) -> None:
        """Come back once it is `ready`; `MismatchError` if it ends before, or is not in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise self._teller.mismatch(self.line, promise, "it is not so")
            time.sleep(0.05)

    def terminate(self, seconds: float) -> tuple[int, float]:
        """Send SIGTERM; answers the exit status and how many seconds the end took."""
        began = time.monotonic()
        self._process.terminate()
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self._teller.mismatch("kill %1", f"an end within {seconds:.0f} s", "it still ran") from None
        return status, time.monotonic() - began
