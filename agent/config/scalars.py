"""Durations and sizes, as a settings file writes them."""

import json
import re


class SettingsError(Exception):
    """One line: the file, the key, what is wrong with it and what to write instead."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(character if character.isprintable() else " " for character in text))


class Seconds(float):
    """A duration, written with its unit: ``30s``, ``5m``, ``1h30m``."""


class Bytes(int):
    """A size, written with its unit: ``64KiB``, ``10MiB``, ``1GiB`` (also as Kubernetes writes it, ``10Mi``)."""


_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([KMGT])iB?")
_BINARY = " KMGT"


def parse_seconds(text: str) -> Seconds:
    """``1h30m`` → 5400. `ValueError` says what to write."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text[:40]!r} is no duration: write a number and its unit, such as 30s, 5m or 1h30m")
    return Seconds(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def parse_bytes(text: str) -> Bytes:
    """``64KiB`` → 65536. `ValueError` says what to write."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no size: write a number and its unit, such as 64KiB, 10MiB or 1GiB")
    return Bytes(float(found[1]) * 1024 ** _BINARY.index(found[2]))


def convert(wanted: type, value: object) -> object:
    """The ``dec_hook`` of msgspec for `Seconds` and `Bytes`; it puts the key behind the text of a `ValueError`."""
    parse = parse_seconds if wanted is Seconds else parse_bytes
    if isinstance(value, str):
        return parse(value)
    example = "30s" if wanted is Seconds else "10MiB"
    raise ValueError(f"{str(value)[:40]} has no unit: write it with one, such as {example}")


def written(value: object) -> str:
    """A value as a settings file writes it (YAML and TOML alike, but for the null that TOML lacks)."""
    if isinstance(value, Seconds):
        return _written_seconds(value)
    if isinstance(value, Bytes):
        return _written_bytes(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value)


def _written_seconds(value: Seconds) -> str:
    if value % 1:
        return f"{value * 1000:.0f}ms"
    left, parts = int(value), []
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        amount, left = divmod(left, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"


def _written_bytes(value: Bytes) -> str:
    amount, unit = float(value) / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount < 1024 or amount % 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:f}".rstrip("0").rstrip(".") + unit
