"""Inventory: what this node would use for a pull, as containerd sees it. No credentials, no secrets."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from agent.checks.disk import room
from agent.checks.view import View
from agent.model import Fault
from agent.node import disk
from agent.node.clock import boot_id, uptime
from agent.node.containerd_config import syncs_layers


def of(view: View, endpoint: str | None) -> dict[str, dict[str, Any]]:
    """Sections of names and values: runtime, proxy, resolver, mirrors, trust, disk, clock, remarks."""
    return {
        "runtime": _runtime(view, endpoint),
        "proxy": _proxy(view),
        "resolver": _resolver(view),
        "mirrors": _mirrors(view),
        "trust": _trust(view),
        "disk": _disk(view),
        "clock": _clock(),
        "remarks": {str(number): text for number, text in enumerate(view.remarks, 1)},
    }


def rows(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names and values of a section, in words."""
    for name, value in section.items():
        yield name.replace("_", " "), _in_words(value)


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)


def _runtime(view: View, endpoint: str | None) -> dict[str, Any]:
    process = view.process
    known = {
        "endpoint": endpoint,
        "platform": str(view.platform),
        "pid": process.pid if process else None,
        "command": list(process.cmdline) if process else [],
        "files": str(view.root.prefix),
    }
    if isinstance(view.runtime, Fault):
        return {**known, "problem": view.runtime.detail}
    told = {"name": view.runtime.version.name, "version": view.runtime.version.version}
    return {**known, **told, "syncs_layers": layers_are_synced(view)}


def layers_are_synced(view: View) -> bool | None:
    """Whether containerd waits for the disk when it unpacks; None where it cannot, or is away."""
    if isinstance(view.runtime, Fault):
        return None
    cmdline = view.process.cmdline if view.process else ()
    return syncs_layers(view.root, cmdline, view.runtime.status.config, view.runtime.version.version)


def _proxy(view: View) -> dict[str, Any]:
    """The proxies without their user and password."""
    settings = {"https": view.proxies.https, "http": view.proxies.http}
    shown = {scheme: setting.proxy.shown if setting.proxy else None for scheme, setting in settings.items()}
    return {**shown, "no_proxy": view.proxies.no_proxy}


def _resolver(view: View) -> dict[str, Any]:
    conf = view.resolver.conf
    return {"nameservers": list(conf.servers), "search": list(conf.search), "ndots": conf.ndots}


def _mirrors(view: View) -> dict[str, Any]:
    """Where hosts.toml files are looked for, and the registries that have a directory there."""
    found: list[str] = []
    for path in view.certs_d:
        with contextlib.suppress(OSError):  # a directory that is not there has none
            found.extend(view.root.names(path))
    return {"config_path": [str(path) for path in view.certs_d], "registries": found}


def _clock() -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"now": now, "up_for_seconds": round(uptime()), "boot_id": boot_id()}


def _trust(view: View) -> dict[str, Any]:
    store = view.trust_store
    paths = [path for path, _ in store.blobs] if store else []
    changed = bool(store and view.process and store.newest > view.process.started)
    return {"certificates": len(view.trust), "files": len(paths), "changed_since_start": changed}


def _disk(view: View) -> dict[str, Any]:
    try:
        found = room(view)
    except Fault as fault:
        return {"path": view.images_path, "problem": fault.detail}
    return {
        "path": found.path,
        "mount": found.mount,
        "free": disk.human(found.free),
        "total": disk.human(found.total),
        "inodes_free": found.inodes_free,
        "read_only": found.read_only,
    }
