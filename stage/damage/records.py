"""What happens to containerd's own records, by its API or while it is down."""

from stage.containerd import Containerd
from stage.namespaces import StageError

LABEL = "containerd.io/gc.ref.snapshot.overlayfs"


def remove_snapshots(containerd: Containerd, *chains: str) -> None:
    """The records of unpacked layers, which have to be named with those above them first.

    A collection may be quicker, and leaves the parent linked to a child that is gone: then it has to take that too.
    """
    for chain in chains:
        try:
            containerd.ctr("snapshots", "remove", chain)
        except StageError as error:
            if "with child" in str(error):
                collect(containerd)
            if chain in containerd.ctr("snapshots", "list"):
                raise


def collect(containerd: Containerd) -> None:
    """Have containerd collect its garbage now, and wait for that."""
    containerd.ctr("leases", "create", "--id", "collect")
    containerd.ctr("leases", "delete", "--sync", "collect")


def point_label_elsewhere(containerd: Containerd, config: str) -> None:
    """The config's label leads to a snapshot that never was: the real chain may be collected at any time."""
    containerd.ctr("content", "label", config, f"{LABEL}=sha256:{'0' * 64}")


def drop_label(containerd: Containerd, config: str) -> None:
    """As if the image had never been unpacked here."""
    containerd.ctr("content", "label", config, f"{LABEL}=")


def lose_snapshotters_rows(containerd: Containerd) -> None:
    """containerd's metadata names snapshots of which the snapshotter knows nothing: its own database is gone."""
    containerd.stop()
    (containerd.root / "io.containerd.snapshotter.v1.overlayfs/metadata.db").unlink()
    containerd.start()
