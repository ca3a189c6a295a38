"""What refusals, redirects, limits and challenges mean, without a socket."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import quoting
from agent.causes import Cause
from agent.model import Credential, Fault
from agent.registry import answers, auth, challenges, limits, redirects
from agent.registry.answers import Phase
from agent.registry.auth import Authorization
from agent.registry.challenges import Challenge
from agent.registry.messages import Headers, Request, Response, Url

URL = Url.parse("https://reg.example/v2/a/manifests/1?ns=secret")
SOMEONE = Credential("someone", "hunter2")
REALM = "https://auth.example/token"


def response(status: int, body: object = None, *fields: tuple[str, str]) -> Response:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Response(status, Headers(fields), data)


def error(code: str, message: str = "") -> object:
    return {"errors": [{"code": code, "message": message}]}


def cause(phase: Phase, answer: Response, *, authenticated: bool = False) -> Cause:
    return answers.fault(phase, URL, answer, authenticated=authenticated).cause


@pytest.mark.parametrize(
    ("status", "code", "phase", "expected"),
    [
        (404, "NAME_UNKNOWN", Phase.TAG, Cause.REPOSITORY_NOT_FOUND),
        (404, "MANIFEST_UNKNOWN", Phase.TAG, Cause.TAG_NOT_FOUND),
        (404, "manifest_unknown", Phase.DIGEST, Cause.DIGEST_NOT_FOUND),
        (404, "BLOB_UNKNOWN", Phase.BLOB, Cause.REGISTRY_CONTENT_CORRUPT),
        (404, "BLOB_UNKNOWN", Phase.DIGEST, Cause.DIGEST_NOT_FOUND),
        (400, "MANIFEST_BLOB_UNKNOWN", Phase.TAG, Cause.TAG_NOT_FOUND),
        (404, "BLOB_UPLOAD_UNKNOWN", Phase.TAG, Cause.REGISTRY_ERROR),
        (404, "BLOB_UPLOAD_INVALID", Phase.TAG, Cause.REGISTRY_ERROR),
        (400, "DIGEST_INVALID", Phase.DIGEST, Cause.INVALID_REFERENCE),
        (400, "NAME_INVALID", Phase.TAG, Cause.INVALID_REFERENCE),
        (400, "TAG_INVALID", Phase.TAG, Cause.INVALID_REFERENCE),
        (400, "MANIFEST_INVALID", Phase.TAG, Cause.UNSUPPORTED_MANIFEST),
        (400, "MANIFEST_UNVERIFIED", Phase.TAG, Cause.REGISTRY_CONTENT_CORRUPT),
        (400, "SIZE_INVALID", Phase.TAG, Cause.REGISTRY_ERROR),
        (416, "RANGE_INVALID", Phase.BLOB, Cause.REGISTRY_ERROR),
        (400, "PAGINATION_NUMBER_INVALID", Phase.TAG, Cause.REGISTRY_ERROR),
        (401, "UNAUTHORIZED", Phase.TAG, Cause.AUTH_REQUIRED),
        (403, "DENIED", Phase.TAG, Cause.AUTH_MISSING_OR_DENIED),
        (405, "UNSUPPORTED", Phase.TAG, Cause.REGISTRY_ERROR),
        (429, "TOOMANYREQUESTS", Phase.TAG, Cause.RATE_LIMITED),
        (403, "TOOMANYREQUESTS", Phase.TAG, Cause.RATE_LIMITED),
        (503, "UNAVAILABLE", Phase.TAG, Cause.REGISTRY_ERROR),
        (500, "UNKNOWN", Phase.TAG, Cause.REGISTRY_ERROR),
        (500, "NAME_UNKNOWN", Phase.TAG, Cause.REGISTRY_ERROR),
        (404, "SURPRISE", Phase.TAG, Cause.IMAGE_NOT_FOUND),
    ],
)
def test_every_error_code_has_its_cause(status: int, code: str, phase: Phase, expected: Cause) -> None:
    assert cause(phase, response(status, error(code))) is expected


@pytest.mark.parametrize(
    ("status", "phase", "authenticated", "expected"),
    [
        (401, Phase.TAG, False, Cause.AUTH_REQUIRED),
        (401, Phase.TAG, True, Cause.AUTH_DENIED),
        (403, Phase.TAG, False, Cause.AUTH_MISSING_OR_DENIED),
        (403, Phase.DIGEST, True, Cause.AUTH_DENIED),
        (403, Phase.TOKEN, True, Cause.AUTH_DENIED),
        (401, Phase.TOKEN, False, Cause.AUTH_REQUIRED),
        (403, Phase.BLOB, True, Cause.BLOB_FORBIDDEN),
        (404, Phase.TAG, False, Cause.IMAGE_NOT_FOUND),
        (404, Phase.DIGEST, False, Cause.IMAGE_NOT_FOUND),
        (404, Phase.BLOB, False, Cause.REGISTRY_CONTENT_CORRUPT),
        (404, Phase.PING, False, Cause.REGISTRY_ERROR),
        (404, Phase.TOKEN, False, Cause.REGISTRY_ERROR),
        (429, Phase.TOKEN, True, Cause.RATE_LIMITED),
        (400, Phase.TAG, False, Cause.REGISTRY_ERROR),
        (407, Phase.TAG, False, Cause.PROXY_AUTH_REQUIRED),
        (302, Phase.TAG, False, Cause.REGISTRY_ERROR),
        (204, Phase.PING, False, Cause.REGISTRY_ERROR),
        (502, Phase.BLOB, False, Cause.REGISTRY_ERROR),
    ],
)
def test_a_bare_status_has_its_cause(status: int, phase: Phase, authenticated: bool, expected: Cause) -> None:
    assert cause(phase, response(status), authenticated=authenticated) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(400, b"Client sent an HTTP request to an HTTPS server.\n"), Cause.HTTP_HTTPS_MISMATCH),
        (response(400, b"<html>The plain HTTP request was sent to HTTPS port</html>"), Cause.HTTP_HTTPS_MISMATCH),
        (response(400, b"<html>No required SSL certificate was sent</html>"), Cause.TLS_CLIENT_CERTIFICATE),
        (response(403, b"<html>", ("X-Squid-Error", "ERR_ACCESS_DENIED 0")), Cause.PROXY_REFUSED),
        (
            response(403, {"errors": [{"code": "DENIED", "message": "Your token has expired"}]}),
            Cause.CREDENTIALS_EXPIRED,
        ),
    ],
)
def test_what_stands_before_a_registry_is_recognised(answer: Response, expected: Cause) -> None:
    assert cause(Phase.TAG, answer, authenticated=True) is expected


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000,
        b'{"errors":' * 10_000,
        b'{"errors": 5}',
        b'{"errors": []}',
        b'{"errors": [5]}',
        b'{"errors": [{"code": 5, "message": {}}]}',
        b"[]",
        b"\xff\xfe",
        b"{",
    ],
)
def test_a_body_that_is_no_error_document_leaves_the_status(body: bytes) -> None:
    assert cause(Phase.TAG, response(404, body)) is Cause.IMAGE_NOT_FOUND


def test_a_rate_limit_tells_when_to_come_back() -> None:
    fields = (("Retry-After", "120"), ("RateLimit-Limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600"))
    fault = answers.fault(
        Phase.TAG, URL, response(429, None, *fields, ("docker-ratelimit-source", "192.0.2.1")), authenticated=False
    )
    expected = {"retry_after": "120", "limit": "100", "window": "21600", "remaining": "0", "source": "192.0.2.1"}
    assert expected.items() <= fault.evidence.items()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Wed, 01 Jan 2025 00:01:00 GMT", 60.0),
        ("Tue, 31 Dec 2024 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1" * 400, None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    assert limits.read(Headers([("retry-after", value)]), now).retry_after == seconds


def test_absent_limits_are_unknown() -> None:
    assert limits.read(Headers()) == limits.Limits()
    assert limits.read(Headers([("ratelimit-limit", "many")])).limit is None


def test_a_message_is_shown_without_queries_and_user_parts() -> None:
    message = "see https://user:hunter2@cdn.example/x?sig=hunter2#hunter2\r\n\x1b[31mred"
    fault = answers.fault(Phase.TAG, URL, response(404, error("SURPRISE", message)), authenticated=False)
    assert "hunter2" not in fault.detail + str(fault.evidence)
    assert "https://cdn.example/x" in fault.detail
    assert fault.detail.isprintable()
    assert "secret" not in fault.evidence["url"]


@given(st.text(max_size=500) | st.binary(max_size=500))
def test_quoted_text_is_one_bounded_line(text: str | bytes) -> None:
    line = quoting.quote(text, 50)
    assert len(line) <= 50
    assert line.isprintable()


@pytest.mark.parametrize("body", [b"[" * 100_000, b"<html>login</html>", b"", b"\xff", b'{"a":' * 20_000])
def test_foreign_json_that_is_none_is_a_registry_error(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        answers.read_json(body, "the answer")
    assert caught.value.cause is Cause.REGISTRY_ERROR


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


def moved(location: str, seen: frozenset[str] = frozenset(), home: str = "192.0.2.1") -> Url:
    return redirects.target(response(307, None, ("location", location)), URL, seen, home)


def test_a_redirect_may_be_relative() -> None:
    assert str(moved("../blobs/x?y=z")) == "https://reg.example/v2/a/blobs/x?y=z"
    assert str(moved("//cdn.example:8443/x")) == "https://cdn.example:8443/x"


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/x",
        "file:///etc/passwd",
        "http://[::]/",
        "gopher://a",
    ],
)
def test_a_redirect_to_the_inside_is_not_followed(location: str) -> None:
    with pytest.raises(Fault) as caught:
        moved(location)
    assert caught.value.cause is Cause.REGISTRY_ERROR


def test_a_registry_on_loopback_may_redirect_there_but_not_to_link_local() -> None:
    moved("http://127.0.0.2/", home="127.0.0.1")
    with pytest.raises(Fault):
        moved("http://169.254.169.254/", home="127.0.0.1")


def test_circles_and_endless_redirects_end() -> None:
    with pytest.raises(Fault, match="circle"):
        moved("https://a.example/", frozenset({"https://a.example/"}))
    with pytest.raises(Fault, match="more than 10 times"):
        moved("https://a.example/", frozenset(map(str, range(11))))


@given(st.text(max_size=100))
def test_no_location_breaks_a_redirect(location: str) -> None:
    try:
        found = moved(location or "x")
    except Fault:
        return
    assert found.scheme in {"http", "https"}
    assert str(found).isascii()
