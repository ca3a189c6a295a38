"""Damage in a real content store, found and mended by the real command; proved by hashing what lies there."""

import hashlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from agent.rpc import cri_pb2
from agent.rpc.cri_pb2_grpc import ImageServiceStub
from stage.images import FOREIGN_PLATFORM, Built, filler, image, index, layer
from stage.pods import Pod
from stage.registries import Registry
from tests.node.cache import Cached, Node, app, flip

DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "deleted": Path.unlink,
}
CAUSES = {
    "flipped": "blob_corrupt",
    "truncated": "blob_truncated",
    "emptied": "blob_truncated",
    "deleted": "blob_missing",
}


def victim(built: Built, part: str) -> str:
    return {
        "manifest": built.digest,
        "config": built.id,
        "first layer": built.layers[0].digest,
        "last layer": built.layers[-1].digest,
    }[part]


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_found_and_named_and_nothing_is_changed_by_looking(node: Node, cached: Cached, how: str) -> None:
    built = app()
    name = cached(built)
    digest = built.layers[0].digest
    DAMAGE[how](node.containerd.blob(digest))
    status, found = node.run("verify", name)
    (report,) = found["images"]
    assert (status, report["verdict"], report["actions"]) == (1, "bad", [])
    assert [(each["cause"], each["subject"]) for each in report["findings"]] == [(CAUSES[how], digest)]
    assert not node.sound(built)


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("part", ["manifest", "config", "first layer", "last layer"])
def test_damage_is_mended_and_every_name_is_there_afterwards(node: Node, cached: Cached, part: str, how: str) -> None:
    built = app()
    name = cached(built)
    names_before = node.records()
    digest = victim(built, part)
    DAMAGE[how](node.containerd.blob(digest))
    status, mended = node.run("repair", name)
    (report,) = mended["images"]
    assert (status, report["verdict"]) == (0, "ok")
    assert [(each["cause"], each["subject"]) for each in report["findings"]] == [(CAUSES[how], digest)]
    assert [(each["action"], each["outcome"]) for each in report["actions"]] == [("fetch", "done")]
    assert node.sound(built)
    assert node.records() == names_before
    assert node.left_overs() == []


@pytest.mark.parametrize("part", ["index", "manifest", "config"])
def test_an_image_that_containerd_lost_after_a_restart_is_known_again_once_mended(
    node: Node, cached: Cached, part: str
) -> None:
    here = app()
    both = index(here, image(layer({"bin/app": b"other"}), platform=FOREIGN_PLATFORM))
    name = cached(both)
    digest = {"index": both.digest, "manifest": here.digest, "config": here.id}[part]
    os.truncate(node.containerd.blob(digest), 3)
    node.containerd.restart()
    assert name not in crictl_names(node)

    assert node.run("repair")[0] == 0
    deadline = time.monotonic() + 10
    while name not in crictl_names(node) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert name in crictl_names(node)
    assert node.sound(here)


def crictl_names(node: Node) -> set[str]:
    """The names that CRI itself knows."""
    with grpc.insecure_channel(node.containerd.endpoint, options=[("grpc.default_authority", "localhost")]) as channel:
        answer = ImageServiceStub(channel).ListImages(cri_pb2.ListImagesRequest(), timeout=10)
    return {name for each in answer.images for name in each.repo_tags}


def test_a_blob_that_another_image_shares_and_that_a_container_uses_is_mended_under_their_feet(
    node: Node, registry: Registry
) -> None:
    pause = f"{registry.name}/stage/pause:1"
    node.containerd.pull(pause)
    with Pod(node.containerd, pause) as pod:
        target = node.records()[pause]
        manifest = json.loads(node.containerd.blob(target).read_bytes())
        digest = manifest["layers"][0]["digest"]
        flip(node.containerd.blob(digest))
        status, found = node.run("repair", pause)
        (report,) = found["images"]
        assert (status, report["verdict"]) == (0, "ok")
        assert f"{pod.namespace}/{pod.name}/{pod.name}" in report["in_use"]
    content = node.containerd.blob(digest).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest.removeprefix("sha256:")


