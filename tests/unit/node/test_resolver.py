"""Lookups against name servers that answer, lie, cut, refuse, or say nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from agent.causes import Cause
from agent.model import Fault
from agent.node.resolvconf import NameOrder, ResolvConf, parse_hosts
from agent.node.resolver import Resolver, read_resolver
from agent.node.roots import HostRoot
from tests.unit.node.scripted_dns import Script, ScriptedDns, zone

NAME = "registry.example"
GOOD = zone(registry_example=("10.0.0.1", "10.0.0.2", "fd00::1"))


def _always(word: str) -> Script:
    return lambda _name, _record: word


@asynccontextmanager
async def _node(
    *scripts: Script | None, conf: ResolvConf | None = None
) -> AsyncIterator[tuple[Resolver, list[ScriptedDns]]]:
    """A resolver with one server per script, at 127.0.0.1, 127.0.0.2, …; None: nothing listens there."""
    base = conf or ResolvConf(attempts=1)
    addresses = tuple(f"127.0.0.{number}" for number, _ in enumerate(scripts, start=1))
    async with AsyncExitStack() as stack:
        port, servers = 0, []
        for address, script in zip(addresses, scripts, strict=True):
            if script is None:
                continue
            server = await stack.enter_async_context(ScriptedDns(script, address, port))
            port = server.port
            servers.append(server)
        options = {field: getattr(base, field) for field in base.__slots__ if field != "servers"}
        yield Resolver(ResolvConf(servers=addresses, **options), port=port or 1), servers


async def _cause(resolver: Resolver, limit: float = 0.5) -> Fault:
    with pytest.raises(Fault) as caught:
        await resolver.resolve(NAME, limit)
    return caught.value


async def test_both_families_are_asked_and_kept_in_the_order_of_the_answer() -> None:
    async with _node(GOOD) as (resolver, servers):
        found = await resolver.resolve(NAME, 5)
        assert found.addresses == ("10.0.0.1", "10.0.0.2", "fd00::1")
        assert (found.source, found.remarks) == ("dns", ())
        assert sorted(servers[0].asked) == [("udp", f"{NAME}.", "A"), ("udp", f"{NAME}.", "AAAA")]
        assert [(answer.record, answer.outcome) for answer in found.answers] == [("A", "NOERROR"), ("AAAA", "NOERROR")]
        assert found.answers[0].server == f"127.0.0.1:{servers[0].port}"


async def test_one_family_is_enough() -> None:
    async with _node(zone(registry_example=("10.0.0.1",))) as (resolver, _):
        found = await resolver.resolve(NAME, 5)
    assert found.addresses == ("10.0.0.1",)
    assert [answer.outcome for answer in found.answers] == ["NOERROR", "NODATA"]
    assert found.remarks == ()


@pytest.mark.parametrize(("script", "words"), [(zone(), "no such name"), (_always("NODATA"), "no address")])
async def test_a_negative_answer_is_not_found(script: Script, words: str) -> None:
    async with _node(script) as (resolver, servers):
        fault = await _cause(resolver)
    assert fault.cause is Cause.DNS_NOT_FOUND
    assert words in fault.detail
    assert f"127.0.0.1:{servers[0].port}" in fault.detail


@pytest.mark.parametrize("word", ["SERVFAIL", "REFUSED", "lame"])
async def test_a_server_that_does_not_answer_the_question_is_a_failure(word: str) -> None:
    async with _node(_always(word)) as (resolver, _):
        fault = await _cause(resolver)
    assert fault.cause is Cause.DNS_FAILURE
    assert word in fault.detail
    assert any(word in outcome for outcome in fault.evidence.values())


async def test_silence_is_a_failure_within_the_limit() -> None:
    async with _node(_always("drop"), conf=ResolvConf(attempts=2)) as (resolver, servers):
        began = time.monotonic()
        fault = await _cause(resolver, limit=0.4)
        assert 0.35 < time.monotonic() - began < 1.0
        assert len(servers[0].asked) == 4
    assert fault.cause is Cause.DNS_FAILURE
    assert "no reply in 0.4 s" in fault.detail


async def test_a_closed_port_is_heard_at_once() -> None:
    async with _node(None) as (resolver, _):
        began = time.monotonic()
        fault = await _cause(resolver, limit=5)
    assert time.monotonic() - began < 1
    assert fault.cause is Cause.DNS_FAILURE
    assert "connection refused: nothing listens there" in fault.detail


@pytest.mark.parametrize("word", ["garbage", "foreign"])
async def test_what_is_no_answer_to_the_question_is_passed_over_and_counted(word: str) -> None:
    async with _node(_always(word)) as (resolver, _):
        fault = await _cause(resolver, limit=0.3)
    assert fault.cause is Cause.DNS_FAILURE
    assert "unreadable or foreign datagrams" in fault.detail


async def test_a_cut_answer_is_fetched_over_tcp() -> None:
    async with _node(lambda _name, record: "truncated" if record == "A" else "NODATA") as (resolver, servers):
        found = await resolver.resolve(NAME, 5)
        assert ("tcp", f"{NAME}.", "A") in servers[0].asked
    assert found.addresses == ("10.9.9.9",)


async def test_a_cut_answer_whose_tcp_is_blocked_is_a_failure_that_says_so() -> None:
    async with _node(_always("truncated")) as (resolver, servers):
        servers[0]._server.close()
        await servers[0]._server.wait_closed()
        fault = await _cause(resolver, limit=2)
    assert fault.cause is Cause.DNS_FAILURE
    assert "over TCP: connection refused" in fault.detail


async def test_resolv_conf_can_ask_for_tcp_only() -> None:
    async with _node(GOOD, conf=ResolvConf(use_tcp=True)) as (resolver, servers):
        assert (await resolver.resolve(NAME, 5)).addresses
        assert {transport for transport, _, _ in servers[0].asked} == {"tcp"}


async def test_a_swallowed_aaaa_does_not_hide_the_a_record() -> None:
    async with _node(lambda _name, record: ("10.0.0.1",) if record == "A" else "drop") as (resolver, servers):
        found = await resolver.resolve(NAME, 0.4)
    assert found.addresses == ("10.0.0.1",)
    assert found.seconds > 0.35
    assert found.remarks == (f"name server 127.0.0.1:{servers[0].port} fails for AAAA: no reply in 0.4 s",)


@pytest.mark.parametrize("word", ["SERVFAIL", "REFUSED", "drop"])
async def test_a_bad_first_server_is_remarked_on_and_the_second_one_believed(word: str) -> None:
    async with _node(_always(word), GOOD) as (resolver, servers):
        found = await resolver.resolve(NAME, 0.4)
    assert found.addresses == ("10.0.0.1", "10.0.0.2", "fd00::1")
    (remark,) = found.remarks
    assert remark.startswith(f"name server 127.0.0.1:{servers[0].port} fails: ")


async def test_a_slow_server_is_waited_for_when_go_would_ask_it() -> None:
    async with _node(_always("SERVFAIL"), GOOD, conf=ResolvConf()) as (resolver, servers):
        servers[1].delay = 1.3
        found = await resolver.resolve(NAME, 30)
    assert len(found.addresses) == 3


async def test_a_dead_second_server_is_seen_without_a_long_wait() -> None:
    async with _node(GOOD, _always("drop"), conf=ResolvConf()) as (resolver, _):
        found = await resolver.resolve(NAME, 30)
    assert found.addresses
    assert found.seconds < 1.5
    assert "127.0.0.2" in found.remarks[0]


async def test_go_believes_a_first_server_that_knows_no_such_name() -> None:
    async with _node(zone(), GOOD) as (resolver, servers):
        fault = await _cause(resolver)
    assert fault.cause is Cause.DNS_NOT_FOUND
    assert f"127.0.0.2:{servers[1].port} knows it" in fault.detail


async def test_a_second_server_that_knows_no_such_name_is_remarked_on() -> None:
    async with _node(GOOD, zone()) as (resolver, _):
        found = await resolver.resolve(NAME, 5)
    assert "does not know the name" in found.remarks[0]


async def test_no_address_and_a_failure_is_a_failure() -> None:
    async with _node(lambda _name, record: "NODATA" if record == "A" else "SERVFAIL") as (resolver, _):
        assert (await _cause(resolver)).cause is Cause.DNS_FAILURE


async def test_the_search_list_is_walked_by_the_dots_of_the_name() -> None:
    conf = ResolvConf(search=("corp.example.", "other."), ndots=2, attempts=1)
    async with _node(zone(registry_example_other=("10.0.0.7",)), conf=conf) as (resolver, servers):
        found = await resolver.resolve(NAME, 5)
        names = list(dict.fromkeys(name for _, name, _ in servers[0].asked))
    assert found.addresses == ("10.0.0.7",)
    assert names == ["registry.example.corp.example.", "registry.example.other."]
    assert found.remarks == ("found as registry.example.other. by the search list",)


@pytest.mark.parametrize("ndots", [1, 2])
async def test_the_error_of_the_name_itself_is_the_one_that_is_told(ndots: int) -> None:
    conf = ResolvConf(search=("corp.example.",), attempts=1, ndots=ndots)
    script: Script = lambda name, _record: "SERVFAIL" if name == f"{NAME}." else "NXDOMAIN"  # noqa: E731
    async with _node(script, conf=conf) as (resolver, _):
        fault = await _cause(resolver)
    assert fault.cause is Cause.DNS_FAILURE
    assert len(fault.evidence) == 4


async def test_single_request_asks_one_after_the_other() -> None:
    conf = ResolvConf(single_request=True, attempts=1)
    async with _node(lambda _name, record: "drop" if record == "A" else ("fd00::1",), conf=conf) as (resolver, servers):
        task = asyncio.create_task(resolver.resolve(NAME, 0.4))
        await asyncio.sleep(0.2)
        assert [record for _, _, record in servers[0].asked] == ["A"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_lookup_leaves_nothing_running() -> None:
    async with _node(_always("drop"), _always("drop")) as (resolver, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await resolver.resolve(NAME, 30)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("literal", ["10.1.2.3", "fd00::1", "fe80::1%eth0"])
async def test_an_address_is_not_looked_up(literal: str) -> None:
    found = await Resolver(ResolvConf(servers=("127.0.0.1",)), port=1).resolve(literal, 1)
    assert (found.addresses, found.source) == ((literal,), "literal")


async def test_the_hosts_file_comes_first_and_spares_the_question() -> None:
    resolver = Resolver(ResolvConf(), parse_hosts(f"10.0.0.5 {NAME}"), port=1)
    for name in (NAME, NAME.upper(), f"{NAME}."):
        found = await resolver.resolve(name, 1)
        assert (found.addresses, found.source, found.answers) == (("10.0.0.5",), "hosts", ())


async def test_nsswitch_can_put_the_hosts_file_last_or_leave_it_out() -> None:
    hosts = parse_hosts(f"10.0.0.5 {NAME}")
    conf = ResolvConf(servers=("127.0.0.1",))
    assert (await Resolver(conf, hosts, NameOrder(("dns", "files")), port=1).resolve(NAME, 1)).source == "hosts"
    with pytest.raises(Fault):
        await Resolver(conf, hosts, NameOrder(("dns",)), port=1).resolve(NAME, 1)
    with pytest.raises(Fault, match="is not a name that Go asks"):
        await Resolver(conf, {}, NameOrder(("files",)), port=1).resolve(NAME, 1)


async def test_the_files_of_the_host_are_read_below_its_root(tmp_path: Path) -> None:
    (tmp_path / "run/systemd").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to("/run/systemd/stub.conf")
    (tmp_path / "run/systemd/stub.conf").write_text("nameserver 127.0.0.53\noptions edns0 trust-ad\n")
    (tmp_path / "etc/hosts").write_text(f"10.0.0.5 {NAME}\n")
    (tmp_path / "etc/hostname").write_text("node1.corp.example\n")
    resolver = read_resolver(HostRoot(tmp_path))
    assert resolver.conf == ResolvConf(servers=("127.0.0.53",), search=("corp.example.",))
    assert (await resolver.resolve(NAME, 1)).addresses == ("10.0.0.5",)
    assert read_resolver(HostRoot(tmp_path / "run")).conf == ResolvConf()
