"""The way through a proxy, which containerd takes from the environment that it was started with."""

from collections.abc import Iterator

import pytest

from stage import proxies
from stage.authority import Authority
from stage.containerd import Containerd
from stage.images import image, layer
from stage.proxies import Manner, Proxy, ScriptedProxy
from stage.registries import Registry
from tests.conftest import Factory
from tests.node.command import PASSWORD, USER, Agent, assert_fell, assert_ok

APP = image(layer({"bin/app": b"through a proxy"}))
PLAIN = PASSWORD.replace("/", "").replace("+", "")  # what a URL may hold as it is
CONNECT = "CONNECT registry.example:443"


@pytest.fixture(scope="module")
def node(registry: Registry, authority: Authority, folders: Factory) -> Iterator[Containerd]:
    """A containerd to be restarted with other environments."""
    registry.push("proxied/app", "1", APP)
    with Containerd(folders("behind")) as runtime:
        runtime.trust(registry.name, authority.pem)
        yield runtime


@pytest.fixture
def image_name(node: Containerd, registry: Registry) -> str:
    assert node.program.running
    return registry.reference("proxied/app", "1")


@pytest.fixture
def agent(node: Containerd, folders: Factory) -> Agent:
    """``node-agent`` on the node behind the proxy."""
    return Agent(node.endpoint, folders("agent"))


def test_an_image_comes_through_the_proxy(agent: Agent, node: Containerd, image_name: str) -> None:
    with Proxy() as proxy:
        node.restart({"HTTPS_PROXY": proxy.url})
        outcome = agent.diagnose(image_name)
        assert CONNECT in proxy.requests
    assert_ok(outcome)
    details = {step["step"]: step["detail"] for step in outcome.only["steps"]}
    assert details["proxy"] == f"through {proxy.url}"
    assert details["connect"] == proxy.address


def test_credentials_in_the_environment_open_the_proxy(agent: Agent, node: Containerd, image_name: str) -> None:
    with Proxy(credentials=(USER, PLAIN)) as proxy:
        node.restart({"https_proxy": proxy.url})
        outcome = agent.diagnose(image_name)
        assert CONNECT in proxy.requests
    assert_ok(outcome)
    assert PLAIN not in outcome.stdout + outcome.stderr


@pytest.mark.parametrize("user", ["", f"{USER}:wrong{PLAIN}@"])
def test_a_proxy_that_wants_credentials_is_told(agent: Agent, node: Containerd, image_name: str, user: str) -> None:
    with Proxy(credentials=(USER, PLAIN)) as proxy:
        node.restart({"HTTPS_PROXY": f"http://{user}{proxy.address}:{proxy.port}"})
        outcome = agent.diagnose(image_name)
    # tinyproxy answers wrong credentials with 401, which is no proxy's status at all
    assert_fell(outcome, "proxy_refused" if user else "proxy_auth_required", "connect", "registry.example")
    assert PLAIN not in outcome.stdout + outcome.stderr


def test_a_proxy_that_filters_the_host_refuses(agent: Agent, node: Containerd, image_name: str) -> None:
    with Proxy(denied=[r"registry\.example"]) as proxy:
        node.restart({"HTTPS_PROXY": proxy.url})
        outcome = agent.diagnose(image_name)
    assert_fell(outcome, "proxy_refused", "connect", "registry.example")
    assert "403" in outcome.only["summary"]


@pytest.mark.parametrize(
    ("manner", "cause", "words"),
    [
        (proxies.hangs_up, "connection_interrupted", "hung up"),
        (proxies.is_a_web_server, "proxy_refused", "400"),
        (proxies.says(502), "proxy_refused", "502"),
        (proxies.says(407), "proxy_auth_required", "407"),
        (proxies.never_answers, "proxy_unreachable", "did not answer CONNECT"),
    ],
)
def test_each_manner_of_a_bad_proxy_is_told(
    agent: Agent, node: Containerd, image_name: str, *, manner: Manner, cause: str, words: str
) -> None:
    with ScriptedProxy(manner) as proxy:
        node.restart({"HTTPS_PROXY": proxy.url})
        outcome = agent.diagnose(image_name, timeout=2)
    assert_fell(outcome, cause, "connect", "registry.example")
    assert words in outcome.only["summary"]
    assert proxy.requests[0].target == "registry.example:443"


def test_a_proxy_that_hangs_up_after_connect_falls_in_the_handshake(
    agent: Agent, node: Containerd, image_name: str
) -> None:
    with ScriptedProxy(proxies.hangs_up_after_connect) as proxy:
        node.restart({"HTTPS_PROXY": proxy.url})
        assert_fell(agent.diagnose(image_name), "connection_interrupted", "tls", "registry.example")


@pytest.mark.parametrize(
    ("value", "cause", "step", "words"),
    [
        ("http://10.99.0.60:3128", "proxy_unreachable", "connect", "connection refused"),
        ("http://blackhole.example:3128", "proxy_unreachable", "connect", "no answer in time"),
        ("http://nonesuch.example:3128", "proxy_unreachable", "dns", "NXDOMAIN"),
        ("http:/10.99.0.5:3128", "proxy_misconfigured", "proxy", "HTTPS_PROXY"),
        (f"http://{USER}:a#{PLAIN}@10.99.0.5:3128", "proxy_misconfigured", "proxy", "HTTPS_PROXY"),
        (f"http://{USER}:a/{PLAIN}@10.99.0.5:3128", "proxy_misconfigured", "proxy", "HTTPS_PROXY"),
        ('"http://10.99.0.5:3128"', "proxy_misconfigured", "proxy", "HTTPS_PROXY"),
        ("htp://10.99.0.5:3128", "proxy_misconfigured", "proxy", "HTTPS_PROXY"),
        ("http://10.99.0.5:99999", "proxy_misconfigured", "proxy", "HTTPS_PROXY"),
    ],
)
def test_a_proxy_that_cannot_be_reached_is_told_from_one_that_is_written_wrong(
    agent: Agent, node: Containerd, image_name: str, *, value: str, cause: str, step: str, words: str
) -> None:
    node.restart({"HTTPS_PROXY": value})
    outcome = agent.diagnose(image_name, timeout=2)
    assert_fell(outcome, cause, step, "registry.example")
    assert words in outcome.only["summary"]
    assert PLAIN not in outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    "no_proxy",
    ["registry.example", ".example", "example", "registry.example:443", "10.0.0.0/8,registry.example", "*"],
)
def test_no_proxy_leads_around_a_dead_proxy(agent: Agent, node: Containerd, image_name: str, no_proxy: str) -> None:
    node.restart({"HTTPS_PROXY": "http://10.99.0.60:3128", "NO_PROXY": no_proxy})
    outcome = agent.diagnose(image_name)
    assert_ok(outcome)
    assert "direct" in {step["detail"] for step in outcome.only["steps"] if step["step"] == "proxy"}


@pytest.mark.parametrize(
    "environment", [{"HTTP_PROXY": "http://10.99.0.60:1"}, {"ALL_PROXY": "http://10.99.0.60:1"}, {}]
)
def test_what_containerd_does_not_heed_is_not_heeded(
    agent: Agent, node: Containerd, image_name: str, environment: dict[str, str]
) -> None:
    node.restart(environment)
    assert_ok(agent.diagnose(image_name))


def test_the_environment_of_the_agent_itself_means_nothing(
    agent: Agent, node: Containerd, image_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.restart({})
    for name in ("HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "http://10.99.0.60:1")
    assert_ok(agent.diagnose(image_name))
