"""Which registries are probed, and how often."""

from dataclasses import replace

from agent.causes import Cause
from agent.model import Diagnosis, Finding, Image, Verdict
from agent.round.watch import HOUR, Pace, registries


def limited(evidence: dict[str, str]) -> Diagnosis:
    step = Finding("registry", "registry.example", Verdict.BAD, Cause.RATE_LIMITED, "429", evidence)
    return Diagnosis("registry.example", Verdict.BAD, Cause.RATE_LIMITED, "429", (step,), 0.1)


def test_a_registry_is_asked_so_often_an_hour_and_no_more() -> None:
    pace = Pace(3)
    assert [pace.allows("a", now) for now in (0, 1, 2, 3)] == [True, True, True, False]
    assert pace.allows("b", 3)
    assert pace.allows("a", HOUR)
    assert not pace.allows("a", HOUR + 0.5)


def test_images_of_one_registry_share_its_budget_and_its_pause() -> None:
    pace = Pace(2)
    assert [pace.allows(name, 0) for name in ("a.example/x:1", "a.example/y:1", "a.example")] == [True, True, False]
    pace = Pace(100)
    pace.heed(replace(limited({"retry_after": "60"}), image="registry.example/app:1"), now=0)
    assert not pace.allows("registry.example", 1)
    assert not pace.allows("registry.example/other", 1)


def test_a_name_is_not_probed_again_before_its_time_however_often_rounds_come() -> None:
    pace = Pace(100, least=60)
    assert [pace.allows("a.example", now) for now in (0, 10, 59, 60, 70)] == [True, False, False, True, False]


def test_a_registry_that_limits_the_rate_is_left_alone_until_the_time_that_it_names() -> None:
    pace = Pace(100)
    pace.heed(limited({"retry_after": "60"}), now=1000)
    assert not pace.allows("registry.example", 1059)
    assert pace.allows("registry.example", 1060)


def test_a_limit_without_a_time_or_with_nonsense_pauses_for_a_while_and_never_for_ever() -> None:
    pace = Pace(100)
    for evidence in ({}, {"retry_after": "soon"}, {"retry_after": "1e300"}, {"retry_after": "nan"}):
        pace.heed(limited(evidence), now=0)
        assert not pace.allows("registry.example", 0.5)
        assert pace.allows("registry.example", 24 * HOUR)


def test_the_registries_are_those_configured_and_those_that_cached_images_come_from() -> None:
    image = Image(
        "sha256:" + "a" * 64, ("docker.io/library/nginx:1", "sha256:" + "b" * 64, "ghcr.io/a/b:2", "not a name"), ()
    )
    assert registries(["z.example"], [image]) == ("z.example", "docker.io", "ghcr.io")
