"""Text for people: colour and progress bars only on a terminal. tqdm is loaded only by what shows progress."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TextIO

from agent.diagnosis import fix_of
from agent.explain import Explanation
from agent.meanings import MEANINGS
from agent.model import Deed, Diagnosis, Finding, ImageReport, Report, Verdict

if TYPE_CHECKING:
    from tqdm import tqdm

COLOURS = {"ok": "32", "bad": "31", "unknown": "33"}
_COLUMNS = " {:<{width}}  {:>9}  {:<9}  {:<7}  {}"
ORDER = (Verdict.BAD, Verdict.UNKNOWN, Verdict.OK)
MARKS = {Verdict.OK: "✓", Verdict.BAD: "✗", Verdict.UNKNOWN: "?"}


class Terminal:
    """Writes to stdout, coloured if that is a terminal (and NO_COLOR is not set)."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._colours = self._out.isatty() and "NO_COLOR" not in os.environ

    def diagnosis(self, found: Diagnosis) -> None:
        """The verdict; for what is not well the rungs, the cause and its fix, else the rungs on one line."""
        self._line(self._verdict(found.verdict), f"{found.image}: {found.cause or found.summary}", found.seconds)
        if found.verdict is Verdict.OK and all(step.verdict is Verdict.OK for step in found.steps):
            self._write("    " + " · ".join(f"{step.check} {step.seconds * 1000:.0f} ms" for step in found.steps))
            return
        if found.cause:
            self._write(f"    {found.summary}")
        for step in found.steps:
            self._step(step, said=found.summary)
        self._fixes(fix_of(found))

    def explanation(self, found: Explanation) -> None:
        """Cause, sentence, meaning and fix."""
        self._write(f"{found.cause} ({found.scope}): {found.summary}")
        self._write(f"    {MEANINGS[found.cause].meaning}")
        self._fixes(found.fix)

    def images(self, reports: Iterable[ImageReport], count: int, seconds: float, advised: Iterable[str] = ()) -> None:
        """A table of the cached images, the worst first; then what was found, and what was done."""
        reports = tuple(sorted(reports, key=lambda report: (ORDER.index(report.verdict), report.image.title)))
        width = min(max((len(report.image.title) for report in reports), default=0), 60)
        titles = _COLUMNS.format("IMAGE", "SIZE", "UNPACKED", "USED BY", "FOUND", width=width)
        self._write(titles, lead=f"{'STATE':<7}")
        for report in reports:
            self._write(_COLUMNS.format(*_row(report), width=width).rstrip(), lead=self._verdict(report.verdict))
        for report in reports:
            if report.findings or report.deeds:
                self._image(report)
        sound = sum(report.verdict is Verdict.OK for report in reports)
        images = "1 image" if len(reports) == 1 else f"{len(reports)} images"
        self._write(f"{sound} of {images} sound; {_size(count)} read in {seconds:.1f} s")
        for sentence in advised:
            self._write(f"advice: {sentence}")

    def round(self, report: Report) -> None:
        """One whole round: the node, then the registries."""
        for finding in report.findings:
            self._step(finding)
        for diagnosis in report.diagnoses:
            self.diagnosis(diagnosis)

    def pairs(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """A titled list of names and values; nothing at all where there are none."""
        for number, (name, value) in enumerate(rows):
            if not number:
                self._write(title)
            self._write(f"    {name:<20} {value}")

    def _image(self, report: ImageReport) -> None:
        self._write("")
        self._line(self._verdict(report.verdict), report.image.title)
        for finding in report.findings:
            self._finding(finding, report.image.title)
        if report.image.in_use:
            self._write(f"    in use by {', '.join(report.image.in_use[:5])}")
        for deed in report.deeds:
            self._write(f"    {_deed(deed)}")
        if report.verdict is Verdict.BAD and not report.deeds:
            self._write(f"    to mend it: node-agent repair {report.image.title if report.image.id else ''}".rstrip())

    def _finding(self, finding: Finding, title: str) -> None:
        """What was found, the paths, and whose it is besides."""
        self._write(f"    {finding.cause}: {finding.detail}")
        for path in finding.evidence.get("paths", "").splitlines()[1:]:
            self._write(f"        {path}")
        for key, words in (("layer", "layer"), ("images", "images with it"), ("in_use", "in use by")):
            value = finding.evidence.get(key, "")
            if value not in {"", title} and value not in finding.detail:
                self._write(f"        {words}: {value}")

    def _step(self, step: Finding, said: str = "") -> None:
        """One rung; what was `said` already is not said again."""
        mark = self._colour(MARKS[step.verdict], COLOURS[step.verdict])
        told = (step.cause or "", "" if step.cause and step.detail == said else step.detail)
        words = ": ".join(word for word in told if word)
        rung = f" {step.check:<10} {step.subject:<28} {step.seconds * 1000:7.1f} ms  {words}"
        self._write(rung, lead=f"    {mark}")

    def _fixes(self, fixes: tuple[str, ...]) -> None:
        for number, fix in enumerate(fixes, 1):
            self._write(f"    {number}. {fix}")

    def _verdict(self, verdict: Verdict) -> str:
        return self._colour(f"{verdict:<7}", COLOURS[verdict])

    def _line(self, verdict: str, text: str, seconds: float | None = None) -> None:
        self._write(f" {text}" + (f"  ({seconds:.2f} s)" if seconds is not None else ""), lead=verdict)

    def _colour(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _write(self, text: str, lead: str = "") -> None:
        """`lead` is ours and may be coloured; of `text` nothing reaches the terminal that it would obey."""
        safe = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
        print(lead + safe, file=self._out, flush=True)


@contextmanager
def progress(what: str, total: int | None, delay: float = 0.0) -> Iterator[Callable[[int], None]]:
    """A bar of bytes on stderr if that is a terminal; yields a function that is told of more bytes (any thread).

    Nothing is shown before the work has taken `delay` seconds.
    """
    with _bar(what, total, delay) as bar:
        yield lambda count: _update(bar, count)


@contextmanager
def verify_progress(
    total: int | None, images: int
) -> Iterator[tuple[Callable[[int], None], Callable[[ImageReport], None]]]:
    """The same for verifying: with how many images are done, and what is bad so far; two functions to be told."""
    with _bar("verifying", total, 0.0) as bar:
        done: list[Verdict] = []

        def finished(report: ImageReport) -> None:
            done.append(report.verdict)
            bad = f", {done.count(Verdict.BAD)} bad" if Verdict.BAD in done else ""
            bar.set_description(f"verifying, {len(done)} of {images} images{bad}")

        yield (lambda count: _update(bar, count)), finished


def _update(bar: "tqdm[NoReturn]", count: int) -> None:
    bar.update(count)


@contextmanager
def pull_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """The same for a pull, whose bytes so far and in all are told."""
    with _bar(what, None, 0.5) as bar:

        def seen(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield seen


def _bar(what: str, total: int | None, delay: float) -> "tqdm[NoReturn]":
    from tqdm import tqdm  # 30 ms and 2 MiB that only some commands need

    return tqdm(
        desc=what,
        total=total,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        leave=False,
        delay=delay,
        disable=not sys.stderr.isatty(),
    )


def _row(report: ImageReport) -> tuple[str, ...]:
    """Name, compressed size, unpacked layers, number of users and causes of an image."""
    image = report.image
    size = _size(sum(blob.size for blob in image.blobs)) if image.blobs else ""
    layers = f"{len(image.snapshots)} layers" if image.snapshots else ""
    causes = ", ".join(dict.fromkeys(str(finding.cause) for finding in report.findings))
    return image.title, size, layers, str(len(image.in_use) or ""), causes


def _deed(deed: Deed) -> str:
    return f"{deed.action} {deed.image}: {deed.outcome} ({deed.seconds:.1f} s)"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
