"""The child process: takes tasks from standard input until it ends, and answers on standard output.

It loads nothing that it does not need, so that it starts in a moment and is small. `agent.runtime.layers.apart` starts
it.
"""

import gc
import json
import sys
from typing import BinaryIO

from agent.model import Fault
from agent.runtime.blobs import Stopped
from agent.runtime.layers import messages
from agent.runtime.layers.folder import count
from agent.runtime.layers.job import compare
from agent.runtime.layers.messages import Answer, Task
from agent.runtime.layers.meter import Meter

LARGEST = 4 << 20


class ParentGone(Exception):  # noqa: N818 - then there is nobody to tell
    """Standard input ended in the middle of a task."""


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Do one task after the other."""

    def ask(spent: int, cpu: float) -> None:
        sink.write(b"[%d,%f]\n" % (spent, cpu))
        sink.flush()
        leave = source.readline()
        if not leave:
            raise ParentGone
        if not json.loads(leave):
            raise Stopped

    while line := source.readline():
        task = messages.read_task(line)
        sink.write(_answered(task, Meter(ask, task.quantum)))
        sink.flush()
        gc.collect()  # directories and what is in them know each other


def _answered(task: Task, meter: Meter) -> bytes:
    try:
        answer = _work(task, meter)
    except Fault as fault:
        return messages.write_fault(fault)
    except Stopped:
        return messages.write_stopped()
    return messages.write_answer(answer, *meter.rest())


def _work(task: Task, meter: Meter) -> Answer:
    match task.work:
        case "usage":
            return count(task.layer.folder)
        case "compare":
            return compare(task.layer, meter, task.quantum)
        case "replace":
            from agent.runtime.layers.mend import replace_files  # noqa: PLC0415 - seldom, and each start would pay

            return replace_files(task.layer, meter, task.quantum)


if __name__ == "__main__":
    gc.freeze()
    gc.disable()  # it would look through all names that are known, again and again
    bytes(LARGEST)  # freed at once: so malloc learns to keep pieces of that size, not to map each anew (mallopt(3))
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except (ParentGone, BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)
