"""Downloads that can never end, and a disk that cannot be read: on every containerd where that differs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stage import hostile
from stage.containerd import Containerd, PullError
from stage.damage import downloads
from stage.damage.disk import Disk, disk, expect_unreadable
from stage.hostile import Scripted
from stage.images import filler, image, layer
from tests.node import oracle
from tests.node.cache import Cached, Node, faults
from tests.node.victims import BOTTOM, victim


def ingests(containerd: Containerd) -> list[str]:
    return [path.read_text() for path in (containerd.root / "io.containerd.content.v1.content/ingest").glob("*/ref")]


def test_a_download_that_goes_on_from_wrong_bytes_is_found_and_aborted_and_a_pull_works(
    fresh: Containerd, fresh_node: Node, pulled: Cached, slow_server: Scripted
) -> None:
    pulled(victim())
    built = image(layer({"bin/app": b"small"}), filler(4, "stuck"))
    name = downloads.corrupt_ingest(fresh, slow_server, "ingest/app", built)
    with pytest.raises(PullError, match="unexpected commit digest"):
        fresh.pull(name)
    downloads.age(downloads.await_partial(fresh, built), downloads.AN_HOUR)
    digest = built.layers[-1].digest
    for command, after in (("verify", 1), ("repair", 0)):
        assert any(digest in ref for ref in ingests(fresh))
        status, document = fresh_node.run(command)
        stuck = [found for report in document["images"] for found in faults(report)]
        assert (status, stuck) == (after, [("ingest_stuck", f"layer-{digest}")])
    assert not any(digest in ref for ref in ingests(fresh))
    fresh.pull(name)
    assert all(oracle.right(fresh, each) for each in built.blobs)
    assert fresh_node.run("verify")[0] == 0


def test_a_download_that_failed_a_moment_ago_is_found_and_left_until_nobody_writes_to_it(
    fresh: Containerd, fresh_node: Node, slow_server: Scripted
) -> None:
    built = image(layer({"bin/app": b"small"}), filler(4, "stuck"))
    name = downloads.corrupt_ingest(fresh, slow_server, "ingest/app", built)
    with pytest.raises(PullError, match="unexpected commit digest"):
        fresh.pull(name)
    status, document = fresh_node.run("repair")
    assert (status, [report["verdict"] for report in document["images"]]) == (1, ["bad"])
    assert any(built.layers[-1].digest in ref for ref in ingests(fresh))


def test_a_download_that_was_cut_off_with_good_bytes_is_left_alone(
    fresh: Containerd, fresh_node: Node, slow_server: Scripted
) -> None:
    """containerd goes on from where it was: that is no fault."""
    built = image(layer({"bin/app": b"small"}), filler(4, "resumed"))
    name = downloads.cut_off_ingest(fresh, slow_server, "ingest/good", built)
    status, document = fresh_node.run("repair")
    assert (status, [report for report in document["images"] if report["findings"]]) == (0, [])
    assert any(built.layers[-1].digest in ref for ref in ingests(fresh))
    fresh.pull(name)


def test_a_pull_that_is_under_way_is_left_alone(fresh: Containerd, fresh_node: Node, slow_server: Scripted) -> None:
    built = image(layer({"bin/app": b"small"}), filler(4, "under way"))
    slow_server.routes = downloads.halting(hostile.serving("ingest/slow", "1", built), "ingest/slow", built)
    with downloads.pulling(fresh, f"{slow_server.name}/ingest/slow:1"):
        try:
            partial = downloads.await_partial(fresh, built)
            for command in ("verify", "repair"):
                status, document = fresh_node.run(command)
                assert (status, [report for report in document["images"] if report["findings"]]) == (0, [])
            assert partial.exists()
        finally:
            fresh.kill()


@pytest.fixture
def bad_disk(fresh: Containerd, folder: Path) -> Iterator[Disk]:
    """The root of `fresh` on a disk of its own, which is not bad yet."""
    fresh.stop()
    with disk(folder, fresh.root, 128) as own:
        fresh.start()
        yield own
        fresh.stop()


def test_a_blob_that_the_disk_cannot_read_is_fetched_again(
    bad_disk: Disk, fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    built = victim()
    name = pulled(built)
    proof = oracle.prove(fresh, name)
    bad = built.layers[BOTTOM].digest
    bad_disk.break_file(fresh.blob(bad))
    status, report = fresh_node.only("repair", name)
    assert faults(report) == [("blob_corrupt", bad)]
    assert (status, report["verdict"]) == (0, "ok")
    oracle.assert_as_before(proof)


def test_a_file_that_the_disk_cannot_read_is_unpacked_again(
    bad_disk: Disk, fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    name = pulled(victim())
    proof = oracle.prove(fresh, name)
    chain, folder = proof.layers[BOTTOM]
    bad_disk.break_file(folder / "bin/app")
    status, report = fresh_node.only("verify", name)
    assert (status, faults(report)) == (1, [("snapshot_corrupt", chain)])
    assert report["findings"][0]["detail"].startswith("bin/app: ")
    expect_unreadable(folder / "bin/app")
    status, report = fresh_node.only("repair", name)
    assert (status, report["verdict"]) == (0, "ok")
    oracle.assert_as_before(proof)
