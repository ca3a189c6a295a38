"""Prometheus metrics of the cache: images by state, what was read, what was found, and what mending came to.

An image has a series of its own only while it is corrupt, and no more than `NAMES_LIMIT` have one at a time; what the
limit left out is counted.
"""

import math
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from agent.causes import Cause, Scope, scope_of
from agent.model import CacheReport, Depth

NAMES_LIMIT = 20
STATES = ("ok", "bad", "unknown", "unverified")
OUTCOMES = ("mended", "failed", "left")
BUCKETS = (0.1, 1, 10, 60, 300, 900, 3600)


class CacheMetrics:
    """The series of the cache, in the agent's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._images = Gauge(
            "node_agent_images", "Cached images by what is known of them.", ("state",), registry=registry
        )
        self._faults = Gauge(
            "node_agent_image_faults", "Cached images that have this fault now.", ("cause",), registry=registry
        )
        self._oldest = Gauge(
            "node_agent_image_last_full_verification_timestamp_seconds",
            "When the image that waits longest was last verified in full.",
            registry=registry,
        )
        self._corrupt = Gauge(
            "node_agent_image_corrupt", "1 while the image is corrupt.", ("image",), registry=registry
        )
        self._left_out = Counter(
            "node_agent_image_corrupt_left_out", "Corrupt images without a series of their own.", registry=registry
        )
        self._bytes = Counter("node_agent_verified_bytes", "Bytes read to verify images.", registry=registry)
        self._seconds = Histogram(
            "node_agent_verification_seconds", "Time of one full look.", buckets=BUCKETS, registry=registry
        )
        self._repairs = Counter(
            "node_agent_repairs", "Repairs of images, by what they came to.", ("outcome",), registry=registry
        )
        self._unclean = Counter(
            "node_agent_unclean_boots", "Boots after an unclean shutdown of the node.", registry=registry
        )
        self._shown: frozenset[str] = frozenset()
        self._unshown: frozenset[str] = frozenset()
        self._met: frozenset[Cause] = frozenset()
        self._start_series()

    def _start_series(self) -> None:
        self._oldest.set(math.nan)
        for state in STATES:
            self._images.labels(state).set(math.nan)  # until the cache could be listed
        self._show_faults({})
        for outcome in OUTCOMES:
            self._repairs.labels(outcome)

    def booted(self, unclean_boots: int) -> None:
        """How many boots after an unclean shutdown there were since the agent was installed."""
        self._unclean.inc(unclean_boots)

    def take(self, report: CacheReport) -> None:
        """Count a look at an image."""
        self._bytes.inc(report.bytes)
        if report.depth is Depth.FULL:
            self._seconds.observe(report.seconds)

    def mended(self, outcome: str) -> None:
        """Count a repair: one of `OUTCOMES`."""
        self._repairs.labels(outcome).inc()

    def state(
        self, states: Mapping[str, int], causes: Mapping[Cause, int], oldest: float, corrupt: Sequence[str]
    ) -> None:
        """Show the whole cache: images by state and by cause, the oldest full verification, the corrupt ones' names."""
        for state in STATES:
            self._images.labels(state).set(states.get(state, 0))
        self._show_faults(causes)
        self._oldest.set(oldest)
        self._name(corrupt)

    def _show_faults(self, causes: Mapping[Cause, int]) -> None:
        """The causes of the cache have their series always; another one, such as a runtime's error, while it lasts."""
        for cause in Cause:
            if count := causes.get(cause, 0):
                self._faults.labels(cause).set(count)
            elif scope_of(cause) is Scope.CACHE or cause is Cause.UNKNOWN:
                self._faults.labels(cause).set(0)
            elif cause in self._met:
                self._faults.remove(cause)
        self._met = frozenset(causes)

    def _name(self, corrupt: Sequence[str]) -> None:
        """Those that have a series keep it for as long as they are corrupt."""
        now = frozenset(corrupt)
        for name in self._shown - now:
            self._corrupt.remove(name)
        kept = self._shown & now
        fresh = sorted(now - kept)[: NAMES_LIMIT - len(kept)]
        self._shown = kept | frozenset(fresh)
        for name in fresh:
            self._corrupt.labels(name).set(1)
        unshown = now - self._shown
        self._left_out.inc(len(unshown - self._unshown))
        self._unshown = unshown
