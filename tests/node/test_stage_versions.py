"""The containerds beside the installed one: each is what it says, pulls, unpacks, and runs a pod."""

import secrets

from stage.containerd import Containerd
from stage.images import digest, layer, pause
from stage.pods import Pod
from stage.registries import Registry
from stage.versions import SUITES, versions


def test_there_is_the_installed_one_and_one_of_each_suite_and_they_differ() -> None:
    found = versions()
    assert all(version.full.startswith(version.name) for version in found)
    assert len({version.binary for version in found}) == len(found) == 1 + len(SUITES)


def test_each_pulls_unpacks_and_runs_with_a_ctr_of_its_own(any_containerd: Containerd, registry: Registry) -> None:
    built = pause(layer({"etc/mark": secrets.token_bytes(8)}))
    name = registry.push(f"stage/version-{secrets.token_hex(4)}", "1", built)
    assert any_containerd.pull(name) == built.id
    assert all(digest(any_containerd.blob(each).read_bytes()) == each for each in built.blobs)
    with Pod(any_containerd, name) as pod:
        assert pod.container_id in any_containerd.ctr("tasks", "list")
    client, server = (part.split("Server:")[0] for part in any_containerd.ctr("version").split("Client:")[1:] * 2)
    assert client == server
