"""What every cause means and what to do about it: the one table behind `explain`, events and docs/causes.md.

On the floor of `agent.causes`: standard library only. The table stands in three parts, one for each kind of
reader who is called: of the image and its owner (`asked`), of the way to the registry (`way`), of the node (`node`).
"""

from collections.abc import Mapping
from types import MappingProxyType

from agent.causes import Cause, Meaning, scope_of
from agent.meanings.asked import ASKED
from agent.meanings.node import NODE
from agent.meanings.way import WAY


def _meanings() -> dict[Cause, Meaning]:
    told = {**ASKED, **WAY, **NODE}
    return {cause: _meaning(cause, *told[cause]) for cause in Cause}


def _meaning(cause: Cause, title: str, meaning: str, *fix: str) -> Meaning:
    return Meaning(scope_of(cause), title, meaning, fix)


MEANINGS: Mapping[Cause, Meaning] = MappingProxyType(_meanings())

__all__ = ["MEANINGS", "Meaning", "scope_of"]
