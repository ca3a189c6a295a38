"""What is in the registry: blobs that are damaged, gone, kept elsewhere or out of reach."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stage import hostile
from stage.containerd import Containerd
from stage.hostile import Answer, Scripted
from stage.images import Built, image, layer
from stage.names import Nameserver
from stage.registries import Registry
from tests.node.command import Agent, Outcome, assert_fell, assert_ok

APP = image(layer({"bin/app": b"content"}), layer({"share/more": b"of a registry"}))
IMAGE = "scripted.example/app:1"
BLOB = f"/v2/app/blobs/{APP.layers[0].digest}"
METADATA = "169.254.169.254"


def fresh(name: str) -> Built:
    """An image whose blobs no other test breaks."""
    return image(layer({"bin/app": name.encode()}), layer({"share/more": f"more of {name}".encode()}))


class TestInTheStore:
    def test_a_truncated_layer_is_the_registrys_damage(self, agent: Agent, registry: Registry) -> None:
        built = fresh("truncated")
        reference = registry.push("content/truncated", "1", built)
        os.truncate(registry.blob_path(built.layers[1].digest), 10)
        outcome = agent.diagnose(reference)
        assert_fell(outcome, "registry_content_corrupt", "blobs", registry.name)
        assert built.layers[1].digest in outcome.only["summary"]

    @pytest.mark.parametrize("kind", ["layer", "config"])
    def test_a_blob_that_is_gone_is_the_registrys_damage(self, agent: Agent, registry: Registry, kind: str) -> None:
        built = fresh(f"gone {kind}")
        reference = registry.push("content/gone", kind, built)
        digest = built.layers[0].digest if kind == "layer" else built.id
        registry.blob_path(digest).unlink()
        outcome = agent.diagnose(reference)
        assert_fell(outcome, "registry_content_corrupt", "blobs" if kind == "layer" else "platform", registry.name)
        assert digest in outcome.only["summary"]

    def test_a_config_of_other_bytes_is_the_registrys_damage(self, agent: Agent, registry: Registry) -> None:
        built = fresh("scrambled")
        reference = registry.push("content/scrambled", "1", built)
        registry.blob_path(built.id).write_bytes(built.config[:-1] + b" ")
        outcome = agent.diagnose(reference)
        assert_fell(outcome, "registry_content_corrupt", "platform", registry.name)
        assert built.id in outcome.only["summary"]

    def test_a_layer_that_the_node_has_need_not_be_in_the_registry(
        self, agent: Agent, registry: Registry, containerd: Containerd
    ) -> None:
        built = fresh("cached")
        reference = registry.push("content/cached", "1", built)
        containerd.pull(reference)
        registry.blob_path(built.layers[0].digest).unlink()
        outcome = agent.diagnose(reference)
        containerd.remove(reference)
        assert_ok(outcome)
        assert "all layers are here already" in {step["detail"] for step in outcome.only["steps"]}


def test_a_manifest_of_other_bytes_than_its_digest_says_is_refused(agent: Agent, scripted: Scripted) -> None:
    other = fresh("other")
    routes = hostile.serving("app", "1", APP)
    lie = hostile.reply(200, {"Content-Type": other.media_type}, other.manifest)
    outcome = diagnosed(agent, scripted, routes | {f"/v2/app/manifests/{APP.digest}": lie})
    assert_fell(outcome, "registry_content_corrupt", "platform", scripted.name)
    assert other.digest in outcome.only["summary"]


def diagnosed(agent: Agent, scripted: Scripted, routes: dict[str, Answer], timeout: float | None = None) -> Outcome:
    scripted.routes = routes
    return agent.diagnose(IMAGE, timeout=timeout)


LOSSES: list[tuple[Answer, str, str]] = [
    (hostile.redirect("https://nobody.example/blob"), "connect_refused", "nobody.example"),
    (hostile.redirect("https://nonesuch.example/blob"), "dns_not_found", "nonesuch.example"),
    (hostile.redirect("https://blackhole.example/blob"), "connect_timeout", "blackhole.example"),
    (hostile.redirect_circle(), "registry_error", "more than 10 times"),
    (hostile.redirect("circle"), "registry_error", "circle"),
    (hostile.redirect("http://127.0.0.1:5000/blob"), "registry_error", "loopback"),
    (hostile.redirect("http://[::ffff:7f00:1]/blob"), "registry_error", "loopback"),
    (hostile.redirect("http://2130706433/blob"), "registry_error", "loopback"),
    (hostile.reply(403), "blob_forbidden", "403"),
    (hostile.reply(404), "registry_content_corrupt", "does not have"),
    (hostile.reply(503), "registry_error", "503"),
    (hostile.rate_limited(), "rate_limited", "429"),
    (hostile.hang_up, "connection_interrupted", "hung up"),
    (hostile.reply(200, body=b"short"), "registry_content_corrupt", "5 bytes"),
]


def test_each_way_to_lose_a_blob_has_its_cause(agent: Agent, scripted: Scripted) -> None:
    """All in one command, each in a repository of its own."""
    for number, (answer, _, _) in enumerate(LOSSES):
        blob = {f"/v2/app-{number}/blobs/{APP.layers[0].digest}": answer}
        scripted.routes |= (
            hostile.serving(f"app-{number}", "1", APP) | blob | {f"/v2/app-{number}/blobs/circle": answer}
        )
    outcome = agent.diagnose(*(f"{scripted.name}/app-{number}:1" for number in range(len(LOSSES))), timeout=4)
    for told, (_, cause, words) in zip(outcome.each(), LOSSES, strict=True):
        assert_fell(told, cause, "blobs", scripted.name)
        assert words in told.only["summary"]


@pytest.fixture
def store(nameserver: Nameserver) -> Iterator[Scripted]:
    """Where blobs are kept: another host than the registry's."""
    if "store.example" not in nameserver.records:
        nameserver.add("store.example", "10.99.0.15")
    with Scripted({}, address="10.99.0.15", port=8080, name="store.example") as server:
        yield server


