"""Pull secrets as the kubelet matches them."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Credential, Fault
from agent.registry import globs
from agent.registry.credentials import Keyring, read
from agent.registry.reference import parse


def keyring(*keys: str) -> Keyring:
    """Each key's user is the key itself."""
    auths = {key: {"username": key, "password": "p"} for key in keys}
    return read(json.dumps({"auths": auths}).encode(), flat=False)


def users(ring: Keyring, image: str) -> list[str]:
    return [credential.username for credential in ring.lookup(parse(image))]


@pytest.mark.parametrize(
    ("key", "image", "matches"),
    [
        ("https://index.docker.io/v1/", "nginx", True),
        ("https://index.docker.io/v1", "nginx", False),
        ("index.docker.io", "user/app", True),
        ("docker.io", "nginx", True),
        ("registry-1.docker.io", "nginx", False),
        ("https://index.docker.io/v2/", "localhost/x", True),
        ("index.docker.io", "quay.io/x", False),
        ("index.docker.io", "localhost:5000/x", False),
        ("quay.io", "quay.io/a/b", True),
        ("http://quay.io/", "quay.io/a/b", True),
        ("quay.io/foo", "quay.io/foobar/x", True),
        ("quay.io/foo", "quay.io/fo/x", False),
        ("quay.io/v2/foo", "quay.io/foo/x", True),
        ("quay.io:5000", "quay.io/a", False),
        ("quay.io", "quay.io:5000/a", False),
        ("quay.io:5000", "quay.io:5000/a", True),
        ("*.io", "a.io/x", True),
        ("*.io", "a.b.io/x", False),
        ("*.*.io", "a.b.io/x", True),
        ("q?ay.io", "quay.io/x", False),  # to net/url this is the host q with a query
        ("q[t-v]ay.io", "quay.io/x", True),
        ("q[^u]ay.io", "quay.io/x", False),
        ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/x", True),
        ("quay.io:port", "quay.io/x", False),
        ("user@quay.io", "quay.io/x", True),
    ],
)
def test_a_key_matches_an_image_as_in_the_kubelet(key: str, image: str, matches: bool) -> None:
    assert bool(users(keyring(key), image)) is matches


def test_all_that_match_are_tried_and_longer_paths_come_first() -> None:
    ring = keyring("*.io", "quay.io", "quay.io/team", "other.io")
    assert users(ring, "quay.io/team/app") == ["quay.io/team", "quay.io", "*.io"]


def test_secrets_with_the_same_key_keep_their_order() -> None:
    first = read(b'{"auths": {"quay.io": {"username": "one", "password": "p"}}}', flat=False)
    second = read(b'{"quay.io": {"username": "two", "password": "p"}}', flat=True)
    assert users(first + second, "quay.io/x") == ["one", "two"]


@pytest.mark.parametrize("padded", ["dXNlcjpwYTpzcw==", "dXNlcjpwYTpzcw", "dXNlcjpw\nYTpzcw=="])
def test_auth_overrides_name_and_password_and_splits_at_the_first_colon(padded: str) -> None:
    data = json.dumps({"Auths": {"quay.io": {"USERNAME": "x", "password": "y", "auth": padded}}}).encode()
    assert read(data, flat=False).lookup(parse("quay.io/x")) == (Credential("user", "pa:ss"),)


def test_what_the_kubelet_ignores_is_ignored() -> None:
    data = b'{"auths": {"quay.io": {"identitytoken": "t", "email": null}}, "credsStore": "x", "HttpHeaders": {}}'
    assert read(data, flat=False).lookup(parse("quay.io/x")) == (Credential("", ""),)
    assert read(b"{}", flat=False).keys == ()
    assert read(b'{"auths": null}', flat=False).keys == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json: hunter2",
        b"\xff\xfe",
        b"[" * 100_000,
        b'["auths"]',
        b'{"auths": "hunter2"}',
        b'{"auths": {"quay.io": "hunter2"}}',
        b'{"auths": {"quay.io": {"username": ["hunter2"]}}}',
        b'{"auths": {"quay.io": {"auth": "hunter2!"}}}',
        b'{"auths": {"quay.io": {"auth": "' + base64.b64encode(b"hunter2") + b'"}}}',
    ],
)
def test_a_broken_secret_is_named_without_its_content(data: bytes) -> None:
    with pytest.raises(Fault) as caught:
        read(data, flat=False)
    assert caught.value.cause is Cause.SECRET_MALFORMED
    assert "hunter2" not in str(caught.value)
    assert b"quay.io" not in data or "quay.io" in caught.value.detail


def test_secrets_for_other_registries_are_listed() -> None:
    fault = keyring("quay.io", "ghcr.io").not_for(parse("reg.example/a"))
    assert fault.cause is Cause.SECRET_NOT_FOR_REGISTRY
    assert "quay.io, ghcr.io" in fault.detail
    assert "reg.example/a" in fault.detail


def test_a_keyring_shows_no_secret() -> None:
    ring = read(b'{"quay.io": {"username": "someone", "password": "hunter2"}}', flat=True)
    assert "hunter2" not in repr(ring)
    assert "someone" not in repr(ring)


def test_a_key_with_many_stars_costs_no_time() -> None:
    begin = time.perf_counter()
    assert not globs.matches("*a" * 60 + "b", "a" * 120)
    assert time.perf_counter() - begin < 0.5


@pytest.mark.parametrize("pattern", ["[", "a[", "[]", "[^]", "a\\", "[a-]", "[-a]"])
def test_a_malformed_pattern_matches_nothing(pattern: str) -> None:
    assert not globs.matches(pattern, "a")
    assert not globs.matches(pattern, pattern)


def test_a_negated_set_is_what_is_not_in_it() -> None:
    assert globs.matches("[^a-c]x", "dx")
    assert not globs.matches("[^a-c]x", "bx")


@given(st.text(max_size=20).filter(lambda text: "/" not in text))
def test_an_escaped_text_matches_itself_and_a_star_matches_everything(text: str) -> None:
    assert globs.matches("".join(f"\\{char}" for char in text), text)
    assert globs.matches("*", text)
