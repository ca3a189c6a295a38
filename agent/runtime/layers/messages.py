"""What parent and child say to each other: one JSON document a line.

Down: a `Task`, then for each ask ``true`` (go on) or ``false`` (stop). Up: ``[bytes, cpu_seconds]`` whenever so much
was spent, and in the end an `Outcome`. Names that are no UTF-8 travel as the surrogates that JSON escapes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent.causes import Cause
from agent.model import NOTHING, Fault
from agent.runtime.layers.records import Comparison, Difference, Layer, Usage, What

Work = Literal["usage", "compare", "replace"]


@dataclass(frozen=True, slots=True)
class Task:
    """What to do with which layer (of which ``usage`` uses the folder only); ``quantum`` bytes may be read unasked."""

    work: Work
    layer: Layer
    quantum: int


Answer = Usage | Comparison | int


def write_task(task: Task) -> bytes:
    layer = task.layer
    told = [
        task.work,
        str(layer.folder),
        [str(each) for each in layer.below],
        str(layer.blob),
        layer.digest,
        layer.size,
    ]
    return _line([*told, task.quantum])


def read_task(line: bytes) -> Task:
    work, folder, below, blob, digest, size, quantum = json.loads(line)
    return Task(work, Layer(Path(folder), tuple(map(Path, below)), Path(blob), digest, size), quantum)


def write_answer(answer: Answer, spent: int, cpu: float) -> bytes:
    """The end of a task that was done."""
    match answer:
        case Usage(inodes, count):
            told: Any = {"inodes": inodes, "bytes": count}
        case Comparison():
            told = {
                "differences": [[each.path, each.what, each.expected, each.found] for each in answer.differences],
                "count": answer.count,
                "usage": [answer.usage.inodes, answer.usage.bytes],
                "incomparable": answer.incomparable,
            }
        case _:
            told = answer
    return _line({"answer": told, "spent": [spent, cpu]})


def write_fault(fault: Fault) -> bytes:
    return _line({"fault": [fault.cause, fault.detail, dict(fault.evidence)]})


def write_stopped() -> bytes:
    return _line({"stopped": True})


def read_answer(told: Mapping[str, Any]) -> Answer:
    """Raises the `Fault` that the child met."""
    if "fault" in told:
        cause, detail, evidence = told["fault"]
        raise Fault(Cause(cause), detail, evidence or NOTHING)
    answer = told["answer"]
    if isinstance(answer, int):
        return answer
    if "inodes" in answer:
        return Usage(answer["inodes"], answer["bytes"])
    differences = tuple(Difference(path, What(what), *rest) for path, what, *rest in answer["differences"])
    return Comparison(differences, answer["count"], Usage(*answer["usage"]), answer["incomparable"])


def _line(document: object) -> bytes:
    return json.dumps(document).encode() + b"\n"
