"""The metrics of the cache: every series from the start, and names only while something is wrong."""

import math

import pytest
from prometheus_client import CollectorRegistry

from agent.causes import Cause, Scope, scope_of
from agent.model import CacheReport, Depth, Trigger
from agent.sinks.cache_metrics import NAMES_LIMIT, STATES, CacheMetrics


class Scraped:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = CacheMetrics(self.registry)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"node_agent_{name}", labels)

    def corrupt(self, *names: str) -> None:
        self.metrics.state({"bad": len(names)}, {}, math.nan, names)

    def named(self) -> set[str]:
        samples = [sample for metric in self.registry.collect() for sample in metric.samples]
        return {sample.labels["image"] for sample in samples if sample.name == "node_agent_image_corrupt"}


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def test_every_series_is_there_from_the_start_and_what_is_not_known_is_nan(scraped: Scraped) -> None:
    for state in STATES:
        assert math.isnan(scraped.value("images", state=state) or 0.0)
    for cause in Cause:
        assert (scraped.value("image_faults", cause=cause) == 0) == (scope_of(cause) in {Scope.CACHE, Scope.NONE})
    for outcome in ("mended", "failed", "left"):
        assert scraped.value("repairs_total", outcome=outcome) == 0
    for counter in ("verified_bytes_total", "unclean_boots_total", "image_corrupt_left_out_total"):
        assert scraped.value(counter) == 0
    assert math.isnan(scraped.value("image_last_full_verification_timestamp_seconds") or 0.0)


def test_looks_and_repairs_are_counted(scraped: Scraped) -> None:
    scraped.metrics.take(CacheReport(Trigger.SCHEDULE, Depth.FULL, (), 100, 2.0))
    scraped.metrics.take(CacheReport(Trigger.SCHEDULE, Depth.QUICK, (), 1, 2.0))
    scraped.metrics.mended("left")
    scraped.metrics.booted(3)
    assert scraped.value("verified_bytes_total") == 101
    assert scraped.value("verification_seconds_count") == 1
    assert scraped.value("repairs_total", outcome="left") == 1
    assert scraped.value("unclean_boots_total") == 3


def test_the_state_is_what_it_is_now_and_not_what_it_was(scraped: Scraped) -> None:
    scraped.metrics.state(
        {"ok": 2, "bad": 1}, {Cause.BLOB_CORRUPT: 1, Cause.RUNTIME_ERROR: 2}, 77.0, ("registry.example/a:1",)
    )
    assert scraped.value("images", state="ok") == 2
    assert scraped.value("images", state="unknown") == 0
    assert scraped.value("image_faults", cause="blob_corrupt") == 1
    assert scraped.value("image_faults", cause="runtime_error") == 2
    assert scraped.value("image_last_full_verification_timestamp_seconds") == 77.0
    assert scraped.value("image_corrupt", image="registry.example/a:1") == 1
    scraped.metrics.state({"ok": 3}, {}, 78.0, ())
    assert scraped.value("image_faults", cause="blob_corrupt") == 0
    assert scraped.value("image_faults", cause="runtime_error") is None
    assert scraped.named() == set()


def test_names_are_limited_and_what_the_limit_left_out_is_counted_once(scraped: Scraped) -> None:
    names = [f"image-{number:02}" for number in range(NAMES_LIMIT + 5)]
    scraped.corrupt(*names)
    scraped.corrupt(*names)
    assert len(scraped.named()) == NAMES_LIMIT
    assert scraped.value("image_corrupt_left_out_total") == 5
    scraped.corrupt(*names[3:])  # three are sound again, and three that were left out get their series
    assert scraped.named() == set(names[3 : NAMES_LIMIT + 3])
    assert scraped.value("image_corrupt_left_out_total") == 5
