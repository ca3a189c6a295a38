"""A container that crashes as damaged files make it puts its image under suspicion: for real, with a real pod."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stage.images import PAUSE, Built, image, layer
from stage.pods import Pod
from tests.node.cache import Cached, Node
from tests.node.daemon import events, running, settings, stop, unpacked, until


def program(seed: str) -> tuple[Built, bytes]:
    """An image that runs, and the program in it."""
    content = PAUSE + seed.encode()
    return image(layer({"app": content}), config={"config": {"Entrypoint": ["/app"]}}), content


class Logged(Pod):
    """A pod whose container's output goes to a log, as the kubelet wants it."""

    LOG_PATH = 11  # ContainerConfig.log_path of k8s.io/cri-api/pkg/apis/runtime/v1/api.proto

    def _labels(self, number: int, container: str = "") -> bytes:
        name = b"app.log"
        path = bytes([self.LOG_PATH << 3 | 2, len(name)]) + name if container else b""
        return super()._labels(number, container) + path


@pytest.fixture
def crashed(node: Node, cached: Cached, folder: Path) -> Iterator[tuple[str, Path]]:
    """The name of an image, one of whose containers crashed since its program is all zeros, and that program."""
    built, content = program(folder.name)
    name = cached(built)
    file = unpacked(node.containerd, "app", content)
    with running(folder, node.containerd.endpoint, settings()) as run:
        until(lambda: bool(events(run, "the cache was verified")), 60)
        stop(run)
    file.write_bytes(bytes(len(content)))
    (node.containerd.folder / "logs").mkdir(exist_ok=True)
    with Logged(node.containerd, name, name="crashing"):
        yield name, file


def test_the_image_of_a_container_that_crashes_is_verified_and_named(
    node: Node, crashed: tuple[str, Path], folder: Path
) -> None:
    """It was verified a moment ago, in this boot: then the hour is waited for; else it is read at once."""
    name, _ = crashed
    with running(folder, node.containerd.endpoint, settings()) as run:
        time.sleep(3)
        assert events(run, "a container of default/crashing ended") == []
        stop(run)
    (folder / "state" / "verified.json").unlink()
    slow = "background_bytes_per_second: 0KiB, crash_interval: 1s"
    with running(folder, node.containerd.endpoint, settings(slow)) as run:
        until(lambda: run.value(f'node_agent_image_corrupt{{image="{name}"}}') == 1, 60)
        (asked,) = events(run, "a container of default/crashing ended")
        assert "exec format error" in str(asked["event"])
        (found,) = events(run, "is corrupt")
        assert (found["image"], found["cause"], found["trigger"]) == (name, "snapshot_corrupt", "crash")
        # its container was not removed yet, so the file is in use
        assert run.value('node_agent_repairs_total{outcome="left"}') == 1
