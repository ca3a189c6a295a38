"""Who may pull: what registries and their token servers say without, with wrong and with right credentials."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stage import hostile
from stage.authority import Authority
from stage.containerd import Containerd
from stage.hostile import Answer, Scripted
from stage.images import image, layer
from stage.names import Nameserver
from stage.registries import Registry
from stage.tokens import TokenServer
from tests.conftest import Factory
from tests.node.command import PASSWORD, USER, Agent, assert_fell, assert_ok, auth_file

APP = image(layer({"bin/app": b"for those who may"}))
BASIC, BEARER, TOKENS = (
    ("basic.example", "10.99.0.12"),
    ("bearer.example", "10.99.0.13"),
    ("tokens.example", "10.99.0.14"),
)
MINE = (USER, PASSWORD)


@pytest.fixture(scope="module")
def ground(nameserver: Nameserver, containerd: Containerd, authority: Authority) -> Iterator[None]:
    """Names and trust for the servers below."""
    for name, address in (BASIC, BEARER, TOKENS):
        if name not in nameserver.records:
            nameserver.add(name, address)
    for name, _ in (BASIC, BEARER):
        containerd.trust(name, authority.pem)
    yield
    for name, _ in (BASIC, BEARER):
        containerd.distrust(name)


@pytest.fixture(scope="module")
def basic(ground: None, authority: Authority, folders: Factory) -> Iterator[Registry]:  # noqa: ARG001 - it lies below
    """A registry that asks everybody for a password."""
    name, address = BASIC
    options = {"address": address, "name": name, "certificate": authority.issue(name)}
    with Registry(folders("basic"), users=dict([MINE]), **options) as server:  # type: ignore[arg-type]
        server.push("team/app", "1", APP, MINE)
        yield server


@pytest.fixture(scope="module")
def _bearer(ground: None, authority: Authority, folders: Factory) -> Iterator[tuple[Registry, TokenServer]]:  # noqa: ARG001
    name, address = BEARER
    tokens = TokenServer(
        name=TOKENS[0], address=TOKENS[1], service=name, users=dict([MINE]), public={"public/app"},
        certificate=authority.issue(TOKENS[0]),
    )  # fmt: skip
    options = {"address": address, "name": name, "certificate": authority.issue(name)}
    with tokens, Registry(folders("bearer"), tokens=tokens, **options) as server:  # type: ignore[arg-type]
        for repository in ("public/app", "private/app"):
            server.push(repository, "1", APP, MINE)
        yield server, tokens


@pytest.fixture
def bearer(_bearer: tuple[Registry, TokenServer]) -> Registry:
    """A registry whose token server gives everybody the right to pull public/app."""
    return _bearer[0]


@pytest.fixture
def tokens(_bearer: tuple[Registry, TokenServer]) -> TokenServer:
    """That token server, polite again."""
    server = _bearer[1]
    server.refuse, server.harbor, server.post = None, True, True
    server.requests.clear()
    return server


class TestBasic:
    def test_nothing_to_show_is_required_to_show(self, agent: Agent, basic: Registry) -> None:
        assert_fell(agent.diagnose(basic.reference("team/app", "1")), "auth_required", "token", basic.name)

    def test_a_wrong_password_is_denied(self, agent: Agent, basic: Registry, folder: Path) -> None:
        wrong = auth_file(folder, basic.name, "wrong" + PASSWORD)
        outcome = agent.diagnose(basic.reference("team/app", "1"), options=wrong)
        assert_fell(outcome, "auth_denied", "manifest", basic.name)

    def test_the_right_password_opens(self, agent: Agent, basic: Registry, folder: Path) -> None:
        assert_ok(agent.diagnose(basic.reference("team/app", "1"), options=auth_file(folder, basic.name)))

    def test_a_secret_for_another_registry_is_not_shown(self, agent: Agent, basic: Registry, folder: Path) -> None:
        other = auth_file(folder, "other.example")
        outcome = agent.diagnose(basic.reference("team/app", "1"), options=other)
        assert_fell(outcome, "auth_required", "token", basic.name)

    def test_with_the_right_password_a_missing_tag_is_a_missing_tag(
        self, agent: Agent, basic: Registry, folder: Path
    ) -> None:
        outcome = agent.diagnose(basic.reference("team/app", "2"), options=auth_file(folder, basic.name))
        assert_fell(outcome, "tag_not_found", "manifest", basic.name)

    def test_the_second_of_two_secrets_opens_where_the_first_is_wrong(
        self, agent: Agent, basic: Registry, folder: Path
    ) -> None:
        """As the kubelet tries them: the longer key first."""
        file = folder / "two.json"
        file.write_text(
            f'{{"auths": {{"{basic.name}/team": {{"username": "{USER}", "password": "wrong"}},'
            f' "{basic.name}": {{"username": "{USER}", "password": "{PASSWORD}"}}}}}}'
        )
        outcome = agent.diagnose(basic.reference("team/app", "1"), options=("--auth-file", str(file)))
        assert_ok(outcome)
        assert "but not from" not in outcome.only["summary"]


class TestBearer:
    def test_what_is_public_needs_nothing(self, agent: Agent, bearer: Registry, tokens: TokenServer) -> None:
        assert_ok(agent.diagnose(bearer.reference("public/app", "1")))
        assert tokens.requests[0].query["scope"] == ["repository:public/app:pull"]

    def test_a_token_without_rights_asks_for_credentials_at_the_manifest(
        self, agent: Agent, bearer: Registry, tokens: TokenServer
    ) -> None:
        assert tokens.harbor
        assert_fell(agent.diagnose(bearer.reference("private/app", "1")), "auth_required", "manifest", bearer.name)

    def test_a_refused_token_asks_for_credentials_at_once(
        self, agent: Agent, bearer: Registry, tokens: TokenServer
    ) -> None:
        tokens.harbor = False
        assert_fell(agent.diagnose(bearer.reference("private/app", "1")), "auth_required", "token", bearer.name)

    @pytest.mark.parametrize("repository", ["private/app", "public/app"])
    def test_a_wrong_password_closes_even_what_is_public(
        self, agent: Agent, bearer: Registry, tokens: TokenServer, folder: Path, repository: str
    ) -> None:
        outcome = agent.diagnose(bearer.reference(repository, "1"), options=auth_file(folder, bearer.name, "wrong"))
        assert_fell(outcome, "auth_denied", "token", bearer.name)
        assert [request.method for request in tokens.requests][:2] == ["POST", "GET"]

    @pytest.mark.parametrize("post", [True, False])
    def test_the_right_password_opens_by_form_and_by_query(
        self, agent: Agent, bearer: Registry, tokens: TokenServer, folder: Path, *, post: bool
    ) -> None:
        tokens.post = post
        assert_ok(agent.diagnose(bearer.reference("private/app", "1"), options=auth_file(folder, bearer.name)))
        assert {request.method for request in tokens.requests} == ({"POST"} if post else {"POST", "GET"})

    @pytest.mark.parametrize(
        ("status", "cause"),
        [(403, "auth_missing_or_denied"), (429, "rate_limited"), (500, "registry_error"), (503, "registry_error")],
    )
    def test_each_refusal_of_the_token_server_is_told(
        self, agent: Agent, bearer: Registry, tokens: TokenServer, status: int, cause: str
    ) -> None:
        tokens.refuse = status
        outcome = agent.diagnose(bearer.reference("public/app", "1"))
        assert_fell(outcome, cause, "token", bearer.name)
        assert f"{TOKENS[0]} answered {status}" in outcome.only["summary"]

    def test_credentials_that_are_forbidden_are_denied(
        self, agent: Agent, bearer: Registry, tokens: TokenServer, folder: Path
    ) -> None:
        tokens.refuse = 403
        outcome = agent.diagnose(bearer.reference("private/app", "1"), options=auth_file(folder, bearer.name))
        assert_fell(outcome, "auth_denied", "token", bearer.name)


HERE = "https://scripted.example"


@pytest.mark.parametrize(
    ("realm", "answer", "cause", "words"),
    [
        ("https://nobody.example/token", None, "connect_refused", "nobody.example"),
        ("https://nonesuch.example/token", None, "dns_not_found", "nonesuch.example"),
        (f"{HERE}/token", hostile.login_page(), "registry_error", "not JSON but an HTML page"),
        (f"{HERE}/token", hostile.document({"expires_in": 60}), "registry_error", "no usable token"),
        (f"{HERE}/token", hostile.document(["token"]), "registry_error", "no usable token"),
        (f"{HERE}/token", hostile.hang_up, "connection_interrupted", "EOF"),
        (f"{HERE}/token", hostile.redirect_circle(), "registry_error", "more than 10 times"),
        (f"{HERE}/token", hostile.redirect(hostile.METADATA_SERVICE), "registry_error", "link-local"),
        (hostile.METADATA_SERVICE, None, "registry_error", "link-local"),
        ("http://127.0.0.1/token", None, "registry_error", "loopback"),
        ("ftp://registry.example/token", None, "registry_error", "realm"),
    ],
)
def test_a_token_server_that_is_none_is_told(
    agent: Agent, scripted: Scripted, *, realm: str, answer: Answer | None, cause: str, words: str
) -> None:
    challenge = hostile.challenge(f'Bearer realm="{realm}",service="s"')
    scripted.routes = {"/v2/*": challenge, "/v2/": challenge, "/token": answer or hostile.reply(404)}
    outcome = agent.diagnose(f"{scripted.name}/app:1")
    assert_fell(outcome, cause, "token", scripted.name)
    assert words in outcome.only["summary"]


def test_an_expired_token_of_the_operator_is_expired(agent: Agent, scripted: Scripted, folder: Path) -> None:
    challenge = hostile.challenge(f'Bearer realm="{HERE}/token",service="s"')
    expired = hostile.error(401, "UNAUTHORIZED", f"the password {PASSWORD} of {USER} has expired")
    scripted.routes = {"/v2/*": challenge, "/v2/": challenge, "/token": expired}
    outcome = agent.diagnose(f"{scripted.name}/app:1", options=auth_file(folder, scripted.name))
    assert_fell(outcome, "credentials_expired", "token", scripted.name)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"{", ""), (b'{"auths": []}', ""), (b'{"auths": {"a": {"auth": "%"}}}', "")],
)
def test_an_auth_file_that_cannot_be_used_is_wrong_usage(
    agent: Agent, folder: Path, content: bytes | None, words: str
) -> None:
    file = folder / "auth.json"
    if content is not None:
        file.write_bytes(content)
    outcome = agent.diagnose("nobody.example/app:1", options=("--auth-file", str(file)))
    assert outcome.status == 2
    assert outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    assert line.startswith(f"node-agent: --auth-file {file}: {words}")
