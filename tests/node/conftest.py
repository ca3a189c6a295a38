"""The agent, and servers at addresses of their own that the tests of its commands share."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.node.command", "tests.node.cache")

from stage.authority import Authority  # noqa: E402 - after the line above
from stage.containerd import Containerd  # noqa: E402
from stage.hostile import Scripted  # noqa: E402
from stage.images import Built  # noqa: E402
from stage.names import Nameserver  # noqa: E402
from stage.registries import Registry  # noqa: E402
from tests.conftest import Factory  # noqa: E402
from tests.node.cache import Cached, Node  # noqa: E402
from tests.node.command import Agent  # noqa: E402

SCRIPTED, SCRIPTED_ADDRESS = "scripted.example", "10.99.0.10"


@pytest.fixture
def agent(containerd: Containerd, folders: Factory) -> Agent:
    """``node-agent`` on the session's node."""
    return Agent(containerd.endpoint, folders("agent"))


@pytest.fixture(scope="session")
def _scripted(authority: Authority, nameserver: Nameserver, containerd: Containerd) -> Iterator[Scripted]:
    nameserver.add(SCRIPTED, SCRIPTED_ADDRESS)
    certificate = authority.issue(SCRIPTED)
    with Scripted({}, address=SCRIPTED_ADDRESS, name=SCRIPTED, certificate=certificate) as server:
        containerd.trust(server.name, authority.pem)
        yield server


@pytest.fixture
def scripted(_scripted: Scripted) -> Scripted:
    """https://scripted.example, which the session's node trusts: a test sets its ``routes``."""
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
        names.append(registry.push(f"cached/image-{secrets.token_hex(4)}", "1", built))
        containerd.pull(names[-1])
        return names[-1]

    yield pull
    for name in names:
        containerd.remove(name)
