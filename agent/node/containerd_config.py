"""Where this containerd looks for hosts.toml, and whether it writes layers out: by CRI, else by its configuration file.

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
DIFF_SERVICE = "io.containerd.service.v1.diff-service"
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


def syncs_layers(root: HostRoot, cmdline: Sequence[str], cri: Mapping[str, Any], version: str) -> bool | None:
    """Whether unpacked layers are written out to the disk before they are called done; None before 1.7, which cannot.

    ``image_pull_with_sync_fs`` of CRI's images, or ``sync_fs`` of the diff service (2.x).
    """
    if _release(version) < (1, 7):
        return None
    if "imagePullWithSyncFs" in cri:
        return bool(cri["imagePullWithSyncFs"])
    plugins = [content.get("plugins") for content in _files(root, config_file(cmdline))]
    keys = [(name, "image_pull_with_sync_fs") for name in PLUGINS] + [(DIFF_SERVICE, "sync_fs")]
    tables = [(each.get(name), key) for each in plugins if isinstance(each, dict) for name, key in keys]
    return any(isinstance(table, dict) and bool(table.get(key)) for table, key in tables)


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
    return [table for content in _files(root, file) for table in _tables(content)]


def _files(root: HostRoot, file: str) -> list[dict[str, Any]]:
    """The configuration file, and those that it imports."""
    main = _read(root, file)
    imports = main.get("imports")
    patterns = [text for text in imports if isinstance(text, str)] if isinstance(imports, list) else []
    files = [found for pattern in patterns for found in _expand(root, posixpath.join(posixpath.dirname(file), pattern))]
    return [main, *(_read(root, found) for found in files)]


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
    return _release(version) >= (2, 2)


def _release(version: str) -> tuple[int, int]:
    """Major and minor number; (0, 0) for what is no version."""
    numbers = version.removeprefix("v").split(".")
    try:
        return int(numbers[0]), int(numbers[1])
    except (ValueError, IndexError):
        return 0, 0


def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split(":") if part)
