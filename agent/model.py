"""The nouns. Frozen records and closed enums that every floor may use; standard library only.

A door (``runtime``, ``registry``, ``node``) answers in these words or raises `Fault`; a check turns
what it saw into a `Finding`; findings about one image make a `Diagnosis`; a round ends in a `Report`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from agent.causes import Cause

NOTHING: Mapping[str, str] = MappingProxyType({})


class Verdict(StrEnum):
    """What a check can say. ``UNKNOWN`` is "could not tell": never a reason to evict anything."""

    OK = "ok"
    BAD = "bad"
    UNKNOWN = "unknown"


class Depth(StrEnum):
    """How closely a cached image is looked at."""

    QUICK = "quick"  # records, sizes, and what is unpacked by number and size
    BLOBS = "blobs"  # the digest of every blob too
    FULL = "full"  # and every unpacked layer against its blob, by content


class Check(StrEnum):
    """What was looked at in the cache: it decides what can be done about the finding."""

    CACHE = "cache"  # records and files of the content store
    UNPACKED = "unpacked"  # snapshots, and the files of their layers
    SNAPSHOTTER = "snapshotter"  # what a snapshotter has lost: no call of containerd's brings that back
    CRI = "cri"  # what CRI has lost track of
    INGEST = "ingest"  # unfinished downloads


class Trigger(StrEnum):
    """Why a round is run."""

    SCHEDULE = "schedule"
    STARTUP = "startup"
    UNCLEAN_BOOT = "unclean_boot"
    POD = "pod"
    ANNOTATION = "annotation"
    COMMAND = "command"
    CRASH = "crash"  # a container of the image ended as damaged files make it end


class Fault(Exception):  # noqa: N818 - not an error of ours: a fault of the outside world, found and named
    """A door met something that has a name in the list of causes.

    ``detail`` is one line for people, without credentials; ``evidence`` holds what proves it.
    """

    def __init__(self, cause: Cause, detail: str, evidence: Mapping[str, str] = NOTHING) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail
        self.evidence = evidence


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image reference in containerd's normal form. Only `agent.registry.reference.parse` makes one.

    ``registry`` is the namespace host (``docker.io``, not ``registry-1.docker.io``), ``path`` the
    repository (``library/nginx``); a reference with a digest has lost its tag, as in containerd.
    """

    registry: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def repository(self) -> str:
        """``registry/path``, the form in which credentials are looked up."""
        return f"{self.registry}/{self.path}"

    @property
    def target(self) -> str:
        """What ``/manifests/`` is asked for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> "ImageRef":
        """The same repository by digest."""
        return ImageRef(self.registry, self.path, None, digest)

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.target}"


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and a secret for one attempt. Its ``repr`` shows neither."""

    username: str = field(repr=False)
    password: str = field(repr=False)


class Role(StrEnum):
    """What a blob is in its image."""

    TARGET = "target"  # what the names point at: an index, or a single manifest
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that the store has a record of. ``size`` in bytes, as recorded.

    ``shared`` names the other images, and the other namespaces (``namespace moby``), that have it too.
    """

    digest: str
    size: int
    role: Role
    shared: tuple[str, ...] = ()


OVERLAYFS = "overlayfs"
"""The one snapshotter whose files are looked at: others keep whole trees, or fetch a file when it is read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A layer as a snapshotter unpacked it, which has a record. ``chain`` is its key, the chain ID.

    ``in_use`` names who stands on it: containers, running or not yet removed, and pulls that unpack. ``shared`` are the
    IDs of other images that stand on it too. ``remote``: its files are fetched when they are read.
    """

    snapshotter: str
    chain: str
    in_use: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    remote: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """A cached image: all the names of one target digest in containerd's namespace ``k8s.io``.

    ``id`` is the target digest. ``blobs`` are those on this node: other platforms' manifests and discarded
    layers are absent by right; ``lost`` are digests that must have a record and have none. ``in_use`` names the
    containers (and pulls that unpack) on its snapshots.
    ``unpacked_only``: a layer is here as a snapshot and not as a blob, so an eviction could not be undone.
    ``snapshots`` are its unpacked layers, the lowest first; ``created`` is when its newest name was, in epoch seconds.
    """

    id: str
    names: tuple[str, ...]
    blobs: tuple[Blob, ...]
    lost: tuple[str, ...] = ()
    pinned: bool = False
    in_use: tuple[str, ...] = ()
    unpacked_only: bool = False
    snapshots: tuple[Snapshot, ...] = ()
    created: float = 0.0

    @property
    def title(self) -> str:
        """The name that people know it by."""
        return title_of(self.id, self.names)

    @property
    def shared(self) -> tuple[str, ...]:
        """The other images and namespaces that have a blob of it."""
        return tuple(sorted({other for blob in self.blobs for other in blob.shared}))


def title_of(id: str, names: Iterable[str]) -> str:  # noqa: A002 - the word of `Image`
    """Of all the names of an image the one that people know: a tag if it has one."""
    return min(names, key=lambda name: (name.startswith("sha256:"), "@" in name, name), default=id)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of one subject, in how many seconds."""

    check: str
    subject: str
    verdict: Verdict
    cause: Cause | None = None
    detail: str = ""
    evidence: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One image on one node: the root cause, and the steps that prove it."""

    image: str
    verdict: Verdict
    cause: Cause | None
    summary: str
    steps: tuple[Finding, ...]
    seconds: float

    @property
    def digest(self) -> str | None:
        """What the reference stands for in the registry, once a host answered for its manifest."""
        found = (step.detail for step in self.steps if step.check == "manifest" and step.verdict is Verdict.OK)
        return next(found, None)


@dataclass(frozen=True, slots=True)
class Deed:
    """An action that was carried out: ``outcome`` is ``done``, ``failed: …`` or, for `Leave`, the reason."""

    action: str
    image: str
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ImageReport:
    """A cached image after a round: ``findings`` is what was found, ``verdict`` the state after the ``deeds``."""

    image: Image
    verdict: Verdict
    findings: tuple[Finding, ...]
    deeds: tuple[Deed, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What one verification came to, and the mending that followed; ``bytes`` were read in ``seconds``."""

    trigger: Trigger
    depth: Depth
    images: tuple[ImageReport, ...]
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What one round saw: the node's own checks, and the registries that it asked.

    ``wanted`` are all that are probed, also those whose turn it was not; ``cached`` counts the images, None when they
    could not be listed; ``seconds`` is the time of the whole round.
    """

    trigger: Trigger
    findings: tuple[Finding, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    wanted: tuple[str, ...] = ()
    cached: int | None = None
    seconds: float = 0.0
