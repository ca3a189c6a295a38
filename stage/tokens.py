"""A real token server: the realm that a registry's Bearer challenge names (distribution's token protocol).

It signs what docker-registry 2.8 verifies: a JWT (ES256) whose header carries the signing certificate
(``x5c``), which has to lead to the registry's ``rootcertbundle``.
"""

import base64
import json
import secrets
import time
from collections.abc import Container, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from stage.authority import Authority, Certificate
from stage.listeners import Connection, Listener, Request

NOBODY: Mapping[str, str] = MappingProxyType({})
JSON = {"Content-Type": "application/json"}


class TokenServer:
    """Gives tokens to ``users`` (name → password) for everything, to anyone for pulling ``public`` repositories.

    May be told, at any time: ``refuse`` = a status for every request; ``harbor`` = a token without rights
    in place of a refusal (the default: distribution's own server does the same), else 401; ``post`` =
    whether the OAuth2 form is understood (404 if not); ``lifetime`` of a token in seconds.
    ``requests`` is all that was asked.
    """

    def __init__(
        self,
        *,
        address: str = "10.99.0.4",
        port: int = 443,
        name: str = "auth.example",
        service: str = "registry.example",
        users: Mapping[str, str] = NOBODY,
        public: Container[str] = (),
        certificate: Certificate | None = None,
    ) -> None:
        self.users, self.public = dict(users), public
        self.refuse: int | None = None
        self.harbor, self.post, self.lifetime = True, True, 300
        self.requests: list[Request] = []
        self.authority = Authority("Stage Token CA")
        self._signer = self.authority.issue("token-signer")
        scheme = "https" if certificate else "http"
        default = 443 if certificate else 80
        self.realm = f"{scheme}://{name}{'' if port == default else f':{port}'}/token"
        self.settings: dict[str, object] = {"realm": self.realm, "service": service, "issuer": "stage"}
        self._listener = Listener(address, port, self._serve, certificate)

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.__exit__(kind, error, at)

    def sign(self, user: str, access: list[dict[str, object]]) -> str:
        """A token that says so, whoever asks: for what no honest server would give."""
        now = int(time.time())
        claims = {
            "iss": "stage", "sub": user, "aud": self.settings["service"], "jti": secrets.token_hex(8),
            "iat": now, "nbf": now - 10, "exp": now + self.lifetime, "access": access,
        }  # fmt: skip
        der = x509.load_pem_x509_certificate(self._signer.cert_pem).public_bytes(Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        return (signed + b"." + _encoded(_signature(self._signer, signed))).decode()

    def _serve(self, connection: Connection) -> None:
        while True:
            request = connection.request()
            self.requests.append(request)
            status, document = self._answer(request)
            connection.reply(status, JSON, json.dumps(document).encode())

    def _answer(self, request: Request) -> tuple[int, Mapping[str, object]]:
        if self.refuse is not None:
            return self.refuse, _error("DENIED", "told to refuse")
        if request.method == "POST":
            return self._answer_form(request.form) if self.post else (404, {})
        user, password = _basic(request.headers.get("authorization", ""))
        if user and self.users.get(user) != password:
            return 401, _error("UNAUTHORIZED", "incorrect username or password")
        return self._grant(user, request.query.get("scope", []), "token")

    def _answer_form(self, form: Mapping[str, list[str]]) -> tuple[int, Mapping[str, object]]:
        user, password = form.get("username", [""])[0], form.get("password", [""])[0]
        if not user or self.users.get(user) != password:
            return 401, _error("UNAUTHORIZED", "incorrect username or password")
        return self._grant(user, " ".join(form.get("scope", [])).split(), "access_token")

    def _grant(self, user: str, scopes: list[str], key: str) -> tuple[int, Mapping[str, object]]:
        access = [grant for scope in scopes if (grant := self._granted(user, scope))]
        if scopes and not access and not self.harbor:
            return 401, _error("DENIED", "requested access to the resource is denied")
        return 200, {key: self.sign(user, access), "expires_in": self.lifetime}

    def _granted(self, user: str, scope: str) -> dict[str, object] | None:
        kind, name, actions = [*scope.split(":"), "", ""][:3]
        allowed = [action for action in actions.split(",") if user or (action == "pull" and name in self.public)]
        return {"type": kind, "name": name, "actions": allowed} if allowed else None


def _basic(header: str) -> tuple[str, str]:
    user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return user, password


def _error(code: str, message: str) -> dict[str, object]:
    return {"errors": [{"code": code, "message": message}]}


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _signature(signer: Certificate, data: bytes) -> bytes:
    key = load_pem_private_key(signer.key_pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("tokens are signed by elliptic curve keys")
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
