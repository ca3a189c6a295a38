"""What a registry's refusal means, by its error code, its status and what had been asked for.

Facts: OCI distribution-spec, spec.md "Error Codes"; distribution/distribution
registry/api/errcode/register.go (statuses, and the codes beyond the specification).
"""

import json
from collections.abc import Mapping
from enum import StrEnum

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote
from agent.registry import limits
from agent.registry.messages import Response, Url


class Phase(StrEnum):
    """What was asked for."""

    PING = "/v2/"
    TOKEN = "token"  # noqa: S105 - the name of a phase
    TAG = "manifest by tag"
    DIGEST = "manifest by digest"
    BLOB = "blob"


_NOT_FOUND = {
    Phase.TAG: Cause.TAG_NOT_FOUND,
    Phase.DIGEST: Cause.DIGEST_NOT_FOUND,
    Phase.BLOB: Cause.REGISTRY_CONTENT_CORRUPT,
}
_MISSING = ("MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN")
_CODES = {
    "NAME_UNKNOWN": Cause.REPOSITORY_NOT_FOUND,
    "NAME_INVALID": Cause.INVALID_REFERENCE,
    "TAG_INVALID": Cause.INVALID_REFERENCE,
    "DIGEST_INVALID": Cause.INVALID_REFERENCE,
    "MANIFEST_INVALID": Cause.UNSUPPORTED_MANIFEST,
    "MANIFEST_UNVERIFIED": Cause.REGISTRY_CONTENT_CORRUPT,
    "TOOMANYREQUESTS": Cause.RATE_LIMITED,
    "UNSUPPORTED": Cause.REGISTRY_ERROR,
    "UNAVAILABLE": Cause.REGISTRY_ERROR,
    "UNKNOWN": Cause.REGISTRY_ERROR,
    "SIZE_INVALID": Cause.REGISTRY_ERROR,
    "RANGE_INVALID": Cause.REGISTRY_ERROR,
    "PAGINATION_NUMBER_INVALID": Cause.REGISTRY_ERROR,
    "BLOB_UPLOAD_INVALID": Cause.REGISTRY_ERROR,
    "BLOB_UPLOAD_UNKNOWN": Cause.REGISTRY_ERROR,
}
_WRONG_SCHEME = (b"HTTP request to an HTTPS server", b"plain HTTP request was sent to HTTPS port")
_CLIENT_CERTIFICATE = (b"No required SSL certificate was sent", b"The SSL certificate error")


def read_json(body: bytes, what: str) -> object:
    """Foreign JSON. Raises Fault(REGISTRY_ERROR) for what is none, or is nested without end."""
    try:
        return json.loads(body)
    except RecursionError:
        raise Fault(Cause.REGISTRY_ERROR, f"{what} is nested too deeply") from None
    except ValueError:
        page = " but an HTML page" if body.lstrip()[:1] == b"<" else ""
        raise Fault(Cause.REGISTRY_ERROR, f"{what} is not JSON{page}: {quote(body, 80)!r}") from None


def fault(phase: Phase, url: Url, response: Response, *, authenticated: bool) -> Fault:
    """Names the refusal ``response`` of a request for ``phase``.

    ``authenticated`` tells whether credentials had been shown. The evidence has status, code, message,
    and for a rate limit what the headers tell of it.
    """
    code, message = _error(response)
    cause = _cause(phase, response, code, message, authenticated=authenticated)
    evidence = {"url": url.shown, "status": str(response.status), "code": code, "message": message}
    if cause is Cause.RATE_LIMITED:
        evidence |= limits.read(response.headers).evidence
    detail = f"{url.authority} answered {response.status} to a request for {_asked(phase)}{_said(code, message)}"
    if wait := evidence.get("retry_after"):
        detail += f" (it asks to wait for {wait} s)"
    return Fault(cause, detail + _remark(cause, response), {key: value for key, value in evidence.items() if value})


def _asked(phase: Phase) -> str:
    return phase.value if phase is Phase.PING else f"a {phase.value}"


def _said(code: str, message: str) -> str:
    return f": {': '.join(filter(None, (code, message)))}" if code or message else ""


def _remark(cause: Cause, response: Response) -> str:
    if 300 <= response.status < 400:
        return " (a redirect without a place to go)"
    if cause is Cause.REGISTRY_ERROR and response.media_type == "text/html":
        return " (an HTML page: not a registry, or something in front of it)"
    return ""


def _error(response: Response) -> tuple[str, str]:
    """Code and message of the first error in the body, bounded; empty where there is none."""
    try:
        body = json.loads(response.body) if response.body[:1] in {b"{", b"["} else None
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(body, dict):
        return "", ""
    errors = body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else body
    if not isinstance(first, dict):
        return "", ""
    code, message = _word(first, "code"), _word(first, "message") or _word(first, "details") or _word(first, "error")
    return code.upper()[:40], message


def _word(mapping: Mapping[str, object], key: str) -> str:
    value = mapping.get(key)
    return quote(value) if isinstance(value, str) else ""


def _cause(phase: Phase, response: Response, code: str, message: str, *, authenticated: bool) -> Cause:
    if response.status == 429 or code == "TOOMANYREQUESTS":
        return Cause.RATE_LIMITED
    if by_front := _in_front(response):
        return by_front
    if not 400 <= response.status < 500:
        return Cause.REGISTRY_ERROR
    if by_code := _NOT_FOUND.get(phase, Cause.REGISTRY_ERROR) if code in _MISSING else _CODES.get(code):
        return by_code
    return _by_status(phase, response.status, code, message, authenticated=authenticated)


def _by_status(phase: Phase, status: int, code: str, message: str, *, authenticated: bool) -> Cause:
    if status in {401, 403} or code in {"UNAUTHORIZED", "DENIED"}:
        return _refused(phase, status, message, authenticated=authenticated)
    return _plain_404(phase) if status == 404 else Cause.REGISTRY_ERROR


def _in_front(response: Response) -> Cause | None:
    """Answers of what stands before the registry: a proxy for plain HTTP, or a TLS port asked in clear."""
    if response.status == 407:
        return Cause.PROXY_AUTH_REQUIRED
    if response.headers.get("x-squid-error"):
        return Cause.PROXY_REFUSED
    if response.status == 400 and any(text in response.body for text in _WRONG_SCHEME):
        return Cause.HTTP_HTTPS_MISMATCH
    if response.status in {400, 403, 496} and any(text in response.body for text in _CLIENT_CERTIFICATE):
        return Cause.TLS_CLIENT_CERTIFICATE
    return None


def _refused(phase: Phase, status: int, message: str, *, authenticated: bool) -> Cause:
    """A 403 without credentials may be a private image, a missing one, or a refused address."""
    if phase is Phase.BLOB and status == 403:
        return Cause.BLOB_FORBIDDEN
    if authenticated:
        return Cause.CREDENTIALS_EXPIRED if "expired" in message.lower() else Cause.AUTH_DENIED
    return Cause.AUTH_REQUIRED if status == 401 else Cause.AUTH_MISSING_OR_DENIED


def _plain_404(phase: Phase) -> Cause:
    if phase in {Phase.TAG, Phase.DIGEST}:
        return Cause.IMAGE_NOT_FOUND
    return Cause.REGISTRY_CONTENT_CORRUPT if phase is Phase.BLOB else Cause.REGISTRY_ERROR
