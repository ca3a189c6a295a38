"""Bring an image into a registry through the distribution API: what ``docker push`` does, in a hundred lines."""

import base64
import json
import re
import ssl
from dataclasses import dataclass, field
from email.message import Message
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urljoin
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from stage.images import Built
from stage.namespaces import StageError

Credentials = tuple[str, str]
_Reply = tuple[int, Message, bytes]
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def push(
    url: str,
    repository: str,
    tag: str,
    built: Built,
    *,
    credentials: Credentials | None = None,
    ca: bytes | None = None,
    context: ssl.SSLContext | None = None,
) -> str:
    """Push an image under a tag, blobs that are there already left out; gives its digest.

    Answers Basic and Bearer challenges. ``ca`` is a PEM to trust besides the system's; ``context`` replaces
    all of TLS. `StageError` with the registry's words when it refuses.
    """
    client = _Client(url, credentials, context or ssl.create_default_context(cadata=ca.decode() if ca else None))
    for digest, blob in built.blobs.items():
        _push_blob(client, repository, digest, blob)
    for child in built.children:
        _push_manifest(client, repository, child.digest, child)
    _push_manifest(client, repository, tag, built)
    return built.digest


@dataclass
class _Client:
    url: str
    credentials: Credentials | None
    context: ssl.SSLContext
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "application/octet-stream") -> _Reply:
        status, headers, text = self._once(method, path, body, kind)
        if status == 401:
            self.headers["Authorization"] = self._answer(headers.get("WWW-Authenticate", ""))
            status, headers, text = self._once(method, path, body, kind)
        if status >= 400 and method != "HEAD":
            raise StageError(f"{method} {urljoin(self.url, path)}: {status} {text.decode(errors='replace').strip()}")
        return status, headers, text

    def _once(self, method: str, path: str, body: bytes | None, kind: str) -> _Reply:
        headers = self.headers | ({"Content-Type": kind} if body is not None else {})
        return self._send(Request(urljoin(self.url, path), body, headers, method=method))  # noqa: S310 - our own URL

    def _send(self, request: Request) -> _Reply:
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=self.context))
        try:
            with opener.open(request, timeout=60) as reply:
                return reply.status, reply.headers, reply.read()
        except HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def _answer(self, challenge: str) -> str:
        if challenge.lower().startswith("basic"):
            return self._basic()
        asked = dict(_PARAMETER.findall(challenge))
        query = urlencode({name: asked[name] for name in ("service", "scope") if name in asked}, quote_via=quote)
        headers = {"Authorization": self._basic()} if self.credentials else {}
        status, _, text = self._send(Request(f"{asked['realm']}?{query}", headers=headers))  # noqa: S310 - as above
        if status != 200:
            raise StageError(f"no token from {asked['realm']}: {status} {text.decode(errors='replace').strip()}")
        return f"Bearer {json.loads(text)['token']}"

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(":".join(self.credentials or ("", "")).encode()).decode()


def _push_blob(client: _Client, repository: str, digest: str, blob: bytes) -> None:
    if client.call("HEAD", f"/v2/{repository}/blobs/{digest}")[0] == 200:
        return
    _, headers, _ = client.call("POST", f"/v2/{repository}/blobs/uploads/", b"")
    place = headers["Location"]
    client.call("PUT", f"{place}{'&' if '?' in place else '?'}{urlencode({'digest': digest})}", blob)


def _push_manifest(client: _Client, repository: str, reference: str, built: Built) -> None:
    client.call("PUT", f"/v2/{repository}/manifests/{reference}", built.manifest, built.media_type)
