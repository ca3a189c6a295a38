"""WWW-Authenticate as containerd reads it: one challenge a header line, bearer before basic.

Facts: containerd remotes/docker/auth/parse.go (parameter names without case, quoted strings with
backslashes, a second scheme in the same line is not seen).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.registry.messages import Headers

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a grammar
_SCHEME = re.compile(rf"\s*({_TOKEN})")
_PARAMETER = re.compile(rf'\s*({_TOKEN})=(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(,?)')
_RANK = {"bearer": 0, "digest": 1, "basic": 2}


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a registry wants to be asked: ``scheme`` is ``bearer``, ``digest`` or ``basic``."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def scopes(self) -> frozenset[str]:
        """What the registry says the token must grant."""
        return frozenset(self.parameters.get("scope", "").split())


def read(headers: Headers) -> tuple[Challenge, ...]:
    """The challenges of an answer, the one to take first; empty where none is understood."""
    found = [_parse(line[:8192]) for line in headers.getall("www-authenticate")]
    return tuple(sorted((each for each in found if each.scheme in _RANK), key=lambda each: _RANK[each.scheme]))


def _parse(line: str) -> Challenge:
    scheme = _SCHEME.match(line)
    if not scheme:
        return Challenge("")
    parameters: dict[str, str] = {}
    position = scheme.end()
    while match := _PARAMETER.match(line, position):
        name, quoted, plain, comma = match.groups()
        parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = match.end()
        if not comma:
            break
    return Challenge(scheme[1].lower(), parameters)
