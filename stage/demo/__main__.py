"""``make demo``: starts the throw-away node, tells the story, removes all of it. Status 0 only if all went as told."""

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from stage.demo.scene import scene
from stage.demo.story import tell
from stage.demo.teller import MismatchError, Teller
from stage.namespaces import StageError, enter, missing

INTERRUPTED = 130


def main() -> int:
    """The whole demo; answers the exit status."""
    if problem := _problem():
        return _fail(problem)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        enter()
        return _play()
    except KeyboardInterrupt:
        return _fail("interrupted; everything was removed", INTERRUPTED)
    except (StageError, MismatchError) as error:
        return _fail(str(error))


def _problem() -> str:
    """What the machine lacks, in one line."""
    lacking = missing()
    if lacking:
        packages = " ".join(sorted(set(lacking.values())))
        return f"missing: {', '.join(lacking)}; on Debian `make setup` as root installs them ({packages})"
    if os.geteuid() != 0:
        return "it starts a containerd and makes network namespaces, which takes root: run `sudo make demo`"
    return ""


def _play() -> int:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="stage-demo-"))
    teller = Teller(folder)
    try:
        teller.say(f"Starting a containerd and registries of the demo's own, in {folder} and in namespaces …")
        with scene(folder) as set_up:
            try:
                tell(set_up, teller)
            finally:
                _be_deaf()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    teller.say(f"All {teller.steps} steps did what they should, in {time.monotonic() - began:.0f} s; nothing is left.")
    return 0


def _interrupt(*_: object) -> NoReturn:
    """Once only: a second Ctrl-C must not cut the cleaning up short."""
    _be_deaf()
    raise KeyboardInterrupt


def _be_deaf() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _fail(text: str, status: int = 1) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"demo: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
