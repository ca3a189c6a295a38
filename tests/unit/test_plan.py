"""The rules of the plan, one line each."""

from dataclasses import replace

import pytest

from agent.causes import Cause
from agent.model import (
    Action,
    Blob,
    Diagnosis,
    Evict,
    Fetch,
    Finding,
    Image,
    Leave,
    Pull,
    Role,
    Verdict,
)
from agent.plan import plan_repair, plan_repull, reference

INDEX, LAYER, CONFIG = "sha256:" + "a" * 64, "sha256:" + "b" * 64, "sha256:" + "c" * 64
NAME = f"registry.example/app@{INDEX}"
BLOBS = (Blob(INDEX, 10, Role.TARGET), Blob(LAYER, 20, Role.LAYER))


def image(**more: object) -> Image:
    return Image(id=INDEX, names=("registry.example/app:1", NAME, CONFIG), blobs=BLOBS, **more)  # type: ignore[arg-type]


def origin(verdict: Verdict = Verdict.OK) -> Diagnosis:
    return Diagnosis(NAME, verdict, None if verdict is Verdict.OK else Cause.DNS_FAILURE, "told so", (), 0.1)


def bad(subject: str, cause: Cause) -> Finding:
    return Finding("cache", subject, Verdict.BAD, cause)


TRUNCATED = bad(LAYER, Cause.BLOB_TRUNCATED)
LOST = bad(CONFIG, Cause.METADATA_BROKEN)


@pytest.mark.parametrize(
    ("findings", "found", "files", "expected"),
    [
        pytest.param((), origin(), True, (), id="a sound image needs nothing"),
        pytest.param((TRUNCATED,), origin(), True, (Fetch(INDEX, (LAYER,)),), id="a damaged blob is fetched"),
        pytest.param((TRUNCATED, TRUNCATED), origin(), True, (Fetch(INDEX, (LAYER,)),), id="a blob is fetched once"),
        pytest.param((LOST,), origin(), True, (Pull(NAME),), id="a lost record comes back with a pull"),
        pytest.param((TRUNCATED, LOST), origin(), True, (Fetch(INDEX, (LAYER,)), Pull(NAME)), id="both, blobs first"),
        pytest.param(
            (Finding("cache", LAYER, Verdict.UNKNOWN, Cause.UNKNOWN),), origin(), True, (), id="unknown is no reason"
        ),
    ],
)
def test_a_repair_does_the_least_that_mends(
    findings: tuple[Finding, ...], found: Diagnosis, files: bool, expected: tuple[Action, ...]
) -> None:
    assert plan_repair(image(), findings, found, files=files) == expected


@pytest.mark.parametrize(
    ("found", "files", "reason"),
    [
        pytest.param(origin(Verdict.BAD), True, "cannot be pulled again: told so", id="the registry cannot be reached"),
        pytest.param(origin(Verdict.UNKNOWN), True, "cannot be pulled again", id="nobody knows whether it can"),
        pytest.param(None, True, "no name in a registry", id="it was imported"),
        pytest.param(origin(), False, "files of the content store", id="the files are out of reach"),
    ],
)
def test_what_cannot_be_fetched_is_left_alone_and_the_reason_is_told(
    found: Diagnosis | None, files: bool, reason: str
) -> None:
    (action,) = plan_repair(image(), (TRUNCATED,), found, files=files)
    assert isinstance(action, Leave)
    assert reason in action.reason


def test_a_repull_evicts_every_blob_and_pulls_the_name_that_was_asked_for() -> None:
    evict, pull = plan_repull(image(), "registry.example/app:1", origin(), files=True)
    assert evict == Evict(INDEX, (INDEX, LAYER))
    assert pull == Pull("registry.example/app:1")


def test_a_repull_of_a_tag_that_moved_is_a_plain_pull_and_evicts_nothing() -> None:
    moved = replace(origin(), steps=(Finding("manifest", "registry.example", Verdict.OK, detail=LAYER),))
    assert plan_repull(image(), "registry.example/app:1", moved, files=True) == (Pull("registry.example/app:1"),)


def test_a_repull_of_what_is_not_cached_is_a_plain_pull() -> None:
    assert plan_repull(None, "registry.example/app:1", origin(), files=True) == (Pull("registry.example/app:1"),)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"pinned": True}, "pinned"),
        ({"in_use": ("container-1",)}, "in use by container-1"),
        ({"in_use": ("a", "b", "c", "d", "e")}, "in use by a, b, c and 2 more"),
        ({"shared": ("namespace moby",)}, "shares blobs with namespace moby"),
        ({"unpacked_only": True}, "only unpacked"),
        ({"lost": (CONFIG,)}, "records are gone"),
    ],
)
def test_a_repull_never_evicts_what_others_stand_on(more: dict[str, object], reason: str) -> None:
    (action,) = plan_repull(image(**more), "registry.example/app:1", origin(), files=True)
    assert isinstance(action, Leave)
    assert reason in action.reason


@pytest.mark.parametrize("verdict", [Verdict.BAD, Verdict.UNKNOWN])
def test_a_repull_never_evicts_what_cannot_be_pulled_again(verdict: Verdict) -> None:
    (action,) = plan_repull(image(), "registry.example/app:1", origin(verdict), files=True)
    assert isinstance(action, Leave)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("registry.example/app:1", NAME), NAME),
        (("registry.example:5000/app:1",), f"registry.example:5000/app@{INDEX}"),
        (("registry.example:5000/app",), f"registry.example:5000/app@{INDEX}"),
        ((CONFIG,), None),
        ((f"registry.example/app@{LAYER}",), None),
    ],
)
def test_an_image_is_fetched_by_its_digest_never_by_a_tag(names: tuple[str, ...], expected: str | None) -> None:
    assert reference(Image(INDEX, names, BLOBS)) == expected
