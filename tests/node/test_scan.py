"""The daemon looks after the cache by itself: a real containerd, real damage, the real process, and its log."""

import hashlib
import json
import time
from pathlib import Path

import pytest

from agent.node.clock import boot_id
from stage.authority import Authority
from stage.containerd import Containerd
from stage.images import filler, image, layer
from stage.registries import Registry
from tests.node.cache import Cached, Node, app, flip
from tests.node.daemon import SLOW, events, holds, mark, running, settings, standings, stop, unpacked, until


def crash_the_node(folder: Path) -> None:
    """As a start finds it after the power went: the mark of another boot, without a clean stop."""
    state = folder / "state"
    state.mkdir(exist_ok=True)
    (state / "boot.json").write_text('{"version": 1, "boot_id": "another", "clean_stop": false, "owed": false}')


def test_a_flipped_blob_is_found_and_mended_in_the_background(node: Node, cached: Cached, folder: Path) -> None:
    built = app()
    name = cached(built)
    flip(node.containerd.blob(built.layers[0].digest))
    with running(folder, node.containerd.endpoint, settings()) as run:
        until(lambda: run.value('node_agent_repairs_total{outcome="mended"}') == 1, 60)
        until(lambda: bool(events(run, f"{name} is sound again")))
        (found,) = events(run, "is corrupt")
        assert (found["image"], found["cause"], found["trigger"]) == (name, "blob_corrupt", "schedule")
        assert node.sound(built)
        until(lambda: run.value('node_agent_images{state="bad"}') == 0)
        assert run.value('node_agent_image_faults{cause="blob_corrupt"}') == 0
        assert "node_agent_image_corrupt{" not in run.get("/metrics")[1]
    assert node.left_overs() == []


def test_a_damaged_snapshot_is_found_and_mended_in_the_background(node: Node, cached: Cached, folder: Path) -> None:
    content = hashlib.sha512(folder.name.encode()).digest() * 100
    name = cached(image(layer({"bin/app": content})))
    file = unpacked(node.containerd, "bin/app", content)
    file.write_bytes(bytes(len(content)))
    with running(folder, node.containerd.endpoint, settings()) as run:
        until(lambda: run.value('node_agent_repairs_total{outcome="mended"}') == 1, 60)
        until(lambda: bool(events(run, f"{name} is sound again")))
        (found,) = events(run, "is corrupt")
        assert (found["image"], found["cause"]) == (name, "snapshot_corrupt")
        assert "bin/app" in str(found["event"])
    assert holds(unpacked(node.containerd, "bin/app", content), content)
    assert node.left_overs() == []


def test_what_is_found_is_only_told_when_the_operator_wants_no_more(node: Node, cached: Cached, folder: Path) -> None:
    built = app()
    name = cached(built)
    flip(node.containerd.blob(built.layers[0].digest))
    with running(folder, node.containerd.endpoint, settings(repair="automatic: false")) as run:
        until(lambda: run.value(f'node_agent_image_corrupt{{image="{name}"}}') == 1, 60)
        assert run.value('node_agent_images{state="bad"}') == 1
        assert run.value('node_agent_image_faults{cause="blob_corrupt"}') == 1
        assert run.value('node_agent_repairs_total{outcome="left"}') == 0
    assert not node.sound(built)


def test_after_an_unclean_shutdown_damage_is_found_and_mended_before_the_first_round(
    node: Node, cached: Cached, folder: Path
) -> None:
    built = app()
    name = cached(built)
    flip(node.containerd.blob(built.layers[0].digest))
    crash_the_node(folder)
    with running(folder, node.containerd.endpoint, settings()) as run:
        until(lambda: run.get("/readyz")[0] == 200, 60)
        assert run.value("node_agent_unclean_boots_total") == 1
        assert run.value('node_agent_repairs_total{outcome="mended"}') == 1
        lines = run.lines()
        (found,) = events(run, "is corrupt")
        (first_round,) = (line for line in lines if "problems" in line)
        assert (found["image"], found["trigger"]) == (name, "unclean_boot")
        assert lines.index(found) < lines.index(first_round)
        assert mark(folder)["owed"] is False
        assert mark(folder)["boot_id"] == boot_id()
        stop(run)
    assert mark(folder)["clean_stop"] is True
    assert node.sound(built)


def test_probes_do_not_wait_for_a_runtime_that_is_away_after_an_unclean_shutdown(
    authority: Authority, registry: Registry, folder: Path
) -> None:
    with Containerd(folder / "n") as own:
        own.trust(registry.name, authority.pem)
        own.pull(registry.push("scan/away", "1", app()))
        own.stop()
        crash_the_node(folder)
        with running(folder, own.endpoint, settings()) as run:
            until(lambda: "does not exist" in run.get("/readyz")[1] or "runtime" in run.get("/readyz")[1])
            until(lambda: run.value("node_agent_runtime_up") == 0)
            assert mark(folder)["owed"] is True
            own.start()
            until(lambda: not mark(folder)["owed"], 40)
            assert events(run, "verified (full)")
            stop(run)


