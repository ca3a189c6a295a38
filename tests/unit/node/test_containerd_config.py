"""What containerd is configured to do, by CRI's words or by its file."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.node.containerd_config import syncs_layers
from agent.node.roots import HostRoot

V2_CRI = '[plugins."io.containerd.grpc.v1.cri"]\n  image_pull_with_sync_fs = true\n'
V3_CRI = '[plugins."io.containerd.cri.v1.images"]\n  image_pull_with_sync_fs = true\n'
V3_DIFF = '[plugins."io.containerd.service.v1.diff-service"]\n  sync_fs = true\n'


@pytest.mark.parametrize(
    ("version", "cri", "files", "expected"),
    [
        pytest.param("1.6.20~ds1", {}, {"config.toml": V2_CRI}, None, id="1.6 cannot, whatever its file says"),
        pytest.param("1.7.24", {"imagePullWithSyncFs": True}, {}, True, id="1.7 tells it by CRI"),
        pytest.param("1.7.24", {"imagePullWithSyncFs": False}, {"config.toml": V2_CRI}, False, id="CRI is believed"),
        pytest.param("2.1.9", {}, {}, False, id="off where nothing is configured"),
        pytest.param("2.1.9", {}, {"config.toml": V3_CRI}, True, id="CRI's images of version 3"),
        pytest.param("2.1.9", {}, {"config.toml": V2_CRI}, True, id="a file of version 2 is migrated"),
        pytest.param("2.1.9", {}, {"config.toml": V3_DIFF}, True, id="the diff service"),
        pytest.param(
            "2.1.9", {}, {"config.toml": 'imports = ["conf.d/*.toml"]\n', "conf.d/a.toml": V3_CRI}, True, id="an import"
        ),
        pytest.param("2.1.9", {}, {"config.toml": "plugins = 3\n"}, False, id="plugins that are none"),
    ],
)
def test_whether_unpacked_layers_are_written_out(
    tmp_path: Path, version: str, cri: Mapping[str, object], files: Mapping[str, str], expected: bool | None
) -> None:
    for name, text in files.items():
        file = tmp_path / "etc/containerd" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert syncs_layers(HostRoot(tmp_path), ("containerd",), cri, version) is expected
