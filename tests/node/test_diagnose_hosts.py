"""hosts.toml: which hosts stand in for a registry, and what becomes of a pull when one of them fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stage import hostile
from stage.authority import Authority
from stage.containerd import Containerd
from stage.hostile import Scripted
from stage.images import image, layer
from stage.registries import Registry
from tests.node.command import Agent, assert_fell, assert_ok

APP = image(layer({"bin/app": b"by way of a mirror"}))
NAME = "hosts.example"  # no name server knows it: only hosts.toml leads anywhere
IMAGE = f"{NAME}/mirrored/app:1"
DEAD = '[host."https://nobody.example"]\n'


@pytest.fixture
def hosts(containerd: Containerd, registry: Registry, authority: Authority, folder: Path) -> Iterator[Path]:
    """The folder of hosts.toml for `NAME`; the registry behind it has the image."""
    registry.push("mirrored/app", "1", APP)
    (folder / "ca.pem").write_bytes(authority.pem)
    yield containerd.hosts_folder(NAME)
    containerd.distrust(NAME)


def root(folder: Path, server: str = "https://registry.example") -> str:
    return f'server = "{server}"\nca = "{folder}/ca.pem"\n'


def mirror(folder: Path, url: str, more: str = "") -> str:
    return f'[host."{url}"]\nca = "{folder}/ca.pem"\n{more}'


def test_the_server_of_the_file_is_asked_in_place_of_the_name(agent: Agent, hosts: Path, folder: Path) -> None:
    (hosts / "hosts.toml").write_text(root(folder) + mirror(folder, "https://registry.example"))
    assert_ok(agent.diagnose(IMAGE))


def test_a_dead_mirror_is_named_and_no_cause_while_the_registry_answers(
    agent: Agent, hosts: Path, folder: Path
) -> None:
    (hosts / "hosts.toml").write_text(root(folder) + DEAD)
    outcome = agent.diagnose(IMAGE)
    assert_ok(outcome, "nobody.example")
    assert (outcome.fall["step"], outcome.fall["host"]) == ("connect", "nobody.example")
    assert outcome.fall["cause"] == "connect_refused"


def test_a_dead_mirror_does_not_hide_a_missing_tag(agent: Agent, hosts: Path, folder: Path) -> None:
    (hosts / "hosts.toml").write_text(root(folder) + DEAD)
    outcome = agent.diagnose(f"{NAME}/mirrored/app:gone")
    assert (outcome.status, outcome.only["cause"]) == (1, "tag_not_found")
    assert [(step["step"], step["host"]) for step in outcome.only["steps"] if step["verdict"] == "bad"] == [
        ("connect", "nobody.example"),
        ("manifest", "registry.example"),
    ]


def test_a_mirror_that_lacks_the_image_leads_on_to_the_registry(
    agent: Agent, hosts: Path, folder: Path, scripted: Scripted
) -> None:
    scripted.routes = {"/v2/": hostile.document({})}
    (hosts / "hosts.toml").write_text(root(folder) + mirror(folder, scripted.url))
    assert_ok(agent.diagnose(IMAGE), scripted.name)
    assert "HEAD /v2/mirrored/app/manifests/1" in scripted.asked()


def test_a_mirror_that_has_the_image_is_enough_though_the_registry_is_dead(
    agent: Agent, hosts: Path, folder: Path, scripted: Scripted
) -> None:
    scripted.routes = hostile.serving("mirrored/app", "1", APP)
    (hosts / "hosts.toml").write_text(root(folder, "https://nobody.example") + mirror(folder, scripted.url))
    outcome = agent.diagnose(IMAGE)
    assert_ok(outcome)
    assert outcome.only["summary"] == "can be pulled"
    assert "nobody.example" not in {step["host"] for step in outcome.only["steps"]}


def test_when_all_hosts_fail_the_registry_itself_is_the_cause(agent: Agent, hosts: Path, folder: Path) -> None:
    (hosts / "hosts.toml").write_text(root(folder, "https://nonesuch.example") + DEAD)
    outcome = agent.diagnose(IMAGE)
    assert (outcome.status, outcome.only["cause"]) == (1, "dns_not_found")
    assert "nonesuch.example" in outcome.only["summary"]


def test_a_mirror_is_told_whose_image_it_is_asked_for(
    agent: Agent, hosts: Path, folder: Path, scripted: Scripted
) -> None:
    scripted.routes = hostile.serving("mirrored/app", "1", APP)
    (hosts / "hosts.toml").write_text(root(folder) + mirror(folder, scripted.url))
    assert_ok(agent.diagnose(IMAGE))
    assert scripted.requests
    assert all(request.query["ns"] == [NAME] for request in scripted.requests)


def test_a_mirror_with_a_path_of_its_own_is_asked_there_with_its_headers(
    agent: Agent, hosts: Path, folder: Path, scripted: Scripted
) -> None:
    served = hostile.serving("mirrored/app", "1", APP)
    scripted.routes = {
        path.replace("/v2/", "/cache/hub/", 1): answer for path, answer in served.items() if path != "/v2/"
    }
    more = 'override_path = true\n[host."https://scripted.example/cache/hub".header]\nX-Team = "a"\n'
    (hosts / "hosts.toml").write_text(root(folder) + mirror(folder, f"{scripted.url}/cache/hub", more))
    outcome = agent.diagnose(IMAGE)
    assert (outcome.status, outcome.only["summary"]) == (0, "can be pulled")
    assert {request.headers["x-team"] for request in scripted.requests} == {"a"}


def test_a_mirror_for_pulls_only_is_asked_by_digest_and_not_by_tag(
    agent: Agent, hosts: Path, folder: Path, scripted: Scripted
) -> None:
    scripted.routes = hostile.serving("mirrored/app", "1", APP)
    (hosts / "hosts.toml").write_text(root(folder) + mirror(folder, scripted.url, 'capabilities = ["pull"]\n'))
    assert_ok(agent.diagnose(IMAGE))
    assert not [line for line in scripted.asked() if line.startswith("HEAD")]
    assert_ok(agent.diagnose(f"{NAME}/mirrored/app@{APP.digest}"))
    assert f"HEAD /v2/mirrored/app/manifests/{APP.digest}" in scripted.asked()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('server = "https://registry.example', "not TOML"),
        ('server = 1\n[host."https://registry.example"]', "server is not a string"),
        ('[host."https://registry.example"]\ncapabilities = ["fetch"]', "unknown capability fetch"),
        ('[host."https://registry.example"]\nskip_verify = "yes"', "skip_verify is not true or false"),
        ('server = "https://registry.example"', "invalid `host` tree"),
    ],
)
def test_a_file_that_does_not_parse_is_the_cause_where_the_registry_itself_is_out_of_reach(
    agent: Agent, hosts: Path, content: str, words: str
) -> None:
    (hosts / "hosts.toml").write_text(content)
    outcome = agent.diagnose(IMAGE)
    told = outcome.only
    assert (outcome.status, told["cause"], told["scope"]) == (1, "hosts_config_invalid", "runtime")
    assert str(hosts / "hosts.toml") in told["summary"]
    assert words in told["summary"]
    assert told["fix"]


def test_a_file_that_does_not_parse_is_shown_though_the_registry_answers(
    agent: Agent, containerd: Containerd, registry: Registry, hosts: Path, authority: Authority
) -> None:
    """containerd ignores the file, reads the folder as Docker's, and finds the CA there."""
    assert hosts.is_dir()
    folder = containerd.hosts_folder(registry.name)
    good = (folder / "hosts.toml").read_text()
    (folder / "ca.crt").write_bytes(authority.pem)
    (folder / "hosts.toml").write_text("broken =")
    outcome = agent.diagnose(registry.reference("mirrored/app", "1"))
    (folder / "hosts.toml").write_text(good)
    assert outcome.status == 0
    assert (outcome.fall["step"], outcome.fall["cause"]) == ("hosts", "hosts_config_invalid")


@pytest.mark.parametrize(
    ("field", "content", "words"),
    [
        ("ca", None, "unable to read CA cert"),
        ("ca", "no PEM", "unable to load CA cert"),
        ("client", None, "unable to read CERT file"),
        ("client", "no PEM", "failed to load X509 key pair"),
    ],
)
def test_a_certificate_file_that_cannot_be_used_fails_the_pull(
    agent: Agent, hosts: Path, folder: Path, *, field: str, content: str | None, words: str
) -> None:
    file = folder / "file.pem"
    if content is not None:
        file.write_text(content)
    lines = f'{field} = "{file}"\n'
    url = "https://registry.example"
    (hosts / "hosts.toml").write_text(f'server = "{url}"\n{lines}[host."{url}"]\n{lines}')
    outcome = agent.diagnose(IMAGE)
    assert_fell(outcome, "hosts_config_invalid", "tls", "registry.example")
    assert words in outcome.only["summary"]
    assert str(file) in outcome.only["summary"]
