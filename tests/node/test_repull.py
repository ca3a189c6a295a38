"""A fresh copy by the real command, and the old one where none can be had."""

import json
import secrets
import signal
import subprocess
import time

import pytest

from stage.containerd import Containerd
from stage.images import filler, image, layer, pause
from stage.pods import Pod
from stage.registries import Registry
from tests.node.cache import Cached, Node, app, flip


def created(containerd: Containerd, digest: str) -> float:
    """When the file of a blob was made."""
    return containerd.blob(digest).stat().st_mtime


def test_a_repull_makes_every_blob_and_snapshot_anew_and_keeps_every_name(node: Node, cached: Cached) -> None:
    built = app()
    name = cached(built)
    names_before = node.records()
    for digest in built.blobs:
        flip(node.containerd.blob(digest))
    snapshots = node.containerd.ctr("snapshots", "list")
    status, done = node.run("repull", name)
    (report,) = done["images"]
    assert (status, report["verdict"]) == (0, "ok")
    assert [(each["action"], each["outcome"]) for each in report["actions"]] == [("evict", "done"), ("pull", "done")]
    assert node.sound(built)
    assert node.records() == names_before
    assert node.containerd.ctr("snapshots", "list").count("\n") == snapshots.count("\n")
    assert node.left_overs() == []


def test_a_tag_that_moved_is_followed_and_the_old_image_stays_under_its_digest(
    node: Node, registry: Registry, containerd: Containerd
) -> None:
    repository = f"repull/moved-{secrets.token_hex(4)}"
    old, new = app(), app()
    name = registry.push(repository, "1", old)
    containerd.pull(name)
    registry.push(repository, "1", new)
    status, done = node.run("repull", name)
    assert status == 0
    assert [each["action"] for each in done["images"][0]["actions"]] == ["pull"]
    records = node.records()
    assert records[name] == new.digest
    assert records[f"{registry.name}/{repository}@{old.digest}"] == old.digest
    assert node.sound(old)
    assert node.sound(new)
    assert node.run("verify")[0] == 0


def test_an_image_that_is_not_cached_is_simply_pulled(node: Node, registry: Registry) -> None:
    built = app()
    name = registry.push(f"repull/new-{secrets.token_hex(4)}", "1", built)
    status, done = node.run("repull", name)
    assert (status, [each["action"] for each in done["images"][0]["actions"]]) == (0, ["pull"])
    assert node.sound(built)


@pytest.mark.parametrize("why", ["registry gone", "tag gone"])
def test_what_cannot_be_pulled_again_is_not_evicted(node: Node, cached: Cached, registry: Registry, why: str) -> None:
    built = app()
    name = cached(built)
    names_before = node.records()
    repository = name.split("/", 1)[1].split(":")[0]
    link = registry.blob_path(built.digest).parents[4] / "repositories" / repository / "_manifests" / "tags"
    if why == "registry gone":
        registry.stop()
    else:
        link.rename(link.with_name("hidden"))
    try:
        status, done = node.run("repull", name)
    finally:
        if why == "registry gone":
            registry.start()
        else:
            link.with_name("hidden").rename(link)
    (action,) = done["images"][0]["actions"]
    assert (status, action["action"]) == (1, "leave")
    assert "cannot be pulled again" in action["outcome"]
    assert node.sound(built)
    assert node.records() == names_before


def test_what_is_in_use_is_left_with_the_containers_also_where_the_snapshot_label_is_gone(
    node: Node, registry: Registry, containerd: Containerd
) -> None:
    built = pause(layer({"mark": secrets.token_bytes(8)}))
    name = registry.push(f"repull/used-{secrets.token_hex(4)}", "1", built)
    containerd.pull(name)
    with Pod(containerd, name) as pod:
        status, done = node.run("repull", name)
        assert (status, done["images"][0]["actions"][0]["action"]) == (1, "leave")
        assert f"{pod.namespace}/{pod.name}" in done["images"][0]["actions"][0]["outcome"]
        containerd.ctr("content", "label", built.id, "containerd.io/gc.ref.snapshot.overlayfs=")
        status, done = node.run("repull", name)
        assert (status, done["images"][0]["actions"][0]["action"]) == (1, "leave")
        assert f"{pod.namespace}/{pod.name}" in done["images"][0]["actions"][0]["outcome"]


def test_what_shares_blobs_is_left_with_the_reason(node: Node, cached: Cached) -> None:
    common = layer({"common": secrets.token_bytes(100)})
    one = cached(image(common, layer({"one": b"1"})))
    cached(image(common, layer({"two": b"2"})))
    status, done = node.run("repull", one)
    assert status == 1
    assert "shares blobs with" in done["images"][0]["actions"][0]["outcome"]


def test_an_image_whose_layers_are_only_unpacked_is_left_since_it_could_not_be_put_back(
    node: Node, cached: Cached
) -> None:
    """The state after discard_unpacked_layers, or after a removal and a pull beside a container: facts, cache §2."""
    built = app()
    name = cached(built)
    node.containerd.ctr("content", "rm", built.layers[0].digest)
    assert node.run("verify", name)[0] == 0
    status, done = node.run("repull", name)
    assert status == 1
    assert "only unpacked" in done["images"][0]["actions"][0]["outcome"]


def test_a_repull_that_fails_after_the_eviction_puts_the_old_copy_back(
    node: Node, cached: Cached, registry: Registry
) -> None:
    """The registry passes every rung and then sends other bytes for the layer."""
    built = image(filler(2, secrets.token_hex(4)))
    name = cached(built)
    names_before = node.records()
    there = registry.blob_path(built.layers[0].digest)
    good = there.read_bytes()
    flip(there)
    try:
        status, done = node.run("repull", name)
    finally:
        there.write_bytes(good)
    assert status == 1
    assert done["images"][0]["actions"][-1]["outcome"].startswith("failed: ")
    assert node.sound(built)
    assert node.records() == names_before
    assert node.left_overs() == []
    node.containerd.restart()
    assert node.run("repull", name)[0] == 0


def test_a_repull_that_is_killed_at_any_moment_leaves_the_image_and_the_next_command_puts_things_right(
    node: Node, cached: Cached
) -> None:
    built = image(filler(32, secrets.token_hex(4)))
    name = cached(built)
    names_before = node.records()
    for delay in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.3, 1.6):
        process = subprocess.Popen(node.command("repull", name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        status, report = node.run("repair", name)
        assert status == 0, json.dumps(report)
        assert node.sound(built), delay
        assert node.records() == names_before
        assert node.left_overs() == []
    assert node.run("repull", name)[0] == 0


def test_two_that_mend_at_once_do_not_get_into_each_others_way(node: Node, cached: Cached) -> None:
    name = cached(image(filler(32, secrets.token_hex(4))))
    first = subprocess.Popen(node.command("repull", name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    second = subprocess.run(node.command("repull", name), capture_output=True, text=True, timeout=60, check=False)
    first.communicate(timeout=60)
    assert {first.returncode, second.returncode} <= {0, 3}
    assert 0 in {first.returncode, second.returncode}
    if second.returncode == 3:
        assert "another agent" in second.stderr
    assert node.run("verify", name)[0] == 0
