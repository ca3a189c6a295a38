"""Prometheus metrics: every series of a phase or counter exists from the start, and no label is unbounded.

Registries are bounded by `SERIES_LIMIT`; what the limit left out is counted.
"""

import math
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from agent.causes import Cause
from agent.diagnosis import HOST_STEPS
from agent.model import Diagnosis, Finding, Report, Trigger, Verdict
from agent.sinks.cache_metrics import CacheMetrics

SERIES_LIMIT = 100
BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The series of one agent, in a registry of their own; ``cache`` are those of the cached images."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        gauge, counter = self._gauge, self._counter
        gauge("build_info", "Constant 1, labelled with the version.", ("version",)).labels(version).set(1)
        self._up = gauge("runtime_up", "Whether the container runtime answered in the last round.")
        self._rounds = counter("rounds", "Rounds that were run, by what triggered them.", ("trigger",))
        self._last = gauge("last_round_timestamp_seconds", "When the last round ended.")
        self._findings = gauge("finding", "1 for a node check that is bad, by cause.", ("check", "cause"))
        self._success = gauge("probe_success", "1 if the registry could be reached.", ("registry",))
        self._probe_seconds = gauge("probe_duration_seconds", "Time of the last probe.", ("registry",))
        self._failures = counter("probe_failures", "Probes that failed, by cause.", ("registry", "cause"))
        self._phase = Histogram(
            "node_agent_probe_phase_seconds", "Time of each rung.", ("phase",), buckets=BUCKETS, registry=self.registry
        )
        self._free = gauge("image_filesystem_free_bytes", "Free bytes of the file system that holds the images.")
        self._images = gauge("cached_images", "Images that containerd has cached.")
        self._expiry = gauge(
            "tls_not_after_timestamp_seconds", "When the certificate that the host showed ends.", ("registry", "host")
        )
        for unknown in (self._up, self._last, self._images, self._free):
            unknown.set(math.nan)  # until the first round knows better
        self._left_out = counter("series_left_out", "Probes not shown since the limit of series was reached.")
        self.cache = CacheMetrics(self.registry)
        self._start_series()
        self._known: set[str] = set()

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"node_agent_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"node_agent_{name}", text, labels, registry=self.registry)

    def _start_series(self) -> None:
        for trigger in Trigger:
            self._rounds.labels(trigger)
        for phase in HOST_STEPS:
            self._phase.labels(phase)

    def take(self, report: Report, now: float) -> None:
        """Show what a round saw and did; `now` in epoch seconds."""
        self._rounds.labels(report.trigger).inc()
        self._last.set(now)
        self._take_node(report.findings)
        self._forget(report.wanted)
        self._take_probes(report.diagnoses)
        self._images.set(math.nan if report.cached is None else report.cached)

    def _take_node(self, findings: Iterable[Finding]) -> None:
        self._findings.clear()
        for finding in findings:
            if finding.check == "runtime":
                self._up.set(finding.verdict is Verdict.OK)
            if finding.verdict is not Verdict.OK:
                self._findings.labels(finding.check, finding.cause or Cause.UNKNOWN).set(1)
            if "free" in finding.evidence:
                self._free.set(float(finding.evidence["free"]))

    def _forget(self, wanted: Iterable[str]) -> None:
        """Registries that are not probed any more have no series any more."""
        for registry in self._known - set(wanted):
            self._success.remove(registry)
            self._probe_seconds.remove(registry)
            self._known.discard(registry)

    def _take_probes(self, diagnoses: Iterable[Diagnosis]) -> None:
        for diagnosis in diagnoses:
            if diagnosis.image not in self._known and len(self._known) >= SERIES_LIMIT:
                self._left_out.inc()
                continue
            self._known.add(diagnosis.image)
            self._success.labels(diagnosis.image).set(diagnosis.verdict is Verdict.OK)
            self._probe_seconds.labels(diagnosis.image).set(diagnosis.seconds)
            if diagnosis.verdict is not Verdict.OK:
                self._failures.labels(diagnosis.image, diagnosis.cause or Cause.UNKNOWN).inc()
            self._take_steps(diagnosis)

    def _take_steps(self, diagnosis: Diagnosis) -> None:
        for step in diagnosis.steps:
            if step.check in HOST_STEPS:
                self._phase.labels(step.check).observe(step.seconds)
            if ends := step.evidence.get("not_after_timestamp_seconds"):
                self._expiry.labels(diagnosis.image, step.subject).set(float(ends))
