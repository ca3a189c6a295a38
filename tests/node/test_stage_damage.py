"""The stage's damage and the oracle that judges repairs: each fault is really there, and nothing beside it."""

import errno
from pathlib import Path

import pytest

from stage.authority import Authority
from stage.containerd import Containerd, PullError
from stage.damage import downloads, records
from stage.damage.disk import disk, expect_unreadable
from stage.hostile import Scripted
from stage.images import FOREIGN_PLATFORM, filler, image, index, layer
from stage.pods import Pod
from stage.registries import Registry
from tests.node import oracle
from tests.node.cache import Cached
from tests.node.victims import (
    BLOB_FAULTS,
    BOTTOM,
    DOCUMENTS,
    FILE_FAULTS,
    BlobFault,
    FileFault,
    part,
    sharing,
    victim,
    with_other_platform,
)


def test_a_pull_is_proved_and_again_after_a_restart_and_while_a_pod_runs(fresh: Containerd, pulled: Cached) -> None:
    built = victim()
    both = with_other_platform(built)
    name = pulled(both)
    proof = oracle.prove(fresh, name)
    assert len(proof.names) == 3
    assert proof.blobs == {both.digest, built.digest, built.id, *(each.digest for each in built.layers)}
    assert len(proof.folders) == len(built.layers)
    fresh.restart()
    with Pod(fresh, name):
        assert oracle.prove(fresh, name).chains == proof.chains
    oracle.assert_as_before(proof)
    assert oracle.damaged(proof) == set()


@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_files_is_seen_by_the_oracle_at_its_path_and_nowhere_else(
    containerd: Containerd, cached: Cached, fault: FileFault
) -> None:
    proof = oracle.prove(containerd, cached(victim()))
    chain, folder = proof.layers[fault.at]
    fault.strike(folder)
    assert oracle.damaged(proof) == {chain}
    found = oracle.differences(proof.trees[chain], oracle.tree(folder))
    assert any(line.startswith(f"{fault.named}: ") for line in found), found
    with pytest.raises(AssertionError):
        oracle.assert_as_before(proof)


@pytest.mark.parametrize("fault", BLOB_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_a_blob_is_seen_by_the_oracle(containerd: Containerd, cached: Cached, fault: BlobFault) -> None:
    both = with_other_platform(victim())
    proof = oracle.prove(containerd, cached(both))
    size = containerd.blob(part(both, fault.part)).stat().st_size
    fault.strike(containerd, both)
    assert oracle.damaged(proof) == {part(both, fault.part)}
    path = containerd.blob(part(both, fault.part))
    assert path.exists() is (fault.how != "deleted")
    assert not path.exists() or (path.stat().st_size == size) is (fault.cause == "blob_corrupt")


def test_what_is_shared_is_one_blob_and_one_folder(fresh: Containerd, pulled: Cached) -> None:
    built = victim()
    one, other = (oracle.prove(fresh, pulled(each)) for each in (built, sharing(built)))
    assert one.blobs & other.blobs == {built.layers[BOTTOM].digest}
    assert {*one.folders.values()} & {*other.folders.values()} == {next(iter(one.folders.values()))}


def test_records_of_snapshots_can_be_removed_from_the_top(fresh: Containerd, pulled: Cached) -> None:
    name = pulled(victim())
    proof = oracle.prove(fresh, name)
    records.remove_snapshots(fresh, *proof.chains)
    assert not [chain for chain in proof.chains if chain in fresh.ctr("snapshots", "list")]
    with pytest.raises(AssertionError):
        oracle.assert_as_before(proof)
    fresh.pull(name)  # facts, cache §3.1: the one thing that a pull repairs
    oracle.assert_as_before(proof)


def test_a_label_that_leads_elsewhere_is_seen(fresh: Containerd, pulled: Cached) -> None:
    built = victim()
    proof = oracle.prove(fresh, pulled(built))
    records.point_label_elsewhere(fresh, built.id)
    with pytest.raises(AssertionError):
        oracle.assert_as_before(proof)


def test_a_snapshotter_without_its_rows_cannot_be_unpacked_to(fresh: Containerd, pulled: Cached) -> None:
    proof = oracle.prove(fresh, pulled(victim()))
    records.lose_snapshotters_rows(fresh)
    assert all(folder.is_dir() for folder in proof.folders.values())
    with pytest.raises(PullError, match="file exists"):
        pulled(victim())


def test_a_download_that_was_cut_off_with_wrong_bytes_fails_for_ever(fresh: Containerd, slow_server: Scripted) -> None:
    built = image(layer({"bin/app": b"small"}), filler(4, "corrupt ingest"))
    reference = downloads.corrupt_ingest(fresh, slow_server, "ingest/app", built)
    for _ in range(2):
        with pytest.raises(PullError, match="unexpected commit digest"):
            fresh.pull(reference)


def test_a_bad_disk_answers_with_eio_for_one_file_and_reads_the_others(folder: Path) -> None:
    with disk(folder, folder / "disk") as bad:
        files = [bad.place / f"{number}" for number in range(5)]
        for file in files:
            file.write_bytes(file.name.encode() * 100_000)
        before = files[2].stat()
        bad.break_file(files[2])
        after = files[2].stat()
        with pytest.raises(OSError, match="error") as caught:
            files[2].read_bytes()
        assert caught.value.errno == errno.EIO
        assert [len(file.read_bytes()) for file in files if file != files[2]] == [100_000] * 4
    assert (before.st_size, before.st_mtime_ns, before.st_mode) == (after.st_size, after.st_mtime_ns, after.st_mode)


def test_containerd_goes_on_with_a_blob_that_cannot_be_read(
    folder: Path, registry: Registry, authority: Authority
) -> None:
    built = victim()
    with (
        disk(folder, folder / "n/root", 128) as bad,
        Containerd(folder / "n") as own,
    ):
        own.trust(registry.name, authority.pem)
        name = registry.push("damage/disk", "1", built)
        own.pull(name)
        path = own.blob(built.layers[BOTTOM].digest)
        bad.break_file(path)
        own.restart()
        own.pull(name)
        expect_unreadable(path)


def test_names_of_faults_are_unique() -> None:
    names = [*(fault.name for fault in FILE_FAULTS), *(fault.name for fault in BLOB_FAULTS)]
    assert len(names) == len(set(names))
    assert {fault.part for fault in BLOB_FAULTS} == {*DOCUMENTS, "layer"}
    assert FOREIGN_PLATFORM in {child.platform for child in with_other_platform(victim()).children}
    assert index(victim()).children
