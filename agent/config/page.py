"""What there is to set, for people: the list of keys, an example file and docs/settings.md."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from agent.config.scalars import Bytes, Seconds, written
from agent.config.tree import Section, Settings


@dataclass(frozen=True, slots=True)
class Key:
    """One setting for people. ``type`` and ``default`` are in the words of a settings file.

    ``unit`` names what a number counts, or the range; it is empty where the type says all.
    """

    path: str
    type: str
    default: str
    unit: str
    description: str


def describe() -> tuple[Key, ...]:
    """Every key, in the order of the tree."""
    return tuple(
        Key(path, _type_word(kind), written(value), _unit(kind, meta), meta.description or "")
        for path, value, kind, meta in leaves(Settings())
    )


def leaves(section: Section, path: str = "") -> Iterator[tuple[str, object, object, msgspec.Meta]]:
    """Every key below: its path, its value, its type, and what is said about it."""
    hints = get_type_hints(type(section), include_extras=True)
    for field in msgspec.structs.fields(section):
        value, name = getattr(section, field.name), f"{path}{field.name}"
        if isinstance(value, Section):
            yield from leaves(value, f"{name}.")
        else:
            kind, meta = get_args(hints[field.name])
            yield name, value, kind, meta


def example() -> str:
    """A complete settings file in YAML that says the defaults, each key with its meaning."""
    lines = ["# Every key with its default: leave out what you do not change."]
    for section, keys in groupby(describe(), lambda key: key.path.rpartition(".")[0]):
        indent = ""
        if section:
            lines += ["", f"{section}:"]
            indent = "  "
        for key in keys:
            lines += _commented(key, indent)
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """docs/settings.md."""
    rows = [
        f"| `{key.path}` | {_cell(key.type)} | `{key.default}` | {key.unit} | {key.description} |" for key in describe()
    ]
    return "\n".join((_HEAD, *rows, "", _EXAMPLE_HEAD, "```yaml", example() + "```", ""))


_HEAD = """# Settings

`node-agent run --config FILE` reads one file, YAML or TOML, told apart by the end of its name. Every key may be left
out; an empty file says the defaults. Durations and sizes are written with their unit (`30s`, `5m`, `1h30m`; `64KiB`,
`10MiB`, `1GiB`). Unknown and doubled keys are refused, and so are YAML aliases. `node-agent config check FILE` says
what is wrong in a file, by key.

| key | type | default | range | meaning |
|---|---|---|---|---|"""
_EXAMPLE_HEAD = "## A complete file\n"


def _commented(key: Key, indent: str) -> list[str]:
    about = f"{key.description} ({key.type}{', ' if key.unit else ''}{key.unit})"
    comment = textwrap.wrap(about, 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    return [*comment, f"{indent}{key.path.rpartition('.')[2]}: {key.default}"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type_word(kind: object) -> str:
    words = {Seconds: "duration", Bytes: "size", str: "text", int: "number", float: "number", bool: "true or false"}
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "list of text"
    plain = next((arg for arg in get_args(kind) if arg is not type(None)), kind)
    return words[plain] if isinstance(plain, type) else str(plain)


def _unit(kind: object, meta: msgspec.Meta) -> str:
    extra: dict[str, Any] = meta.extra or {}
    low, high = (None if extra[end] is None else written(_typed(kind, extra[end])) for end in ("low", "high"))
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"{low} or more" if low is not None else ""


def _typed(kind: object, limit: float) -> object:
    plain = next((arg for arg in get_args(kind) if arg is not type(None)), kind)
    return plain(limit) if isinstance(plain, type) and issubclass(plain, int | float) else limit
