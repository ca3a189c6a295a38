"""Every test stands on the stage's own ground: no test can reach, or be reached by, anything outside.

What a test needs of the stage it takes as a fixture. Those of a session are shared by all tests of one
worker (each pytest-xdist worker has its own ground, so the addresses never clash); a test that changes
one puts it back, or starts one of its own in ``folder`` at another address.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stage.authority import Authority
from stage.containerd import Containerd
from stage.images import pause
from stage.names import Nameserver
from stage.namespaces import StageError, enter, missing
from stage.registries import Registry
from stage.versions import Version, versions

Factory = Callable[[str], Path]
Runtimes = Callable[[Version], Containerd]


def pytest_configure() -> None:
    """Go in before anything starts a thread.

    With pytest-xdist the process that only hands out work goes in too: what is wrong is then said once, in one line.
    """
    if lacking := missing():
        programs, packages = ", ".join(lacking), " ".join(sorted(set(lacking.values())))
        how = f"run `make test`, which installs them (apt-get install {packages})"
        pytest.exit(f"the tests run on real programs, of which these are missing: {programs}; {how}", returncode=2)
    try:
        enter()
    except StageError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def folders() -> Iterator[Factory]:
    """Makes folders with short paths (a socket's path has 107 bytes), all gone at the end."""
    made: list[Path] = []

    def make(purpose: str) -> Path:
        made.append(Path(tempfile.mkdtemp(prefix=f"stage-{purpose}-")))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(folders: Factory) -> Iterator[Path]:
    """A folder of this test's own, with a short path."""
    own = folders("test")
    yield own
    shutil.rmtree(own, ignore_errors=True)


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The private CA behind the certificates of the session's servers."""
    return Authority()


@pytest.fixture(scope="session")
def nameserver() -> Iterator[Nameserver]:
    """Knows `stage.names.HOSTS`; NXDOMAIN for every other name."""
    with Nameserver() as server:
        yield server


@pytest.fixture(scope="session")
def registry(authority: Authority, nameserver: Nameserver, folders: Factory) -> Iterator[Registry]:
    """A healthy registry at https://registry.example, for anyone to read and write; has the sandbox image."""
    assert nameserver.program.running
    certificate = authority.issue("registry.example", ips=["10.99.0.2"])
    with Registry(folders("registry"), certificate=certificate) as server:
        server.push("stage/pause", "1", pause())
        yield server


@pytest.fixture(scope="session")
def containerd(authority: Authority, registry: Registry, folders: Factory) -> Iterator[Containerd]:
    """A containerd with CRI that trusts `registry`; STAGE_CONTAINERD names another binary than the one on PATH."""
    with Containerd(folders("node"), binary=os.environ.get("STAGE_CONTAINERD", "containerd")) as runtime:
        runtime.trust(registry.name, authority.pem)
        yield runtime


@pytest.fixture(scope="session")
def runtimes(authority: Authority, registry: Registry, folders: Factory) -> Iterator[Runtimes]:
    """One containerd of each version, started when a test first asks for it, that trusts `registry`."""
    running: dict[str, Containerd] = {}
    with ExitStack() as stack:

        def runtime(version: Version) -> Containerd:
            if version.name not in running:
                version.expect()
                own = Containerd(folders("v"), binary=str(version.binary))
                running[version.name] = stack.enter_context(own)
                own.trust(registry.name, authority.pem)
            return running[version.name]

        yield runtime


@pytest.fixture(scope="session", params=versions(), ids=lambda version: version.name)
def any_containerd(request: pytest.FixtureRequest, runtimes: Runtimes) -> Containerd:
    """Each of the containerds that the product has to be right on, one after the other."""
    return runtimes(request.param)
