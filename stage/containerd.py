"""A real containerd with its CRI, alone in a folder: what the node under diagnosis runs."""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import grpc

from agent.rpc import cri_pb2, cri_pb2_grpc
from stage.leftovers import kill_tree, remove_cgroup, shims, unmount_below
from stage.namespaces import SEARCHED, StageError
from stage.processes import Program

NOTHING: Mapping[str, str] = MappingProxyType({})
SANDBOX_IMAGE = "registry.example/stage/pause:1"
_LONGEST_SOCKET = 107 - len(".ttrpc")  # sun_path; containerd makes a second socket with this ending

_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
# Snapshotters and listeners that the stage never uses only cost start-up time.
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{socket}"
# From 2.0 on it listens for plugins, wherever its own folders are, at one place of the machine.
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
  # Inside another container the kernel may not let scores be lowered.
  restrict_oom_score_adj = true
{cri_lines}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/cni/bin"
    conf_dir = "{folder}/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
{containerd_lines}
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{certs_d}"
{tables}
"""


class PullError(Exception):
    """containerd did not pull: its gRPC status (``code``) and its own ``text``, as the kubelet gets them."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Containerd:
    """A containerd of one's own; started on entering, gone with all its files and mounts on leaving.

    ``cri_lines`` go into the CRI plugin's table (``max_concurrent_downloads = 1``), ``containerd_lines`` into its
    ``containerd`` table (``discard_unpacked_layers = true``), ``tables`` after everything; ``config``
    replaces the whole file, its ``{root}``, ``{state}``, ``{socket}``, ``{folder}`` and ``{certs_d}`` filled in.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binary: str = "containerd",
        environment: Mapping[str, str] = NOTHING,
        sandbox_image: str = SANDBOX_IMAGE,
        cri_lines: str = "",
        containerd_lines: str = "",
        tables: str = "",
        config: str | None = None,
    ) -> None:
        self.folder = folder
        self.root, self.state, self.certs_d = folder / "root", folder / "state", folder / "certs.d"
        self.socket, self.config_file = folder / "c.sock", folder / "config.toml"
        if len(str(self.socket)) > _LONGEST_SOCKET:
            raise StageError(f"the path of a socket is limited to {_LONGEST_SOCKET} bytes: {self.socket}")
        self._config = _CONFIG if config is None else config
        if not all(place in self._config for place in ("{root}", "{state}", "{socket}")):
            raise StageError("a config without {root}, {state} and {socket} would write to the machine's own folders")
        self._lines = {
            "sandbox_image": sandbox_image,
            "cri_lines": cri_lines,
            "containerd_lines": containerd_lines,
            "tables": tables,
        }
        # Its ctr and its shims lie beside a binary that is named by its path: both are looked for there first.
        self._path = os.pathsep.join([str(Path(binary).parent), SEARCHED] if os.sep in binary else [SEARCHED])
        command = (binary, "--config", str(self.config_file))
        log = folder / "containerd.log"
        self.program = Program(*command, log=log, environment={"PATH": self._path} | dict(environment))

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        return self.program.pid

    @property
    def cgroup(self) -> str:
        """Where `Pod` puts its containers, so that none is left behind."""
        return "-".join(self.folder.parts[1:])

    @property
    def log(self) -> str:
        """All it has said so far."""
        return self.program.log.read_text(errors="replace")

    def __enter__(self) -> Self:
        self.certs_d.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(self._filled())
        try:
            self.start()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._clear()

    def start(self) -> None:
        self.program.start(self._answers)

    def stop(self) -> None:
        self.program.stop()

    def kill(self) -> None:
        """Kill it as a crash of the node would."""
        self.program.kill()

    def restart(self, environment: Mapping[str, str] | None = None) -> None:
        """Stop and start it, with another environment if one is given."""
        self.stop()
        if environment is not None:
            self.program.environment = {"PATH": self._path} | dict(environment)
        self.start()

    def ctr(self, *arguments: str, namespace: str = "k8s.io") -> str:
        """Run ``ctr`` against it and give its output; `StageError` with ctr's words if that fails."""
        program = shutil.which("ctr", path=self._path) or "ctr"
        command = [program, "--address", str(self.socket), "--namespace", namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StageError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def drop_view(self, key: str) -> None:
        """Remove a view that nothing holds, unless containerd's collector was quicker."""
        try:
            self.ctr("snapshots", "remove", key)
        except StageError as error:
            if "not found" not in str(error):
                raise

    def hosts(self, registry: str, toml: str) -> Path:
        """Write a registry's ``hosts.toml``; its folder is ``host``, ``host_port_`` or ``_default``."""
        folder = self.hosts_folder(registry)
        (folder / "hosts.toml").write_text(toml)
        return folder / "hosts.toml"

    def hosts_folder(self, registry: str) -> Path:
        host, colon, port = registry.partition(":")
        folder = self.certs_d / (f"{host}_{port}_" if colon else host)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def trust(self, registry: str, pem: bytes) -> None:
        """Make it accept a private CA for a registry, the way an operator does."""
        authority = self.hosts_folder(registry) / "ca.crt"
        authority.write_bytes(pem)
        # containerd 1.6 refuses a file without a [host] table; the server is tried after it and needs the CA too.
        url = f"https://{registry}"
        self.hosts(registry, f'server = "{url}"\nca = "{authority}"\n[host."{url}"]\n  ca = "{authority}"\n')

    def distrust(self, registry: str) -> None:
        """Forget everything said about a registry's hosts."""
        shutil.rmtree(self.hosts_folder(registry))

    def pull(self, image: str, username: str = "", password: str = "", *, seconds: float = 60) -> str:
        """Pull through CRI as the kubelet does and give the image's ID; `PullError` when that fails."""
        request = cri_pb2.PullImageRequest(
            image=cri_pb2.ImageSpec(image=image),
            auth=cri_pb2.AuthConfig(username=username, password=password) if username else None,
        )
        with grpc.insecure_channel(self.endpoint) as channel:
            try:
                return cri_pb2_grpc.ImageServiceStub(channel).PullImage(request, timeout=seconds).image_ref
            except grpc.RpcError as error:
                raise PullError(error.code(), error.details() or "") from None

    def remove(self, image: str) -> None:
        """Remove an image through CRI, with all its names."""
        request = cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=image))
        with grpc.insecure_channel(self.endpoint) as channel:
            cri_pb2_grpc.ImageServiceStub(channel).RemoveImage(request, timeout=30)

    def knows(self, image: str) -> bool:
        """Whether CRI answers for this image, which may differ from what its own records say."""
        request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=image))
        with grpc.insecure_channel(self.endpoint) as channel:
            return bool(cri_pb2_grpc.ImageServiceStub(channel).ImageStatus(request, timeout=30).image.id)

    def blob(self, digest: str) -> Path:
        """Where its content store has a blob."""
        return self.root / "io.containerd.content.v1.content/blobs" / digest.replace(":", "/")

    def _filled(self) -> str:
        text = self._config
        places = {name: str(getattr(self, name)) for name in ("root", "state", "socket", "folder", "certs_d")}
        for name, value in (places | self._lines).items():
            text = text.replace("{" + name + "}", value)
        return text

    def _answers(self) -> bool:
        if not _accepts(self.socket):  # gRPC would wait a second before its next try
            return False
        with grpc.insecure_channel(self.endpoint) as channel:
            try:
                cri_pb2_grpc.RuntimeServiceStub(channel).Status(cri_pb2.StatusRequest(), timeout=2)
            except grpc.RpcError:  # listening, but CRI is still loading
                return False
        return True

    def _clear(self) -> None:
        for shim in shims(self.socket):
            kill_tree(shim)
        remove_cgroup(self.cgroup)
        unmount_below(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
