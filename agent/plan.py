"""What to do about a cached image, and why: pure rules, each one a line that a test can quote.

Only ``bad`` findings lead to an action, and nothing is removed that cannot be pulled again (rules 1, 2, 4 and 5 of
the design).
"""

from collections.abc import Iterable

from agent.causes import Cause
from agent.model import Action, Diagnosis, Evict, Fetch, Finding, Image, Leave, Pull, Verdict

BLOB_CAUSES = frozenset({Cause.BLOB_CORRUPT, Cause.BLOB_TRUNCATED, Cause.BLOB_MISSING})


def plan_repair(
    image: Image, findings: Iterable[Finding], origin: Diagnosis | None, *, files: bool
) -> tuple[Action, ...]:
    """How to mend `image`: fetch damaged blobs over the old ones, pull what has no record any more.

    `origin` is the diagnosis of `reference`, None when the image has no name in a registry; `files` tells whether the
    content store's files can be written.
    """
    bad = [finding for finding in findings if finding.verdict is Verdict.BAD]
    if not bad:
        return ()
    refused = _refusal(origin, files=files)
    if origin is None or refused:
        return (Leave(image.id, refused),)
    blobs = tuple(dict.fromkeys(finding.subject for finding in bad if finding.cause in BLOB_CAUSES))
    fetch: tuple[Action, ...] = (Fetch(image.id, blobs),) if blobs else ()
    # a record that is gone comes back with a pull: containerd fetches exactly what it has no record of
    return (*fetch, Pull(origin.image)) if len(blobs) < len({finding.subject for finding in bad}) else fetch


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
