"""The way to a registry: its name, and a connection to its address."""

import pytest

from stage.containerd import Containerd
from stage.images import image, layer
from stage.names import HOSTS, Rule, ScriptedNameserver
from stage.namespaces import RESOLVER, resolvers
from stage.registries import Registry
from tests.node.command import Agent, assert_fell, assert_ok

APP = image(layer({"bin/app": b"over the network"}))
QUICK = "options timeout:1 attempts:1\n"
DEAF = "10.99.0.59"  # an address where no name server listens


def test_an_address_where_nothing_listens_refuses(agent: Agent, registry: Registry) -> None:
    assert registry.program.running
    outcome = agent.diagnose("nobody.example/app:1")
    assert_fell(outcome, "connect_refused", "connect", "nobody.example")
    assert f"{HOSTS['nobody.example']}:443" in outcome.only["summary"]


def test_another_port_is_another_place(agent: Agent, registry: Registry) -> None:
    assert_fell(agent.diagnose(f"{registry.name}:5001/app:1"), "connect_refused", "connect", f"{registry.name}:5001")


def test_dropped_packets_end_with_the_deadline(agent: Agent) -> None:
    outcome = agent.diagnose("blackhole.example/app:1", timeout=1)
    assert_fell(outcome, "connect_timeout", "connect", "blackhole.example")
    assert 0.8 < outcome.only["seconds"] < 2
    assert 0.8 < outcome.fall["seconds"] < 2


def test_an_address_without_a_route_is_no_time_out_to_wait_for(agent: Agent) -> None:
    outcome = agent.diagnose("192.0.2.1/app:1")
    assert_fell(outcome, "connect_timeout", "connect", "192.0.2.1")
    assert "unreachable" in outcome.only["summary"]
    assert outcome.only["seconds"] < 1


def test_a_name_that_nobody_knows_is_not_found(agent: Agent) -> None:
    outcome = agent.diagnose("nonesuch.example/app:1")
    assert_fell(outcome, "dns_not_found", "dns", "nonesuch.example")
    assert "NXDOMAIN" in outcome.only["summary"]
    assert RESOLVER in outcome.only["summary"]


def test_what_is_no_name_at_all_is_not_found(agent: Agent) -> None:
    name = f"{'long' * 20}.example"  # a label has 63 characters at most
    assert_fell(agent.diagnose(f"{name}/app:1"), "dns_not_found", "dns", name)


@pytest.mark.parametrize(
    ("rule", "cause", "words"),
    [
        (Rule.NXDOMAIN, "dns_not_found", "NXDOMAIN"),
        (Rule.NODATA, "dns_not_found", "no address"),
        (Rule.SERVFAIL, "dns_failure", "SERVFAIL"),
        (Rule.REFUSED, "dns_failure", "REFUSED"),
        (Rule.DROP, "dns_failure", "no reply"),
        (Rule.GARBAGE, "dns_failure", "10.99.0.54"),
    ],
)
def test_each_failure_of_a_name_server_is_told(agent: Agent, rule: Rule, cause: str, words: str) -> None:
    with ScriptedNameserver({"registry.example": rule}) as server, resolvers(server.address, options=QUICK):
        outcome = agent.diagnose("registry.example/network/app:1")
    assert ("registry.example", "A", "udp") in server.queries
    assert_fell(outcome, cause, "dns", "registry.example")
    assert words in outcome.only["summary"]
    assert any(server.address in name for name in outcome.fall["evidence"])


def test_a_resolver_that_does_not_listen_is_a_failure(agent: Agent) -> None:
    with resolvers(DEAF, options=QUICK):
        outcome = agent.diagnose("registry.example/network/app:1")
    assert_fell(outcome, "dns_failure", "dns", "registry.example")
    assert DEAF in outcome.only["summary"]


def test_the_first_server_that_answers_is_believed_when_it_says_that_there_is_no_such_name(
    agent: Agent, registry: Registry
) -> None:
    reference = registry.push("network/app", "1", APP)
    with ScriptedNameserver({registry.name: Rule.NXDOMAIN}) as liar, resolvers(liar.address, RESOLVER, options=QUICK):
        assert_fell(agent.diagnose(reference), "dns_not_found", "dns", registry.name)


@pytest.mark.parametrize("rule", [Rule.SERVFAIL, Rule.REFUSED, Rule.DROP, Rule.GARBAGE])
@pytest.mark.parametrize("bad_first", [True, False])
def test_one_bad_server_of_two_is_named_though_the_image_can_be_pulled(
    agent: Agent, registry: Registry, rule: Rule, *, bad_first: bool
) -> None:
    reference = registry.push("network/app", "1", APP)
    with ScriptedNameserver({}, {}, default=rule) as server:
        order = (server.address, RESOLVER) if bad_first else (RESOLVER, server.address)
        with resolvers(*order, options=QUICK):
            outcome = agent.diagnose(reference)
    assert_ok(outcome)
    (dns,) = {step["detail"] for step in outcome.only["steps"] if step["step"] == "dns"}
    assert dns.startswith(HOSTS[registry.name])
    assert server.address in dns
    assert outcome.only["seconds"] < 3


@pytest.mark.parametrize("rule", [Rule.TRUNCATED, Rule.ONLY_A])
def test_odd_but_usable_answers_are_used(agent: Agent, registry: Registry, rule: Rule) -> None:
    reference = registry.push("network/app", "1", APP)
    with ScriptedNameserver({registry.name: rule}) as server, resolvers(server.address, options=QUICK):
        assert_ok(agent.diagnose(reference))
    assert (rule is Rule.TRUNCATED) == any(transport == "tcp" for _, _, transport in server.queries)


def test_a_name_in_the_hosts_file_needs_no_server(agent: Agent, containerd: Containerd, registry: Registry) -> None:
    """Asked by an address: no name server is asked, whatever it would say."""
    containerd.hosts("10.99.0.2", f'[host."{registry.scheme}://10.99.0.2"]\nskip_verify = true\n')
    registry.push("network/app", "1", APP)
    with ScriptedNameserver({}, {}, default=Rule.SERVFAIL) as server, resolvers(server.address, options=QUICK):
        assert_ok(agent.diagnose("10.99.0.2/network/app:1"))
    containerd.distrust("10.99.0.2")
    assert server.queries == []
