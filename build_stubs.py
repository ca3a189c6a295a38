"""Generates the gRPC stubs of proto/ into agent/rpc/ whenever the project is built or installed."""

import importlib.resources
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def protoc(root: Path) -> None:
    """Compile every file of proto/; well-known types come with grpcio-tools."""
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    files = [str(path.relative_to(root / "proto")) for path in sorted((root / "proto").rglob("*.proto"))]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{well_known}",
         f"--python_out={root}", f"--mypy_out=quiet:{root}",
         f"--grpc_python_out={root}", f"--mypy_grpc_out=quiet:{root}", *files],
        cwd=root / "proto", check=True,
    )  # fmt: skip


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own type is generic by accident
    """Hatchling calls this before it packs a wheel, an sdist or an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        protoc(Path(self.root))
