"""Snapshots and blobs that are both at fault, and records that lead nowhere: on every containerd."""

import pytest

from stage.containerd import Containerd
from stage.damage import blobs, files, records
from stage.pods import Pod
from stage.registries import Registry
from tests.node import oracle
from tests.node.cache import Cached, Node, down, faults
from tests.node.victims import BOTTOM, MIDDLE, TOP, sharing, victim

RESTARTED = pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])


@RESTARTED
def test_records_of_snapshots_that_are_gone_are_made_again_without_the_registry(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry, *, restarted: bool
) -> None:
    name = pulled(victim())
    proof = oracle.prove(fresh, name)
    records.remove_snapshots(fresh, *proof.chains)
    if restarted:
        fresh.restart()
    with down(registry):
        status, report = fresh_node.only("repair", name)
    assert {cause for cause, _ in faults(report)} == {"snapshot_missing"}
    assert proof.chains[0] in {subject for _, subject in faults(report)}
    assert (status, report["verdict"]) == (0, "ok")
    oracle.assert_as_before(proof)


def test_only_the_top_record_is_gone_and_the_layers_below_are_shared(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry
) -> None:
    built = victim()
    proofs = oracle.prove_each(fresh, [pulled(built), pulled(sharing(built))])
    records.remove_snapshots(fresh, *proofs[0].chains[:-1])
    with down(registry):
        status, document = fresh_node.run("repair")
    damaged = {report["id"]: faults(report) for report in document["images"] if report["findings"]}
    assert damaged.keys() == {proofs[0].target}
    assert status == 0
    oracle.assert_as_before(*proofs)


@RESTARTED
def test_a_label_that_leads_elsewhere_is_put_right(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry, *, restarted: bool
) -> None:
    built = victim()
    name = pulled(built)
    proof = oracle.prove(fresh, name)
    records.point_label_elsewhere(fresh, built.id)
    if restarted:
        fresh.restart()
    with down(registry):
        assert fresh_node.only("verify", "--depth", "quick", name)[0] == 1
        status, report = fresh_node.only("repair", name)
    assert {cause for cause, _ in faults(report)} <= {"metadata_broken", "snapshot_missing"}
    assert (status, report["verdict"]) == (0, "ok")
    oracle.assert_as_before(proof)


def test_rows_that_the_snapshotter_lost_are_told_and_left_with_what_to_do(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    names = [pulled(victim()) for _ in range(2)]
    proofs = oracle.prove_each(fresh, names)
    records.lose_snapshotters_rows(fresh)
    status, document = fresh_node.run("repair", *names)
    assert status == 1
    for report in document["images"]:
        assert report["verdict"] == "bad"
        assert {cause for cause, _ in faults(report)} == {"metadata_broken"}
        assert {action["action"] for action in report["actions"]} == {"leave"}
        assert "stop containerd" in report["actions"][0]["outcome"].lower()
    assert all(folder.is_dir() for proof in proofs for folder in proof.folders.values())
    assert all(oracle.right(fresh, digest) for proof in proofs for digest in proof.blobs)
    oracle.assert_nothing_left(proofs[0])


def test_a_layer_that_was_discarded_is_fetched_to_rebuild_its_snapshot(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    """The record of the blob is gone by right, and the snapshot is damaged: facts, cache §2 and §3.3."""
    built = victim()
    name = pulled(built)
    fresh.ctr("content", "rm", built.layers[BOTTOM].digest)
    proof = oracle.prove(fresh, name)
    chain, folder = proof.layers[BOTTOM]
    files.truncate(folder / "bin/app")
    status, report = fresh_node.only("repair", name)
    assert faults(report) == [("snapshot_corrupt", chain)]
    assert (status, report["verdict"]) == (0, "ok")
    oracle.assert_as_before(proof)


def test_with_neither_blob_nor_registry_a_damaged_snapshot_is_left(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry
) -> None:
    built = victim()
    name = pulled(built)
    fresh.ctr("content", "rm", built.layers[BOTTOM].digest)
    proof = oracle.prove(fresh, name)
    chain, folder = proof.layers[BOTTOM]
    files.truncate(folder / "bin/app")
    with down(registry):
        status, report = fresh_node.only("repair", name)
    assert (status, report["verdict"]) == (1, "bad")
    assert {action["action"] for action in report["actions"]} == {"leave"}
    assert oracle.damaged(proof) == {chain}
    oracle.assert_nothing_left(proof)


@RESTARTED
def test_a_layer_whose_blob_and_files_are_both_damaged_is_fetched_and_then_rebuilt(
    fresh: Containerd, fresh_node: Node, pulled: Cached, *, restarted: bool
) -> None:
    built = victim()
    name = pulled(built)
    proof = oracle.prove(fresh, name)
    chain, folder = proof.layers[MIDDLE]
    blobs.flip(fresh.blob(built.layers[MIDDLE].digest))
    files.delete(folder / "data/new")
    if restarted:
        fresh.restart()
    status, report = fresh_node.only("repair", name)
    assert ("blob_corrupt", built.layers[MIDDLE].digest) in faults(report)
    assert (status, report["verdict"]) == (0, "ok")
    oracle.assert_as_before(proof)
    assert chain in proof.folders


def test_everything_of_an_image_is_damaged_at_once(fresh: Containerd, fresh_node: Node, pulled: Cached) -> None:
    """As after a power loss: every blob is empty, and every file of every layer."""
    name = pulled(victim())
    proof = oracle.prove(fresh, name)
    for digest in proof.blobs:
        blobs.empty(fresh.blob(digest))
    for _, folder in proof.layers:
        files.clear(folder)
    fresh.restart()
    assert fresh_node.only("repair", name)[0] == 0
    oracle.assert_as_before(proof)
    with Pod(fresh, name) as pod:
        assert pod.container_id in fresh.ctr("tasks", "list")


def test_a_damaged_layer_of_the_sandbox_image_is_left_where_every_pod_stands_on_it(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    sandbox = "registry.example/stage/pause:1"
    with Pod(fresh, pulled(victim())):
        proof = oracle.prove(fresh, sandbox)
        chain, folder = proof.layers[BOTTOM]
        files.loosen(folder / "pause")
        status, report = fresh_node.only("repair", sandbox)
        assert (status, report["verdict"], faults(report)) == (1, "bad", [("snapshot_corrupt", chain)])
        assert oracle.damaged(proof) == {chain}


def test_a_layer_that_only_a_third_image_made_bad_is_named_once(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry
) -> None:
    """Three images on one layer, whose directory is gone: rebuilt once, right for all, the registry not asked."""
    built = victim()
    names = [pulled(each) for each in (built, sharing(built), sharing(built))]
    proofs = oracle.prove_each(fresh, names)
    files.remove(proofs[0].layers[BOTTOM][1])
    with down(registry):
        status, document = fresh_node.run("repair")
    subjects = {subject for report in document["images"] for _, subject in faults(report)}
    assert (status, subjects) == (0, {proofs[0].layers[BOTTOM][0]})
    oracle.assert_as_before(*proofs)
    assert proofs[0].layers[TOP] != proofs[1].layers[TOP]
