"""The tree of settings: every key, its default, unit, range and meaning, in this one place."""

from typing import Annotated, Literal

import msgspec

from agent.config.scalars import Bytes, Seconds

Level = Literal["debug", "info", "warning", "error"]

# What a text must look like, and the words for it.
_SOCKET = (r"unix:///.+|/.+", "write the path of a socket, such as unix:///run/containerd/containerd.sock")
_FOLDER = (r"/.*", "write a path that starts with /")
_IN_USE = (r"leave|replace-files", "write leave or replace-files")
_ADDRESS = (r"[0-9.]+|[0-9A-Fa-f:.]+", "write an IP address, such as 0.0.0.0 or ::")


def _means(
    description: str,
    low: float | None = None,
    high: float | None = None,
    form: tuple[str, str] | None = None,
) -> msgspec.Meta:
    """A description, with the range that is allowed, ends included, or the form of a text."""
    return msgspec.Meta(description=description, extra={"low": low, "high": high, "form": form})


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the settings file."""


class Runtime(Section, frozen=True):
    """How to reach containerd."""

    endpoint: Annotated[
        str | None,
        _means(
            "Socket of containerd, such as unix:///run/containerd/containerd.sock; found by itself if left out",
            form=_SOCKET,
        ),
    ] = None
    timeout: Annotated[Seconds, _means("Limit of one call of the runtime; pulling has its own", 0.1, 600)] = Seconds(10)


class Listen(Section, frozen=True):
    """Where /metrics, /healthz and /readyz are served."""

    address: Annotated[str, _means("Address to listen on; :: takes IPv4 and IPv6", form=_ADDRESS)] = "0.0.0.0"  # noqa: S104
    port: Annotated[int, _means("TCP port to listen on", 1, 65535)] = 9100


class Log(Section, frozen=True):
    """What is written to the standard error stream."""

    level: Annotated[Level, _means("The least important lines that are written")] = "info"


class Probe(Section, frozen=True):
    """Continuous probing of registries from this node."""

    registries: Annotated[
        tuple[str, ...], _means("Registry hosts, or images, that are always probed, such as registry.example:5000")
    ] = ()
    cached_images: Annotated[bool, _means("Probe also the registries that the cached images come from")] = True
    interval: Annotated[Seconds, _means("Time between two probes of one registry", 10, 86400)] = Seconds(300)
    jitter: Annotated[
        float, _means("Share of the interval by which each wait is shortened or lengthened at random", 0, 1)
    ] = 0.2
    deadline: Annotated[Seconds, _means("Limit of one probe, all its steps together", 1, 600)] = Seconds(30)
    concurrency: Annotated[int, _means("Probes that run at the same time", 1, 64)] = 8
    per_registry_per_hour: Annotated[int, _means("Most requests to one registry in an hour", 1, 3600)] = 30


class Connect(Section, frozen=True):
    """Connections to registries and proxies."""

    timeout: Annotated[Seconds, _means("Limit of connecting to one address", 0.1, 120)] = Seconds(10)


class Dns(Section, frozen=True):
    """Questions to the name servers of the node."""

    timeout: Annotated[Seconds, _means("Limit of one lookup, all servers and search names together", 0.1, 120)] = (
        Seconds(5)
    )


class Verify(Section, frozen=True):
    """Reading the cached images again, to find what is corrupt."""

    bytes_per_second: Annotated[
        Bytes | None, _means("Most bytes that a command reads in a second; no limit if left out", 65536)
    ] = None
    concurrency: Annotated[int, _means("Files that are read at the same time", 1, 16)] = 2
    interval: Annotated[
        Seconds, _means("Time after which the daemon reads an image in full again", 60, 365 * 86400)
    ] = Seconds(7 * 86400)
    background_bytes_per_second: Annotated[
        Bytes, _means("Most bytes that the daemon reads in a second when nothing presses; 0KiB turns that off", 0)
    ] = Bytes(10 * 1024 * 1024)
    background_cpu_share: Annotated[
        float, _means("Share of one processor core that the daemon takes for that at most", 0.001, 1)
    ] = 0.05
    boot_bytes_per_second: Annotated[
        Bytes,
        _means(
            "Most bytes that the daemon reads in a second after an unclean shutdown of the node, for an image whose "
            "container crashed, and while it mends one",
            65536,
        ),
    ] = Bytes(100 * 1024 * 1024)
    crash_interval: Annotated[
        Seconds, _means("Time between two looks for containers that ended as damaged files make them end", 1, 3600)
    ] = Seconds(30)


class Repair(Section, frozen=True):
    """Mending what is corrupt."""

    pull_timeout: Annotated[Seconds, _means("Limit of pulling one image again", 10, 86400)] = Seconds(600)
    automatic: Annotated[
        bool,
        _means("Whether the daemon mends what it finds corrupt, where that evicts nothing; else it only tells"),
    ] = True
    in_use: Annotated[
        str,
        _means(
            "What to do with corrupt files of an image that containers use: leave, or replace-files to put the right "
            "ones in their place under the containers' feet",
            form=_IN_USE,
        ),
    ] = "leave"
    per_hour: Annotated[int, _means("Most images that the daemon mends in an hour", 1, 1000)] = 10


class Settings(Section, frozen=True):
    """The whole tree. Durations are float seconds, sizes int bytes."""

    host_root: Annotated[
        str | None,
        _means(
            "Folder at which the node's files are found; as containerd's process sees them if left out", form=_FOLDER
        ),
    ] = None
    state_dir: Annotated[str, _means("Folder on the node's disk for what has to outlive the agent", form=_FOLDER)] = (
        "/var/lib/node-agent"
    )
    runtime: Runtime = Runtime()
    listen: Listen = Listen()
    log: Log = Log()
    probe: Probe = Probe()
    connect: Connect = Connect()
    dns: Dns = Dns()
    verify: Verify = Verify()
    repair: Repair = Repair()
