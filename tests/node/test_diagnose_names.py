"""What is wrong with the image itself: its name, what the registry has under it, and for which platform."""

from collections.abc import Iterator

import pytest

from stage import hostile
from stage.hostile import Scripted
from stage.images import FOREIGN_PLATFORM, Built, image, index, layer
from stage.registries import Registry
from tests.node.command import Agent, assert_fell, assert_ok

APP = image(layer({"bin/app": b"#!/bin/sh\n"}), layer({"share/names": b"of images"}))
NO_DIGEST = "sha256:" + "0" * 64

WRONG = {
    "registry.example/App:1": "lower case",
    "registry.example//app:1": "empty component",
    "registry.example/app:": "tag after the colon is empty",
    "registry.example/app:-1": "tag",
    "registry.example/app:" + "t" * 129: "at most 128",
    "registry.example/app@sha256:abc": "digest",
    "registry.example/app@md5:" + "0" * 32: "md5",
    "registry.example/" + "p" * 256: "at most 255",
    "https://registry.example/app:1": "https:",
    "registry_x.example:5000/app": "registry host",
    "registry.example/app:1 ": "white space at character 23",
    "registry.example/app\n:1": "white space at character 21",
    "registry.example/app\x1b[31m:1": "control character U+001B at character 21",
    "registry.example/\u0430pp:1": "not ASCII",
    "0" * 64: "image ID",
    "": "empty",
}


def test_every_wrong_name_is_refused_in_its_own_words_and_nobody_is_asked(agent: Agent, registry: Registry) -> None:
    asked = registry.log.count("GET /v2/")
    outcome = agent.diagnose(*WRONG)
    assert outcome.status == 1
    assert outcome.stderr == ""
    assert [told["image"] for told in outcome.images] == list(WRONG)
    for told, words in zip(outcome.images, WRONG.values(), strict=True):
        assert (told["verdict"], told["cause"], told["scope"]) == ("bad", "invalid_reference", "image")
        assert words in told["summary"]
        assert told["summary"].isprintable()
        assert [step["step"] for step in told["steps"]] == ["reference"]
        assert told["fix"]
    assert registry.log.count("GET /v2/") == asked


def test_a_wrong_name_does_not_spoil_the_others(agent: Agent, registry: Registry) -> None:
    good = registry.push("names/app", "1", APP)
    outcome = agent.diagnose("registry.example/App", good, "nobody.example/app")
    assert [told["cause"] for told in outcome.images] == ["invalid_reference", None, "connect_refused"]
    assert outcome.status == 1


@pytest.mark.parametrize("name", ["names/app:1", f"names/app@{APP.digest}", f"names/app:gone@{APP.digest}"])
def test_a_healthy_image_can_be_pulled_by_tag_and_by_digest(agent: Agent, registry: Registry, name: str) -> None:
    registry.push("names/app", "1", APP)
    outcome = agent.diagnose(f"{registry.name}/{name}")
    assert_ok(outcome)
    assert [step["step"] for step in outcome.only["steps"]] == [
        *("runtime", "disk", "reference", "hosts", "proxy", "dns", "connect", "tls", "registry"),
        *("manifest", "platform", "blobs", "size"),
    ]


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("names/app:gone", "tag_not_found"),
        ("names/app", "tag_not_found"),
        (f"names/app@{NO_DIGEST}", "digest_not_found"),
    ],
)
def test_what_the_repository_does_not_have_is_told_by_kind(
    agent: Agent, registry: Registry, name: str, cause: str
) -> None:
    registry.push("names/app", "1", APP)
    assert_fell(agent.diagnose(f"{registry.name}/{name}"), cause, "manifest", registry.name)


@pytest.mark.parametrize(
    ("code", "cause"),
    [("NAME_UNKNOWN", "repository_not_found"), ("MANIFEST_UNKNOWN", "tag_not_found"), ("", "image_not_found")],
)
def test_a_404_is_believed_as_far_as_it_tells(agent: Agent, scripted: Scripted, code: str, cause: str) -> None:
    """distribution 2.8 says MANIFEST_UNKNOWN also where there is no repository; others say NAME_UNKNOWN, or nothing."""
    refusal = hostile.error(404, code, "unknown") if code else hostile.reply(404)
    scripted.routes = {"/v2/": hostile.document({}), "/v2/none/app/*": refusal}
    assert_fell(agent.diagnose(f"{scripted.name}/none/app:1"), cause, "manifest", scripted.name)


def _foreign() -> Iterator[tuple[str, Built]]:
    foreign = image(layer({"bin/app": b"foreign"}), platform=FOREIGN_PLATFORM)
    yield "index", index(foreign)
    yield "docker-index", index(foreign, docker=True)
    yield "single", foreign


@pytest.mark.parametrize(("tag", "built"), [pytest.param(*each, id=each[0]) for each in _foreign()])
def test_an_image_for_other_platforms_only_does_not_match(
    agent: Agent, registry: Registry, tag: str, built: Built
) -> None:
    outcome = agent.diagnose(registry.push("names/foreign", tag, built))
    assert_fell(outcome, "platform_mismatch", "platform", registry.name)
    assert FOREIGN_PLATFORM in outcome.only["summary"]


@pytest.mark.parametrize("docker", [False, True])
def test_an_index_leads_to_this_nodes_image(agent: Agent, registry: Registry, *, docker: bool) -> None:
    foreign = image(layer({"bin/app": b"foreign"}), platform=FOREIGN_PLATFORM, docker=docker)
    mine = image(layer({"bin/app": f"mine {docker}".encode()}), docker=docker)
    assert_ok(agent.diagnose(registry.push("names/multi", f"{docker}".lower(), index(foreign, mine, docker=docker))))


SCHEMA_1 = {"schemaVersion": 1, "name": "old/app", "tag": "1", "fsLayers": [], "history": []}


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (SCHEMA_1, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ({"schemaVersion": 2, "config": {}}, "application/vnd.oci.image.manifest.v1+json"),
        ({"apiVersion": "v1"}, "application/json"),
    ],
)
def test_a_manifest_that_is_none_is_not_supported(
    agent: Agent, scripted: Scripted, content: object, media_type: str
) -> None:
    manifest = hostile.document(content, headers={"Content-Type": media_type})
    scripted.routes = {"/v2/": hostile.document({}), "/v2/old/app/*": manifest}
    outcome = agent.diagnose(f"{scripted.name}/old/app:1")
    assert_fell(outcome, "unsupported_manifest", "platform", scripted.name)
