"""Bad input of every kind: bounded in time and memory, one clear finding, and never a traceback."""

import pytest

from stage import hostile
from stage.hostile import Answer, Scripted
from stage.images import image, layer
from tests.node.command import Agent, Outcome, assert_fell

APP = image(layer({"bin/app": b"hostile"}))
IMAGE = "scripted.example/app:1"
BLOB, CONFIG = (f"/v2/app/blobs/{digest}" for digest in (APP.layers[0].digest, APP.id))
MOST_MEMORY = 128 << 20
DEADLINE = 4.0
START = 3.0  # seconds for an interpreter to start and end on a busy machine


def assert_bounded(outcome: Outcome, deadline: float = DEADLINE) -> None:
    """The promise for whatever comes: one deadline and a second, and little memory."""
    assert max(told["seconds"] for told in outcome.images) < deadline + 1
    assert outcome.seconds < deadline + 1 + START
    assert outcome.memory < MOST_MEMORY
    assert outcome.stderr == ""
    assert all(len(told["summary"]) < 1000 and told["summary"].isprintable() for told in outcome.images)


MONSTERS: dict[str, tuple[Answer, str, str]] = {
    "1 GiB of headers": (hostile.endless_headers(), "registry_error", "bytes of headers"),
    "a body without an end": (hostile.endless_body(), "registry_error", "sent more than"),
    "a body of 1 TiB": (hostile.endless_body(1 << 40), "registry_error", "sent more than"),
    "JSON 10,000 deep": (hostile.nested_json(), "registry_error", "nested too deeply"),
    "a redirect circle": (hostile.redirect_circle(), "registry_error", "more than 10 times"),
    "the metadata service": (hostile.redirect(hostile.METADATA_SERVICE), "registry_error", "link-local"),
    "one byte a second": (hostile.drip(), "connection_interrupted", "did not answer within"),
    "no HTTP": (lambda connection, _: connection.send(b"\x00" * 4096 + b"\r\n\r\n"), "registry_error", "not HTTP"),
    "a header with a line break": (
        lambda connection, _: connection.send(b"HTTP/1.1 200 OK\r\nA: b\r\n c\x00\r\nX\r\n\r\n"),
        *("registry_error", "not HTTP"),
    ),
}


@pytest.mark.parametrize("kind", MONSTERS)
def test_a_monster_in_place_of_a_manifest_is_one_finding(agent: Agent, scripted: Scripted, kind: str) -> None:
    answer, cause, words = MONSTERS[kind]
    scripted.routes = {"GET /v2/": hostile.document({}), "HEAD /v2/*": hostile.reply(405), "GET /v2/*": answer}
    outcome = agent.diagnose(IMAGE, timeout=DEADLINE)
    assert_bounded(outcome)
    step = "platform" if kind == "JSON 10,000 deep" else "manifest"  # the first one to read what is inside
    assert_fell(outcome, cause, step, scripted.name)
    assert words in outcome.only["summary"]


@pytest.mark.parametrize("kind", [kind for kind in MONSTERS if kind != "one byte a second"])
def test_a_monster_in_place_of_a_token_is_one_finding(agent: Agent, scripted: Scripted, kind: str) -> None:
    answer, cause, words = MONSTERS[kind]
    challenge = hostile.challenge('Bearer realm="https://scripted.example/token",service="s"')
    scripted.routes = {"/v2/": challenge, "/v2/*": challenge, "/token": answer}
    outcome = agent.diagnose(IMAGE, timeout=DEADLINE)
    assert_bounded(outcome)
    assert_fell(outcome, cause, "token", scripted.name)
    assert words in outcome.only["summary"]


@pytest.mark.parametrize("place", [BLOB, CONFIG, "/v2/"])
@pytest.mark.parametrize("kind", ["1 GiB of headers", "a body without an end", "no HTTP"])
def test_a_monster_in_any_other_place_is_bounded_too(agent: Agent, scripted: Scripted, kind: str, place: str) -> None:
    scripted.routes = hostile.serving("app", "1", APP) | {place: MONSTERS[kind][0]}
    outcome = agent.diagnose(IMAGE, timeout=DEADLINE)
    assert_bounded(outcome)
    assert outcome.status in {0, 1}  # a blob is not read to its end: that its host answers is enough


def test_a_challenge_of_64_kib_is_bounded(agent: Agent, scripted: Scripted) -> None:
    challenge = hostile.challenge(*(f'Bearer realm="https://r{n}.example",service="{"s" * 500}"' for n in range(100)))
    scripted.routes = {"/v2/": challenge, "/v2/*": challenge}
    outcome = agent.diagnose(IMAGE, timeout=DEADLINE)
    assert_bounded(outcome)
    assert outcome.status == 1


def test_words_of_a_registry_are_cut_and_cleaned(agent: Agent, scripted: Scripted) -> None:
    message = "\x1b[2J\r\n" + "see https://user:pa55w0rd@host.example/?token=abc " + "x" * 20_000
    scripted.routes = {"/v2/": hostile.document({}), "/v2/*": hostile.error(403, "DENIED\x1b", message)}
    outcome = agent.diagnose(IMAGE, timeout=DEADLINE)
    assert_bounded(outcome)
    assert_fell(outcome, "auth_missing_or_denied", "manifest", scripted.name)
    assert "pa55w0rd" not in outcome.stdout
    assert "token=abc" not in outcome.stdout
    assert "\\u001b" not in outcome.stdout


def test_ten_thousand_images_end_with_the_deadline(agent: Agent, scripted: Scripted) -> None:
    """A quarter each: a registry that answers, one that refuses, one that is silent, and names that are wrong."""
    scripted.routes = {"/v2/": hostile.document({}), "/v2/*": hostile.error(404, "MANIFEST_UNKNOWN")}
    hosts = (f"{scripted.name}/", "nobody.example/", "blackhole.example/", "scripted.example/UPPER")
    outcome = agent.diagnose(*(f"{hosts[n % 4]}app/number-{n}:1" for n in range(10_000)), timeout=DEADLINE)
    assert outcome.status == 1
    assert outcome.stderr == ""
    assert len(outcome.images) == 10_000
    assert max(told["seconds"] for told in outcome.images) < DEADLINE + 1
    assert outcome.seconds < DEADLINE + 1 + 2 * START  # 25 MB of JSON take their time
    assert outcome.memory < MOST_MEMORY
    by_host = [{told["cause"] for told in outcome.images[n::4]} for n in range(4)]
    assert "tag_not_found" in by_host[0]
    assert by_host[0] <= {"tag_not_found", "unknown"}  # those whose turn did not come before the deadline
    assert by_host[1:] == [{"connect_refused"}, {"connect_timeout"}, {"invalid_reference"}]


def test_ten_thousand_images_take_little_memory_when_they_are_told_one_by_one(agent: Agent) -> None:
    names = [f"nobody.example/app/number-{n}:1" for n in range(10_000)]
    outcome = agent.run("diagnose", "--runtime-endpoint", agent.endpoint, "--timeout", "20", "--", *names)
    assert outcome.status == 1
    assert outcome.stdout.count("\nbad ") == 9999
    assert outcome.memory < MOST_MEMORY


def test_the_same_image_many_times_is_answered_as_often(agent: Agent) -> None:
    outcome = agent.diagnose(*["nobody.example/app:1"] * 1000, timeout=DEADLINE)
    assert [told["cause"] for told in outcome.images] == ["connect_refused"] * 1000
    assert_bounded(outcome)
