"""Somebody else pulls and removes without a pause while the cache is verified and repaired: no false alarm, no loss.

``STAGE_STRESS_SECONDS`` says for how long (20; the promise is for a minute).
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import pytest

from stage.containerd import Containerd, PullError
from stage.damage import records
from tests.node import oracle
from tests.node.cache import Cached, Node
from tests.node.victims import sharing, victim

SECONDS = float(os.environ.get("STAGE_STRESS_SECONDS", "20"))


@pytest.mark.timeout(120 + 3 * SECONDS)
def test_no_false_alarm_and_no_image_lost_while_others_pull_and_remove(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    shared = victim()
    coming_and_going = [pulled(each) for each in (sharing(shared), sharing(shared), victim())]
    staying = [pulled(each) for each in (shared, victim())]
    proofs = oracle.prove_each(fresh, staying)
    rounds = 0
    with churning(fresh, coming_and_going) as turns:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for command in (("verify", "--depth", "full"), ("repair",)):
                status, document = fresh_node.run(*command)
                bad = [report for report in document["images"] if report["verdict"] == "bad" or report["actions"]]
                assert (bad, status in {0, 3}) == ([], True)
                assert all(name in fresh.ctr("images", "list") for name in staying)
                rounds += 1
    assert rounds >= 4
    assert len(turns) >= 4
    for name in coming_and_going:
        fresh.pull(name)
    records.collect(fresh)
    status, document = fresh_node.run("verify", "--depth", "full")
    assert (status, [report for report in document["images"] if report["findings"]]) == (0, [])
    oracle.assert_as_before(*proofs)
    assert "node-agent" not in fresh.ctr("leases", "list")


@contextlib.contextmanager
def churning(containerd: Containerd, names: list[str]) -> Iterator[list[str]]:
    """Another client at work, whose pulls all have to succeed; yields the names in the order they were pulled in."""
    ended, turns, failed = threading.Event(), list[str](), list[PullError]()

    def churn() -> None:
        while not ended.is_set():
            for name in names:
                containerd.remove(name)
                try:
                    containerd.pull(name)
                except PullError as error:
                    failed.append(error)
                turns.append(name)

    client = threading.Thread(target=churn)
    client.start()
    try:
        yield turns
    finally:
        ended.set()
        client.join()
    assert failed == []
