"""Every fault of a blob, on every containerd: found by its name, mended, and proved by the oracle.

Alone and shared, unused and used by a pod, before and after a restart, in one namespace and in two.
"""

import time

import pytest

from stage.containerd import Containerd
from stage.images import PLATFORM
from stage.pods import Pod
from stage.registries import Registry
from tests.node import oracle
from tests.node.cache import Cached, Node, down, faults
from tests.node.victims import BLOB_FAULTS, BOTTOM, DEPTHS, BlobFault, part, sharing, victim, with_other_platform
from tests.node.ward import with_blob_faults, wrong

BY_NAME = {fault.name: fault for fault in BLOB_FAULTS}


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
def test_every_fault_is_found_at_its_depth_and_mended_and_containerd_knows_every_tag(
    fresh: Containerd, fresh_node: Node, pulled: Cached, *, restarted: bool
) -> None:
    patients = with_blob_faults(fresh, pulled, BLOB_FAULTS)
    if restarted:
        fresh.restart()
    for depth in DEPTHS if not restarted else ("quick",):
        status, document = fresh_node.run("verify", "--depth", depth)
        assert wrong(patients, document, depth) == {}
        assert status == 1
    status, document = fresh_node.run("repair")
    assert wrong(patients, document) == {}
    assert status == 0, [report for report in document["images"] if report["verdict"] != "ok"]
    assert {report["verdict"] for report in document["images"]} == {"ok"}
    for each in patients:
        await_known(fresh, each.name)
    oracle.assert_as_before(*(each.proof for each in patients))
    assert fresh_node.left_overs() == []


def await_known(containerd: Containerd, name: str, seconds: float = 5) -> None:
    """CRI hears of its images by events."""
    deadline = time.monotonic() + seconds
    while not containerd.knows(name):
        assert time.monotonic() < deadline, f"CRI does not know {name}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("which", "restarted"),
    [("layer-flipped", False), ("layer-deleted", True), ("config-emptied", False), ("manifest-altered", True)],
)
def test_what_a_pod_uses_is_mended_beneath_it(
    fresh: Containerd, fresh_node: Node, pulled: Cached, which: str, *, restarted: bool
) -> None:
    fault, both = BY_NAME[which], with_other_platform(victim())
    name = pulled(both)
    with Pod(fresh, name) as pod:
        proof = oracle.prove(fresh, name)
        fault.strike(fresh, both)
        if restarted:
            fresh.restart()
        status, report = fresh_node.only("repair", name)
        assert (status, report["verdict"]) == (0, "ok")
        assert faults(report) == [(fault.cause, part(both, fault.part))]
        assert report["in_use"] == ["default/app/app"]
        oracle.assert_as_before(proof)
        assert pod.container_id in fresh.ctr("tasks", "list")


def test_a_layer_that_images_share_and_a_pod_uses_is_mended_for_both(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    built = victim()
    names = [pulled(each) for each in (built, sharing(built))]
    with Pod(fresh, names[0]):
        proofs = [oracle.prove(fresh, name) for name in names]
        shared = built.layers[BOTTOM].digest
        fresh.blob(shared).unlink()
        status, document = fresh_node.run("repair")
        damaged = {report["id"]: faults(report) for report in document["images"] if report["findings"]}
        assert damaged == {proof.target: [("blob_missing", shared)] for proof in proofs}
        assert status == 0
        oracle.assert_as_before(*proofs)


@pytest.mark.parametrize("which", ["layer-flipped", "manifest-deleted"])
def test_a_blob_that_another_namespace_has_too_is_mended_for_both(
    fresh: Containerd, fresh_node: Node, pulled: Cached, which: str
) -> None:
    fault: BlobFault = BY_NAME[which]
    both = with_other_platform(victim())
    name = pulled(both)
    fresh.ctr("content", "fetch", "--hosts-dir", str(fresh.certs_d), "--platform", PLATFORM, name, namespace="moby")
    proof = oracle.prove(fresh, name)
    fault.strike(fresh, both)
    status, report = fresh_node.only("repair", name)
    assert faults(report) == [(fault.cause, part(both, fault.part))]
    assert (status, report["verdict"]) == (0, "ok")
    oracle.assert_as_before(proof)
    assert part(both, fault.part) in fresh.ctr("content", "list", namespace="moby")


def test_without_the_registry_it_is_told_and_left_as_it_is(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry
) -> None:
    fault, both = BY_NAME["config-deleted"], with_other_platform(victim())
    name = pulled(both)
    proof = oracle.prove(fresh, name)
    fault.strike(fresh, both)
    with down(registry):
        status, report = fresh_node.only("repair", name)
    assert (status, report["verdict"]) == (1, "bad")
    assert [action["action"] for action in report["actions"]] == ["leave"]
    assert oracle.damaged(proof) == {part(both, fault.part)}
    oracle.assert_nothing_left(proof)
    assert fresh_node.only("repair", name)[0] == 0
    oracle.assert_as_before(proof)


def test_all_that_an_image_has_is_damaged_at_once(fresh: Containerd, fresh_node: Node, pulled: Cached) -> None:
    name = pulled(with_other_platform(victim()))
    proof = oracle.prove(fresh, name)
    for digest in proof.blobs:
        fresh.blob(digest).write_bytes(b"")
    fresh.restart()
    assert fresh_node.only("repair", name)[0] == 0
    await_known(fresh, name)
    oracle.assert_as_before(proof)
