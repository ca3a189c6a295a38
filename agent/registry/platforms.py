"""Which manifest of an index a node takes.

Facts: containerd/platforms database.go (normalising), compare.go (what a node's platform runs, best
first), images/handlers.go (entries without platform are kept, last; the sort is stable; one is taken).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from agent.causes import Cause
from agent.model import Fault

_ARCHITECTURES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_ARM = ("v8", "v7", "v6", "v5")


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, architecture and variant, in Go's words."""

    os: str
    architecture: str
    variant: str = ""

    def normal(self) -> "Platform":
        """One spelling for each platform: ``x86_64`` is ``amd64``, ``arm64/v8`` is ``arm64``."""
        system, variant = self.os.lower(), self.variant.lower()
        system = {"macos": "darwin"}.get(system, system)
        architecture = self.architecture.lower()
        if architecture in _ARCHITECTURES:
            architecture, implied = _ARCHITECTURES[architecture]
            variant = implied or ("" if architecture == "386" else variant)
        return Platform(system, architecture, _variant(architecture, variant))

    def runs(self, other: "Platform") -> bool:
        """Whether a node of this platform runs what was built for ``other``."""
        filled = Platform(other.os or self.os, other.architecture, other.variant)
        return filled.normal() in runs_on(self)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def _variant(architecture: str, variant: str) -> str:
    if architecture == "arm":
        return {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    if (architecture, variant) in {("arm64", "8"), ("arm64", "v8"), ("amd64", "v1")}:
        return ""
    return variant


class Placed(Protocol):
    """Anything that may be for one platform."""

    @property
    def platform(self) -> Platform | None: ...


_Entry = TypeVar("_Entry", bound=Placed)


def runs_on(node: Platform) -> tuple[Platform, ...]:
    """What a node of this platform runs, best first, in normal form."""
    node = node.normal()
    runs = [node]
    if node.architecture == "amd64":
        runs.append(Platform(node.os, "386"))
    elif node.architecture == "arm64" and not node.variant:
        runs += [Platform(node.os, "arm", variant) for variant in _ARM]
    elif node.architecture == "arm" and node.variant in _ARM:
        runs += [Platform(node.os, "arm", variant) for variant in _ARM[_ARM.index(node.variant) + 1 :]]
    return tuple(runs)


def choose(entries: Iterable[_Entry], node: Platform) -> _Entry:
    """The entry of an index that a node takes.

    Raises Fault(PLATFORM_MISMATCH) that lists what there is.
    """
    listed = tuple(entries)
    ranks = {platform: rank for rank, platform in enumerate(runs_on(node))}
    fitting = [(_rank(each.platform, ranks, node), each) for each in listed]
    matching = [(rank, each) for rank, each in fitting if rank is not None]
    if not matching:
        raise _mismatch(listed, node)
    return min(matching, key=lambda pair: pair[0])[1]


def _rank(platform: Platform | None, ranks: dict[Platform, int], node: Platform) -> int | None:
    """The place of an entry, None where it does not fit; an entry without platform comes last."""
    if platform is None:
        return len(ranks)
    filled = Platform(platform.os or node.os, platform.architecture, platform.variant)
    return ranks.get(filled.normal())


def _mismatch(listed: Iterable[Placed], node: Platform) -> Fault:
    names = sorted({str(each.platform) for each in listed if each.platform and each.platform.os != "unknown"})
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    detail = f"there is no image for {node.normal()}, only for {shown or 'nothing'}"
    return Fault(Cause.PLATFORM_MISMATCH, detail, {"node": str(node.normal()), "available": shown})
