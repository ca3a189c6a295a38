"""Many images under one deadline: the silent hold up nobody."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from stage import hostile
from stage.authority import Authority
from stage.containerd import Containerd
from stage.hostile import Scripted
from stage.images import image, layer
from stage.listeners import Connection, Request
from stage.names import Nameserver
from stage.namespaces import BLACK_HOLE
from tests.node.command import HERE, Agent

APP = image(layer({"bin/app": b"fast"}))
HEALTHY = {f"fast{number}.example": f"10.99.0.{20 + number}" for number in range(8)}
SILENT = {"hole0.example": BLACK_HOLE, "hole1.example": BLACK_HOLE}
IMAGES = [f"{name}/app:{tag}" for name in (*SILENT, *HEALTHY) for tag in (1, 2)]  # the silent first
DEADLINE = 4.0
START = 2.0  # seconds for an interpreter to start and end on a busy machine


@pytest.fixture
def ten_registries(nameserver: Nameserver, containerd: Containerd, authority: Authority) -> Iterator[None]:
    """Eight that answer and two whose packets are dropped, all trusted."""
    with ExitStack() as stack:
        for name, address in (HEALTHY | SILENT).items():
            if name not in nameserver.records:
                nameserver.add(name, address)
        for name, address in HEALTHY.items():
            containerd.trust(name, authority.pem)
            stack.callback(containerd.distrust, name)
            routes = hostile.serving("app", "1", APP) | hostile.serving("app", "2", APP)
            certificate = authority.issue(name)
            stack.enter_context(Scripted(routes, address=address, name=name, certificate=certificate))
        yield


@pytest.mark.usefixtures("ten_registries")
def test_twenty_images_on_ten_registries_end_with_the_deadline_the_healthy_first(agent: Agent) -> None:
    outcome = agent.diagnose(*IMAGES, timeout=DEADLINE)
    told = {each["image"]: each for each in outcome.images}
    assert list(told) == IMAGES
    assert outcome.status == 1
    assert [each["cause"] for each in outcome.images] == ["connect_timeout"] * 4 + [None] * 16
    assert max(each["seconds"] for each in outcome.images) < DEADLINE + 1
    assert outcome.seconds < DEADLINE + 1 + START
    assert max(told[name]["seconds"] for name in IMAGES[4:]) < DEADLINE - 1


@pytest.mark.usefixtures("ten_registries")
def test_for_people_each_image_is_printed_as_soon_as_it_is_known(agent: Agent) -> None:
    options = ("--runtime-endpoint", agent.endpoint, "--timeout", str(DEADLINE))
    command = [sys.executable, "-m", "agent", "diagnose", *options, *IMAGES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE) as process:
        assert process.stdout is not None
        lines = [(time.monotonic(), line) for line in process.stdout]
    verdicts = [(at, line.split()[0], line.split()[1]) for at, line in lines if not line.startswith(" ")]
    assert [verdict for _, verdict, _ in verdicts] == ["ok"] * 16 + ["bad"] * 4
    assert {name.removesuffix(":") for _, _, name in verdicts} == set(IMAGES)
    assert verdicts[16][0] - verdicts[15][0] > 1  # the healthy did not wait for the others
    assert process.returncode == 1


@pytest.mark.usefixtures("ten_registries")
def test_a_hundred_images_of_one_registry_find_the_way_to_it_once(agent: Agent) -> None:
    outcome = agent.diagnose(*[f"fast0.example/app:{1 + number % 2}" for number in range(100)], timeout=20)
    assert outcome.status == 0
    assert {each["summary"] for each in outcome.images} == {"can be pulled"}
    ways = {step["seconds"] for each in outcome.images for step in each["steps"] if step["step"] == "tls"}
    assert len(ways) == 1


def test_many_answers_that_are_each_in_time_do_not_outlast_the_deadline(agent: Agent, scripted: Scripted) -> None:
    """Ten redirects over one connection, each told after half a second: too much in all, and no one's fault."""

    def onward(connection: Connection, request: Request) -> None:
        connection.pause(0.5)
        hostile.redirect(f"{request.path}.")(connection, request)

    scripted.routes = {"GET /v2/": hostile.document({}), "/v2/*": onward, "HEAD /v2/*": onward}
    outcome = agent.diagnose(f"{scripted.name}/app:1", timeout=2)
    told = outcome.only
    assert (outcome.status, told["verdict"], told["cause"], told["scope"]) == (3, "unknown", "unknown", "-")
    assert (outcome.fall["step"], outcome.fall["host"]) == ("manifest", scripted.name)
    assert "the deadline of 2 s" in told["summary"]
    assert told["seconds"] < 3
