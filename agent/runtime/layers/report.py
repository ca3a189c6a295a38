"""What a survey found, for people and for who mends."""

import heapq
from collections.abc import Callable, Iterator

from agent.runtime.layers.compare import Survey
from agent.runtime.layers.records import MOST, RANKS, Comparison, Difference, Usage, What
from agent.runtime.layers.tree import walk

_COUNTED = frozenset((What.MODE, What.OWNER, What.MTIME, What.XATTR))  # each path was there, and nothing else


def comparison(survey: Survey, count: Callable[[], Usage]) -> Comparison:
    """`count` counts the folder anew where what is in it is not what the tar says."""
    found = list(differences(survey))
    worst = heapq.nsmallest(MOST, found, key=lambda each: (RANKS[each.what], each.path))
    usage = survey.exact if all(each.what in _COUNTED for each in found) else None
    return Comparison(tuple(worst), len(found), usage or count())


def differences(survey: Survey) -> Iterator[Difference]:
    """All of them, in no order."""
    for directory in walk(survey.tree.root):
        if not (directory.found or directory.odd):
            continue
        path = directory.path
        yield from (Difference(path, *each) for each in directory.found)
        below = path + "/" if path else ""
        for name, found in directory.odd.items():
            yield from (Difference(below + name, *each) for each in found)
    for directory, name, what in survey.extra:
        yield Difference(f"{directory.path}/{name}".lstrip("/"), What.EXTRA, "nothing", what)
