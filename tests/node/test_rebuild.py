"""Unpacked layers that are made anew: never worse than before, whoever comes in between and whenever we are killed."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stage.authority import Authority
from stage.containerd import Containerd, PullError
from stage.images import Built, filler, image, layer, pause
from stage.namespaces import StageError
from stage.pods import Pod
from stage.registries import Registry
from tests.conftest import Factory
from tests.node.cache import Cached, Node, down
from tests.node.oracle import Proof, assert_as_before, prove


def built(*more: bytes) -> Built:
    """An image that runs, whose upper layers are its own."""
    return pause(layer({"data/own": secrets.token_bytes(5000)}), *(layer({"data/more": each}) for each in more))


def empty_file(proof: Proof, number: int = 1) -> str:
    """Empty a file of the layer with this number, as a power loss does; the layer's chain ID."""
    chain = list(proof.folders)[number]
    file = next(path for path in proof.folders[chain].rglob("*") if path.is_file())
    os.truncate(file, 0)
    return chain


def test_a_rebuild_asks_no_registry_and_says_what_it_did(node: Node, cached: Cached, registry: Registry) -> None:
    name = cached(built())
    proof = prove(node.containerd, name)
    chain = empty_file(proof)
    with down(registry):
        status, report = node.only("repair", name)
    assert (status, report["verdict"]) == (0, "ok")
    (finding,) = report["findings"]
    assert (finding["cause"], finding["subject"]) == ("snapshot_corrupt", chain)
    assert finding["detail"].startswith("data/own: ")
    assert [(each["action"], each["outcome"]) for each in report["actions"]] == [("rebuild", "done")]
    assert_as_before(proof)
    assert node.left_overs() == []


