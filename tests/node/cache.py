"""The real command on one containerd, and what proves its work without the product's own code."""

import hashlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stage.containerd import Containerd
from stage.images import Built, filler, image, layer
from stage.registries import Registry

Cached = Callable[[Built], str]
"""Pushes an image under a name of its own, has the node's containerd pull it, and answers the name."""


@dataclass
class Node:
    """The command on one containerd, with a ledger of its own."""

    containerd: Containerd
    folder: Path
    settings: str = ""  # more lines of its settings file

    def command(self, *arguments: str) -> list[str]:
        settings = self.folder / "settings.yaml"
        settings.write_text(f"state_dir: {self.folder}/state\n{self.settings}")
        where = ["--config", str(settings), "--runtime-endpoint", self.containerd.endpoint]
        return [sys.executable, "-m", "agent", *arguments, *where, "--output", "json"]

    def run(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=120, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout)

    def only(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """As `run`, for one image: the exit status and the report on it."""
        status, document = self.run(*arguments)
        (report,) = document["images"]
        return status, report

    def records(self) -> dict[str, str]:
        """Name → target digest, as containerd lists them."""
        lines = self.containerd.ctr("images", "list").splitlines()[1:]
        return {line.split()[0]: line.split()[2] for line in lines}

    def blobs_of(self, name: str) -> list[str]:
        """The digests of a single manifest's image: itself, its config and its layers."""
        target = self.records()[name]
        manifest = json.loads(self.containerd.blob(target).read_bytes())
        return [target, manifest["config"]["digest"], *(each["digest"] for each in manifest["layers"])]

    def sound(self, built: Built) -> bool:
        """Whether every blob of an image lies in the store with the right bytes. Not the product's own code."""
        return all(
            self.containerd.blob(digest).is_file()
            and hashlib.sha256(self.containerd.blob(digest).read_bytes()).hexdigest() == digest.removeprefix("sha256:")
            for digest in built.blobs
        )

    def left_overs(self) -> list[str]:
        aside = self.containerd.root / "io.containerd.content.v1.content" / "node-agent-quarantine"
        ledger = self.folder / "state" / "ledger.json"
        debts = json.loads(ledger.read_text())["debts"] if ledger.exists() else []
        return [*(path.name for path in aside.glob("*")), *(debt["id"] for debt in debts)]


def push(registry: Registry, built: Built) -> str:
    """Push an image under a name that no other has."""
    return registry.push(f"cached/image-{secrets.token_hex(4)}", "1", built)


def app(*, seed: str | None = None) -> Built:
    seed = seed or f"{time.monotonic_ns()}"
    return image(layer({"bin/app": seed.encode() * 2000}), filler(1, seed))


def faults(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What a report found: causes and subjects, in order."""
    return sorted((finding["cause"], finding["subject"]) for finding in report["findings"])


@contextmanager
def down(registry: Registry) -> Iterator[None]:
    """Whatever is done meanwhile is done without the registry."""
    registry.stop()
    try:
        yield
    finally:
        registry.start()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
