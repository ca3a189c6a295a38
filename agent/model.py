"""The nouns. Frozen records and closed enums that every floor may use; standard library only.

A door (``runtime``, ``registry``, ``node``) answers in these words or raises `Fault`; a check turns
what it saw into a `Finding`; findings about one image make a `Diagnosis`; a round ends in a `Report`.
"""

from collections.abc import Mapping
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


class Trigger(StrEnum):
    """Why a round is run."""

    SCHEDULE = "schedule"
    STARTUP = "startup"
    UNCLEAN_BOOT = "unclean_boot"
    POD = "pod"
    ANNOTATION = "annotation"
    COMMAND = "command"


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


@dataclass(frozen=True, slots=True)
class Image:
    """A cached image: every name of one target digest in containerd's namespace ``k8s.io``.

    ``id`` is the target digest; ``labels`` are those of the image records, by name.
    """

    id: str
    names: tuple[str, ...]
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of one subject, in how many seconds."""

    check: str
    subject: str
    verdict: Verdict
    cause: Cause | None = None
    detail: str = ""
    evidence: Mapping[str, str] = NOTHING
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
