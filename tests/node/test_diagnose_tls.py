"""Certificates and protocols: each fault of a server's TLS is named as itself."""

import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from stage import hostile
from stage.authority import Authority, Certificate, self_signed
from stage.containerd import Containerd
from stage.hostile import Banner, Scripted
from stage.images import image, layer
from stage.listeners import Connection, Listener
from stage.names import Nameserver
from stage.registries import Registry
from tests.node.command import Agent, assert_fell, assert_ok

APP = image(layer({"bin/app": b"over TLS"}))
NAME, ADDRESS = "tls.example", "10.99.0.11"
IMAGE = f"{NAME}/app:1"


@pytest.fixture(autouse=True)
def _trusted(nameserver: Nameserver, containerd: Containerd, authority: Authority) -> Iterator[None]:
    """The node knows the name and trusts the authority, whoever serves."""
    if NAME not in nameserver.records:
        nameserver.add(NAME, ADDRESS)
    containerd.trust(NAME, authority.pem)
    yield
    containerd.distrust(NAME)


def serving(certificate: Certificate | None, port: int = 443) -> Scripted:
    """A healthy registry behind this certificate."""
    routes = hostile.serving("app", "1", APP)
    return Scripted(routes, address=ADDRESS, port=port, name=NAME, certificate=certificate)


def test_an_authority_that_hosts_toml_names_is_trusted(agent: Agent, authority: Authority) -> None:
    with serving(authority.intermediate().issue(NAME)):
        assert_ok(agent.diagnose(IMAGE))


def test_an_authority_that_nobody_named_is_unknown(agent: Agent, containerd: Containerd, authority: Authority) -> None:
    containerd.distrust(NAME)
    with serving(authority.issue(NAME)):
        outcome = agent.diagnose(IMAGE)
    containerd.hosts_folder(NAME)
    assert_fell(outcome, "tls_unknown_authority", "tls", NAME)
    assert "Stage Root CA" in outcome.only["summary"]


def test_skip_verify_trusts_anybody(agent: Agent, containerd: Containerd) -> None:
    containerd.hosts(NAME, f'[host."https://{NAME}"]\nskip_verify = true\n')
    with serving(self_signed("wrong.example")):
        assert_ok(agent.diagnose(IMAGE))


def without_intermediate(authority: Authority) -> Certificate:
    whole = authority.intermediate().issue(NAME)
    return Certificate(whole.cert_pem, whole.key_pem, whole.cert_pem)


@pytest.mark.parametrize(
    ("kind", "cause", "words"),
    [
        ("self_signed", "tls_unknown_authority", "self-signed"),
        ("missing_intermediate", "tls_unknown_authority", "not sent"),
        ("expired", "tls_expired", "expired at"),
        ("not_yet_valid", "tls_not_yet_valid", "valid only from"),
        ("wrong_name", "tls_name_mismatch", "wrong.example"),
        ("common_name_only", "tls_name_mismatch", NAME),
        ("for_clients", "tls_handshake", "not a certificate for servers"),
    ],
)
def test_each_fault_of_a_certificate_is_named(
    agent: Agent, authority: Authority, kind: str, cause: str, words: str
) -> None:
    made = {
        "self_signed": lambda: self_signed(NAME),
        "missing_intermediate": lambda: without_intermediate(authority),
        "expired": lambda: authority.expired(NAME),
        "not_yet_valid": lambda: authority.not_yet_valid(NAME),
        "wrong_name": lambda: authority.issue("wrong.example"),
        "common_name_only": lambda: authority.common_name_only(NAME),
        "for_clients": lambda: authority.issue(NAME, client=True),
    }
    with serving(made[kind]()) as server:
        outcome = agent.diagnose(IMAGE)
    assert_fell(outcome, cause, "tls", NAME)
    assert words in outcome.only["summary"]
    assert server.requests == []


def test_a_clients_certificate_is_demanded_and_taken(
    agent: Agent, containerd: Containerd, authority: Authority, folder: Path
) -> None:
    (folder / "ca.pem").write_bytes(authority.pem)
    mine = authority.issue("node", client=True)
    (folder / "client.pem").write_bytes(mine.chain + mine.key_pem)
    options = {"address": ADDRESS, "name": NAME, "certificate": authority.issue(NAME)}
    with Registry(folder / "registry", client_ca=folder / "ca.pem", **options) as server:  # type: ignore[arg-type]
        server.push("app", "1", APP, client=folder / "client.pem")
        # In TLS 1.3 the refusal comes after the handshake: with the first answer.
        assert_fell(agent.diagnose(IMAGE), "tls_client_certificate", "registry", NAME)
        ours = f'ca = "{folder}/ca.pem"\nclient = "{folder}/client.pem"\n'
        containerd.hosts(NAME, f'server = "https://{NAME}"\n{ours}[host."https://{NAME}"]\n{ours}')
        assert_ok(agent.diagnose(IMAGE))


def test_plain_http_where_tls_is_expected_is_a_mismatch(agent: Agent, folder: Path) -> None:
    name = f"{NAME}:5000"
    with Registry(folder / "registry", address=ADDRESS, name=NAME):
        assert_fell(agent.diagnose(f"{name}/app:1"), "http_https_mismatch", "tls", name)


def test_tls_where_plain_http_is_expected_is_a_mismatch(
    agent: Agent, containerd: Containerd, authority: Authority, folder: Path
) -> None:
    containerd.hosts(NAME, f'server = "http://{NAME}:443"\n[host."http://{NAME}:443"]\n')
    with Registry(folder / "registry", address=ADDRESS, name=NAME, certificate=authority.issue(NAME)):
        assert_fell(agent.diagnose(IMAGE), "http_https_mismatch", "registry", f"{NAME}:443")


def test_tls_settings_on_a_plain_host_fall_back_to_plain_http(
    agent: Agent, containerd: Containerd, folder: Path
) -> None:
    containerd.hosts(NAME, f'[host."http://{NAME}:5000"]\nskip_verify = true\n')
    with Registry(folder / "registry", address=ADDRESS, name=NAME) as server:
        server.push("app", "1", APP)
        assert_ok(agent.diagnose(IMAGE))


def test_another_protocol_on_the_port_is_no_tls(agent: Agent) -> None:
    with Banner(address=ADDRESS):
        outcome = agent.diagnose(IMAGE)
    assert_fell(outcome, "tls_handshake", "tls", NAME)
    assert "neither TLS nor HTTP" in outcome.only["summary"]


def test_a_protocol_that_go_gave_up_fails_the_handshake(agent: Agent, authority: Authority, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(*authority.issue(NAME).files(folder))

    def serve(connection: Connection) -> None:
        context.wrap_socket(connection.wire, server_side=True).close()

    with Listener(ADDRESS, 443, serve):
        outcome = agent.diagnose(IMAGE)
    assert_fell(outcome, "tls_handshake", "tls", NAME)
    assert "protocol version" in outcome.only["summary"]


def test_a_hang_up_in_the_handshake_is_an_interruption(agent: Agent) -> None:
    def serve(connection: Connection) -> None:
        connection.wire.recv(1 << 16)  # what is left unread would make it a reset

    with Listener(ADDRESS, 443, serve):
        assert_fell(agent.diagnose(IMAGE), "connection_interrupted", "tls", NAME)


def test_silence_in_the_handshake_ends_with_the_deadline(agent: Agent) -> None:
    with Listener(ADDRESS, 443, lambda connection: connection.pause()):
        outcome = agent.diagnose(IMAGE, timeout=1)
    assert_fell(outcome, "tls_handshake", "tls", NAME)
    assert outcome.only["seconds"] < 2
