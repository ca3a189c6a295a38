"""The log: JSON on stderr, one sentence for each round."""

import logging
import sys

import structlog

from agent.model import Diagnosis, Report, Verdict

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
