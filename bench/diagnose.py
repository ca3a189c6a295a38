"""Twenty images on ten registries, two of which are silent: all are answered within the one deadline."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench.node import COMMAND, Node, node
from bench.promise import Promise
from stage import hostile
from stage.hostile import Scripted
from stage.images import Built, image, layer

HEALTHY, SILENT, DEADLINE = 8, 2, 5.0


def run() -> Iterator[Promise]:
    """Two images on each of eight healthy registries and two that drop every packet; deadline 5 s."""
    with node() as made, ExitStack() as stack:
        names = [name for number in range(HEALTHY) for name in _healthy(made, stack, number)]
        names += [f"10.99.1.99:{5000 + number}/app:{tag}" for number in range(SILENT) for tag in (1, 2)]
        command = [*COMMAND, "diagnose", "--timeout", str(DEADLINE), "--runtime-endpoint", made.containerd.endpoint]
        began = time.monotonic()
        done = subprocess.run([*command, "--output", "json", *reversed(names)], capture_output=True, check=False)
        seconds = time.monotonic() - began
    found = json.loads(done.stdout)["images"]
    well = [each["seconds"] for each in found if each["verdict"] == "ok"]
    assert (len(well), len(found)) == (HEALTHY * 2, (HEALTHY + SILENT) * 2), found
    yield Promise("the whole command, start included", seconds, "s", most=DEADLINE + 1)
    yield Promise("the slowest of the healthy", max(well), "s", most=DEADLINE / 2)


def _healthy(made: Node, stack: ExitStack, number: int) -> Iterator[str]:
    address, host = f"10.99.0.{20 + number}", f"r{number}.example"
    made.names.add(host, address)
    routes = {**hostile.serving("app", "1", _app(1)), **hostile.serving("app", "2", _app(2))}
    stack.enter_context(Scripted(routes, address=address, name=host, certificate=made.authority.issue(host)))
    made.containerd.trust(host, made.authority.pem)
    yield from (f"{host}/app:{tag}" for tag in (1, 2))


def _app(number: int) -> Built:
    return image(layer({"app": bytes([number]) * 1000}))
