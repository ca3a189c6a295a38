"""What a round knows of the node: read once, before the checks, and the same for all of them."""

from dataclasses import dataclass, field
from pathlib import Path

from agent.model import Fault
from agent.node.processes import Process
from agent.node.proxies import ProxySettings
from agent.node.resolver import Resolver
from agent.node.roots import HostRoot
from agent.node.trust import TrustStore
from agent.registry.apart import Judge, judge_here
from agent.registry.platforms import Platform
from agent.registry.trust import Trust
from agent.runtime.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that single steps may take, within the deadline of the round."""

    connect: float = 10.0
    dns: float = 5.0
    answer: float = 15.0
    pull: float = 600.0


@dataclass(frozen=True, slots=True)
class View:
    """The node as containerd sees it.

    ``runtime`` is the runtime or the fault that kept it from answering, ``process`` its process if it can be seen.
    ``certs_d`` are the directories of hosts.toml and ``images_path`` the image store, as containerd sees them.
    ``remarks`` say what could not be read or has no effect, and why.
    """

    runtime: Runtime | Fault
    root: HostRoot
    proxies: ProxySettings
    resolver: Resolver
    trust: Trust
    platform: Platform
    certs_d: tuple[Path, ...]
    images_path: str = "/var/lib/containerd"
    agent: str = "node-agent"
    judge: Judge = judge_here
    limits: Limits = field(default_factory=Limits)
    process: Process | None = None
    trust_store: TrustStore | None = None
    remarks: tuple[str, ...] = ()
