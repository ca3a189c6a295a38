"""The node's own part: its runtime, its disk, and the pull that proves a diagnosis."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stage.authority import Authority
from stage.containerd import Containerd
from stage.images import Built, Layer, digest, filler, image, layer
from stage.registries import Registry
from tests.conftest import Factory
from tests.node.command import PASSWORD, USER, Agent, Outcome, assert_ok, assert_timed, auth_file

APP = image(layer({"bin/app": b"for the node"}))


@contextmanager
def listening(path: Path, *, answer: bytes | None) -> Iterator[None]:
    """Something on a Unix socket that is no runtime: says this to everybody, or nothing at all."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(16)
        clients: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                clients.append(client)
                if answer is not None:
                    with contextlib.suppress(OSError):  # it may have gone already
                        client.sendall(answer)
                        client.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for client in clients:
            client.close()


def assert_no_runtime(outcome: Outcome, words: str) -> None:
    """The runtime is the cause, first of all; the registry is looked at all the same."""
    told = outcome.only
    assert (outcome.status, told["verdict"], told["cause"], told["scope"]) == (
        *(1, "bad", "runtime_unavailable", "runtime"),
    )
    assert told["steps"][0]["step"] == "runtime"
    assert told["steps"][0]["detail"] == told["summary"]
    assert words in told["summary"]
    assert told["fix"]
    assert outcome.stderr == ""
    assert outcome.fall["step"] == "runtime"
    assert_timed(outcome)


@pytest.mark.usefixtures("nameserver")
class TestSocket:
    def test_a_socket_that_is_not_there_is_named(self, folder: Path) -> None:
        outcome = Agent(f"unix://{folder}/none.sock", folder).diagnose("nobody.example/app:1")
        assert_no_runtime(outcome, f"{folder}/none.sock does not exist")
        assert ("connect", "connect_refused") in {(step["step"], step["cause"]) for step in outcome.only["steps"]}

    def test_a_file_is_not_a_socket(self, folder: Path) -> None:
        (folder / "file").touch()
        assert_no_runtime(Agent(f"unix://{folder}/file", folder).diagnose("nobody.example/app:1"), "is not a socket")

    def test_another_kind_of_endpoint_is_refused(self, folder: Path) -> None:
        assert_no_runtime(Agent("tcp://127.0.0.1:1", folder).diagnose("nobody.example/app:1"), "tcp://127.0.0.1:1")

    def test_a_socket_that_nobody_serves_is_unavailable(self, folder: Path) -> None:
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(f"{folder}/dead.sock")
        outcome = Agent(f"unix://{folder}/dead.sock", folder).diagnose("nobody.example/app:1")
        assert_no_runtime(outcome, "onnect")
        assert outcome.seconds < 10

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b""])
    def test_a_socket_that_is_not_grpc_is_unavailable(self, folder: Path, answer: bytes) -> None:
        with listening(folder / "s", answer=answer):
            outcome = Agent(f"unix://{folder}/s", folder).diagnose("nobody.example/app:1")
        assert_no_runtime(outcome, "CRI Version")
        assert outcome.seconds < 15

    def test_a_runtime_that_hangs_ends_in_time(self, folder: Path) -> None:
        (folder / "settings.yaml").write_text("runtime:\n  timeout: 1s\n")
        with listening(folder / "s", answer=None):
            options = ("--config", f"{folder}/settings.yaml")
            outcome = Agent(f"unix://{folder}/s", folder).diagnose("nobody.example/app:1", options=options)
        assert_no_runtime(outcome, "did not answer in time")
        assert outcome.seconds < 5


@pytest.fixture(scope="module")
def small(registry: Registry, authority: Authority, folders: Factory) -> Iterator[Containerd]:
    """A containerd whose images lie on 16 MiB of memory."""
    folder = folders("small")
    (folder / "root").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder / "root"], check=True)
    with Containerd(folder) as runtime:
        runtime.trust(registry.name, authority.pem)
        yield runtime


