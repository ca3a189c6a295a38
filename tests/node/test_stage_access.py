"""Registries that ask who is there, and those whose certificate is at fault, as containerd meets them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stage.authority import Authority, Certificate, self_signed
from stage.containerd import Containerd, PullError
from stage.images import image, layer
from stage.names import HOSTS
from stage.registries import Registry
from stage.tokens import TokenServer

APP = image(layer({"bin/app": b"#!/bin/sh\n"}))
SECRET = ("robot", "s3cret")


def pull_error(containerd: Containerd, reference: str, *secret: str) -> str:
    with pytest.raises(PullError) as caught:
        containerd.pull(reference, *secret)
    return caught.value.text


@contextmanager
def other_registry(containerd: Containerd, authority: Authority, folder: Path, **options: object) -> Iterator[Registry]:
    """A second registry for one test, trusted by the shared containerd while it lasts."""
    certificate = authority.issue("other.example")
    place = {"address": HOSTS["other.example"], "name": "other.example", "certificate": certificate}
    with Registry(folder / "other", **(place | options)) as registry:  # type: ignore[arg-type] # checked at run time
        containerd.trust(registry.name, authority.pem)
        yield registry
        containerd.distrust(registry.name)


class TestCredentials:
    def test_basic_credentials_are_demanded_and_taken(
        self, containerd: Containerd, authority: Authority, folder: Path
    ) -> None:
        with other_registry(containerd, authority, folder, users=dict([SECRET])) as registry:
            reference = registry.push("private/app", "1", APP, SECRET)
            assert "401 Unauthorized" in pull_error(containerd, reference)
            assert "401 Unauthorized" in pull_error(containerd, reference, "robot", "wrong")
            assert containerd.pull(reference, *SECRET) == APP.id

    def test_tokens_are_fetched_by_the_form_with_credentials(
        self, containerd: Containerd, authority: Authority, folder: Path
    ) -> None:
        tokens = token_server(authority)
        with tokens, other_registry(containerd, authority, folder, tokens=tokens) as registry:
            reference = registry.push("private/app", "1", APP, SECRET)
            tokens.requests.clear()
            assert containerd.pull(reference, *SECRET) == APP.id
        assert {request.method for request in tokens.requests} == {"POST"}

    def test_tokens_are_fetched_by_get_where_the_form_is_unknown(
        self, containerd: Containerd, authority: Authority, folder: Path
    ) -> None:
        tokens = token_server(authority)
        tokens.post = False
        with tokens, other_registry(containerd, authority, folder, tokens=tokens) as registry:
            assert containerd.pull(registry.push("private/app", "1", APP, SECRET), *SECRET) == APP.id
        assert [request.method for request in tokens.requests][-2:] == ["POST", "GET"]

    def test_anonymous_tokens_open_public_repositories_only(
        self, containerd: Containerd, authority: Authority, folder: Path
    ) -> None:
        tokens = token_server(authority)
        with tokens, other_registry(containerd, authority, folder, tokens=tokens) as registry:
            assert containerd.pull(registry.push("public/app", "1", APP, SECRET)) == APP.id
            private = registry.push("private/app", "1", APP, SECRET)
            assert "insufficient_scope" in pull_error(containerd, private)
            assert "failed to fetch oauth token" in pull_error(containerd, private, "robot", "wrong")

    def test_a_token_server_can_be_told_to_refuse(
        self, containerd: Containerd, authority: Authority, folder: Path
    ) -> None:
        tokens = token_server(authority)
        with tokens, other_registry(containerd, authority, folder, tokens=tokens) as registry:
            reference = registry.push("public/app", "1", APP, SECRET)
            tokens.refuse = 503
            assert "failed to fetch anonymous token" in pull_error(containerd, reference)


def token_server(authority: Authority) -> TokenServer:
    return TokenServer(users=dict([SECRET]), public={"public/app"}, certificate=authority.issue("auth.example"))


class TestCertificates:
    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("expired", "certificate has expired or is not yet valid"),
            ("not_yet_valid", "certificate has expired or is not yet valid"),
            ("wrong_name", "certificate is valid for wrong.example, not other.example"),
            ("common_name_only", "certificate relies on legacy Common Name field"),
            ("self_signed", "certificate signed by unknown authority"),
            ("missing_intermediate", "certificate signed by unknown authority"),
        ],
    )
    def test_containerd_finds_what_is_wrong(
        self, containerd: Containerd, authority: Authority, folder: Path, kind: str, words: str
    ) -> None:
        with other_registry(containerd, authority, folder, certificate=certificate(authority, kind)) as registry:
            assert words in pull_error(containerd, registry.push("stage/app", "1", APP))

    def test_an_intermediate_that_is_sent_along_is_accepted(
        self, containerd: Containerd, authority: Authority, folder: Path
    ) -> None:
        sound = authority.intermediate().issue("other.example")
        with other_registry(containerd, authority, folder, certificate=sound) as registry:
            assert containerd.pull(registry.push("stage/app", "1", APP)) == APP.id

    def test_a_registry_can_demand_a_clients_certificate(
        self, containerd: Containerd, authority: Authority, folder: Path
    ) -> None:
        (folder / "ca.pem").write_bytes(authority.pem)
        mine = authority.issue("node", client=True)
        (folder / "client.pem").write_bytes(mine.chain + mine.key_pem)
        with other_registry(containerd, authority, folder, client_ca=folder / "ca.pem") as registry:
            reference = registry.push("stage/app", "1", APP, client=folder / "client.pem")
            assert "tls: " in pull_error(containerd, reference)
            host = f'ca = "{folder}/ca.pem"\nclient = "{folder}/client.pem"\n'
            containerd.hosts(registry.name, f'server = "{registry.url}"\n{host}[host."{registry.url}"]\n{host}')
            assert containerd.pull(reference) == APP.id


def certificate(authority: Authority, kind: str) -> Certificate:
    if kind == "self_signed":
        return self_signed("other.example")
    if kind == "wrong_name":
        return authority.issue("wrong.example")
    if kind == "missing_intermediate":
        whole = authority.intermediate().issue("other.example")
        return Certificate(whole.cert_pem, whole.key_pem, whole.cert_pem)
    made: Certificate = getattr(authority, kind)("other.example")
    return made
