"""Every fault of an unpacked file, on every containerd: found at its path, rebuilt without the registry, and proved.

Alone and shared, unused and used by a pod, before and after a restart, with the layer's blob there, damaged and gone.
"""

from contextlib import ExitStack

import pytest

from stage.containerd import Containerd
from stage.damage import files
from stage.pods import Pod
from stage.registries import Registry
from stage.versions import versions
from tests.node import oracle
from tests.node.cache import Cached, Node, down, faults
from tests.node.victims import BOTTOM, DEPTHS, FILE_FAULTS, TOP, sharing, victim
from tests.node.ward import unnamed, with_file_faults, wrong

BY_NAME = {fault.name: fault for fault in FILE_FAULTS}
SOME = pytest.mark.parametrize("which", ["zeroed", "whiteout-lost", "extra-file"])
REPLACE = "repair:\n  in_use: replace-files\n"
FIRST = pytest.mark.parametrize("fresh", versions()[:1], indirect=True, ids=lambda version: version.name)


@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
def test_every_fault_is_found_at_its_depth_and_path_and_rebuilt_without_the_registry(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry, *, restarted: bool
) -> None:
    patients = with_file_faults(fresh, pulled, FILE_FAULTS)
    if restarted:
        fresh.restart()
    with down(registry):
        for depth in DEPTHS if not restarted else ():
            status, document = fresh_node.run("verify", "--depth", depth)
            assert wrong(patients, document, depth) == {}
            assert status == 1
        status, document = fresh_node.run("repair")
    assert (wrong(patients, document), unnamed(patients, document)) == ({}, [])
    assert status == 0, [report for report in document["images"] if report["verdict"] != "ok"]
    assert {report["verdict"] for report in document["images"]} == {"ok"}
    oracle.assert_as_before(*(each.proof for each in patients))
    assert all(fresh.knows(each.name) for each in patients)
    assert fresh_node.left_overs() == []


def test_what_is_found_has_the_layer_the_path_and_what_was_expected_there(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    built = victim()
    name = pulled(built)
    other = pulled(sharing(built))
    proof = oracle.prove(fresh, name)
    folder = proof.layers[BOTTOM][1]
    files.change_quietly(folder / "bin/app")
    files.delete(folder / "etc/conf")
    status, report = fresh_node.only("verify", name)
    (finding,) = report["findings"]
    assert (status, finding["cause"], finding["subject"]) == (1, "snapshot_corrupt", proof.chains[-1])
    assert "expected" in finding["detail"]
    assert "found" in finding["detail"]
    assert all(path in finding["evidence"]["paths"] for path in ("bin/app", "etc/conf"))
    assert finding["evidence"]["layer"] == built.layers[BOTTOM].digest
    assert other in finding["evidence"]["images"]
    assert oracle.damaged(proof) == {proof.chains[-1]}


@pytest.mark.parametrize("at", [BOTTOM, TOP], ids=["lower", "top"])
@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
def test_a_folder_of_a_layer_that_is_gone_is_made_again_without_the_registry(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry, at: int, *, restarted: bool
) -> None:
    name = pulled(victim())
    proof = oracle.prove(fresh, name)
    chain, folder = proof.layers[at]
    files.remove(folder.parent)
    if restarted:
        fresh.restart()
    with down(registry):
        assert fresh_node.only("verify", "--depth", "quick", name)[0] == 1
        status, report = fresh_node.only("repair", name)
    assert ("snapshot_missing", chain) in faults(report)
    assert (status, report["verdict"]) == (0, "ok")
    oracle.assert_as_before(proof)


@pytest.mark.parametrize("which", ["zeroed", "deleted"])
def test_what_images_share_is_rebuilt_for_both(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry, which: str
) -> None:
    built = victim()
    names = [pulled(each) for each in (built, sharing(built))]
    proofs = oracle.prove_each(fresh, names)
    fault = BY_NAME[which]
    chain, folder = proofs[0].layers[fault.at]
    fault.strike(folder)
    with down(registry):
        status, document = fresh_node.run("repair")
    damaged = {report["id"]: faults(report) for report in document["images"] if report["findings"]}
    assert damaged == {proof.target: [("snapshot_corrupt", chain)] for proof in proofs}
    assert status == 0
    oracle.assert_as_before(*proofs)


@pytest.mark.parametrize(("which", "restarted"), [("zeroed", False), ("whiteout-lost", True)])
def test_what_a_pod_uses_is_left_and_the_pod_is_named(
    fresh: Containerd, fresh_node: Node, pulled: Cached, which: str, *, restarted: bool
) -> None:
    fault = BY_NAME[which]
    name = pulled(victim())
    with Pod(fresh, name, name="uses-it", namespace="team"):
        proof = oracle.prove(fresh, name)
        chain, folder = proof.layers[fault.at]
        fault.strike(folder)
        if restarted:
            fresh.restart()
        struck = oracle.tree(folder)
        status, report = fresh_node.only("repair", name)
        assert (status, report["verdict"], faults(report)) == (1, "bad", [("snapshot_corrupt", chain)])
        assert "team/uses-it" in report["findings"][0]["evidence"]["in_use"]
        assert report["in_use"] == ["team/uses-it/uses-it"]
        assert [action["action"] for action in report["actions"]] == ["leave"]
        assert "team/uses-it" in report["actions"][0]["outcome"]
        assert oracle.tree(folder) == struck
        oracle.assert_nothing_left(proof)
    assert fresh_node.only("repair", name)[0] == 0
    oracle.assert_as_before(proof)


@FIRST
def test_where_the_operator_allows_it_every_fault_is_mended_beneath_the_pods(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry
) -> None:
    fresh_node.settings = REPLACE
    patients = with_file_faults(fresh, pulled, FILE_FAULTS)
    mends_beneath_pods(fresh, fresh_node, registry, [(each.name, each.proof) for each in patients])


@SOME
def test_where_the_operator_allows_it_files_are_mended_in_place(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry, which: str
) -> None:
    fresh_node.settings = REPLACE
    (patient,) = with_file_faults(fresh, pulled, [BY_NAME[which]])
    mends_beneath_pods(fresh, fresh_node, registry, [(patient.name, patient.proof)])


def mends_beneath_pods(
    containerd: Containerd, node: Node, registry: Registry, images: list[tuple[str, oracle.Proof]]
) -> None:
    """A container of each image exists, so nothing can be rebuilt; afterwards all is right in the same directories."""
    with ExitStack() as stack:
        pods = [stack.enter_context(Pod(containerd, name, start=False)) for name, _ in images]
        with down(registry):
            status, document = node.run("repair", *(name for name, _ in images))
        assert status == 0
        assert {report["verdict"] for report in document["images"]} == {"ok"}
        proofs = [proof for _, proof in images]
        assert [proof.folders for proof in oracle.prove_each(containerd, [name for name, _ in images])] == [
            proof.folders for proof in proofs
        ]
        assert all(pod.container_id in containerd.ctr("containers", "list") for pod in pods)
    oracle.assert_as_before(*proofs)
