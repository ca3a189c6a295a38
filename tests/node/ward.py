"""Many images on one containerd, each with a fault of its own: the whole table costs one run of the command."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stage.containerd import Containerd
from tests.node import oracle
from tests.node.cache import Cached, faults
from tests.node.victims import DEPTHS, BlobFault, Depth, FileFault, part, victim, with_other_platform


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """An image under the fault's title: its reference, its proof from before, the cause and subject to be found.

    ``seen`` is the quickest depth that finds it, ``path`` what the detail has to begin with.
    """

    title: str
    name: str
    proof: oracle.Proof
    cause: str
    subject: str
    seen: Depth
    path: str = ""

    def allows(self, found: list[tuple[str, str]], depth: Depth) -> bool:
        """Whether that is what must be found at this depth.

        Of bytes that no size tells of, the records may already: CRI does not know an image that it could not read.
        """
        if DEPTHS.index(self.seen) <= DEPTHS.index(depth):
            return found == [(self.cause, self.subject)]
        return found in ([], [("metadata_broken", self.proof.target)])


def with_blob_faults(containerd: Containerd, pulled: Cached, table: Iterable[BlobFault]) -> list[Patient]:
    """One image for each fault, which is struck."""
    images = [(fault, both, pulled(both)) for fault in table for both in [with_other_platform(victim())]]
    proofs = oracle.prove_each(containerd, [name for _, _, name in images])
    for fault, both, _ in images:
        fault.strike(containerd, both)
    return [
        Patient(fault.name, name, proof, fault.cause, part(both, fault.part), fault.seen)
        for (fault, both, name), proof in zip(images, proofs, strict=True)
    ]


def with_file_faults(containerd: Containerd, pulled: Cached, table: Iterable[FileFault]) -> list[Patient]:
    """One image for each fault, which is struck."""
    table = list(table)
    names = [pulled(victim()) for _ in table]
    proofs = oracle.prove_each(containerd, names)
    for fault, proof in zip(table, proofs, strict=True):
        fault.strike(proof.layers[fault.at][1])
    return [
        Patient(fault.name, name, proof, "snapshot_corrupt", proof.layers[fault.at][0], fault.seen, fault.named)
        for fault, name, proof in zip(table, names, proofs, strict=True)
    ]


def wrong(patients: Iterable[Patient], document: Mapping[str, Any], depth: Depth = "full") -> dict[str, str]:
    """The faults that were not found, or not as what they are, or sooner than they can be told; with what was found.

    A sound image may be left out of what the command lists.
    """
    reports = {name: report for report in document["images"] for name in report["names"]}
    found = {each: faults(reports[each.name]) if each.name in reports else [] for each in patients}
    return {each.title: f"{what}" for each, what in found.items() if not each.allows(what, depth)}


def unnamed(patients: Iterable[Patient], document: Mapping[str, Any]) -> list[str]:
    """Those whose path is not what the detail begins with, with what it says instead."""
    reports = {name: report for report in document["images"] for name in report["names"]}
    details = ((each, reports[each.name]["findings"][0]["detail"]) for each in patients)
    return [f"{each.title}: {detail}" for each, detail in details if not detail.startswith(f"{each.path}: ")]
