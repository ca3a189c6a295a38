"""The log: JSON on stderr, one sentence for each round, each fault of the cache, and each deed.

Nothing is said of images that are sound: silence is the good news.
"""

import logging
import sys
from collections.abc import Callable

import structlog

from agent.model import CacheReport, Diagnosis, Finding, ImageReport, Report, Verdict

PROOF = ("path", "expected", "found")
"""What of a finding's evidence goes into its line."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str) -> structlog.typing.FilteringBoundLogger:
    """A logger that writes one JSON object a line."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


def tell(logger: structlog.typing.FilteringBoundLogger, report: Report) -> None:
    """One line for the round: at level warning when something is bad."""
    bad = [diagnosis for diagnosis in report.diagnoses if diagnosis.verdict is not Verdict.OK]
    node = [finding for finding in report.findings if finding.verdict is not Verdict.OK]
    write = logger.warning if bad or node else logger.info
    write(
        sentence(report),
        trigger=report.trigger,
        seconds=round(report.seconds, 3),
        problems=[{"subject": f.check, "cause": f.cause, "detail": f.detail} for f in node]
        + [{"subject": d.image, "cause": d.cause, "detail": d.summary} for d in bad],
    )


def sentence(report: Report) -> str:
    """What the round found, for people."""
    well = sum(diagnosis.verdict is Verdict.OK for diagnosis in report.diagnoses)
    node = [f"{finding.check}: {finding.cause}" for finding in report.findings if finding.verdict is not Verdict.OK]
    reached = f"{well} of {len(report.diagnoses)} registries can be reached"
    worst = ", ".join(_names(report.diagnoses))
    return "; ".join(part for part in (*node, reached, worst) if part)


def _names(diagnoses: tuple[Diagnosis, ...]) -> list[str]:
    return [f"{d.image}: {d.cause}" for d in diagnoses if d.verdict is not Verdict.OK][:10]


def tell_cache(logger: structlog.typing.FilteringBoundLogger, report: CacheReport) -> None:
    """One line for each finding: at level warning when something is bad, at info when it could not be told."""
    for image in report.images:
        for finding in image.findings:
            write = logger.warning if finding.verdict is Verdict.BAD else logger.info
            what = "is corrupt" if finding.verdict is Verdict.BAD else "could not be verified"
            write(f"{image.image.title} {what}: {finding.detail}", trigger=report.trigger, **_proof(image, finding))


def _proof(report: ImageReport, finding: Finding) -> dict[str, str]:
    proof = {key: finding.evidence[key] for key in PROOF if key in finding.evidence}
    return {"image": report.image.title, "cause": str(finding.cause), "subject": finding.subject, **proof}


def tell_mended(logger: structlog.typing.FilteringBoundLogger, report: ImageReport) -> None:
    """One line for a repair: what was done, and what that came to."""
    well = report.verdict is Verdict.OK
    write = logger.info if well else logger.warning
    write(
        f"{report.image.title} is sound again" if well else f"{report.image.title} is as it was: {_why(report)}",
        image=report.image.title,
        verdict=report.verdict,
        deeds=[{"action": d.action, "outcome": d.outcome, "seconds": round(d.seconds, 3)} for d in report.deeds],
    )


def _why(report: ImageReport) -> str:
    return "; ".join(deed.outcome for deed in report.deeds if deed.outcome != "done") or "mending did not help"


class Once:
    """Says each trouble once for as long as its reason stays the same; an empty reason ends it, and says nothing."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._reasons: dict[str, str] = {}

    def __call__(self, trouble: str, reason: str) -> None:
        if reason and reason != self._reasons.get(trouble):
            self._write(f"{trouble}: {reason}")
        self._reasons[trouble] = reason
