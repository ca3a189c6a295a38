"""The scene: one node, five registries of which one is well, and three cached images that are damaged on disk."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from stage.authority import Authority
from stage.containerd import Containerd, PullError
from stage.hostile import Scripted, rate_limited
from stage.images import Built, filler, image, layer, pause
from stage.names import Nameserver
from stage.namespaces import StageError
from stage.proxies import Proxy
from stage.registries import Registry

HEALTHY, PRIVATE, BUSY, OUTSIDE = "images.example", "private.example", "busy.example", "outside.example"
NOWHERE = "no-such-name.example"  # what the name server does not know
PROXY, PROXY_ADDRESS = "proxy.example", "10.99.0.5"
ADDRESSES = {
    HEALTHY: "10.99.0.2",
    PRIVATE: "10.99.0.3",
    BUSY: "10.99.0.6",
    OUTSIDE: "10.99.0.7",
    PROXY: PROXY_ADDRESS,
}
CONFIG = "demo.yaml"
PORT = 9100


def app(name: str) -> Built:
    """A small image that shares nothing with the others."""
    return image(layer({f"etc/{name}.conf": f"name = {name}\n".encode()}), filler(2, name))


WEB, CART, SEARCH = app("web"), app("cart"), app("search")


@dataclass(frozen=True, slots=True)
class Scene:
    """What the story needs of the node; ``folder`` holds all of it, with the settings file `CONFIG`."""

    folder: Path
    containerd: Containerd

    def damage(self) -> None:
        """What a power cut or a dying disk does: a blob's bytes change, another's end is lost, a file is empty."""
        flipped = self.containerd.blob(CART.layers[1].digest)
        content = bytearray(flipped.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
        flipped.write_bytes(content)
        cut = self.containerd.blob(SEARCH.layers[1].digest)
        cut.write_bytes(cut.read_bytes()[: 1 << 20])
        unpacked = self.containerd.root / "io.containerd.snapshotter.v1.overlayfs/snapshots"
        next(unpacked.glob("*/fs/etc/web.conf")).write_bytes(b"")

    def refusal(self, reference: str) -> str:
        """The text with which containerd refuses a pull: what `kubectl describe pod` shows."""
        try:
            self.containerd.pull(reference)
        except PullError as error:
            return error.text
        raise StageError(f"containerd pulled {reference}, which it should not be able to")


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Set it all up in `folder`; nothing of it runs or is mounted afterwards."""
    with ExitStack() as stack:
        authority = Authority("Demo CA")
        stack.enter_context(Nameserver(ADDRESSES))
        stack.enter_context(Proxy(address=PROXY_ADDRESS, denied=[OUTSIDE]))
        certificate = authority.issue(BUSY)
        stack.enter_context(
            Scripted({}, address=ADDRESSES[BUSY], name=BUSY, certificate=certificate, default=rate_limited())
        )
        healthy, private, outside = (
            stack.enter_context(_registry(folder, name, authority)) for name in (HEALTHY, PRIVATE, OUTSIDE)
        )
        containerd = stack.enter_context(
            Containerd(folder / "node", environment=_environment(), sandbox_image=f"{HEALTHY}/stage/pause:1")
        )
        for name in (HEALTHY, BUSY, OUTSIDE):  # not PRIVATE: that is its trouble
            containerd.trust(name, authority.pem)
        healthy.push("stage/pause", "1", pause())
        for registry in (private, outside):
            registry.push("shop/web", "1.4", WEB)
        for name, built in (("web", WEB), ("cart", CART), ("search", SEARCH)):
            containerd.pull(healthy.push(f"shop/{name}", "1.4", built))
        (folder / CONFIG).write_text(_settings(folder, containerd))
        yield Scene(folder, containerd)


def _registry(folder: Path, name: str, authority: Authority) -> Registry:
    address = ADDRESSES[name]
    return Registry(folder / name, address=address, name=name, certificate=authority.issue(name, ips=[address]))


def _environment() -> dict[str, str]:
    """What a drop-in file of containerd's systemd unit sets on a node behind a proxy."""
    return {"HTTPS_PROXY": f"http://{PROXY}:3128", "NO_PROXY": ",".join((HEALTHY, PRIVATE, BUSY, NOWHERE))}


def _settings(folder: Path, containerd: Containerd) -> str:
    return yaml.safe_dump(
        {
            "state_dir": str(folder / "state"),
            "runtime": {"endpoint": containerd.endpoint},
            "listen": {"port": PORT},
            "probe": {"registries": [HEALTHY, PRIVATE, BUSY, OUTSIDE, NOWHERE]},
        }
    )
