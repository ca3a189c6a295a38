"""The token dance: which requests, in which order, turn a challenge into an Authorization.

A generator without I/O: it yields requests, is sent the answers, and returns an `Authorization`.

Facts: containerd remotes/docker/authorizer.go and auth/fetch.go: with a secret POST (OAuth2 form), and
after 400, 401, 404 or 405 GET with Basic; without one an anonymous GET. A POST must answer
``access_token``; from a GET ``access_token`` wins over ``token``. Basic needs user name and secret.
"""

import base64
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from agent.causes import Cause
from agent.model import Credential, Fault
from agent.quoting import quote
from agent.registry import answers, redirects
from agent.registry.challenges import Challenge
from agent.registry.messages import Request, Response, Url

__all__ = ["Authorization", "Challenge", "Dance", "authorize", "basic_value", "usable"]

_CLIENT_ID = "containerd-client"
_FALLBACK = frozenset({400, 401, 404, 405})
_LIFETIME = 60.0


@dataclass(frozen=True, slots=True)
class Authorization:
    """The value of the Authorization header, the scopes it was asked for and its life in seconds."""

    value: str = field(repr=False)
    scopes: frozenset[str] = frozenset()
    lifetime: float = float("inf")


Dance = Generator[Request, Response, Authorization]


def authorize(challenge: Challenge, scopes: Iterable[str], credential: Credential | None, home: str) -> Dance:
    """Answers ``challenge`` for ``scopes`` (the challenge adds its own). ``home`` is the registry's address.

    Raises Fault: AUTH_REQUIRED (nothing to show, and that is refused), AUTH_DENIED or CREDENTIALS_EXPIRED
    (what was shown is refused), AUTH_MISSING_OR_DENIED (cannot tell), RATE_LIMITED, REGISTRY_ERROR.
    """
    if challenge.scheme == "basic":
        return Authorization(_basic(credential))
    if challenge.scheme != "bearer":
        raise Fault(Cause.REGISTRY_ERROR, f"the registry wants {quote(challenge.scheme, 30)} authentication")
    realm = _realm(challenge, home)
    wanted = frozenset(scopes) | challenge.scopes
    token, lifetime = yield from _token(realm, challenge.parameters.get("service", ""), wanted, usable(credential))
    return Authorization(f"Bearer {token}", wanted, lifetime)


def usable(credential: Credential | None) -> Credential | None:
    """None for what containerd takes as anonymous: no user name, or no password."""
    return credential if credential and credential.username and credential.password else None


def basic_value(credential: Credential) -> str:
    """An Authorization by user name and password."""
    pair = f"{credential.username}:{credential.password}".encode("utf-8", "surrogateescape")
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _basic(credential: Credential | None) -> str:
    shown = usable(credential)
    if shown is None:
        raise Fault(Cause.AUTH_REQUIRED, "the registry wants a user name and a password, and there are none")
    return basic_value(shown)


def _realm(challenge: Challenge, home: str) -> Url:
    realm = challenge.parameters.get("realm", "")
    if not realm:
        raise Fault(Cause.REGISTRY_ERROR, "the registry's challenge names no realm to get a token from")
    try:
        url = Url.parse(realm)
    except ValueError as error:
        raise Fault(Cause.REGISTRY_ERROR, f"the registry's token realm is {quote(str(error), 80)}") from None
    if redirects.kind_of(url.host) == "link-local":
        raise Fault(Cause.REGISTRY_ERROR, f"the registry's token realm {url.shown} is link-local, which is not asked")
    redirects.guard(url, home)
    return url


def _token(
    realm: Url, service: str, scopes: frozenset[str], credential: Credential | None
) -> Generator[Request, Response, tuple[str, float]]:
    if credential:
        response = yield _post(realm, service, scopes, credential)
        if response.status not in _FALLBACK:
            return _read(realm, response, ("access_token",), authenticated=True)
    response = yield _get(realm, service, scopes, credential)
    return _read(realm, response, ("access_token", "token"), authenticated=credential is not None)


def _post(realm: Url, service: str, scopes: frozenset[str], credential: Credential) -> Request:
    form = {
        "grant_type": "password",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(sorted(scopes)),
        "username": credential.username,
        "password": credential.password,
    }
    body = urlencode(form, errors="surrogateescape").encode("ascii")
    kind = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
    return Request("POST", realm, (kind,), body)


def _get(realm: Url, service: str, scopes: frozenset[str], credential: Credential | None) -> Request:
    query = ([("service", service)] if service else []) + [("scope", scope) for scope in sorted(scopes)]
    joint = "&" if "?" in realm.target else "?"
    target = realm.target + joint + urlencode(query) if query else realm.target
    headers = (("Authorization", basic_value(credential)),) if credential else ()
    return Request("GET", Url(realm.scheme, realm.host, realm.port, target), headers)


def _read(realm: Url, response: Response, names: tuple[str, ...], *, authenticated: bool) -> tuple[str, float]:
    if not 200 <= response.status < 400 or redirects.is_redirect(response):
        raise answers.fault(answers.Phase.TOKEN, realm, response, authenticated=authenticated)
    body = answers.read_json(response.body, f"the token from {realm.shown}")
    fields = body if isinstance(body, dict) else {}
    tokens = [value for name in names if isinstance(value := fields.get(name), str) and value]
    if not tokens or not (tokens[0].isascii() and tokens[0].isprintable()):
        raise Fault(Cause.REGISTRY_ERROR, f"the answer of {realm.shown} has no usable token")
    return tokens[0], _lifetime(fields.get("expires_in"))


def _lifetime(seconds: object) -> float:
    """The specification's minute where nothing sensible is told."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return float(seconds) if is_number and 0 < seconds < 1e9 else _LIFETIME  # type: ignore[operator, arg-type]
