"""Where this containerd looks for hosts.toml: what CRI says, else the configuration file of its command line.

containerd 1.x tells its registry configuration in CRI's verbose Status, 2.x does not any more; then the file is read
with the rules for ``config_path`` alone (imports are followed once, the last one wins). Source: containerd
pkg/cri/config (1.x), internal/cri/config (2.x).
"""

import posixpath
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from agent.node.roots import HostRoot

DEFAULT_FILE = "/etc/containerd/config.toml"
DEFAULT_PATH = "/etc/containerd/certs.d:/etc/docker/certs.d"
PLUGINS = ("io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri", "cri")
FILE_LIMIT = 1 << 20


def config_path(root: HostRoot, cmdline: Sequence[str], cri: Mapping[str, Any], version: str) -> tuple[str, ...]:
    """The directories of ``config_path``, as containerd sees them; empty means that certs.d is not read at all."""
    told = _told(cri)
    if told is not None:
        return _split(told)
    tables = _registry_tables(root, config_file(cmdline))
    paths = [str(table["config_path"]) for table in tables if table.get("config_path")]
    if paths:
        return _split(paths[-1])
    if any(table.get("mirrors") for table in tables) or not _has_default(version):
        return ()
    return _split(DEFAULT_PATH)


def config_file(cmdline: Sequence[str]) -> str:
    """The configuration file that a command line names (``-c F``, ``--config F``, ``--config=F``)."""
    for index, word in enumerate(cmdline):
        if word in {"-c", "--config"} and index + 1 < len(cmdline):
            return cmdline[index + 1]
        if word.startswith(("--config=", "-c=")):
            return word.partition("=")[2]
    return DEFAULT_FILE


def _told(cri: Mapping[str, Any]) -> str | None:
    registry = cri.get("registry")
    if not isinstance(registry, dict) or "configPath" not in registry:
        return None
    return str(registry["configPath"] or "")


def _registry_tables(root: HostRoot, file: str) -> list[dict[str, Any]]:
    main = _read(root, file)
    imports = main.get("imports")
    patterns = [text for text in imports if isinstance(text, str)] if isinstance(imports, list) else []
    files = [found for pattern in patterns for found in _expand(root, posixpath.join(posixpath.dirname(file), pattern))]
    return [table for content in (main, *(_read(root, found) for found in files)) for table in _tables(content)]


def _tables(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    plugins = content.get("plugins")
    found = [plugins.get(name) for name in PLUGINS] if isinstance(plugins, dict) else []
    registries = [plugin.get("registry") for plugin in found if isinstance(plugin, dict)]
    return [registry for registry in registries if isinstance(registry, dict)]


def _expand(root: HostRoot, pattern: str) -> tuple[str, ...]:
    """The files of an import; only the last part of a path may hold a ``*``."""
    folder, name = posixpath.split(pattern)
    if "*" not in name:
        return (pattern,)
    head, _, tail = name.partition("*")
    try:
        names = root.names(folder)
    except OSError:
        return ()
    return tuple(posixpath.join(folder, found) for found in names if found.startswith(head) and found.endswith(tail))


def _read(root: HostRoot, file: str) -> dict[str, Any]:
    """A TOML file; {} for one that is not there or does not parse (containerd would not have started with it)."""
    try:
        return tomllib.loads(root.read_text(file, FILE_LIMIT))
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def _has_default(version: str) -> bool:
    """Whether this containerd reads certs.d although nothing is configured: 2.2 and newer."""
    numbers = version.removeprefix("v").split(".")
    try:
        return (int(numbers[0]), int(numbers[1])) >= (2, 2)
    except (ValueError, IndexError):
        return False


def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split(":") if part)
