"""Requests to one registry host and wherever it sends us: connections kept, redirects, token, secrets masked.

Facts: containerd remotes/docker/{resolver,authorizer,fetcher}.go: only a 401 starts the token dance, a
second one ends it; up to ten redirects; a kept connection that turns out closed is opened once more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from agent.causes import Cause
from agent.model import Credential, Fault
from agent.quoting import mask
from agent.registry import answers, auth, challenges, redirects
from agent.registry.answers import Phase
from agent.registry.auth import Authorization
from agent.registry.challenges import Challenge
from agent.registry.messages import Request, Response, Url
from agent.registry.stream import BODY_LIMIT, EVERYTHING, Stream, Take

Opener = Callable[[str, str, int], Awaitable[Stream]]
Fields = tuple[tuple[str, str], ...]
_Origin = tuple[str, str, int]
_TOKEN = Take(most=BODY_LIMIT * 4)


class Session:
    """See the module. ``limit`` is the seconds that one request may take, connecting not counted.

    ``open`` gives a connection to (scheme, host, port), TLS done and judged; its Faults pass through.
    Use as an async context manager, or `close`.
    """

    def __init__(self, open: Opener, agent: str, credential: Credential | None, limit: float) -> None:  # noqa: A002 - a verb
        self.credential = auth.usable(credential)
        self.home = ""
        self._open = open
        self._agent = agent
        self._limit = limit
        self._streams: dict[_Origin, Stream] = {}
        self._authorization: Authorization | None = None
        self._expires = 0.0

    async def close(self) -> None:
        """Closes every connection and forgets the token."""
        self._authorization = None
        for stream in self._streams.values():
            await stream.close()
        self._streams.clear()

    async def ask(
        self, request: Request, scopes: Iterable[str], phase: Phase, take: Take = EVERYTHING
    ) -> tuple[Url, Response]:
        """The answer, good or bad, and the URL that gave it; after the token dance and redirects if need be.

        Raises Fault for what goes wrong on the way, and where the registry refuses the token that it gave itself.
        """
        try:
            url, response = await self._follow(self._signed(request), take)
            if response.status == 401 and url.origin == request.url.origin:
                await self._answer_challenge(url, response, scopes, phase)
                url, response = await self._follow(self._signed(request), take)
        except Fault as fault:
            raise self.masked(fault) from fault.__cause__
        return url, response

    async def ask_bare(self, request: Request) -> tuple[Url, Response]:
        """As `ask`, without token."""
        try:
            return await self._follow(request, EVERYTHING)
        except Fault as fault:
            raise self.masked(fault) from fault.__cause__

    async def authorize(self, challenge: Challenge, scopes: Iterable[str]) -> None:
        """Gets a token and keeps it for as long as it lives. Raises Fault as `agent.registry.auth.authorize`."""
        try:
            self._keep(await self._dance(auth.authorize(challenge, scopes, self.credential, self.home)))
        except Fault as fault:
            raise self.masked(fault) from fault.__cause__

    def masked(self, fault: Fault) -> Fault:
        """The same without our secrets, should the other side have repeated them."""
        shown = self._authorization.value.partition(" ")[2] if self._authorization else ""
        secrets = (
            (shown, self.credential.password, auth.basic_value(self.credential)[6:]) if self.credential else (shown,)
        )
        evidence = {key: mask(value, secrets) for key, value in fault.evidence.items()}
        return Fault(fault.cause, mask(fault.detail, secrets), evidence)

    def refusal(self, phase: Phase, url: Url, response: Response) -> Fault:
        """What a bad answer means, given what this session has shown so far."""
        shown = self.credential is not None and self._authorization is not None
        return self.masked(answers.fault(phase, url, response, authenticated=shown))

    def _keep(self, authorization: Authorization) -> None:
        self._authorization = authorization
        self._expires = asyncio.get_running_loop().time() + authorization.lifetime

    def _signed(self, request: Request) -> Request:
        if self._authorization is None or asyncio.get_running_loop().time() >= self._expires:
            return request
        signature = ("Authorization", self._authorization.value)
        return Request(request.method, request.url, (*request.headers, signature), request.body)

    async def _answer_challenge(self, url: Url, response: Response, scopes: Iterable[str], phase: Phase) -> None:
        """A token that already covers what is wanted has been refused: asking for it again would change nothing."""
        found = challenges.read(response.headers)
        if not found:
            raise self.refusal(phase, url, response)
        wanted = frozenset(scopes) | found[0].scopes
        alive = self._authorization is not None and asyncio.get_running_loop().time() < self._expires
        if alive and self._authorization and wanted <= self._authorization.scopes:
            raise self.refusal(phase, url, response)
        self._keep(await self._dance(auth.authorize(found[0], wanted, self.credential, self.home)))

    async def _dance(self, dance: auth.Dance) -> Authorization:
        try:
            request = next(dance)
            while True:
                request = dance.send(await self._token_answer(request))
        except StopIteration as stop:
            authorization: Authorization = stop.value
            return authorization

    async def _token_answer(self, request: Request) -> Response:
        """Credentials are not carried to where a token server redirects, unless that is itself."""
        response = await self._send(request, _TOKEN)
        if not redirects.is_redirect(response):
            return response
        aim = redirects.target(response, request.url, frozenset({str(request.url)}), self.home)
        if aim.origin != request.url.origin and (self.credential or aim.scheme != request.url.scheme):
            detail = (
                f"the token server {request.url.authority} redirects to {aim.shown}, where credentials do not follow"
            )
            raise Fault(Cause.REGISTRY_ERROR, detail, {"url": aim.shown})
        _, answer = await self._follow(_moved(request, aim), _TOKEN)
        return answer

    async def _follow(self, request: Request, take: Take) -> tuple[Url, Response]:
        seen = frozenset({str(request.url)})
        response = await self._send(request, take)
        while redirects.is_redirect(response):
            aim = redirects.target(response, request.url, seen, self.home)
            seen |= {str(aim)}
            request = _moved(request, aim)
            response = await self._send(request, take)
        return request.url, response

    async def _send(self, request: Request, take: Take) -> Response:
        request = Request(
            request.method,
            request.url,
            (("User-Agent", self._agent), ("Accept-Encoding", "identity"), *request.headers),
            request.body,
        )
        kept = self._streams.pop(request.url.origin, None)
        if kept is not None and kept.reusable:
            try:
                return await self._over(kept, request, take)
            except Fault as fault:
                is_stale = fault.cause is Cause.CONNECTION_INTERRUPTED and "timeout" not in fault.evidence
                if kept.answered or not is_stale:
                    raise
        return await self._over(await self._connection(request.url), request, take)

    async def _over(self, stream: Stream, request: Request, take: Take) -> Response:
        response = await stream.request(request, self._limit, take)
        if request.url.origin in self._streams:  # requests side by side: one spare connection is enough
            await stream.close()
        elif stream.reusable:
            self._streams[request.url.origin] = stream
        return response

    async def _connection(self, url: Url) -> Stream:
        """The first one tells where the registry itself is; a name must not lead the others to worse places."""
        stream = await self._open(url.scheme, url.host, url.port)
        try:
            if not self.home:
                self.home = url.host if stream.via_proxy else stream.address
            elif not stream.via_proxy:
                redirects.guard_address(url, redirects.kind_of(stream.address), self.home)
        except Fault:
            await stream.close()
            raise
        return stream


def _moved(request: Request, aim: Url) -> Request:
    """The request at its new place: an Authorization stays with its origin, and a POST does too or becomes a GET."""
    stays = aim.origin == request.url.origin
    headers = tuple((name, value) for name, value in request.headers if stays or name.lower() not in _PRIVATE)
    if request.method == "POST" and not stays:
        return Request("GET", aim, headers)
    return Request(request.method, aim, headers, request.body)


_PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization"})
