"""What can be done about a cached image: a plan is a tuple of these. Standard library only.

``image`` is the ID of a cached image, or for `Pull` a reference and for `Abort` the ref of a download.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evict:
    """Put these blobs of the image aside, so that the next pull fetches them. Its names stay."""

    image: str
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch these blobs by digest, check them, and rename them over the damaged files. Removes nothing."""

    image: str
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pull:
    """Pull this reference again."""

    image: str


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Drop these unpacked layers, and those above them, and unpack them again from the blobs that are here."""

    image: str
    chains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unpack:
    """Unpack these layers, which have no snapshot, from the blobs that are here, and have the label name them."""

    image: str
    chains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplaceFiles:
    """Put the damaged files of these unpacked layers right where they lie: something stands on them."""

    image: str
    chains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reload:
    """Make CRI look at the image's records again: all of it is here, and CRI does not know it."""

    image: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Throw away an unfinished download (ingest) that can never be finished."""

    image: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Do nothing to the image, and why."""

    image: str
    reason: str


Action = Evict | Fetch | Pull | Rebuild | Unpack | ReplaceFiles | Reload | Abort | Leave
