"""What to do about a cached image, and why: pure rules, each one a line that a test can quote.

Only ``bad`` findings lead to an action, and nothing is removed that cannot be pulled again (rules 1, 2, 4 and 5 of
the design).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.actions import Action, Evict, Fetch, Leave, Pull, Rebuild, Reload, ReplaceFiles, Unpack
from agent.causes import Cause
from agent.model import OVERLAYFS, Check, Diagnosis, Finding, Image, Verdict

BLOB_CAUSES = frozenset({Cause.BLOB_CORRUPT, Cause.BLOB_TRUNCATED, Cause.BLOB_MISSING})
ROWS_LOST = (
    "containerd and its snapshotter disagree on what is unpacked, and no call of containerd's mends that: drain the "
    "node, stop containerd, move its root directory away, start it, and let the pods pull again"
)


@dataclass(frozen=True, slots=True)
class Means:
    """What a repair may use: ``files`` whether the content store's files can be written, ``replace_files`` whether
    damaged files may be mended under running containers.

    ``lacking`` are layers that have to be unpacked again and are not here as sound blobs; ``hindered`` tells why the
    unpacked layers that others share cannot be dropped.
    """

    files: bool
    replace_files: bool = False
    lacking: tuple[str, ...] = ()
    hindered: str = ""


def plan_repair(
    image: Image, findings: Iterable[Finding], origin: Diagnosis | None, means: Means
) -> tuple[Action, ...]:
    """How to mend `image`, the blobs first: what is unpacked is unpacked from them.

    `origin` is the diagnosis of `reference`, None when the image has no name in a registry.
    """
    bad = [finding for finding in findings if finding.verdict is Verdict.BAD]
    if any(finding.check == Check.SNAPSHOTTER for finding in bad):
        return (Leave(image.id, ROWS_LOST),)
    unpacked = [finding for finding in bad if finding.check == Check.UNPACKED]
    refused = _refusal(origin, files=means.files)
    blobs = _blobs(image, bad, refused, means.lacking)
    stuck = bool(means.lacking) and any(isinstance(action, Leave) for action in blobs)
    return (
        *blobs,
        *(() if stuck else _unpacked(image, unpacked, means)),
        *(Reload(image.id) for finding in bad if finding.check == Check.CRI),
    )


def _blobs(image: Image, bad: Iterable[Finding], refused: str, lacking: tuple[str, ...]) -> tuple[Action, ...]:
    """Damaged and lacking blobs are fetched; a record that is gone comes back with a pull: containerd fetches exactly
    what it has no record of."""
    found = [finding for finding in bad if finding.check == Check.CACHE]
    digests = (*(finding.subject for finding in found if finding.cause in BLOB_CAUSES), *lacking)
    lost = any(finding.cause not in BLOB_CAUSES for finding in found)
    name = reference(image)
    if not digests and not lost:
        return ()
    if refused or name is None:
        return (Leave(image.id, refused),)
    fetch: tuple[Action, ...] = (Fetch(image.id, tuple(dict.fromkeys(digests))),) if digests else ()
    return (*fetch, Pull(name)) if lost else fetch


def _unpacked(image: Image, found: Iterable[Finding], means: Means) -> tuple[Action, ...]:
    """Layers that nobody stands on are dropped and unpacked again; the files of others are only touched if allowed."""
    found = tuple(found)
    users = {each.chain: each.in_use for each in image.snapshots if each.snapshotter == OVERLAYFS}
    there = {finding.subject: None for finding in found if _has_snapshot(finding, users)}
    busy = tuple(chain for chain in there if users.get(chain))
    free = tuple(chain for chain in there if not users.get(chain))
    files = all(finding.cause is Cause.SNAPSHOT_CORRUPT for finding in found if finding.subject in busy)
    gone = tuple(dict.fromkeys(finding.subject for finding in found if finding.subject not in there))
    actions: list[Action] = []
    if busy and means.replace_files and files:
        actions.append(ReplaceFiles(image.id, busy))
    elif busy:
        actions.append(Leave(image.id, _in_use({user for chain in busy for user in users[chain]}, files=files)))
    if free:
        actions.append(Leave(image.id, means.hindered) if means.hindered else Rebuild(image.id, free))
    elif gone:  # a rebuild unpacks whatever is not there
        actions.append(Unpack(image.id, gone))
    return tuple(actions)


def _has_snapshot(finding: Finding, users: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether something has to be dropped first: not where only the label is wrong, or the record is gone."""
    return finding.cause is not Cause.METADATA_BROKEN and finding.subject in users


def _in_use(users: Iterable[str], *, files: bool) -> str:
    how = "or set repair.in_use to replace-files" if files else "or drain the node"
    return f"its unpacked files are in use by {_few(tuple(sorted(users)))}: delete these pods, {how}"


def plan_repull(image: Image | None, wanted: str, origin: Diagnosis, *, files: bool) -> tuple[Action, ...]:
    """How to get a fresh copy of the reference `wanted`; `image` is the cached one, None when there is none.

    A tag that has moved is a plain pull: the image that it names now is not here, and the old one stays as it is.
    """
    if image is None or origin.digest not in {None, image.id}:
        return (
            (Pull(wanted),)
            if origin.verdict is not Verdict.BAD
            else (Leave(wanted, f"cannot be pulled: {origin.summary}"),)
        )
    refused = _refusal(origin, files=files) or keeper(image)
    if refused:
        return (Leave(wanted, refused),)
    return (Evict(image.id, tuple(blob.digest for blob in image.blobs)), Pull(wanted))


def reference(image: Image) -> str | None:
    """The name to fetch `image` by: its repository at its digest, never a tag that may have moved."""
    by_digest = [name for name in image.names if name.endswith(f"@{image.id}")]
    by_tag = [name for name in image.names if "@" not in name and not name.startswith("sha256:")]
    if by_digest:
        return by_digest[0]
    return f"{_without_tag(by_tag[0])}@{image.id}" if by_tag else None


def _without_tag(name: str) -> str:
    repository, colon, tag = name.rpartition(":")
    return repository if colon and "/" not in tag else name


def _refusal(origin: Diagnosis | None, *, files: bool) -> str:
    if not files:
        return "the files of the content store cannot be reached, or its namespaces are isolated"
    if origin is None:
        return "it has no name in a registry to pull it from"
    if origin.verdict is not Verdict.OK:
        return f"it cannot be pulled again: {origin.summary}"
    return ""


def keeper(image: Image) -> str:
    """Why `image` must not be evicted; empty if it may."""
    if image.pinned:
        return "it is pinned, or the sandbox image of every pod"
    if image.in_use:
        return f"it is in use by {_few(image.in_use)}"
    if image.shared:
        return f"it shares blobs with {_few(image.shared)}"
    if image.unpacked_only or image.lost:
        return "layers of it are here only unpacked, or records are gone: the old copy could not be put back"
    return ""


def _few(names: tuple[str, ...], limit: int = 3) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
