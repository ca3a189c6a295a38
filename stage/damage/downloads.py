"""A download that was cut off, and whose bytes so far are wrong: containerd goes on from them for ever."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stage import hostile
from stage.containerd import Containerd, PullError
from stage.damage.blobs import flip
from stage.hostile import Answer, Scripted
from stage.images import Built
from stage.listeners import Connection, Request
from stage.namespaces import StageError

AN_HOUR = 3600.0


def corrupt_ingest(containerd: Containerd, server: Scripted, repository: str, built: Built) -> str:
    """Kill containerd in the middle of pulling `built` from `server`, flip a bit of what it has; gives the reference.

    Afterwards it runs again, that was an hour ago, and the server gives the image as it should.
    """
    return _cut_off(containerd, server, repository, built, flip)


def cut_off_ingest(containerd: Containerd, server: Scripted, repository: str, built: Built) -> str:
    """The same without the wrong bit: a download that the next pull goes on with."""
    return _cut_off(containerd, server, repository, built, lambda _: None)


def halting(routes: Mapping[str, Answer], repository: str, built: Built) -> dict[str, Answer]:
    """A registry's routes, but that the last layer never comes further than its half."""
    slow = built.layers[-1]
    return {**routes, f"/v2/{repository}/blobs/{slow.digest}": _half(slow.blob)}


def age(data: Path, seconds: float) -> None:
    """As if the download had been cut off so long ago: containerd goes by its own note, or the file's time if later."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    for note in ("startedat", "updatedat"):
        data.with_name(note).write_text(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
    os.utime(data, (moment.timestamp(), moment.timestamp()))


def await_partial(containerd: Containerd, built: Built) -> Path:
    """The file into which the last layer is being written, once much of it is there."""
    slow = built.layers[-1]
    return _partial(containerd, slow.digest, len(slow.blob) // 4)  # the rest may be in a buffer yet


def _cut_off(
    containerd: Containerd, server: Scripted, repository: str, built: Built, befall: Callable[[Path], None]
) -> str:
    routes = hostile.serving(repository, "1", built)
    server.routes = halting(routes, repository, built)
    reference = f"{server.name}/{repository}:1"
    with pulling(containerd, reference):
        data = await_partial(containerd, built)
        _await_rest(containerd)
        containerd.kill()
    befall(data)
    age(data, AN_HOUR)
    server.routes = routes
    containerd.start()
    return reference


def _await_rest(containerd: Containerd) -> None:
    """Wait until nothing is unpacked: a kill just then leaves a directory without a record, which is another fault."""
    before = ""
    while (now := containerd.ctr("snapshots", "list")) != before:
        before = now
        time.sleep(0.3)


@contextlib.contextmanager
def pulling(containerd: Containerd, reference: str) -> Iterator[None]:
    """A pull under way, however it ends; it has ended when the block is left."""

    def pull() -> None:
        with contextlib.suppress(PullError):
            containerd.pull(reference)

    thread = threading.Thread(target=pull)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _partial(containerd: Containerd, digest: str, size: int) -> Path:
    """The file into which the blob is being written, once it has `size` bytes."""
    ingests = containerd.root / "io.containerd.content.v1.content/ingest"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for ref in ingests.glob("*/ref"):
            data = ref.with_name("data")
            if digest in ref.read_text() and data.exists() and data.stat().st_size >= size:
                return data
        time.sleep(0.02)
    raise StageError(f"no ingest of {digest} came to {size} bytes")


def _half(blob: bytes) -> Answer:
    """The first half, and then nothing more."""

    def answer(connection: Connection, request: Request) -> None:
        connection.reply(200, {"Content-Length": str(len(blob))}, blob[: len(blob) // 2], head=request.method == "HEAD")
        connection.pause()

    return answer
