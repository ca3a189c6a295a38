"""Real programs as parts of the stage: started, waited for until they serve, ended for certain.

A program must not outlive the process that staged it, whatever kills that: the kernel is asked to end it
(``PR_SET_PDEATHSIG``, by util-linux's ``setpriv``). The kernel takes the *thread* that started it for the
parent, so all are started by one thread that lives as long as the process.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from stage.namespaces import SEARCHED, StageError

_starter = ThreadPoolExecutor(1, thread_name_prefix="stage-starter")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_KEPT = ("HOME", "LANG", "TMPDIR")  # all that a program of the stage gets of the caller's environment


class Program:
    """One program, its log file, and whether it lives."""

    def __init__(self, *command: str, log: Path, environment: Mapping[str, str] = _NOTHING) -> None:
        self.command = command
        self.log = log
        self.environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise StageError(f"{self.command[0]} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, ready: Callable[[], bool], seconds: float = 15) -> None:
        """Start it and come back once `ready` says so; `StageError` with its last words if it never does."""
        self._process = _starter.submit(self._spawn).result()
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running or time.monotonic() > deadline:
                self._give_up()
            time.sleep(0.01)

    def stop(self, seconds: float = 10) -> None:
        """Ask it to end, and end it if it does not."""
        self._end(signal.SIGTERM, seconds)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL, 10)

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _spawn(self) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": SEARCHED} | kept | self.environment,
            )

    def _give_up(self) -> None:
        state = "does not serve" if self.running else "ended at once"
        self.kill()
        raise StageError(f"{self.command[0]} {state}; the end of its log:\n{self.last_words()}")

    def _end(self, number: signal.Signals, seconds: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(address: str, port: int) -> bool:
    """Whether something takes connections there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0
