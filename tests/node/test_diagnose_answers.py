"""What a registry answers when it does not answer well: limits, errors, pages, silence."""

import pytest

from stage import hostile
from stage.hostile import Answer, Scripted
from stage.images import image, layer
from tests.node.command import Agent, Outcome, assert_fell, assert_ok

APP = image(layer({"bin/app": b"answered"}), layer({"share/more": b"and more"}))
IMAGE = "scripted.example/app:1"
OPEN = hostile.document({})


def manifests(answer: Answer) -> dict[str, Answer]:
    """A registry which answers so to every request for a manifest."""
    return hostile.serving("app", "1", APP) | {
        path: answer for path in hostile.serving("app", "1", APP) if "/manifests/" in path
    }


def diagnosed(agent: Agent, scripted: Scripted, routes: dict[str, Answer], timeout: float | None = None) -> Outcome:
    scripted.routes = routes
    return agent.diagnose(IMAGE, timeout=timeout)


def test_the_scripted_registry_is_healthy_until_it_is_told_otherwise(agent: Agent, scripted: Scripted) -> None:
    assert_ok(diagnosed(agent, scripted, hostile.serving("app", "1", APP)))
    assert "HEAD /v2/app/manifests/1" in scripted.asked()


REFUSALS: list[tuple[Answer, str, str]] = [
    (hostile.error(401, "UNAUTHORIZED", "who are you"), "auth_required", "401"),
    (hostile.error(403, "DENIED", "not for you"), "auth_missing_or_denied", "not for you"),
    (hostile.reply(403), "auth_missing_or_denied", "403"),
    (hostile.rate_limited("600"), "rate_limited", "429"),
    (hostile.reply(429), "rate_limited", "429"),
    (hostile.error(400, "NAME_INVALID", "no such form"), "invalid_reference", "no such form"),
    (hostile.error(404, "MANIFEST_UNKNOWN"), "tag_not_found", "MANIFEST_UNKNOWN"),
    (hostile.error(500, "UNKNOWN", "storage is away"), "registry_error", "500"),
    (hostile.reply(500), "registry_error", "500"),
    (hostile.reply(502), "registry_error", "502"),
    (hostile.error(503, "UNAVAILABLE"), "registry_error", "503"),
    (hostile.reply(418), "registry_error", "418"),
    (hostile.login_page(), "registry_error", "HTML page"),
    (hostile.hang_up, "connection_interrupted", "hung up"),
    (hostile.reset, "connection_interrupted", "reset"),
    (hostile.redirect("ftp://scripted.example/"), "registry_error", "ftp"),
    (hostile.reply(307), "registry_error", "redirect without a place"),
]


def test_each_answer_to_a_request_for_the_manifest_has_its_cause(agent: Agent, scripted: Scripted) -> None:
    """All in one command, each in a repository of its own."""
    scripted.routes = {"/v2/": OPEN}
    for number, (answer, _, _) in enumerate(REFUSALS):
        scripted.routes |= {f"{method} /v2/app-{number}/*": answer for method in ("HEAD", "GET")}
    outcome = agent.diagnose(*(f"{scripted.name}/app-{number}:1" for number in range(len(REFUSALS))))
    for told, (_, cause, words) in zip(outcome.each(), REFUSALS, strict=True):
        assert_fell(told, cause, "manifest", scripted.name)
        assert words in told.only["summary"]


@pytest.mark.parametrize(
    ("answer", "cause", "step"),
    [
        (hostile.rate_limited(), "rate_limited", "registry"),
        (hostile.hang_up, "connection_interrupted", "registry"),
        (hostile.redirect("http://127.0.0.1/v2/"), "registry_error", "registry"),
        (hostile.redirect("https://nobody.example/v2/"), "connect_refused", "registry"),
        (hostile.challenge('Bearer service="s"'), "registry_error", "token"),  # and no realm
    ],
)
def test_a_first_answer_that_leads_nowhere_has_its_cause(
    agent: Agent, scripted: Scripted, answer: Answer, cause: str, step: str
) -> None:
    routes = hostile.serving("app", "1", APP) | {"/v2/": answer}
    outcome = diagnosed(agent, scripted, routes)
    assert_fell(outcome, cause, step, scripted.name)
    assert not [line for line in scripted.asked() if "/manifests/" in line]


@pytest.mark.parametrize(
    "answer",
    [hostile.reply(404), hostile.reply(403), hostile.reply(500), hostile.login_page(), hostile.challenge("Negotiate")],
)
def test_an_image_can_be_pulled_though_the_first_request_is_refused(
    agent: Agent, scripted: Scripted, answer: Answer
) -> None:
    """containerd never asks for /v2/: mirrors with a path of their own, and firewalls, do not serve it."""
    outcome = diagnosed(agent, scripted, hostile.serving("app", "1", APP) | {"/v2/": answer})
    assert (outcome.status, outcome.only["cause"]) == (0, None)
    assert outcome.only["summary"] == "can be pulled"
    assert outcome.fall["step"] == "registry"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (hostile.reply(500), "registry_error"),
        (hostile.reply(403), "auth_missing_or_denied"),
        (hostile.reply(404), "image_not_found"),
        (hostile.login_page(), "registry_error"),
        (hostile.challenge("Negotiate"), "auth_required"),
    ],
)
def test_what_answers_everything_alike_is_judged_by_its_answer_for_the_manifest(
    agent: Agent, scripted: Scripted, answer: Answer, cause: str
) -> None:
    scripted.default = answer
    outcome = diagnosed(agent, scripted, {})
    scripted.default = hostile.reply(404)
    assert (outcome.status, outcome.only["cause"]) == (1, cause)
    assert outcome.only["summary"] in {step["detail"] for step in outcome.only["steps"] if step["step"] == "manifest"}


def test_a_limit_tells_when_to_come_again_and_is_not_asked_twice(agent: Agent, scripted: Scripted) -> None:
    outcome = diagnosed(agent, scripted, manifests(hostile.rate_limited("600")))
    assert outcome.fall["evidence"]["retry_after"] == "600"
    assert outcome.fall["evidence"]["source"] == "192.0.2.1"
    assert len([line for line in scripted.asked() if "/manifests/" in line]) <= 2  # hosts.toml names the host twice


def test_a_silent_registry_ends_with_the_deadline(agent: Agent, scripted: Scripted) -> None:
    outcome = diagnosed(agent, scripted, manifests(hostile.never), timeout=1.5)
    assert_fell(outcome, "connection_interrupted", "manifest", scripted.name)
    assert outcome.only["seconds"] < 2.5


def test_a_head_that_is_not_allowed_becomes_a_get(agent: Agent, scripted: Scripted) -> None:
    routes = hostile.serving("app", "1", APP)
    assert_ok(diagnosed(agent, scripted, routes | {"HEAD /v2/app/manifests/1": hostile.reply(405)}))
    assert "GET /v2/app/manifests/1" in scripted.asked()


def test_a_manifest_that_only_a_get_refuses_is_refused(agent: Agent, scripted: Scripted) -> None:
    """Docker Hub counts a GET and not a HEAD: the limit shows at the second."""
    digest = f"/v2/app/manifests/{APP.digest}"
    routes = hostile.serving("app", "1", APP) | {
        f"GET {digest}": hostile.rate_limited(),
        "GET /v2/app/manifests/1": hostile.rate_limited(),
    }
    assert_fell(diagnosed(agent, scripted, routes), "rate_limited", "platform", scripted.name)