def test_a_rebuild_that_is_killed_at_any_moment_is_finished_by_the_next_one(node: Node, cached: Cached) -> None:
    name = cached(image(*(filler(12, secrets.token_hex(4)) for _ in range(4))))
    proof = prove(node.containerd, name)
    for delay in (0.4, 0.6, 0.7, 0.8, 0.9, 1.1):
        os.truncate(next(path for path in _folders(node, name)[0].rglob("*") if path.is_file()), 0)
        process = subprocess.Popen(node.command("repair", name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert node.run("repair", name)[0] == 0
        # the lease of a process that was killed ends by itself: it holds nothing that is not the image's
        _forget_our_leases(node.containerd)
        assert_as_before(proof)
        assert node.left_overs() == []


def _folders(node: Node, name: str) -> list[Path]:
    return list(prove(node.containerd, name).folders.values())


def _forget_our_leases(containerd: Containerd) -> None:
    for line in containerd.ctr("leases", "list").splitlines()[1:]:
        if (lease := line.split()[0]).startswith("node-agent-"):
            containerd.ctr("leases", "delete", "--sync", lease)


def test_a_kubelet_that_pulls_and_starts_containers_meanwhile_does_no_harm_and_takes_none(
    node: Node, cached: Cached
) -> None:
    name = cached(built(secrets.token_bytes(3000)))
    proof = prove(node.containerd, name)
    stop = threading.Event()
    troubles: list[Exception] = []

    def kubelet() -> None:
        while not stop.is_set():
            try:
                node.containerd.pull(name)
                with Pod(node.containerd, name, start=False):
                    pass
            except PullError as error:
                troubles.append(error)

    thread = threading.Thread(target=kubelet)
    thread.start()
    try:
        for _ in range(4):
            empty_file(prove_again(node, name, proof))
            deadline = time.monotonic() + 30
            while node.run("repair", name)[0] != 0:  # a container that stands on it just now is waited for
                assert time.monotonic() < deadline
    finally:
        stop.set()
        thread.join()
    assert troubles == []
    assert_as_before(proof)


def prove_again(node: Node, name: str, proof: Proof) -> Proof:
    """Where the layers are now."""
    now = prove(node.containerd, name)
    assert now.trees.keys() == proof.trees.keys()
    return now


def test_leases_of_others_stay_and_what_they_hold_is_left_with_the_reason(node: Node, cached: Cached) -> None:
    name = cached(built())
    proof = prove(node.containerd, name)
    top = next(iter(proof.labels.values()))
    node.containerd.ctr("leases", "create", "--id", "kubelet-like")
    _view_and_keep(node.containerd, "somebody", top)
    try:
        empty_file(proof)
        status, report = node.only("repair", name)
        assert (status, report["verdict"]) == (1, "bad")
        assert "somebody" in report["actions"][0]["outcome"]
        assert "kubelet-like" in node.containerd.ctr("leases", "list")
    finally:
        node.containerd.ctr("snapshots", "remove", "somebody")
        node.containerd.ctr("leases", "delete", "--sync", "kubelet-like")
    assert node.run("repair", name)[0] == 0
    assert_as_before(proof)


def _view_and_keep(containerd: Containerd, key: str, chain: str) -> None:
    """A view that no collection takes; one may come between making and marking it."""
    for _ in range(20):
        containerd.ctr("snapshots", "view", key, chain)
        with contextlib.suppress(StageError):
            containerd.ctr("snapshots", "label", key, "containerd.io/gc.root=kept")
            return
    raise AssertionError(f"{key} was collected each time")


def test_a_layer_that_was_discarded_is_fetched_before_anything_is_dropped(
    node: Node, cached: Cached, registry: Registry
) -> None:
    pushed = built()
    name = cached(pushed)
    proof = prove(node.containerd, name)
    node.containerd.ctr("content", "rm", pushed.layers[1].digest)
    empty_file(proof)
    with down(registry):
        status, report = node.only("repair", name)
        assert (status, report["actions"][0]["action"]) == (1, "leave")
        assert "connection refused" in report["actions"][0]["outcome"]
        assert _folders(node, name) == list(proof.folders.values())  # nothing was dropped
    status, report = node.only("repair", name)
    assert status == 0
    assert [each["action"] for each in report["actions"]] == ["fetch", "rebuild"]
    assert_as_before(proof)


def test_nothing_is_dropped_that_another_image_could_not_have_back(node: Node, cached: Cached) -> None:
    common, own = layer({"common": secrets.token_bytes(4000)}), layer({"own": secrets.token_bytes(4000)})
    one, other = cached(image(common)), cached(image(common, own))
    proof = prove(node.containerd, one, other)
    node.containerd.ctr("content", "rm", own.digest)
    empty_file(proof, 0)
    status, report = node.only("repair", one)
    assert (status, report["verdict"]) == (1, "bad")
    assert other in report["actions"][0]["outcome"]
    status, both = node.run("repair", one, other)
    assert status == 0
    assert {each["verdict"] for each in both["images"]} == {"ok"}
    assert_as_before(proof)


def test_two_repairs_at_once_do_not_meet(node: Node, cached: Cached) -> None:
    name = cached(built())
    empty_file(prove(node.containerd, name))
    both = [
        subprocess.Popen(node.command("repair", name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=60) for process in both]
    assert sorted({process.returncode for process in both}) in ([0], [0, 3])
    assert all(
        "in use by another agent" in error for (_, error), process in zip(told, both, strict=True) if process.returncode
    )
    assert node.run("verify", name)[0] == 0


@pytest.fixture
def discarding(registry: Registry, authority: Authority, folders: Factory) -> Iterator[Containerd]:
    """A containerd that throws layers away once they are unpacked."""
    with Containerd(folders("d"), containerd_lines="discard_unpacked_layers = true") as runtime:
        runtime.trust(registry.name, authority.pem)
        yield runtime


def test_where_layers_are_discarded_they_are_gone_again_after_the_repair(
    discarding: Containerd, registry: Registry, folder: Path
) -> None:
    node = Node(discarding, folder)
    pushed = built()
    name = registry.push("discarded/app", secrets.token_hex(4), pushed)
    discarding.pull(name)
    _wait_until_discarded(discarding, pushed)
    proof = prove(discarding, name)
    empty_file(proof)
    for depth in ("quick", "full"):
        assert node.only("verify", "--depth", depth)[1]["findings"][0]["cause"] == "snapshot_corrupt"
    assert node.run("repair")[0] == 0
    _wait_until_discarded(discarding, pushed)
    assert_as_before(proof)


def _wait_until_discarded(containerd: Containerd, pushed: Built) -> None:
    """containerd collects in its own time."""
    layers = {each.digest for each in pushed.layers}
    deadline = time.monotonic() + 10
    while layers & set(containerd.ctr("content", "list", "--quiet").split()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_containerd_that_is_restarted_while_its_files_are_read_is_no_damage(node: Node, cached: Cached) -> None:
    """The way to its files leads through its process: with another one, all that is still to be read seems gone."""
    name = cached(image(*(layer({f"share/{number}": secrets.token_bytes(300_000)}) for number in range(6))))
    node.settings = "verify: {bytes_per_second: 512KiB, concurrency: 1}\n"
    with subprocess.Popen(node.command("verify", name), stdout=subprocess.PIPE, text=True) as process:
        time.sleep(2.5)
        node.containerd.restart()
        told = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, told["images"][0]["verdict"]) == (3, "unknown")
    node.settings = ""
    assert node.run("verify", name)[0] == 0
