"""Durations and sizes, as a settings file writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Bytes, Seconds
from agent.config.scalars import parse_bytes, parse_seconds, written


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), ("1d", 86400), ("0s", 0)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "5S", "5x", "1h30", "٣s", "1e3s", "+5s", "5s\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and its unit"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"), [("64KiB", 65536), ("10Mi", 10 * 1024**2), ("1.5 GiB", 3 * 2**29), ("1TiB", 2**40), ("0KiB", 0)]
)
def test_sizes_have_binary_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "5", "5K", "5KB", "5kib", "MiB", "-1MiB", "5MiB\n"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and its unit"):
        parse_bytes(text)


@given(st.integers(0, 10**7).map(lambda number: Seconds(number / 1000)))
def test_a_duration_survives_being_written(value: Seconds) -> None:
    assert parse_seconds(written(value)) == pytest.approx(value)


@given(st.integers(0, 2**39).map(lambda number: Bytes(number * 1024)))
def test_a_size_survives_being_written(value: Bytes) -> None:
    assert parse_bytes(written(value)) == value
