"""What is known of each cached image from the last time it was looked at: the scan's position, over restarts.

Kept in ``verified.json``: ``{"version": 1, "images": {ID: {"verified", "looked", "verdict", "causes", "tries",
"boot"}}}``. Only images that are cached keep a standing, so the file is as bounded as the cache.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.causes import Cause
from agent.model import Depth, Fault, Image, ImageReport, Verdict
from agent.node import durable

VERSION = 1
LIMIT = 16 * 1024 * 1024
SAVE_EVERY = 30.0
"""Seconds between two writings: what a kill loses is verified once more."""

NEVER = 0.0
UNVERIFIED = "unverified"
STATES = (*Verdict, UNVERIFIED)


@dataclass(frozen=True, slots=True)
class Standing:
    """``verified`` is when the image was last read in full, `NEVER` if it was not; ``looked`` when it was looked at.

    Epoch seconds. ``causes`` are those of what is wrong now; ``tries`` counts the looks in a row that did not find it
    sound; ``boot`` is the node's boot ID at the last full verification.
    """

    verified: float = NEVER
    looked: float = NEVER
    verdict: Verdict = Verdict.OK
    causes: tuple[Cause, ...] = ()
    tries: int = 0
    boot: str = ""

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return UNVERIFIED if self.verified == NEVER and self.verdict is Verdict.OK else str(self.verdict)


@dataclass(frozen=True, slots=True)
class Summary:
    """The cached images taken together: how many in each of `STATES`, how many have each cause.

    A download that no pull can finish counts among the causes. ``oldest`` is when the image that waits longest was last
    verified in full, NaN if none was; ``corrupt`` are titles.
    """

    states: Mapping[str, int]
    causes: Mapping[Cause, int]
    oldest: float
    corrupt: tuple[str, ...]


def noted(old: Standing, report: ImageReport, depth: Depth, now: float, boot: str) -> Standing:
    """The standing after a look; only a full one that could tell counts as a full verification.

    Neither a lesser look that finds nothing nor one that could not tell takes back what was found.
    """
    full = depth is Depth.FULL and report.verdict is not Verdict.UNKNOWN
    if report.verdict is Verdict.OK:
        if full:
            return Standing(now, now, boot=boot)
        return replace(old, looked=now)
    if report.verdict is Verdict.UNKNOWN and old.verdict is Verdict.BAD:
        return replace(old, looked=now, tries=old.tries + 1)
    told = (finding.cause for finding in report.findings if finding.verdict is report.verdict)
    causes = tuple(sorted({cause or Cause.UNKNOWN for cause in told}))
    seen = Standing(old.verified, now, report.verdict, causes, old.tries + 1, old.boot)
    return replace(seen, verified=now, boot=boot) if full else seen


def summary(images: Iterable[Image], standings: Mapping[str, Standing], stuck: int = 0) -> Summary:
    """What the standings of the cached images come to, and as many `stuck` downloads."""
    found = [(image, standings.get(image.id, Standing())) for image in images]
    causes = Counter(cause for _, standing in found for cause in standing.causes)
    causes[Cause.INGEST_STUCK] += stuck
    verified = [standing.verified for _, standing in found if standing.verified != NEVER]
    return Summary(
        states={**dict.fromkeys(STATES, 0), **Counter(standing.state for _, standing in found)},
        causes=causes,
        oldest=min(verified, default=math.nan),
        corrupt=tuple(sorted(image.title for image, standing in found if standing.verdict is Verdict.BAD)),
    )


class Standings(Mapping[str, Standing]):
    """The standings by image ID, read from `path`; what has to be told goes to `say`.

    A file that cannot be understood is set aside: everything is verified anew. A disk that cannot be written costs
    the position, and nothing else.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._complaint = ""
        self._saved = -math.inf
        self._changed = False
        self._found = self._read()

    def __getitem__(self, id: str) -> Standing:  # noqa: A002 - the word of `Image`
        return self._found[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def note(self, report: ImageReport, depth: Depth, now: float, boot: str) -> None:
        """Remember what a look at an image came to."""
        old = self._found.get(report.image.id, Standing())
        self._found[report.image.id] = noted(old, report, depth, now, boot)
        self._changed = True

    def keep(self, ids: Collection[str]) -> None:
        """Forget every image that is not among `ids`, the cached ones."""
        gone = self._found.keys() - set(ids)
        for each in gone:
            del self._found[each]
        self._changed |= bool(gone)

    def retry(self) -> None:
        """Whatever is corrupt is worth another look now: something was mended, which it may have waited for."""
        for id, standing in self._found.items():  # noqa: A001 - the word of `Image`
            if standing.verdict is Verdict.BAD:
                self._found[id] = replace(standing, looked=NEVER)

    def save(self, now: float, *, at_once: bool = False) -> None:
        """Write what changed, at most every `SAVE_EVERY` seconds of `now` (monotonic) if not told otherwise."""
        if not self._changed or (not at_once and now < self._saved + SAVE_EVERY):
            return
        self._saved = now
        try:
            durable.make_folder(self._path.parent)
            durable.replace(self._path, encode(self._found))
        except Fault as fault:
            self._complain(f"after a restart the verification begins anew: {fault.detail}")
            return
        self._changed = False
        self._complaint = ""

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._say(text)
        self._complaint = text

    def _read(self) -> dict[str, Standing]:
        try:
            content = durable.read(self._path, LIMIT)
            return {} if content is None else decode(content)
        except (OSError, ValueError, OverflowError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self._say(f"{durable.set_aside(self._path, error)}: every image is verified anew")
            return {}


def encode(standings: Mapping[str, Standing]) -> bytes:
    """The file's content."""
    images = {
        id: {
            "verified": standing.verified,
            "looked": standing.looked,
            "verdict": standing.verdict,
            "causes": list(standing.causes),
            "tries": standing.tries,
            "boot": standing.boot,
        }
        for id, standing in standings.items()  # noqa: A001 - the word of `Image`
    }
    return json.dumps({"version": VERSION, "images": images}, indent=1).encode()


def decode(content: bytes) -> dict[str, Standing]:
    """The standings of a file of version 1; `ValueError`, `TypeError`, `KeyError` or `AttributeError` for another."""
    document = json.loads(content)
    if document["version"] != VERSION:
        raise ValueError("a version that this agent does not know")
    return {id: _standing(record) for id, record in document["images"].items()}  # noqa: A001 - the word of `Image`


def _standing(record: Mapping[str, Any]) -> Standing:
    verified, looked = float(record["verified"]), float(record["looked"])
    if not math.isfinite(verified) or not math.isfinite(looked):
        raise ValueError("not a time")
    return Standing(
        verified=verified,
        looked=looked,
        verdict=Verdict(record["verdict"]),
        causes=tuple(Cause(cause) for cause in record["causes"]),
        tries=int(record["tries"]),
        boot=str(record["boot"]),
    )
