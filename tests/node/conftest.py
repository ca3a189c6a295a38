"""The agent, and servers at addresses of their own that the tests of its commands share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.node.command", "tests.node.cache", "tests.node.oracle")

from stage.authority import Authority  # noqa: E402 - after the line above
from stage.containerd import Containerd  # noqa: E402
from stage.hostile import Scripted  # noqa: E402
from stage.images import Built  # noqa: E402
from stage.names import Nameserver  # noqa: E402
from stage.registries import Registry  # noqa: E402
from stage.versions import versions  # noqa: E402
from tests.conftest import Factory  # noqa: E402
from tests.node.cache import Cached, Node, push  # noqa: E402
from tests.node.command import Agent  # noqa: E402

SCRIPTED, SCRIPTED_ADDRESS = "scripted.example", "10.99.0.10"


@pytest.fixture
def agent(containerd: Containerd, folders: Factory) -> Agent:
    """``node-agent`` on the session's node."""
    return Agent(containerd.endpoint, folders("agent"))


@pytest.fixture(scope="session")
def _scripted(authority: Authority, nameserver: Nameserver) -> Iterator[Scripted]:
    nameserver.add(SCRIPTED, SCRIPTED_ADDRESS)
    certificate = authority.issue(SCRIPTED)
    with Scripted({}, address=SCRIPTED_ADDRESS, name=SCRIPTED, certificate=certificate) as server:
        yield server


@pytest.fixture
def scripted(_scripted: Scripted, containerd: Containerd, authority: Authority) -> Scripted:
    """https://scripted.example, which the session's node trusts: a test sets its ``routes``."""
    containerd.trust(_scripted.name, authority.pem)
    return _anew(_scripted)


def _anew(_scripted: Scripted) -> Scripted:
    _scripted.routes = {}
    _scripted.requests.clear()
    return _scripted


@pytest.fixture
def node(containerd: Containerd, folder: Path) -> Node:
    """The commands that look into the cache, on the session's node."""
    return Node(containerd, folder)


@pytest.fixture
def cached(containerd: Containerd, registry: Registry) -> Iterator[Cached]:
    """See `tests.node.cache.Cached`; what was pulled is removed afterwards."""
    names: list[str] = []

    def pull(built: Built) -> str:
        names.append(push(registry, built))
        containerd.pull(names[-1])
        return names[-1]

    yield pull
    for name in names:
        containerd.remove(name)


@pytest.fixture(params=versions(), ids=lambda version: version.name)
def fresh(
    request: pytest.FixtureRequest, authority: Authority, registry: Registry, _scripted: Scripted, folders: Factory
) -> Iterator[Containerd]:
    """A containerd of each version in turn with nothing in it, for a test that breaks it; started in 0.1 s."""
    request.param.expect()
    with Containerd(folders("f"), binary=str(request.param.binary)) as own:
        own.trust(registry.name, authority.pem)
        own.trust(_scripted.name, authority.pem)
        yield own


@pytest.fixture
def pulled(fresh: Containerd, registry: Registry) -> Cached:
    """As `cached`, on `fresh`."""

    def pull(built: Built) -> str:
        name = push(registry, built)
        fresh.pull(name)
        return name

    return pull


@pytest.fixture
def fresh_node(fresh: Containerd, folder: Path) -> Node:
    """The commands that look into the cache, on `fresh`."""
    return Node(fresh, folder)


@pytest.fixture
def slow_server(_scripted: Scripted) -> Scripted:
    """https://scripted.example, which `fresh` trusts."""
    return _anew(_scripted)
