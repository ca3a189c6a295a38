"""One registry host, asked for one image as containerd asks for it.

Facts: containerd remotes/docker/{resolver,fetcher}.go: HEAD of the manifest with the Accept header of
`agent.registry.manifests`, a GET where HEAD is not allowed or tells no digest, ``ns=`` at a host that is
not the registry's own, blobs by GET and up to ten redirects.
"""

import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote as percent

from agent.causes import Cause
from agent.model import Credential, Fault, ImageRef
from agent.registry import challenges, limits, manifests
from agent.registry.answers import Phase
from agent.registry.challenges import Challenge
from agent.registry.hosts import Host, is_namespace
from agent.registry.limits import Limits
from agent.registry.manifests import MANIFEST_LIMIT, Config, Descriptor, Index, Manifest
from agent.registry.messages import Request, Response, Url
from agent.registry.platforms import Platform, choose
from agent.registry.session import Fields, Opener, Session
from agent.registry.stream import EVERYTHING, Take

__all__ = ["Client", "Opener", "Reached", "Resolved"]

_DEEPEST_INDEX = 4
HEADERS = Take(body=False)
_TOTAL = re.compile(r"bytes 0-0/(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name stands for at this host, and the pulls that it still grants."""

    descriptor: Descriptor
    limits: Limits


@dataclass(frozen=True, slots=True)
class Reached:
    """A blob that can be had: from which host (the last of the redirects), and its bytes as told there."""

    host: str
    size: int | None


class Client:
    """Asks ``host`` for images of the registry ``namespace``; ``agent`` is the User-Agent.

    ``open`` gives a connection to (scheme, host, port), with TLS done and the certificate judged; it is
    asked too for token servers and the hosts of redirects. ``limit`` is the seconds one request may
    take. The token is kept for this client's life. Use as an async context manager, or `close`.
    """

    def __init__(
        self,
        host: Host,
        namespace: str,
        open: Opener,  # noqa: A002 - the verb is the best name
        agent: str,
        *,
        credential: Credential | None = None,
        limit: float = 30.0,
    ) -> None:
        self.host = host
        self._namespace = namespace
        self._session = Session(open, agent, credential, limit)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes every connection and forgets the token."""
        await self._session.close()

    async def ping(self) -> Challenge | None:
        """Asks ``/v2/``: None where nothing is to be shown, else how to ask for a token.

        Raises Fault for any other answer; a mirror with a path of its own may well have no ``/v2/``.
        """
        url, response = await self._or_in_clear(lambda: self._session.ask_bare(self._request("GET", "/")))
        found = challenges.read(response.headers) if response.status == 401 else ()
        if not found:
            self._expect_success(Phase.PING, url, response)
        return found[0] if found else None

    async def authorize(self, challenge: Challenge, ref: ImageRef) -> None:
        """Gets the token to pull ``ref``. Raises Fault as `agent.registry.auth.authorize`."""
        await self._session.authorize(challenge, _scopes(ref))

    async def head_manifest(self, ref: ImageRef) -> Resolved:
        """What ``ref`` stands for, by HEAD; a GET follows where HEAD tells no digest or size, or no reason.

        Raises Fault; the reason of a refusal is worth a GET, because a refused one is not counted as a pull.
        """
        url, response = await self._manifest("HEAD", ref, manifests.ACCEPT)
        if response.status in {400, 401, 403, 404, 412}:
            raise await self._reason(ref, url, response)
        if response.status == 405:
            return await self._resolved_by_get(ref)
        self._expect_success(_phase(ref), url, response)
        descriptor = _described(ref, response)
        return Resolved(descriptor, limits.read(response.headers)) if descriptor else await self._resolved_by_get(ref)

    async def get_manifest(self, ref: ImageRef, descriptor: Descriptor | None = None) -> Manifest | Index:
        """The manifest or index of ``ref``, or of ``descriptor`` in its repository, its digest checked.

        Raises Fault: as `head_manifest`, REGISTRY_CONTENT_CORRUPT, UNSUPPORTED_MANIFEST, REGISTRY_ERROR.
        """
        wanted = ref.at(descriptor.digest) if descriptor else ref
        response, body = await self._fetched_manifest(wanted, f"{descriptor.media_type}, */*" if descriptor else None)
        media_type = descriptor.media_type if descriptor else response.media_type
        return manifests.parse(body, media_type, wanted.digest or manifests.digest_of(body))

    async def manifest(self, ref: ImageRef, descriptor: Descriptor | None, node: Platform) -> Manifest:
        """As `get_manifest`, down to the one manifest that a node of platform ``node`` takes.

        Raises Fault also for PLATFORM_MISMATCH. An image without index is not checked for its platform.
        """
        for _ in range(_DEEPEST_INDEX):
            found = await self.get_manifest(ref, descriptor)
            if isinstance(found, Manifest):
                return found
            descriptor = choose(found.manifests, node)
        raise Fault(Cause.UNSUPPORTED_MANIFEST, f"{ref}: an index within an index more than {_DEEPEST_INDEX} deep")

    async def get_config(self, ref: ImageRef, descriptor: Descriptor) -> Config:
        """The config of an image, its digest checked. Raises Fault as `reach_blob` and `get_manifest`."""
        most = min(descriptor.size, MANIFEST_LIMIT)
        path = f"/{ref.path}/blobs/{descriptor.digest}"
        url, response = await self._ask("GET", path, ref, Phase.BLOB, take=Take(max(most, 4096)))
        self._expect_blob(descriptor, url, response)
        manifests.check_digest(_plain(response, MANIFEST_LIMIT), descriptor.digest)
        return manifests.parse_config(_plain(response, MANIFEST_LIMIT))

    async def reach_blob(self, ref: ImageRef, descriptor: Descriptor) -> Reached:
        """Whether a blob can be had, by a GET of its first byte at the place where a pull would get it.

        Not by HEAD: many registries answer that themselves and redirect only a GET, and signed URLs hold
        for one method. Raises Fault: BLOB_FORBIDDEN, REGISTRY_CONTENT_CORRUPT (missing, or another size
        than the manifest says), and those of the way there.
        """
        path, field = f"/{ref.path}/blobs/{descriptor.digest}", ("Range", "bytes=0-0")
        url, response = await self._ask("GET", path, ref, Phase.BLOB, fields=(field,), take=HEADERS)
        if response.status == 416 and descriptor.size == 0:
            return Reached(url.authority, 0)
        self._expect_blob(descriptor, url, response)
        size = _size_told(response)
        if size is not None and size != descriptor.size:
            detail = f"{descriptor.digest} has {size} bytes at {url.authority}, the manifest says {descriptor.size}"
            raise Fault(Cause.REGISTRY_CONTENT_CORRUPT, detail, {"url": url.shown, "found": str(size)})
        return Reached(url.authority, size)

    async def download(self, ref: ImageRef, most: int, sink: Callable[[bytes], None], *, is_manifest: bool) -> None:
        """Gives the bytes of the manifest or blob ``ref.digest`` to ``sink``, unchecked, from where a pull gets them.

        Raises Fault as `get_manifest` and `reach_blob`; what ``sink`` was given until then is worth nothing.
        """
        kind, phase = ("manifests", Phase.DIGEST) if is_manifest else ("blobs", Phase.BLOB)
        fields = (("Accept", manifests.ACCEPT),) if is_manifest else ()
        request = self._request("GET", f"/{ref.path}/{kind}/{ref.digest}", fields)
        take = Take(most, sink=sink)
        url, response = await self._or_in_clear(lambda: self._session.ask(request, _scopes(ref), phase, take))
        if is_manifest:
            self._expect_success(phase, url, response)
        else:
            self._expect_blob(Descriptor("", ref.target, most), url, response)

    async def _reason(self, ref: ImageRef, url: Url, refused: Response) -> Fault:
        """Why a HEAD was refused; itself, where a GET is not, since containerd stops at the HEAD."""
        got, response = await self._manifest("GET", ref, manifests.ACCEPT)
        if response.status < 400:
            return self._session.refusal(_phase(ref), url, refused)
        return self._session.refusal(_phase(ref), got, response)

    async def _resolved_by_get(self, ref: ImageRef) -> Resolved:
        response, body = await self._fetched_manifest(ref, None)
        digest = ref.digest or manifests.digest_of(body)
        return Resolved(Descriptor(response.media_type, digest, len(body)), limits.read(response.headers))

    async def _fetched_manifest(self, ref: ImageRef, accept: str | None) -> tuple[Response, bytes]:
        url, response = await self._manifest("GET", ref, accept or manifests.ACCEPT)
        self._expect_success(_phase(ref), url, response)
        body = _plain(response, MANIFEST_LIMIT)
        told = response.headers.get("docker-content-digest")
        if response.media_type != "text/html" and (digest := ref.digest or (told if manifests.is_digest(told) else "")):
            manifests.check_digest(body, digest)
        return response, body

    async def _manifest(self, method: str, ref: ImageRef, accept: str) -> tuple[Url, Response]:
        path, field = f"/{ref.path}/manifests/{ref.target}", ("Accept", accept)
        return await self._ask(method, path, ref, _phase(ref), fields=(field,), take=Take(MANIFEST_LIMIT))

    async def _ask(
        self, method: str, path: str, ref: ImageRef, phase: Phase, *, fields: Fields = (), take: Take = EVERYTHING
    ) -> tuple[Url, Response]:
        return await self._or_in_clear(
            lambda: self._session.ask(self._request(method, path, fields), _scopes(ref), phase, take)
        )

    async def _or_in_clear(self, ask: Callable[[], Awaitable[tuple[Url, Response]]]) -> tuple[Url, Response]:
        """Once more over plain HTTP, where containerd would fall back to it; that is remembered."""
        try:
            return await ask()
        except Fault as fault:
            if self._session.home or not self.host.falls_back(fault):
                raise
        self.host = self.host.in_clear()
        return await ask()

    def _request(self, method: str, path: str, fields: Fields = ()) -> Request:
        query = f"?ns={percent(self._namespace, safe='')}" if is_namespace(self.host, self._namespace) else ""
        own = "" if self.host.path == "/" else self.host.path
        url = Url(self.host.scheme, self.host.host, self.host.port, own + path + query)
        return Request(method, url, (*self.host.headers, *fields))

    def _expect_success(self, phase: Phase, url: Url, response: Response) -> None:
        if not 200 <= response.status < 300:
            raise self._session.refusal(phase, url, response)
        if response.media_type == "text/html":
            detail = f"{url.authority} answered with an HTML page: a login page or a proxy, not a registry"
            raise Fault(Cause.REGISTRY_ERROR, detail, {"url": url.shown, "status": str(response.status)})

    def _expect_blob(self, descriptor: Descriptor, url: Url, response: Response) -> None:
        """A blob host that is not the registry refuses with whatever it likes: storage has no error codes of ours."""
        if 200 <= response.status < 300:
            return
        fault = self._session.refusal(Phase.BLOB, url, response)
        if response.status == 404:
            detail = f"the manifest names {descriptor.digest}, which {url.authority} does not have"
            raise Fault(Cause.REGISTRY_CONTENT_CORRUPT, detail, fault.evidence)
        if response.status in {401, 403} and url.host != self.host.host:
            raise Fault(Cause.BLOB_FORBIDDEN, fault.detail, fault.evidence)
        raise fault


def _scopes(ref: ImageRef) -> tuple[str, ...]:
    """The image's own path, also at a mirror; the mirror's challenge adds its own."""
    return (f"repository:{ref.path}:pull",)


def _phase(ref: ImageRef) -> Phase:
    return Phase.DIGEST if ref.digest else Phase.TAG


def _described(ref: ImageRef, response: Response) -> Descriptor | None:
    """None where the headers do not tell digest and size; a digest that was asked for is believed."""
    digest = ref.digest or response.headers.get("docker-content-digest")
    size = response.headers.get("content-length")
    if not manifests.is_digest(digest) or not re.fullmatch(r"[0-9]{1,18}", size):
        return None
    return Descriptor(response.media_type, digest, int(size))


def _size_told(response: Response) -> int | None:
    """The whole size of a blob, from the answer to a GET of its first byte."""
    if match := _TOTAL.fullmatch(response.headers.get("content-range").strip()):
        return int(match[1])
    told = response.headers.get("content-length")
    is_whole = response.status == 200 and not response.headers.get("content-encoding")
    return int(told) if is_whole and re.fullmatch(r"[0-9]{1,18}", told) else None


def _plain(response: Response, most: int) -> bytes:
    """The body, unpacked where the server packs it though asked not to. Raises Fault(REGISTRY_ERROR)."""
    if response.headers.get("content-encoding").lower() != "gzip":
        return response.body
    try:
        unpacker = zlib.decompressobj(wbits=31)
        body = unpacker.decompress(response.body, most + 1)
    except zlib.error as error:
        raise Fault(Cause.REGISTRY_ERROR, "the registry sent a body that is not the gzip it says") from error
    if len(body) > most:
        raise Fault(Cause.REGISTRY_ERROR, f"the registry sent more than {most} bytes, packed")
    return body
