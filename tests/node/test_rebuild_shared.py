"""Unpacked layers that others share, hold or lack: what is mended for one is never taken from another."""

import gzip
import json
import os
import secrets
import subprocess
import time

import pytest

from agent.__main__ import main
from agent.causes import Cause
from agent.model import Fault
from agent.runtime.diff import Diff
from stage.damage import records
from stage.images import Layer, image, layer, pack, pause
from stage.pods import Pod
from stage.registries import Registry
from tests.node.cache import Cached, Node, down, faults, flip
from tests.node.oracle import Proof, assert_as_before, prove


def own() -> Layer:
    return layer({f"data/{secrets.token_hex(4)}": secrets.token_bytes(5000)})


def empty_file(proof: Proof, number: int) -> str:
    """Empty a file of the layer with this number, the lowest being 0; its chain ID."""
    chain, folder = proof.layers[number]
    os.truncate(next(path for path in folder.rglob("*") if path.is_file()), 0)
    return chain


def snapshots(node: Node) -> set[str]:
    return {line.split()[0] for line in node.containerd.ctr("snapshots", "list").splitlines()[1:]}


def test_layers_below_the_damaged_one_stay_though_they_are_not_here_as_blobs(
    node: Node, cached: Cached, registry: Registry
) -> None:
    built = image(own(), own(), own())
    name = cached(built)
    proof = prove(node.containerd, name)
    node.containerd.ctr("content", "rm", built.layers[0].digest)
    empty_file(proof, 2)
    with down(registry):
        status, report = node.only("repair", name)
    assert (status, [each["action"] for each in report["actions"]]) == (0, ["rebuild"])
    assert {chain for chain, _ in proof.layers} <= snapshots(node)
    assert node.only("verify", name)[0] == 0


def test_what_somebody_else_holds_costs_none_of_the_layers_above_it(
    node: Node, cached: Cached, registry: Registry
) -> None:
    name = cached(image(own(), own(), own()))
    proof = prove(node.containerd, name)
    lowest = proof.layers[0][0]
    node.containerd.ctr("snapshots", "label", lowest, "containerd.io/gc.root=kept")
    empty_file(proof, 0)
    with down(registry):
        status, report = node.only("repair", name)
    assert (status, report["verdict"]) == (1, "bad")
    assert "held by something else" in report["actions"][0]["outcome"]
    assert {chain for chain, _ in proof.layers} <= snapshots(node)
    node.containerd.ctr("snapshots", "label", lowest, "containerd.io/gc.root=")
    assert node.only("repair", name)[0] == 0
    assert_as_before(proof)


def test_nothing_is_dropped_while_another_image_with_it_cannot_be_read(
    node: Node, cached: Cached, registry: Registry
) -> None:
    base = own()
    one, other = image(base, own()), image(base, own())
    names = cached(one), cached(other)
    proof = prove(node.containerd, *names)
    empty_file(proof, 0)
    flip(node.containerd.blob(other.id))
    with down(registry):
        status, report = node.only("repair", names[0])
    assert (status, report["actions"][0]["action"]) == (1, "leave")
    assert names[1] in report["actions"][0]["outcome"]
    assert {chain for chain, _ in proof.layers} <= snapshots(node)
    assert node.run("repair", *names)[0] == 0
    assert_as_before(proof)


def test_a_wrong_label_is_set_right_under_a_running_pod(node: Node, cached: Cached, registry: Registry) -> None:
    built = pause(own())
    name = cached(built)
    proof = prove(node.containerd, name)
    with Pod(node.containerd, name):
        records.point_label_elsewhere(node.containerd, built.id)
        with down(registry):
            status, report = node.only("repair", name)
    assert (status, [each["action"] for each in report["actions"]]) == (0, ["unpack"])
    assert_as_before(proof)


def test_the_blob_of_each_image_is_read_also_where_they_unpack_to_the_same(node: Node, cached: Cached) -> None:
    packed = own()
    one, other = cached(image(packed)), cached(image(pack(gzip.decompress(packed.blob), "none")))
    digest = packed.digest
    flip(node.containerd.blob(digest))
    for names in ((one, other), (other, one)):
        status, told = node.run("verify", *names)
        found = {report["names"][0]: faults(report) for report in told["images"]}
        assert (status, found[one]) == (1, [("blob_corrupt", digest)])
        assert found[other] == []


def test_a_debt_that_cannot_be_paid_keeps_nothing_else_from_being_mended(node: Node, cached: Cached) -> None:
    built = image(own(), own())
    name, other = cached(built), cached(image(own()))
    target = node.records()[name]
    records.drop_label(node.containerd, built.id)
    flip(node.containerd.blob(built.layers[1].digest))
    debt = {"id": target, "names": [name], "what": "repair", "since": 1.0}
    details = {"digests": [], "unpack": [target], "folders": {}}
    (node.folder / "state").mkdir()
    ledger = node.folder / "state" / "ledger.json"
    ledger.write_text(json.dumps({"version": 1, "debts": [{**debt, "details": details}]}))
    empty_file(prove(node.containerd, other), 0)
    done = subprocess.run(node.command("repair", other), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "it could not be finished" in done.stderr
    assert node.run("repair", name)[0] == 0


def test_a_rebuild_that_failed_is_owed_and_never_told_as_mended(
    node: Node, cached: Cached, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = cached(image(own(), own()))
    proof = prove(node.containerd, name)
    empty_file(proof, 1)

    async def full(*_: object) -> None:
        raise Fault(Cause.DISK_FULL, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Diff, "apply", full)
        status = main(node.command("repair", name)[3:])
    (report,) = json.loads(capsys.readouterr().out)["images"]
    assert (status, report["verdict"]) == (1, "bad")
    assert "no space left" in report["actions"][0]["outcome"]
    assert node.left_overs() == [node.records()[name]]
    assert node.run("repair", name)[0] == 0
    assert_as_before(proof)


def test_a_folder_that_is_gone_and_its_blob_that_is_damaged_are_both_told(node: Node, cached: Cached) -> None:
    built = image(own(), own())
    name = cached(built)
    proof = prove(node.containerd, name)
    chain, folder = proof.layers[1]
    folder.rename(folder.with_name("away"))
    flip(node.containerd.blob(built.layers[1].digest))
    expected = [("blob_corrupt", built.layers[1].digest), ("snapshot_missing", chain)]
    assert faults(node.only("verify", name)[1]) == expected
    status, report = node.only("repair", name)
    assert (status, [each["action"] for each in report["actions"]]) == (0, ["fetch", "rebuild"])
    assert_as_before(proof)


def test_another_snapshotter_is_not_mended_in_overlayfs(node: Node, cached: Cached) -> None:
    built = image(own())
    name = cached(built)
    proof = prove(node.containerd, name)
    node.containerd.ctr("content", "label", built.id, f"containerd.io/gc.ref.snapshot.native={proof.layers[0][0]}")
    before = snapshots(node)
    for depth in ("quick", "full"):
        assert node.only("verify", "--depth", depth, name)[0] == 0
    assert node.only("repair", name)[0] == 0
    time.sleep(0.5)
    assert snapshots(node) == before
    node.containerd.ctr("content", "label", built.id, "containerd.io/gc.ref.snapshot.native=")
