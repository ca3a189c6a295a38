"""Whether the node went down without saying so: a mark on its disk tells the next start.

The mark is ``{"version": 1, "boot_id", "clean_stop", "owed", "unclean_boots"}``. A start on another boot (random(4):
``boot_id`` is another one after each) that finds the mark without our clean stop means that the power went, the kernel
stopped, or the node was reset: what containerd wrote last may not have reached the disk, and a verification of the
whole cache is owed until it was paid.

What the mark cannot tell: a node that crashed *after* the agent had been stopped cleanly (an update at the wrong
moment, a node without the agent) counts as shut down cleanly, and so does one whose mark was lost with its disk: no
mark is a first start. A clean shutdown in which the agent had to be killed counts as unclean, which costs one
verification.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.model import Fault
from agent.node import durable

VERSION = 1
LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands in the file; ``unclean_boots`` counts them since the first start."""

    boot_id: str
    clean_stop: bool = False
    owed: bool = False
    unclean_boots: int = 0


class Boot:
    """The mark in `path` for the boot `boot_id`; what has to be told goes to `say`.

    A disk that cannot be written keeps nobody from working: that is said, and the debt is kept in memory.
    """

    def __init__(self, path: Path, boot_id: str, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self.mark = Mark(boot_id)

    @property
    def id(self) -> str:
        """The boot we are in; empty where it cannot be told."""
        return self.mark.boot_id

    @property
    def owed(self) -> bool:
        """Whether the whole cache has to be verified."""
        return self.mark.owed

    def begin(self) -> None:
        """Compare the mark with this boot, and set our own: from now on only `end` makes this boot a clean one."""
        boot_id = self.mark.boot_id
        if not boot_id:
            self._say("the boot ID of the node cannot be read: an unclean shutdown would not be noticed")
        self._set(begun(self._read(), boot_id))

    def paid(self) -> None:
        """All images went through, quick and full."""
        self._set(replace(self.mark, owed=False))

    def end(self) -> None:
        """The agent stops because it was asked to."""
        self._set(replace(self.mark, clean_stop=True))

    def _read(self) -> Mark | None:
        """The mark of the last start; one that cannot be understood stands for an unclean stop of another boot."""
        try:
            content = durable.read(self._path, LIMIT)
            return None if content is None else parse(content)
        except (OSError, ValueError, OverflowError, TypeError, KeyError, RecursionError) as error:
            self._say(f"{durable.set_aside(self._path, error)}: taken for an unclean shutdown")
            return Mark(boot_id="")

    def _set(self, mark: Mark) -> None:
        self.mark = mark
        document = {
            "version": VERSION,
            "boot_id": mark.boot_id,
            "clean_stop": mark.clean_stop,
            "owed": mark.owed,
            "unclean_boots": mark.unclean_boots,
        }
        try:
            durable.make_folder(self._path.parent)
            durable.replace(self._path, json.dumps(document).encode())
        except Fault as fault:
            self._say(f"an unclean shutdown may go unnoticed: {fault.detail}")


def begun(old: Mark | None, boot_id: str) -> Mark:
    """The mark of a start in the boot `boot_id` that finds the mark `old`; pure. Without a boot ID nothing is new."""
    if old is None:
        return Mark(boot_id)
    unclean = bool(boot_id) and old.boot_id != boot_id and not old.clean_stop
    return Mark(boot_id, owed=old.owed or unclean, unclean_boots=old.unclean_boots + unclean)


def parse(content: bytes) -> Mark:
    """A mark of version 1; `ValueError`, `TypeError` or `KeyError` for anything else."""
    document = json.loads(content)
    if document["version"] != VERSION:
        raise ValueError("a version that this agent does not know")
    clean_stop, owed, boots = document["clean_stop"], document["owed"], document.get("unclean_boots", 0)
    if not isinstance(clean_stop, bool) or not isinstance(owed, bool) or not isinstance(boots, int):
        raise TypeError("not a mark")
    return Mark(str(document["boot_id"]), clean_stop, owed, boots)
