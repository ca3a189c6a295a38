"""The stage's servers themselves: names, proxies and what misbehaves, met by containerd or a plain client."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.resolver
import pytest

from stage import hostile, proxies
from stage.authority import Authority
from stage.containerd import Containerd, PullError
from stage.hostile import Banner, Scripted
from stage.images import image, layer
from stage.names import HOSTS, Nameserver, Rule, ScriptedNameserver
from stage.namespaces import resolvers
from stage.processes import listens
from stage.proxies import Proxy, ScriptedProxy
from stage.registries import Registry

APP = image(layer({"bin/app": b"#!/bin/sh\n"}))
SECRET = ("robot", "s3cret")


def pull_error(containerd: Containerd, reference: str, *secret: str) -> str:
    with pytest.raises(PullError) as caught:
        containerd.pull(reference, *secret)
    return caught.value.text


class TestNames:
    def test_known_names_have_their_address_and_others_do_not_exist(self, nameserver: Nameserver) -> None:
        assert [str(each) for each in dns.resolver.resolve("registry.example")] == [HOSTS["registry.example"]]
        with pytest.raises(dns.resolver.NXDOMAIN):
            dns.resolver.resolve(f"nothing.{nameserver.address}.example")

    def test_names_come_and_go(self, nameserver: Nameserver) -> None:
        nameserver.add("new.example", "10.99.0.40")
        assert socket.gethostbyname("new.example") == "10.99.0.40"
        nameserver.remove("new.example")
        with pytest.raises(dns.resolver.NXDOMAIN):
            dns.resolver.resolve("new.example")

    @pytest.mark.parametrize(
        ("rule", "rcode"),
        [(Rule.SERVFAIL, "SERVFAIL"), (Rule.REFUSED, "REFUSED"), (Rule.NXDOMAIN, "NXDOMAIN"), (Rule.NODATA, "NOERROR")],
    )
    def test_the_scripted_server_fails_as_told(self, rule: Rule, rcode: str) -> None:
        with ScriptedNameserver({"registry.example": rule}) as server:
            answer = dns.query.udp(dns.message.make_query("registry.example", "A"), server.address, timeout=2)
        assert dns.rcode.to_text(answer.rcode()) == rcode
        assert not answer.answer
        assert server.queries == [("registry.example", "A", "udp")]

    def test_a_truncated_answer_is_whole_over_tcp(self) -> None:
        query = dns.message.make_query("registry.example", "A")
        with ScriptedNameserver({"registry.example": Rule.TRUNCATED}) as server:
            answer, by_tcp = dns.query.udp_with_fallback(query, server.address, timeout=2)
        assert by_tcp
        assert answer.answer
        assert [transport for _, _, transport in server.queries] == ["udp", "tcp"]

    @pytest.mark.parametrize(("rule", "kind"), [(Rule.DROP, "A"), (Rule.ONLY_A, "AAAA")])
    def test_a_dropped_query_times_out(self, rule: Rule, kind: str) -> None:
        query = dns.message.make_query("registry.example", kind)
        with ScriptedNameserver({"registry.example": rule}) as server, pytest.raises(dns.exception.Timeout):
            dns.query.udp(query, server.address, timeout=0.3)

    def test_containerd_meets_the_scripted_server(self, folder: Path) -> None:
        with ScriptedNameserver({"bad.example": Rule.SERVFAIL}) as server, resolvers(server.address):  # noqa: SIM117
            with Containerd(folder / "node") as own:
                assert "server misbehaving" in pull_error(own, "bad.example/app:1")
                assert "no such host" in pull_error(own, "none.example/app:1")


class TestProxies:
    def test_containerd_pulls_through_a_proxy(self, registry: Registry, authority: Authority, folder: Path) -> None:
        with Proxy(credentials=SECRET) as proxy, node_behind(proxy.url, registry, authority, folder) as own:
            assert own.pull(registry.push("stage/app", "1", APP)) == APP.id
            assert "CONNECT registry.example:443" in proxy.requests

    def test_a_proxy_asks_for_credentials(self, registry: Registry, authority: Authority, folder: Path) -> None:
        with Proxy(credentials=SECRET) as proxy:
            bare = f"http://{proxy.address}:{proxy.port}"
            with node_behind(bare, registry, authority, folder) as own:
                assert "Proxy Authentication Required" in pull_error(own, registry.push("stage/app", "1", APP))

    @pytest.mark.parametrize("options", [{"denied": [r"registry\.example"]}, {"ports": [8443]}])
    def test_a_proxy_refuses_hosts_and_ports(
        self, registry: Registry, authority: Authority, folder: Path, options: dict[str, list[str]]
    ) -> None:
        with Proxy(**options) as proxy, node_behind(proxy.url, registry, authority, folder) as own:  # type: ignore[arg-type] # one of two
            # tinyproxy's own reason phrases: Filtered, Access violation
            assert "failed to do request" in pull_error(own, registry.push("stage/app", "1", APP))
        assert connect_status(options) == 403

    @pytest.mark.parametrize(
        ("manner", "words"),
        [
            (proxies.hangs_up, "EOF"),
            (proxies.hangs_up_after_connect, "EOF"),
            (proxies.is_a_web_server, "Bad Request"),
            (proxies.is_no_http_server, "malformed HTTP"),
            (proxies.says(502), "Bad Gateway"),
        ],
    )
    def test_odd_proxies_fail_in_their_own_way(
        self, registry: Registry, authority: Authority, folder: Path, manner: proxies.Manner, words: str
    ) -> None:
        with ScriptedProxy(manner) as proxy, node_behind(proxy.url, registry, authority, folder) as own:
            assert words in pull_error(own, registry.push("stage/app", "1", APP))
        assert proxy.requests[0].target == "registry.example:443"


@contextmanager
def node_behind(proxy: str, registry: Registry, authority: Authority, folder: Path) -> Iterator[Containerd]:
    with Containerd(folder / "node", environment={"HTTPS_PROXY": proxy}) as own:
        own.trust(registry.name, authority.pem)
        yield own


def connect_status(options: dict[str, list[str]]) -> int:
    with Proxy(**options) as proxy, socket.create_connection((proxy.address, proxy.port), 5) as wire:  # type: ignore[arg-type] # as above
        wire.sendall(b"CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example:443\r\n\r\n")
        return int(wire.recv(1000).split()[1])


class TestHostile:
    def test_it_answers_by_route_and_keeps_what_it_was_asked(self) -> None:
        routes = {"GET /v2/": hostile.document({}), "/v2/*": hostile.error(403, "DENIED")}
        with Scripted(routes) as server:
            assert get(server, "/v2/").status == 200
            assert get(server, "/v2/app/tags/list?n=1").status == 403
            assert get(server, "/").status == 404
        assert server.asked() == ["GET /v2/", "GET /v2/app/tags/list", "GET /"]
        assert server.requests[1].query == {"n": ["1"]}

    def test_several_requests_go_over_one_connection(self) -> None:
        with Scripted({"/": hostile.in_turn(hostile.rate_limited("7"), hostile.reply())}) as server:
            client = HTTPConnection(server.address, server.port, timeout=2)
            first = get(server, "/", client=client)
            second = get(server, "/", client=client)
            client.close()
        assert (first.status, first.headers["Retry-After"], second.status) == (429, "7", 200)

    def test_containerd_pulls_what_it_serves(self, containerd: Containerd, authority: Authority) -> None:
        routes = hostile.serving("app", "1", APP)
        certificate = authority.issue("hostile.example")
        with Scripted(routes, certificate=certificate) as server:
            containerd.trust(server.name, authority.pem)
            assert containerd.pull(f"{server.name}/app:1") == APP.id
        containerd.distrust(server.name)

    def test_endless_answers_end_when_the_client_leaves(self) -> None:
        routes = {"/body": hostile.endless_body(), "/sized": hostile.endless_body(1 << 40)}
        with Scripted(routes | {"/headers": hostile.endless_headers()}) as server:
            assert len(get(server, "/body").body) == len(get(server, "/sized").body) == 1 << 20
            with pytest.raises(HTTPException):
                get(server, "/headers")

    def test_silence_slowness_and_hanging_up(self) -> None:
        routes = {"/never": hostile.never, "/drip": hostile.drip(), "/gone": hostile.hang_up, "/reset": hostile.reset}
        with Scripted(routes) as server:
            for path in ("/never", "/drip"):
                with pytest.raises(TimeoutError):
                    get(server, path, seconds=0.3)
            for path in ("/gone", "/reset"):
                with pytest.raises(ConnectionError):
                    get(server, path)

    def test_redirects_and_challenges_and_nesting(self) -> None:
        routes = {
            "/circle": hostile.redirect_circle(),
            "/inside": hostile.redirect(hostile.METADATA_SERVICE),
            "/who": hostile.challenge('Basic realm="a"', 'Bearer realm="https://auth.example/token"'),
            "/deep": hostile.nested_json(),
            "/page": hostile.login_page(),
        }
        with Scripted(routes) as server:
            assert get(server, "/circle").headers["Location"] == "/circle?turn=0"
            assert get(server, "/inside").headers["Location"].startswith("http://169.254.169.254/")
            assert len(get(server, "/who").headers.get_all("WWW-Authenticate") or []) == 2
            assert get(server, "/deep").body == b"[" * 10_000 + b"]" * 10_000
            assert get(server, "/page").headers["Content-Type"] == "text/html"

    def test_a_body_is_cut_short(self) -> None:
        with Scripted({"/": hostile.cut_short(b"half", 8)}) as server:
            answer = get(server, "/")
        assert (answer.body, answer.headers["Content-Length"]) == (b"half", "8")

    def test_a_banner_is_no_tls(self) -> None:
        context = ssl.create_default_context()
        with Banner() as banner:
            wire = socket.create_connection((banner.address, banner.port), 2)
            with wire, pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
                context.wrap_socket(wire, server_hostname="hostile.example")

    def test_a_clients_certificate_can_be_demanded(self, authority: Authority) -> None:
        context = ssl.create_default_context(cadata=authority.pem.decode())
        with Scripted({}, certificate=authority.issue("hostile.example"), client_ca=authority.pem) as server:
            wire = socket.create_connection((server.address, server.port), 2)
            secured = context.wrap_socket(wire, server_hostname="hostile.example")
            # In TLS 1.3 the client's handshake is over before the server has seen that no certificate came.
            with secured, pytest.raises((ssl.SSLError, ConnectionError)):
                secured.recv(1)

    def test_it_leaves_at_once_whatever_its_clients_do(self, authority: Authority) -> None:
        with Scripted({"/": hostile.never}) as server, Scripted({}, certificate=authority.issue("x")) as secure:
            waiting = socket.create_connection((server.address, server.port))
            waiting.sendall(b"GET / HTTP/1.1\r\n\r\n")
            idle = socket.create_connection((secure.address, secure.port))  # and no handshake
            time.sleep(0.05)
            began = time.monotonic()
        waiting.close()
        idle.close()
        assert time.monotonic() - began < 1
        assert not listens(server.address, server.port)


@dataclass(frozen=True, slots=True)
class Got:
    status: int
    headers: Message
    body: bytes


def get(server: Scripted, path: str, seconds: float = 5, client: HTTPConnection | None = None) -> Got:
    """What the server answers, the first MiB; over a connection of its own unless one is given."""
    own = client or HTTPConnection(server.address, server.port, timeout=seconds)
    try:
        own.request("GET", path)
        with own.getresponse() as response:
            return Got(response.status, response.headers, response.read(1 << 20))
    finally:
        if client is None:
            own.close()
