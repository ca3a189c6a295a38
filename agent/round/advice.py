"""Advice: what would have prevented the damage that was found. Pure.

containerd writes the files of a layer without waiting for the disk, and its database with waiting: a power loss leaves
layers that count as unpacked, with files of zero bytes.
"""

from collections.abc import Iterable

from agent.causes import Cause
from agent.model import ImageReport

DAMAGE = frozenset({Cause.SNAPSHOT_CORRUPT, Cause.SNAPSHOT_MISSING})


def is_needed(reports: Iterable[ImageReport]) -> bool:
    """Whether an unpacked layer was found damaged."""
    return any(finding.cause in DAMAGE for report in reports for finding in report.findings)


def advice(*, syncs_layers: bool | None) -> tuple[str, ...]:
    """Sentences; `syncs_layers` is None where this containerd cannot do it."""
    because = "containerd does not wait for the disk when it unpacks a layer, so a power loss leaves empty files"
    if syncs_layers is None:
        return (f"{because}: containerd 1.7 and newer can (image_pull_with_sync_fs); upgrade it",)
    if syncs_layers:
        return ()
    return (f"{because}: set image_pull_with_sync_fs = true in its CRI images section, and restart it",)
