"""Challenges, and the dance that answers them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Credential, Fault
from agent.registry import auth, challenges
from agent.registry.auth import Authorization
from agent.registry.challenges import Challenge
from agent.registry.messages import Headers, Request, Response
from tests.unit.registry.asking import response

SOMEONE = Credential("someone", "hunter2")

REALM = "https://auth.example/token"


@pytest.mark.parametrize(
    ("line", "scheme", "parameters"),
    [
        ('Bearer realm="https://a/t",service="s",scope="x:y:pull"', "bearer", {"service": "s", "scope": "x:y:pull"}),
        ('bearer REALM="a" , Service=s', "bearer", {"realm": "a", "service": "s"}),
        (r'Basic realm="a \"quoted\" \\ one, two"', "basic", {"realm": r'a "quoted" \ one, two'}),
        ("Basic", "basic", {}),
        ('Basic realm="a", Bearer realm="b"', "basic", {"realm": "a"}),
        ('Bearer realm="unclosed', "bearer", {}),
        ('Bearer realm="", error="insufficient_scope"', "bearer", {"realm": "", "error": "insufficient_scope"}),
    ],
)
def test_a_challenge_is_read_as_containerd_reads_it(line: str, scheme: str, parameters: dict[str, str]) -> None:
    (found,) = challenges.read(Headers([("WWW-Authenticate", line)]))
    assert found.scheme == scheme
    assert parameters.items() <= dict(found.parameters).items()


def test_bearer_comes_before_basic_and_what_is_not_known_is_left_out() -> None:
    lines = ("Negotiate", "", "=", 'Basic realm="a"', 'Digest realm="a"', 'Bearer realm="a"')
    found = challenges.read(Headers([("www-authenticate", line) for line in lines]))
    assert [each.scheme for each in found] == ["bearer", "digest", "basic"]


@given(st.text(max_size=300))
def test_no_challenge_breaks_the_parser(text: str) -> None:
    challenges.read(Headers([("www-authenticate", text)]))


def bearer(**parameters: str) -> Challenge:
    return Challenge("bearer", {"realm": REALM, "service": "reg", **parameters})


def dance(
    challenge: Challenge, credential: Credential | None, *replies: Response, home: str = "192.0.2.1"
) -> tuple[Authorization, list[Request]]:
    """The outcome of the dance with these answers, and what was asked."""
    asked: list[Request] = []
    steps = auth.authorize(challenge, ["repository:a:pull"], credential, home)
    try:
        request = next(steps)
        for reply in replies:
            asked.append(request)
            request = steps.send(reply)
    except StopIteration as stop:
        return stop.value, asked
    raise AssertionError(f"wants more: {request}")


def refused(challenge: Challenge, credential: Credential | None, *replies: Response) -> Cause:
    with pytest.raises(Fault) as caught:
        dance(challenge, credential, *replies)
    assert "hunter2" not in str(caught.value)
    return caught.value.cause


def test_without_a_secret_the_token_is_got_by_get() -> None:
    granted, asked = dance(bearer(scope="repository:b:pull"), None, response(200, {"token": "t", "expires_in": 300}))
    assert [request.method for request in asked] == ["GET"]
    assert asked[0].headers == ()
    query = "service=reg&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull"
    assert str(asked[0].url) == f"{REALM}?{query}"
    assert granted == Authorization("Bearer t", frozenset({"repository:a:pull", "repository:b:pull"}), 300.0)


def test_with_a_secret_the_token_is_got_by_post() -> None:
    granted, (post,) = dance(bearer(), SOMEONE, response(200, {"access_token": "t", "token": "no"}))
    assert post.method == "POST"
    assert post.body == (
        b"grant_type=password&service=reg&client_id=containerd-client&scope=repository%3Aa%3Apull"
        b"&username=someone&password=hunter2"
    )
    assert granted.value == "Bearer t"
    assert granted.lifetime == 60.0
    assert "hunter2" not in repr(post)
    assert "Bearer" not in repr(granted)


@pytest.mark.parametrize("status", [400, 401, 404, 405])
def test_a_refused_post_is_followed_by_a_get(status: int) -> None:
    granted, (_, got) = dance(bearer(), SOMEONE, response(status), response(200, {"token": "t"}))
    assert got.headers == (("Authorization", "Basic c29tZW9uZTpodW50ZXIy"),)
    assert granted.value == "Bearer t"


@pytest.mark.parametrize(
    ("credential", "replies", "expected"),
    [
        (None, [response(401)], Cause.AUTH_REQUIRED),
        (None, [response(403)], Cause.AUTH_MISSING_OR_DENIED),
        (SOMEONE, [response(401), response(401)], Cause.AUTH_DENIED),
        (SOMEONE, [response(403)], Cause.AUTH_DENIED),
        (SOMEONE, [response(429)], Cause.RATE_LIMITED),
        (SOMEONE, [response(500)], Cause.REGISTRY_ERROR),
        (SOMEONE, [response(200, {"token": "only"})], Cause.REGISTRY_ERROR),
        (None, [response(200, b"<html>login</html>")], Cause.REGISTRY_ERROR),
        (None, [response(200, {})], Cause.REGISTRY_ERROR),
        (None, [response(200, [])], Cause.REGISTRY_ERROR),
        (None, [response(200, {"token": ""})], Cause.REGISTRY_ERROR),
        (None, [response(200, {"token": "a\r\nEvil: b"})], Cause.REGISTRY_ERROR),
        (None, [response(302, None, ("location", "/x"))], Cause.REGISTRY_ERROR),
        (None, [response(404)], Cause.REGISTRY_ERROR),
    ],
)
def test_a_refused_token_has_its_cause(credential: Credential | None, replies: list[Response], expected: Cause) -> None:
    assert refused(bearer(), credential, *replies) is expected


@pytest.mark.parametrize("half", [Credential("", "hunter2"), Credential("someone", "")])
def test_half_a_credential_is_anonymous(half: Credential) -> None:
    _, (got,) = dance(bearer(), half, response(200, {"token": "t"}))
    assert (got.method, got.headers) == ("GET", ())
    assert refused(Challenge("basic"), half) is Cause.AUTH_REQUIRED


def test_basic_needs_no_request() -> None:
    granted, asked = dance(Challenge("basic"), SOMEONE)
    assert granted.value == "Basic c29tZW9uZTpodW50ZXIy"
    assert asked == []


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "ftp://auth.example/",
        "https://",
        "/token",
        "http://169.254.169.254/latest",
        "http://[fe80::1]/",
        "http://127.0.0.1/",
        "http://localhost:8080/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "https://auth.example:99999/",
        "https://a b/",
    ],
)
def test_a_realm_that_is_no_token_server_is_not_asked(realm: str) -> None:
    assert refused(bearer(realm=realm), SOMEONE) is Cause.REGISTRY_ERROR


def test_a_registry_on_loopback_may_have_its_token_server_there() -> None:
    challenge = bearer(realm="http://127.0.0.1:5001/token")
    granted, _ = dance(challenge, None, response(200, {"token": "t"}), home="127.0.0.1")
    assert granted.value == "Bearer t"
    with pytest.raises(Fault, match="link-local"):
        dance(bearer(realm="http://169.254.169.254/"), None, home="169.254.1.1")


def test_digest_is_not_spoken() -> None:
    assert refused(Challenge("digest"), SOMEONE) is Cause.REGISTRY_ERROR
