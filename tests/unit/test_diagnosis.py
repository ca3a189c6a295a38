"""Steps that were taken → the one root cause."""

import pytest

from agent.causes import Cause
from agent.diagnosis import judge
from agent.model import Finding, Verdict


def ok(check: str, host: str = "registry.example", detail: str = "") -> Finding:
    return Finding(check, host, Verdict.OK, detail=detail)


def bad(check: str, cause: Cause, host: str = "registry.example") -> Finding:
    return Finding(check, host, Verdict.BAD, cause, f"{check} failed")


def unknown(check: str, host: str = "registry.example") -> Finding:
    return Finding(check, host, Verdict.UNKNOWN, Cause.UNKNOWN, f"{check} not told")


NODE = (ok("runtime", "node"), ok("disk", "node"))
MIRROR_DEAD = (ok("dns", "mirror.example"), bad("connect", Cause.CONNECT_REFUSED, "mirror.example"))
REACHED = (ok("dns"), ok("connect"), ok("tls"), ok("registry"))


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        pytest.param((bad("reference", Cause.INVALID_REFERENCE),), Cause.INVALID_REFERENCE, id="a wrong name"),
        pytest.param(
            (bad("runtime", Cause.RUNTIME_UNAVAILABLE, "node"), *REACHED, ok("manifest")),
            Cause.RUNTIME_UNAVAILABLE,
            id="nothing is pulled without a runtime",
        ),
        pytest.param(
            (*NODE, *MIRROR_DEAD, *REACHED, bad("manifest", Cause.TAG_NOT_FOUND)),
            Cause.TAG_NOT_FOUND,
            id="a dead mirror does not hide what the registry says",
        ),
        pytest.param(
            (*NODE, bad("manifest", Cause.TAG_NOT_FOUND, "mirror.example"), bad("dns", Cause.DNS_FAILURE)),
            Cause.DNS_FAILURE,
            id="a mirror that lacks the image does not speak for the registry",
        ),
        pytest.param(
            (*NODE, *REACHED, bad("manifest", Cause.TAG_NOT_FOUND), bad("tls", Cause.TLS_UNKNOWN_AUTHORITY)),
            Cause.TAG_NOT_FOUND,
            id="a host that stands in hosts.toml twice is judged by its highest rung",
        ),
        pytest.param(
            (*NODE, *REACHED, ok("manifest"), bad("platform", Cause.PLATFORM_MISMATCH)),
            Cause.PLATFORM_MISMATCH,
            id="what comes after the manifest",
        ),
        pytest.param(
            (*NODE, bad("hosts", Cause.HOSTS_CONFIG_INVALID), *REACHED, bad("manifest", Cause.TAG_NOT_FOUND)),
            Cause.HOSTS_CONFIG_INVALID,
            id="a hosts.toml that does not parse comes before what was asked instead",
        ),
        pytest.param(
            (*NODE, *REACHED, ok("manifest"), bad("pull", Cause.UNPACK_FAILED)), Cause.UNPACK_FAILED, id="the pull"
        ),
        pytest.param(
            (*NODE, bad("dns", Cause.DNS_FAILURE), bad("pull", Cause.UNKNOWN)),
            Cause.DNS_FAILURE,
            id="the rung explains the pull",
        ),
    ],
)
def test_the_root_cause_is_the_one_that_stops_the_pull(steps: tuple[Finding, ...], cause: Cause) -> None:
    diagnosis = judge("registry.example/app:1", steps, 0.0)
    assert (diagnosis.verdict, diagnosis.cause) == (Verdict.BAD, cause)


def test_a_mirror_that_fails_is_mentioned_but_is_no_cause_while_the_registry_answers() -> None:
    diagnosis = judge("registry.example/app:1", (*NODE, *MIRROR_DEAD, *REACHED, ok("manifest")), 0.0)
    assert diagnosis.verdict is Verdict.OK
    assert diagnosis.summary == "can be pulled, but not from mirror.example"


def test_a_hosts_toml_that_does_not_parse_is_no_cause_while_the_registry_answers() -> None:
    steps = (*NODE, bad("hosts", Cause.HOSTS_CONFIG_INVALID), *REACHED, ok("manifest"))
    assert judge("registry.example/app:1", steps, 0.0).verdict is Verdict.OK


def test_a_pull_that_went_through_is_stronger_than_our_own_requests() -> None:
    steps = (*NODE, bad("tls", Cause.TLS_HANDSHAKE), ok("pull", detail="pulled by containerd in 1.0 s"))
    assert judge("registry.example/app:1", steps, 0.0).verdict is Verdict.OK


@pytest.mark.parametrize("steps", [(*NODE, unknown("connect")), (*NODE, *MIRROR_DEAD, unknown("dns"))])
def test_what_could_not_be_told_is_unknown_and_not_bad(steps: tuple[Finding, ...]) -> None:
    assert judge("registry.example/app:1", steps, 0.0).verdict is Verdict.UNKNOWN


def test_a_probe_of_a_registry_reaches_its_goal_without_a_manifest() -> None:
    diagnosis = judge("registry.example", (*MIRROR_DEAD, *REACHED), 0.0, goal="registry")
    assert (diagnosis.verdict, diagnosis.summary) == (Verdict.OK, "can be reached, but not from mirror.example")
