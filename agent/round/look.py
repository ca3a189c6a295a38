"""Look: one snapshot of the node as containerd sees it, before any check."""

from pathlib import Path

import grpc.aio

from agent.checks.view import Limits, View
from agent.model import Fault
from agent.node.clock import platform
from agent.node.containerd_config import config_path
from agent.node.processes import Process, peer_pid, read_process
from agent.node.proxies import ProxySettings
from agent.node.resolver import read_resolver
from agent.node.roots import HostRoot
from agent.node.trust import read_trust
from agent.registry.apart import Judge, judge_here
from agent.registry.platforms import Platform
from agent.registry.trust import Trust
from agent.round.verify import normal_or_raw
from agent.runtime.channel import find_endpoint, open_channel, socket_path
from agent.runtime.runtime import Runtime, meet


class Eyes:
    """What looking takes: the way to the runtime, and where the node's files are.

    ``endpoint`` is None for "find it", which is tried again as long as there is none. ``host_root`` is None for
    "as containerd sees them", by way of its process. ``agent`` is the User-Agent of our requests, ``judge`` who judges
    certificates.
    """

    judge: Judge = staticmethod(judge_here)

    def __init__(
        self, endpoint: str | None, timeout: float, host_root: Path | None, agent: str, limits: Limits
    ) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self.host_root = host_root
        self.agent = agent
        self.limits = limits
        self._channel: grpc.aio.Channel | None = None

    def socket(self) -> Path:
        """The runtime's socket. Raises `Fault` (``runtime_unavailable``) when there is none."""
        self.endpoint = self.endpoint or find_endpoint(self.host_root or Path("/"))
        return socket_path(self.endpoint)

    def channel(self) -> grpc.aio.Channel:
        """A channel to the runtime, opened once; it connects again by itself. Raises `Fault` as `socket`."""
        path = self.socket()
        if self._channel is None:
            self._channel = open_channel(str(path))
        return self._channel

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()


async def look(eyes: Eyes) -> View:
    """The node as it is now. What could not be read is in the view's remarks, or is a `Fault` in its runtime."""
    remarks: list[str] = []
    process = _process(eyes, remarks)
    root = HostRoot(_root(eyes, process, remarks))
    environ = process.environ if process else {}
    trust = read_trust(root, environ)
    runtime = await _meet(eyes, root.prefix)
    proxies = ProxySettings.from_environ(environ)
    return View(
        runtime=runtime,
        root=root,
        proxies=proxies,
        resolver=read_resolver(root),
        trust=Trust.load(*(pem for _, pem in trust.blobs)),
        platform=_platform(),
        certs_d=_certs_d(root, process, runtime),
        images_path=await _images_path(runtime),
        agent=eyes.agent,
        judge=eyes.judge,
        limits=eyes.limits,
        process=process,
        trust_store=trust,
        remarks=(*remarks, *trust.remarks, *proxies.remarks()),
    )


async def runtime_of(eyes: Eyes) -> Runtime | Fault:
    """The runtime alone, for what asks no registry."""
    unread: list[str] = []
    root = _root(eyes, _process(eyes, unread), unread)
    return await _meet(eyes, root)


def _process(eyes: Eyes, remarks: list[str]) -> Process | None:
    """containerd's process, found by who listens on the socket."""
    try:
        pid = peer_pid(eyes.socket())
        if pid is None:
            remarks.append("containerd runs in another PID namespace: its environment is not known (hostPID: true)")
            return None
        return read_process(pid)
    except Fault as fault:
        remarks.append(f"containerd's environment is not known: {fault.detail}")
        return None


def _root(eyes: Eyes, process: Process | None, remarks: list[str]) -> Path:
    if eyes.host_root is not None:
        return eyes.host_root
    if process is None:
        return Path("/")
    try:
        process.root.stat()
    except OSError as error:
        remarks.append(f"{process.root} cannot be entered ({error.strerror}): reading the files of / instead")
        return Path("/")
    return process.root


async def _meet(eyes: Eyes, root: Path) -> Runtime | Fault:
    try:
        return await meet(eyes.channel(), eyes.timeout, root, normal_or_raw)
    except Fault as fault:
        return fault


def _platform() -> Platform:
    found = platform()
    return Platform(found.os, found.architecture, found.variant)


def _certs_d(root: HostRoot, process: Process | None, runtime: Runtime | Fault) -> tuple[Path, ...]:
    told, version = (runtime.status.config, runtime.version.version) if isinstance(runtime, Runtime) else ({}, "")
    cmdline = process.cmdline if process else ()
    return tuple(Path(path) for path in config_path(root, cmdline, told, version))


async def _images_path(runtime: Runtime | Fault) -> str:
    """Where the images lie, as the runtime sees it; containerd's default when it does not tell."""
    try:
        told = await runtime.cri.image_filesystem() if isinstance(runtime, Runtime) else None
    except Fault:
        told = None
    return told or "/var/lib/containerd"