SIGNED = "/blob?X-Amz-Signature=5ecret5ignature"


def test_a_blob_store_that_hands_out_is_followed_without_credentials(
    agent: Agent, scripted: Scripted, store: Scripted
) -> None:
    store.routes = {"/blob": hostile.reply(200, body=APP.layers[0].blob)}
    outcome = diagnosed(
        agent, scripted, hostile.serving("app", "1", APP) | {BLOB: hostile.redirect(store.url + SIGNED)}
    )
    assert_ok(outcome)
    assert "from store.example:8080, scripted.example" in {step["detail"] for step in outcome.only["steps"]}
    assert "authorization" not in store.requests[0].headers


def test_a_blob_store_that_refuses_forbids_the_blob_and_its_signature_is_not_shown(
    agent: Agent, scripted: Scripted, store: Scripted
) -> None:
    store.default = hostile.reply(403, body=b"<Error><Code>AccessDenied</Code></Error>")
    outcome = diagnosed(
        agent, scripted, hostile.serving("app", "1", APP) | {BLOB: hostile.redirect(store.url + SIGNED)}
    )
    assert_fell(outcome, "blob_forbidden", "blobs", scripted.name)
    assert "store.example:8080" in outcome.only["summary"]
    assert "5ecret" not in outcome.stdout
    assert store.requests


@contextmanager
def metadata_service() -> Iterator[Scripted]:
    """The cloud's own, at its own address."""
    subprocess.run(["ip", "address", "add", f"{METADATA}/32", "dev", "lo"], check=True)
    try:
        with Scripted({}, address=METADATA, default=hostile.reply(200, body=b"credentials")) as server:
            yield server
    finally:
        subprocess.run(["ip", "address", "del", f"{METADATA}/32", "dev", "lo"], check=True)


@pytest.mark.parametrize("place", [hostile.METADATA_SERVICE, "http://169.254.43518/", "http://metadata.example/"])
def test_the_metadata_service_is_never_asked(
    agent: Agent, scripted: Scripted, nameserver: Nameserver, place: str
) -> None:
    if "metadata.example" not in nameserver.records:
        nameserver.add("metadata.example", METADATA)
    with metadata_service() as server:
        outcome = diagnosed(agent, scripted, hostile.serving("app", "1", APP) | {BLOB: hostile.redirect(place)})
    assert_fell(outcome, "registry_error", "blobs", scripted.name)
    assert "link-local" in outcome.only["summary"]
    assert server.requests == []
