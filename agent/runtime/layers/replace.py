"""Where files stay that were replaced in an unpacked layer, until the replacement is known to be good.

The quarantine lies beside the layer's directory (``…/snapshots/7/node-agent-quarantine``): on the same file system,
seen by no container, and removed by containerd with the snapshot. `agent.runtime.layers.mend` fills it, in a child
process.
"""

import contextlib
import shutil
from pathlib import Path

QUARANTINE = "node-agent-quarantine"


def forget_replaced(folder: Path) -> None:
    """Delete what `replace_files` put aside of the layer in `folder`; nothing is there the second time.

    Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder.parent / QUARANTINE)