class TestDisk:
    def test_an_image_that_never_fits_is_too_large_for_the_disk(
        self, small: Containerd, registry: Registry, folder: Path
    ) -> None:
        reference = registry.push("disk/large", "1", image(filler(12, "large")))
        outcome = Agent(small.endpoint, folder).diagnose(reference)
        assert (outcome.status, outcome.only["cause"], outcome.only["scope"]) == (1, "disk_too_small", "disk")
        assert (outcome.fall["step"], outcome.fall["host"]) == ("size", "node")
        assert "16.0 MiB in all" in outcome.only["summary"]

    def test_an_image_that_would_fit_into_an_empty_disk_finds_it_full(
        self, small: Containerd, registry: Registry, folder: Path
    ) -> None:
        reference = registry.push("disk/middle", "1", image(filler(6, "middle")))
        (small.root / "other").write_bytes(bytes(8 << 20))
        outcome = Agent(small.endpoint, folder).diagnose(reference)
        (small.root / "other").unlink()
        assert (outcome.status, outcome.only["cause"], outcome.only["scope"]) == (1, "disk_full", "disk")
        assert outcome.fall["step"] == "size"

    def test_a_disk_without_a_byte_is_full_before_anything_is_asked(
        self, small: Containerd, registry: Registry, folder: Path
    ) -> None:
        reference = registry.push("disk/app", "1", APP)
        subprocess.run(["dd", "if=/dev/zero", f"of={small.root}/rest", "bs=4k", "status=none"], check=False)
        outcome = Agent(small.endpoint, folder).diagnose(reference)
        (small.root / "rest").unlink()
        assert (outcome.status, outcome.only["cause"], outcome.fall["step"]) == (1, "disk_full", "disk")

    def test_a_disk_that_is_mounted_read_only_is_told(
        self, small: Containerd, registry: Registry, folder: Path
    ) -> None:
        reference = registry.push("disk/app", "1", APP)
        subprocess.run(["mount", "--bind", small.root, small.root], check=True)  # the file system itself is in use
        subprocess.run(["mount", "-o", "remount,bind,ro", small.root], check=True)
        outcome = Agent(small.endpoint, folder).diagnose(reference)
        subprocess.run(["umount", small.root], check=True)
        assert (outcome.status, outcome.only["cause"], outcome.fall["step"]) == (1, "disk_read_only", "disk")


class TestPull:
    def test_it_proves_and_leaves_the_cache_as_it_was(
        self, agent: Agent, containerd: Containerd, registry: Registry
    ) -> None:
        built = image(layer({"bin/app": b"pulled to prove"}))
        reference = registry.push("proof/app", "1", built)
        before = records(containerd)
        outcome = agent.diagnose(reference, options=("--pull",))
        assert_ok(outcome, "pulled by containerd")
        assert outcome.only["steps"][-1]["step"] == "pull"
        assert f"proof/app@{built.digest}" in containerd.log
        assert records(containerd) == before

    def test_an_image_that_was_there_stays_with_all_its_names(
        self, agent: Agent, containerd: Containerd, registry: Registry
    ) -> None:
        built = image(layer({"bin/app": b"there before"}))
        reference = registry.push("proof/kept", "1", built)
        containerd.pull(reference)
        before = records(containerd)
        assert_ok(agent.diagnose(reference, options=("--pull",)), "pulled by containerd")
        assert records(containerd) == before
        containerd.remove(reference)

    def test_credentials_reach_the_pull_and_nothing_else(
        self, agent: Agent, containerd: Containerd, authority: Authority, folder: Path
    ) -> None:
        options = {"address": "10.99.0.7", "name": "other.example", "certificate": authority.issue("other.example")}
        with Registry(folder / "other", users={USER: PASSWORD}, **options) as server:  # type: ignore[arg-type]
            containerd.trust(server.name, authority.pem)
            reference = server.push("proof/app", "1", APP, (USER, PASSWORD))
            before = records(containerd)
            outcome = agent.diagnose(reference, options=("--pull", *auth_file(folder, server.name)))
            containerd.distrust(server.name)
        assert_ok(outcome, "pulled by containerd")
        assert records(containerd) == before

    def test_a_layer_that_is_no_layer_only_shows_in_the_pull(
        self, agent: Agent, containerd: Containerd, registry: Registry
    ) -> None:
        broken = _unpackable()
        reference = registry.push("proof/broken", "1", broken)
        before = records(containerd)
        outcome = agent.diagnose(reference, options=("--pull",))
        assert (outcome.status, outcome.fall["step"]) == (1, "pull")
        assert outcome.only["cause"] == outcome.fall["cause"] == "blob_corrupt"
        assert "invalid tar header" in outcome.fall["evidence"]["runtime_error"]
        assert records(containerd) == before

    def test_a_cause_that_was_found_is_not_lost_by_the_pull(self, agent: Agent, registry: Registry) -> None:
        outcome = agent.diagnose(registry.reference("proof/none", "1"), options=("--pull",))
        assert (outcome.status, outcome.only["cause"]) == (1, "tag_not_found")
        assert outcome.only["steps"][-1]["step"] == "pull"
        assert outcome.only["steps"][-1]["verdict"] == "bad"


def _unpackable() -> Built:
    """An image whose one layer is sound by its digest, and no tar."""
    junk = b"no tar at all" * 100
    return image(Layer(junk, digest(junk), digest(junk), "none"))


def records(containerd: Containerd) -> tuple[list[str], list[str]]:
    """The names that containerd has, and the blobs behind them."""
    containerd.ctr("content", "prune", "references")
    names = containerd.ctr("images", "list", "--quiet").split()
    blobs = containerd.ctr("content", "list", "--quiet").split()
    return sorted(names), sorted(blobs)
