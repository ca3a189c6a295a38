"""The settings of the agent: one frozen tree, read from a file of YAML or TOML.

`load` reads a file, `check` its text; what is wrong with it is one `SettingsError`, which names the key and
says what to write instead. The keys themselves are in `agent.config.tree`.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import msgspec

from agent.config.page import Key, describe, example, leaves, markdown
from agent.config.scalars import Bytes, Seconds, SettingsError, convert, written
from agent.config.text import Kind, read_tree
from agent.config.tree import Level, Section, Settings

__all__ = ["Bytes", "Key", "Seconds", "Settings", "SettingsError", "check", "describe", "example", "load", "markdown"]

LIMIT = 1024 * 1024
_KINDS: Mapping[str, Kind] = {".yaml": "yaml", ".yml": "yaml", ".json": "yaml", ".toml": "toml"}
_AT = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)

_PLAIN = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "str | null": "a text",
    "array": "a list",
    "object": "a table",
    "bool": "true or false",
    "null": "nothing",
}


def load(path: Path | None) -> Settings:
    """The settings of a file whose name ends in .yaml, .yml, .json or .toml; of no file, the defaults.

    `SettingsError` if it cannot be read, or is wrong.
    """
    if path is None:
        return Settings()
    try:
        return check(_read(path), _kind(path))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def check(text: str, kind: Kind) -> Settings:
    """The settings that a text says; an empty one says the defaults. `SettingsError` without a file's name."""
    tree = _known({} if (top := read_tree(text, kind)) is None else top, Settings, "")
    try:
        settings = msgspec.convert(tree, Settings, dec_hook=convert)
    except msgspec.ValidationError as error:
        raise SettingsError(_in_words(str(error))) from error
    for path, value, _, meta in leaves(settings):
        _in_range(path, value, meta)
        _in_form(path, value, meta)
    return settings


def _kind(path: Path) -> Kind:
    try:
        return _KINDS[path.suffix.lower()]
    except KeyError:
        raise SettingsError("the name of a settings file ends in .yaml, .yml, .json or .toml: rename it") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT + 1)
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror or error}") from error
    if len(content) > LIMIT:
        raise SettingsError("longer than 1 MiB: no settings file is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"byte {error.start + 1} is not UTF-8: save the file as UTF-8") from error


def _known(tree: object, section: type[Section], path: str) -> dict[str, object]:
    """The tree without its empty tables. Unknown keys are refused here: msgspec would not name the nearest one."""
    if not isinstance(tree, Mapping):
        raise SettingsError(
            f"{path or 'the whole'} is not a table: write keys and values, such as log: {{level: info}}"
        )
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    known: dict[str, object] = {}
    for key, value in tree.items():
        name = f"{path}.{key}" if path else f"{key}"
        if key not in fields:
            raise SettingsError(f"{name[:200]}: unknown key; {_nearest(str(key), path, tuple(fields))}")
        kind = fields[key]
        if not (isinstance(kind, type) and issubclass(kind, Section)):
            known[key] = value
        elif value is not None:
            known[key] = _known(value, kind, name)
    return known


def _nearest(key: str, path: str, fields: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key, fields, n=1)
    if close:
        return f"did you mean {path}.{close[0]}?" if path else f"did you mean {close[0]}?"
    elsewhere = [known.path for known in describe() if known.path.rpartition(".")[2] == key]
    if elsewhere:
        return f"it belongs elsewhere: {' or '.join(elsewhere)}"
    return f"known here: {', '.join(fields)}"


def _in_words(message: str) -> str:
    """msgspec's text with the key in front."""
    found = _AT.fullmatch(message)
    text, path = (found[1], found[2]) if found else (message, "")
    if text.startswith("Invalid enum value"):
        text = f"no such choice; write one of {', '.join(get_args(Level))}"
    for word, plain in _PLAIN.items():
        text = text.replace(f"`{word}`", plain)
    return f"{path}: {text.replace('Expected', 'write')}"


def _in_range(path: str, value: object, meta: msgspec.Meta) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = ((meta.extra or {})[end] for end in ("low", "high"))
    if low is not None and not value >= low:  # so written for NaN
        raise SettingsError(f"{path}: {written(value)} is too little: write {written(type(value)(low))} or more")
    if high is not None and value > high:
        raise SettingsError(f"{path}: {written(value)} is too much: write {written(type(value)(high))} or less")


def _in_form(path: str, value: object, meta: msgspec.Meta) -> None:
    form = (meta.extra or {})["form"]
    if form is not None and isinstance(value, str) and not re.fullmatch(form[0], value):
        raise SettingsError(f"{path}: {value[:80]!r} is not usable: {form[1]}")
