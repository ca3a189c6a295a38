"""States that a healthy node comes into, made for real on each version: nothing is wrong in any of them."""

from collections.abc import Iterator

import pytest

from stage.authority import Authority
from stage.containerd import Containerd
from stage.images import PLATFORM, artifact, layer, pause
from stage.pods import Pod
from stage.registries import Registry
from stage.versions import Version, versions
from tests.conftest import Factory
from tests.node import oracle
from tests.node.cache import Cached, Node, push
from tests.node.test_normal_images import assert_silent
from tests.node.victims import BOTTOM, TOP, sharing, victim, with_other_platform


def test_layers_whose_records_somebody_removed(fresh: Containerd, fresh_node: Node, pulled: Cached) -> None:
    built = victim()
    proof = oracle.prove(fresh, pulled(built))
    for each in built.layers:
        fresh.ctr("content", "rm", each.digest)
    assert_silent(fresh_node)
    assert oracle.damaged(proof) <= {each.digest for each in built.layers}


def test_an_image_that_was_removed_and_pulled_beside_its_container(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    """Its snapshots stayed, so its layers are not fetched again."""
    name = pulled(victim())
    with Pod(fresh, name):
        fresh.remove(name)
        fresh.pull(name)
        assert_silent(fresh_node)
    assert_silent(fresh_node)


def test_an_image_that_was_fetched_and_never_unpacked(fresh: Containerd, fresh_node: Node, registry: Registry) -> None:
    built = with_other_platform(victim())
    fetch(fresh, push(registry, built))
    assert_silent(fresh_node)


def test_an_image_of_another_snapshotter(fresh: Containerd, fresh_node: Node, registry: Registry) -> None:
    name = push(registry, victim())
    local = ["--local"] if "--local" in fresh.ctr("images", "pull", "--help") else []
    fresh.ctr("images", "pull", *local, "--hosts-dir", str(fresh.certs_d), "--snapshotter", "native", name)
    assert "native" in fresh.ctr("content", "list")
    assert_silent(fresh_node)


def test_what_is_no_image_at_all(fresh: Containerd, fresh_node: Node, registry: Registry) -> None:
    """CRI takes every record of its namespace for an image."""
    name = push(registry, artifact(b"a chart"))
    fetch(fresh, name)
    fresh.ctr("images", "label", name, "io.cri-containerd.image=managed")
    assert_silent(fresh_node)
    fresh.restart()
    assert_silent(fresh_node)


def test_views_leases_and_namespaces_of_others_are_left_alone(
    fresh: Containerd, fresh_node: Node, pulled: Cached, registry: Registry
) -> None:
    name = pulled(victim())
    proof = oracle.prove(fresh, name)
    fresh.ctr("leases", "create", "--id", "of-somebody", "containerd.io/gc.expire=2100-01-01T00:00:00Z")
    fresh.ctr("snapshots", "prepare", "being-made", proof.layers[TOP][0])
    fresh.ctr("snapshots", "label", "being-made", "containerd.io/gc.root=now")
    fetch(fresh, push(registry, victim()), namespace="moby")
    assert_silent(fresh_node)
    assert "of-somebody" in fresh.ctr("leases", "list")
    assert "being-made" in fresh.ctr("snapshots", "list")


def test_containers_that_run_that_ended_and_that_only_exist(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    built = victim()
    names = [pulled(each) for each in (built, sharing(built))]
    with (
        Pod(fresh, names[0]),
        Pod(fresh, names[1], name="waits", start=False),
        Pod(fresh, names[0], name="ends") as end,
    ):
        fresh.ctr("tasks", "kill", "--signal", "SIGKILL", end.container_id)
        assert_silent(fresh_node)


def test_several_names_of_one_image_and_a_tag_that_moved(
    fresh: Containerd, fresh_node: Node, registry: Registry
) -> None:
    old, new = victim(), victim()
    name = registry.push("normal/moved", "1", old)
    fresh.pull(registry.push("normal/other", "2", old))
    fresh.pull(name)
    registry.push("normal/moved", "1", new)
    fresh.pull(name)
    assert_silent(fresh_node)


@pytest.fixture(params=versions(), ids=lambda version: version.name)
def discarding(
    request: pytest.FixtureRequest, authority: Authority, registry: Registry, folders: Factory
) -> Iterator[Containerd]:
    """A containerd of each version that keeps no layer once it is unpacked."""
    version: Version = request.param
    lines = "    discard_unpacked_layers = true"
    # 2.x reads an old file but for this: there it belongs to another plugin, which the old ones do not know.
    tables = f'[plugins."io.containerd.cri.v1.images"]\n{lines}'
    with Containerd(folders("d"), binary=str(version.binary), containerd_lines=lines, tables=tables) as own:
        own.trust(registry.name, authority.pem)
        yield own


def test_layers_that_were_discarded_after_unpacking(
    discarding: Containerd, registry: Registry, folders: Factory
) -> None:
    built = victim()
    for each in (built, sharing(built), pause(layer({"a": b"b"}))):
        discarding.pull(push(registry, each))
    discarding.ctr("leases", "create", "--id", "collect")
    discarding.ctr("leases", "delete", "--sync", "collect")
    assert not discarding.blob(built.layers[BOTTOM].digest).exists()
    node = Node(discarding, folders("agent"))
    assert_silent(node)
    discarding.restart()
    assert_silent(node)


def fetch(containerd: Containerd, name: str, namespace: str = "k8s.io") -> None:
    """Blobs and a record, and nothing unpacked."""
    hosts = ("--hosts-dir", str(containerd.certs_d), "--platform", PLATFORM)
    containerd.ctr("content", "fetch", *hosts, name, namespace=namespace)