def test_no_more_images_are_mended_in_an_hour_than_allowed(node: Node, cached: Cached, folder: Path) -> None:
    for built in (app(), app()):
        cached(built)
        flip(node.containerd.blob(built.layers[0].digest))
    with running(folder, node.containerd.endpoint, settings(repair="per_hour: 1")) as run:
        until(lambda: run.value('node_agent_repairs_total{outcome="left"}') >= 1, 60)
        assert run.value('node_agent_repairs_total{outcome="mended"}') == 1
        assert "repair.per_hour" in str(events(run, "is as it was")[0]["event"])


def test_a_verification_that_was_killed_is_owed_again_and_reads_nothing_twice(
    node: Node, cached: Cached, folder: Path
) -> None:
    first, second = cached(app()), cached(app())
    records = node.records()
    crash_the_node(folder)
    with running(folder, node.containerd.endpoint, settings(f"{SLOW}, concurrency: 1")) as run:
        until(lambda: bool(events(run, "verified (quick)")), 30)
        assert run.get("/readyz")[0] == 503
        assert "unclean shutdown" in run.get("/readyz")[1]
        run.process.kill()
        run.process.wait()
    assert mark(folder)["owed"] is True
    # as if one image had been read before the kill
    known = {"verified": time.time(), "looked": time.time(), "verdict": "ok", "causes": [], "tries": 0}
    document = {"version": 1, "images": {records[first]: known | {"boot": boot_id()}}}
    (folder / "state" / "verified.json").write_text(json.dumps(document))
    with running(folder, node.containerd.endpoint, settings()) as run:
        until(lambda: run.get("/readyz")[0] == 200, 60)
        (told,) = events(run, "verified (full)")
        assert f"all {len(set(records.values())) - 1} images" in str(told["event"])
        assert run.value("node_agent_unclean_boots_total") == 1
        stop(run)
    assert mark(folder)["owed"] is False
    assert {records[first], records[second]} <= standings(folder).keys()


def test_a_clean_stop_in_the_middle_of_it_leaves_the_debt(node: Node, cached: Cached, folder: Path) -> None:
    cached(app())
    crash_the_node(folder)
    with running(folder, node.containerd.endpoint, settings(SLOW)) as run:
        until(lambda: bool(events(run, "verified (quick)")), 30)
        stop(run)
    assert (mark(folder)["owed"], mark(folder)["clean_stop"]) == (True, True)


def test_a_restart_goes_on_where_the_scan_was(node: Node, cached: Cached, folder: Path) -> None:
    names = [cached(app()) for _ in range(3)]
    records = node.records()
    with running(folder, node.containerd.endpoint, settings()) as run:
        until(lambda: bool(events(run, "the cache was verified")), 60)
        assert run.value("node_agent_verified_bytes_total") > 3 << 20
        assert run.value('node_agent_images{state="unverified"}') == 0
        age = time.time() - run.value("node_agent_image_last_full_verification_timestamp_seconds")
        assert 0 <= age < 60
        stop(run)
    before = standings(folder)
    assert {records[name] for name in names} <= before.keys()
    with running(folder, node.containerd.endpoint, settings()) as run:
        until(lambda: run.get("/readyz")[0] == 200)
        until(lambda: run.value('node_agent_images{state="ok"}') >= 3)
        assert run.value("node_agent_verified_bytes_total") == 0
        stop(run)
    assert standings(folder) == before


@pytest.mark.parametrize("unpacked_too", [True, False])
def test_a_sigterm_stops_a_slow_reader_at_once(node: Node, cached: Cached, folder: Path, *, unpacked_too: bool) -> None:
    """Whether a child process compares the layer, or a thread reads the blob alone."""
    built = image(filler(2, f"{folder.name}"))
    cached(built)
    if not unpacked_too:
        node.containerd.ctr("snapshots", "rm", built.layers[0].diff_id)
    with running(folder, node.containerd.endpoint, settings(SLOW)) as run:
        until(lambda: run.get("/readyz")[0] == 200)
        time.sleep(1)
        stop(run)


def test_a_runtime_that_is_restarted_while_it_is_read_is_no_damage(
    authority: Authority, registry: Registry, folder: Path
) -> None:
    """What it has not opened yet is looked for in the root directory of a process that is gone."""
    built = image(*(filler(1, f"{folder.name}/{number}") for number in range(2)))
    with Containerd(folder / "n") as own:
        own.trust(registry.name, authority.pem)
        own.pull(registry.push("scan/restart", "1", built))
        slow = "background_bytes_per_second: 512KiB, background_cpu_share: 1"
        with running(folder, own.endpoint, settings(slow)) as run:
            until(lambda: run.get("/readyz")[0] == 200)
            time.sleep(1)
            own.kill()
            own.start()
            until(lambda: bool(events(run, "the cache was verified")), 60)
            assert events(run, "is corrupt") == []
            assert run.value('node_agent_images{state="ok"}') == 1
            assert run.process.poll() is None


def test_it_idles_small_after_a_pass_and_reads_as_slowly_as_it_was_told(
    node: Node, cached: Cached, folder: Path
) -> None:
    cached(app())
    with running(folder, node.containerd.endpoint, settings()) as run:
        until(lambda: bool(events(run, "the cache was verified")), 60)
        until(lambda: run.get("/readyz")[0] == 200)
        time.sleep(1)
        status = Path(f"/proc/{run.process.pid}/status").read_text()
        (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
        children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    assert resident < 64 * 1024, f"{resident} KiB"
    assert len(children) <= 1, "only the judge of certificates may stay"