def test_damage_that_images_share_is_fetched_once(node: Node, cached: Cached) -> None:
    common = layer({"common": secrets.token_bytes(1000)})
    names = [cached(image(common, layer({f"only/{number}": b"x"}))) for number in range(3)]
    flip(node.containerd.blob(common.digest))
    status, found = node.run("repair", *names)
    assert (status, [report["verdict"] for report in found["images"]]) == (0, ["ok"] * 3)
    assert all(report["findings"] for report in found["images"])
    assert sum(len(report["actions"]) for report in found["images"]) == 1


def test_an_image_of_a_snapshotter_that_does_not_answer_hides_no_other(node: Node, cached: Cached) -> None:
    odd, other = app(), app()
    odd_name, other_name = cached(odd), cached(other)
    node.containerd.ctr("content", "label", odd.id, "containerd.io/gc.ref.snapshot.stargz=sha256:" + "0" * 64)
    assert node.run("verify", other_name)[0] == 0
    status, done = node.run("repull", odd_name)
    assert status == 1
    assert "stargz" in done["images"][0]["actions"][0]["outcome"]


def test_a_dry_run_says_what_it_would_do_and_does_nothing(node: Node, cached: Cached) -> None:
    built = app()
    name = cached(built)
    digest = built.layers[0].digest
    flip(node.containerd.blob(digest))
    bad = node.containerd.blob(digest).read_bytes()
    status, found = node.run("repair", "--dry-run", name)
    assert status == 1
    assert found["images"][0]["actions"][0]["outcome"] == f"would fetch {digest}"
    assert node.containerd.blob(digest).read_bytes() == bad
    assert node.run("repair", name)[0] == 0


def test_without_the_registry_nothing_is_touched_and_the_reason_is_told(
    node: Node, cached: Cached, registry: Registry
) -> None:
    built = app()
    name = cached(built)
    digest = built.layers[0].digest
    flip(node.containerd.blob(digest))
    bad = node.containerd.blob(digest).read_bytes()
    registry.stop()
    try:
        status, found = node.run("repair", name)
    finally:
        registry.start()
    (action,) = found["images"][0]["actions"]
    assert (status, action["action"]) == (1, "leave")
    assert "connection refused" in action["outcome"]
    assert node.containerd.blob(digest).read_bytes() == bad
    assert node.left_overs() == []


def test_a_registry_that_is_corrupt_itself_does_not_make_things_worse(
    node: Node, cached: Cached, registry: Registry
) -> None:
    built = app()
    name = cached(built)
    digest = built.layers[0].digest
    os.truncate(node.containerd.blob(digest), 10)
    there = registry.blob_path(digest)
    good = there.read_bytes()
    flip(there)
    try:
        status, found = node.run("repair", name)
    finally:
        there.write_bytes(good)
    (report,) = found["images"]
    assert (status, report["verdict"]) == (1, "bad")
    assert report["actions"][0]["outcome"].startswith("failed: the registry sent other bytes")
    assert node.containerd.blob(digest).stat().st_size == 10
    assert node.run("repair", name)[0] == 0
    assert node.left_overs() == []


def test_a_repair_that_is_killed_at_any_moment_is_finished_by_the_next_one(node: Node, cached: Cached) -> None:
    built = image(filler(48, f"{time.monotonic_ns()}"))
    name = cached(built)
    digest = built.layers[0].digest
    for delay in (0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2):
        flip(node.containerd.blob(digest))
        process = subprocess.Popen(node.command("repair", name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert node.containerd.blob(digest).stat().st_size == len(built.blobs[digest])
        assert node.run("repair", name)[0] == 0
        assert node.sound(built)
        assert node.left_overs() == []
