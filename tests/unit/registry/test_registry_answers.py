"""What a registry's answers mean."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import quoting
from agent.causes import Cause
from agent.model import Fault
from agent.registry import answers, limits
from agent.registry.answers import Phase
from agent.registry.messages import Headers, Response, Url
from tests.unit.registry.asking import response

URL = Url.parse("https://reg.example/v2/a/manifests/1?ns=secret")


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
