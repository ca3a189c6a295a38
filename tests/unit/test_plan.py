"""The rules of the plan, one line each."""

from dataclasses import replace

import pytest

from agent.actions import Action, Evict, Fetch, Leave, Pull, Rebuild, Reload, ReplaceFiles, Unpack
from agent.causes import Cause
from agent.model import Blob, Diagnosis, Finding, Image, Role, Snapshot, Verdict
from agent.plan import ROWS_LOST, Means, plan_repair, plan_repull, reference

INDEX, LAYER, CONFIG = "sha256:" + "a" * 64, "sha256:" + "b" * 64, "sha256:" + "c" * 64
NAME = f"registry.example/app@{INDEX}"
BLOBS = (Blob(INDEX, 10, Role.TARGET), Blob(LAYER, 20, Role.LAYER))


FREE, BUSY, ABSENT = "sha256:" + "1" * 64, "sha256:" + "2" * 64, "sha256:" + "3" * 64
SNAPSHOTS = (
    Snapshot("overlayfs", BUSY, in_use=("default/app/main",)),
    Snapshot("overlayfs", FREE),
    Snapshot("native", BUSY),  # the same chain ID, on which nobody stands
)
FETCH = Fetch(INDEX, (LAYER,))


def image(**more: object) -> Image:
    names = ("registry.example/app:1", NAME, CONFIG)
    return Image(**{"id": INDEX, "names": names, "blobs": BLOBS, "snapshots": SNAPSHOTS, **more})  # type: ignore[arg-type]


def origin(verdict: Verdict = Verdict.OK) -> Diagnosis:
    return Diagnosis(NAME, verdict, None if verdict is Verdict.OK else Cause.DNS_FAILURE, "told so", (), 0.1)


def bad(subject: str, cause: Cause) -> Finding:
    return Finding("cache", subject, Verdict.BAD, cause)


TRUNCATED = bad(LAYER, Cause.BLOB_TRUNCATED)
LOST = bad(CONFIG, Cause.METADATA_BROKEN)
CORRUPT = Finding("unpacked", FREE, Verdict.BAD, Cause.SNAPSHOT_CORRUPT)
USED = Finding("unpacked", BUSY, Verdict.BAD, Cause.SNAPSHOT_CORRUPT)
GONE = Finding("unpacked", ABSENT, Verdict.BAD, Cause.SNAPSHOT_MISSING)
WRONG_LABEL = Finding("unpacked", BUSY, Verdict.BAD, Cause.METADATA_BROKEN)
FORGOTTEN = Finding("cri", INDEX, Verdict.BAD, Cause.METADATA_BROKEN)


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        pytest.param((), (), id="a sound image needs nothing"),
        pytest.param((TRUNCATED,), (FETCH,), id="a damaged blob is fetched"),
        pytest.param((TRUNCATED, TRUNCATED), (FETCH,), id="a blob is fetched once"),
        pytest.param((LOST,), (Pull(NAME),), id="a lost record comes back with a pull"),
        pytest.param((TRUNCATED, LOST), (FETCH, Pull(NAME)), id="both, blobs first"),
        pytest.param((CORRUPT,), (Rebuild(INDEX, (FREE,)),), id="an unpacked layer is unpacked again"),
        pytest.param((CORRUPT, CORRUPT), (Rebuild(INDEX, (FREE,)),), id="an unpacked layer is dropped once"),
        pytest.param((GONE,), (Unpack(INDEX, (ABSENT,)),), id="a layer without a snapshot is unpacked"),
        pytest.param((WRONG_LABEL,), (Unpack(INDEX, (BUSY,)),), id="a wrong label is set, whoever stands there"),
        pytest.param((GONE, CORRUPT), (Rebuild(INDEX, (FREE,)),), id="a rebuild unpacks what is gone, too"),
        pytest.param((CORRUPT, TRUNCATED), (FETCH, Rebuild(INDEX, (FREE,))), id="what is unpacked is fetched before"),
        pytest.param((FORGOTTEN,), (Reload(INDEX),), id="what CRI does not know is shown to it"),
        pytest.param(
            (Finding("cache", LAYER, Verdict.UNKNOWN, Cause.UNKNOWN),), (), id="unknown is no reason for a blob"
        ),
        pytest.param((replace(CORRUPT, verdict=Verdict.UNKNOWN),), (), id="unknown is no reason for an unpacked layer"),
    ],
)
def test_a_repair_does_the_least_that_mends(findings: tuple[Finding, ...], expected: tuple[Action, ...]) -> None:
    assert plan_repair(image(), findings, origin(), Means(files=True)) == expected


def test_unpacked_layers_are_rebuilt_without_a_registry() -> None:
    plan = plan_repair(image(), (CORRUPT,), None, Means(files=True))
    assert plan == (Rebuild(INDEX, (FREE,)),)


def test_a_layer_that_is_not_here_is_fetched_before_anything_is_dropped() -> None:
    plan = plan_repair(image(), (CORRUPT,), origin(), Means(files=True, lacking=(LAYER,)))
    assert plan == (FETCH, Rebuild(INDEX, (FREE,)))


def test_nothing_is_dropped_while_a_layer_that_is_not_here_cannot_be_fetched() -> None:
    (left,) = plan_repair(image(), (CORRUPT,), origin(Verdict.BAD), Means(files=True, lacking=(LAYER,)))
    assert isinstance(left, Leave)
    assert "cannot be pulled again: told so" in left.reason


def test_nothing_is_dropped_that_another_image_could_not_have_back() -> None:
    (left,) = plan_repair(image(), (CORRUPT,), origin(), Means(files=True, hindered="b:1 has no layer"))
    assert left == Leave(INDEX, "b:1 has no layer")


def test_files_under_containers_are_left_with_the_pods_that_stand_on_them() -> None:
    rebuilt, left = sorted(
        plan_repair(image(), (CORRUPT, USED), None, Means(files=True)), key=lambda each: isinstance(each, Leave)
    )
    assert rebuilt == Rebuild(INDEX, (FREE,))
    assert isinstance(left, Leave)
    assert "default/app/main" in left.reason and "replace-files" in left.reason


def test_files_under_containers_are_replaced_where_that_is_allowed() -> None:
    plan = plan_repair(image(), (USED,), None, Means(files=True, replace_files=True))
    assert plan == (ReplaceFiles(INDEX, (BUSY,)),)


def test_a_whole_directory_is_not_put_under_a_container_again() -> None:
    gone = replace(USED, cause=Cause.SNAPSHOT_MISSING)
    (left,) = plan_repair(image(), (gone,), None, Means(files=True, replace_files=True))
    assert isinstance(left, Leave)
    assert "drain the node" in left.reason


def test_what_the_snapshotter_lost_is_left_alone_with_what_to_do() -> None:
    lost = Finding("snapshotter", FREE, Verdict.BAD, Cause.METADATA_BROKEN)
    assert plan_repair(image(), (lost, TRUNCATED), origin(), Means(files=True)) == (Leave(INDEX, ROWS_LOST),)


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
    (action,) = plan_repair(image(), (TRUNCATED,), found, Means(files=files))
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
        ({"blobs": (Blob(LAYER, 20, Role.LAYER, ("namespace moby",)),)}, "shares blobs with namespace moby"),
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
