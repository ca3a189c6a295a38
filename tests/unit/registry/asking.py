"""A small scripted registry, and a client that asks it."""

import json

import pytest

from agent.model import Credential, Fault, ImageRef
from agent.registry.client import Client
from agent.registry.hosts import Host
from agent.registry.manifests import Descriptor, digest_of
from agent.registry.messages import Headers, Request, Response, Url
from agent.registry.platforms import Platform
from agent.registry.reference import parse
from agent.registry.session import Opener
from tests.unit.registry.scripted import LOCAL, Asked, Said, Scripted, open_plain

OCI, OCI_INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"


SOMEONE = Credential("someone", "hunter2")


AMD64 = Platform("linux", "amd64")


CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}).encode()


LAYER = b"layer" * 100


def described(body: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}


MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": OCI, "config": described(CONFIG, "c"), "layers": [described(LAYER, "l")]}
).encode()


INDEX = json.dumps({
    "schemaVersion": 2, "mediaType": OCI_INDEX,
    "manifests": [described(MANIFEST, OCI) | {"platform": {"os": "linux", "architecture": "amd64"}}],
}).encode()  # fmt: skip


BLOB = Descriptor("l", digest_of(LAYER), len(LAYER))


def manifest_said(body: bytes, media_type: str, *fields: tuple[str, str]) -> Said:
    return Said(200, body, (("Content-Type", media_type), ("Docker-Content-Digest", digest_of(body)), *fields))


def error(status: int, code: str, *fields: tuple[str, str]) -> Said:
    return Said(status, json.dumps({"errors": [{"code": code, "message": "m"}]}).encode(), fields)


def ref(server: Scripted, name: str = "a:1") -> ImageRef:
    return parse(f"{server.authority}/{name}")


def client(
    server: Scripted,
    namespace: str | None = None,
    credential: Credential | None = None,
    *,
    path: str = "/v2",
    opener: Opener = open_plain,
    limit: float = 5,
) -> Client:
    host = Host.at("http", server.authority, path)
    return Client(host, namespace or server.authority, opener, "node-agent/0", credential=credential, limit=limit)


async def refusal(server: Scripted, credential: Credential | None = None, *, limit: float = 5) -> Fault:
    async with client(server, credential=credential, limit=limit) as asking:
        with pytest.raises(Fault) as caught:
            await asking.head_manifest(ref(server))
    assert "hunter2" not in str(caught.value) + str(caught.value.evidence)
    return caught.value


def guarded(said: Said) -> Scripted:
    """A registry whose manifest wants a token of its own token server."""
    server = Scripted()

    def answer(asked: Asked) -> Said:
        if asked.headers.get("authorization") == "Bearer granted":
            return said
        realm = f'Bearer realm="http://{server.authority}/token",service="s",scope="repository:a:pull"'
        return Said(401, b"", (("WWW-Authenticate", realm),))

    server.script = {"/v2/a/manifests/1": answer, "/v2/": answer, f"/v2/a/blobs/{digest_of(LAYER)}": answer}
    server.script["/token"] = Said(200, b'{"access_token": "granted"}')
    return server


def response(status: int, body: object = None, *fields: tuple[str, str]) -> Response:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Response(status, Headers(fields), data)


def get(port: int, target: str = "/", scheme: str = "http") -> Request:
    return Request("GET", Url(scheme, LOCAL, port, target))
