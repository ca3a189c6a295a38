"""Go's filepath.Match for one host label: ``*``, ``?``, ``[a-z]``, ``[^a]`` and a backslash before any of them.

The patterns are keys of pull secrets, written by tenants: matching is linear in pattern times label,
which a regular expression with many stars is not.
"""

import re
from functools import lru_cache

_STAR = None
_PIECE = re.compile(r"(\*+)|(\?)|\[((?:\\.|[^\]\\])+)\]|\\(.)|([^\[\\*?])", re.DOTALL)
_RANGE = re.compile(r"(\\.|[^\\\-])(?:-(\\.|[^\\\-]))?", re.DOTALL)
_Piece = tuple[bool, tuple[tuple[str, str], ...]]


def matches(pattern: str, text: str) -> bool:
    """Whether all of ``text`` fits; False for a pattern that Go calls malformed."""
    pieces = _compile(pattern)
    return pieces is not None and _run(pieces, text)


def _run(pieces: tuple[_Piece | None, ...], text: str) -> bool:
    """Greedy with one way back: to the last star, which then takes one character more."""
    piece = at = 0
    star, mark = -1, 0
    while at < len(text):
        current = pieces[piece] if piece < len(pieces) else (False, ())
        if current is _STAR:
            star, mark, piece = piece, at, piece + 1
        elif _fits(current, text[at]):
            piece, at = piece + 1, at + 1
        elif star >= 0:
            mark += 1
            piece, at = star + 1, mark
        else:
            return False
    return all(rest is _STAR for rest in pieces[piece:])


def _fits(piece: _Piece, char: str) -> bool:
    negated, ranges = piece
    return char != "/" and any(low <= char <= high for low, high in ranges) is not negated


@lru_cache(maxsize=256)
def _compile(pattern: str) -> tuple[_Piece | None, ...] | None:
    pieces: list[_Piece | None] = []
    position = 0
    while match := _PIECE.match(pattern, position):
        star, one, members, escaped, plain = match.groups()
        position = match.end()
        if star:
            pieces.append(_STAR)
        elif one:
            pieces.append((True, ()))
        elif members:
            ranges = _ranges(members.removeprefix("^"))
            if ranges is None:
                return None
            pieces.append((members.startswith("^"), ranges))
        else:
            pieces.append((False, ((escaped or plain, escaped or plain),)))
    return tuple(pieces) if position == len(pattern) else None


def _ranges(members: str) -> tuple[tuple[str, str], ...] | None:
    found: list[tuple[str, str]] = []
    position = 0
    while match := _RANGE.match(members, position):
        low, high = match[1][-1], (match[2] or match[1])[-1]
        found.append((low, high))
        position = match.end()
    return tuple(found) if found and position == len(members) else None
