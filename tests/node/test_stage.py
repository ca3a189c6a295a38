"""The stage itself: if these fail, no other test of the node says anything."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stage.authority import Authority
from stage.containerd import Containerd, PullError
from stage.images import FOREIGN_PLATFORM, PLATFORM, digest, filler, image, index, layer, pause
from stage.names import HOSTS
from stage.namespaces import BLACK_HOLE, StageError, enter
from stage.pods import Pod
from stage.processes import Program
from stage.registries import Registry

APP = image(layer({"bin/app": b"#!/bin/sh\n", "etc/app/settings": b"a = 1\n"}), layer({"share/notes": b"second"}))
SECRET = ("robot", "s3cret")


def pull_error(containerd: Containerd, reference: str, *secret: str) -> str:
    with pytest.raises(PullError) as caught:
        containerd.pull(reference, *secret)
    return caught.value.text


class TestGround:
    def test_only_our_own_addresses_can_be_reached(self) -> None:
        with socket.socket() as outside:
            outside.settimeout(2)
            with pytest.raises(OSError, match="unreachable"):
                outside.connect(("192.0.2.1", 443))

    def test_entering_again_changes_nothing(self) -> None:
        before = Path("/proc/thread-self/ns/net").readlink()
        enter()
        assert Path("/proc/thread-self/ns/net").readlink() == before

    def test_the_black_hole_swallows_a_connect_without_a_word(self) -> None:
        with socket.socket() as lost:
            lost.settimeout(0.5)
            with pytest.raises(TimeoutError):
                lost.connect((BLACK_HOLE, 443))

    def test_an_address_without_a_server_refuses(self) -> None:
        with socket.socket() as refused, pytest.raises(ConnectionRefusedError):
            refused.connect((HOSTS["nobody.example"], 443))

    def test_a_callers_proxy_settings_are_gone(self) -> None:
        code = "import os; from stage.namespaces import enter; enter(); print(sorted(os.environ))"
        environment = os.environ | {"https_proxy": "http://192.0.2.1", "NO_PROXY": "x", "SSL_CERT_FILE": "/x"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert not {"https_proxy", "NO_PROXY", "SSL_CERT_FILE"} & set(eval(done.stdout))  # noqa: S307 - our own list

    def test_without_root_it_says_so_in_one_line(self) -> None:
        code = "import os; from stage.namespaces import enter; os.setuid(65534); enter()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1].endswith("run `make test` as root")

    def test_a_program_that_ends_at_once_is_quoted(self, folder: Path) -> None:
        program = Program("sh", "-c", "echo no such luck; exit 3", log=folder / "log")
        with pytest.raises(StageError, match="no such luck"):
            program.start(lambda: False)

    def test_programs_die_with_the_process_that_started_them(self, folder: Path) -> None:
        code = (
            "import os, sys, threading; from pathlib import Path; from stage.processes import Program\n"
            "program = Program('sleep', '1000', log=Path(sys.argv[1]))\n"
            "ready = lambda: Path(f'/proc/{program.pid}/comm').read_text() == 'sleep\\n'\n"
            "starter = threading.Thread(target=program.start, args=(ready,))\n"
            "starter.start(); starter.join()\n"
            "assert program.running; print(program.pid, flush=True); os._exit(0)"
        )
        command = [sys.executable, "-c", code, str(folder / "log")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert gone(int(done.stdout))


def gone(pid: int, seconds: float = 3) -> bool:
    """Whether a process ends within so many seconds (one that waits for its parent to look has ended)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


class TestImages:
    def test_the_same_files_give_the_same_bytes(self) -> None:
        assert image(layer({"a": b"1"}), filler(1)) == image(layer({"a": b"1"}), filler(1))

    def test_a_layers_diff_id_is_that_of_the_tar_inside(self) -> None:
        packed, plain = layer({"a": b"1"}), layer({"a": b"1"}, "none")
        assert packed.diff_id == plain.digest == plain.diff_id != packed.digest

    @pytest.mark.parametrize("docker", [False, True])
    def test_an_index_is_pulled_for_this_nodes_platform(
        self, registry: Registry, containerd: Containerd, *, docker: bool
    ) -> None:
        mine, other = (
            image(layer({"etc/platform": f"{platform} {docker}".encode()}), platform=platform, docker=docker)
            for platform in (PLATFORM, FOREIGN_PLATFORM)
        )
        reference = registry.push("stage/multi", f"docker-{docker}".lower(), index(other, mine, docker=docker))
        assert containerd.pull(reference) == mine.id

    def test_an_image_for_other_platforms_only_is_refused(self, registry: Registry, containerd: Containerd) -> None:
        foreign = index(image(layer({"a": b"foreign"}), platform=FOREIGN_PLATFORM))
        assert "no match for platform" in pull_error(containerd, registry.push("stage/foreign", "1", foreign))


class TestContainerd:
    def test_it_pulls_from_the_tls_registry_by_name(self, registry: Registry, containerd: Containerd) -> None:
        assert containerd.pull(registry.push("stage/app", "1", APP)) == APP.id
        assert all(digest(containerd.blob(each).read_bytes()) == each for each in APP.blobs)

    def test_it_unpacks_into_overlayfs(self, registry: Registry, containerd: Containerd) -> None:
        containerd.pull(registry.push("stage/app", "1", APP))
        snapshots = containerd.root / "io.containerd.snapshotter.v1.overlayfs/snapshots"
        assert b"second" in {file.read_bytes() for file in snapshots.glob("*/fs/share/notes")}

    def test_a_truncated_blob_in_the_registry_fails_the_pull(self, registry: Registry, containerd: Containerd) -> None:
        broken = image(layer({"a": b"to be truncated"}))
        reference = registry.push("stage/broken", "1", broken)
        os.truncate(registry.blob_path(broken.layers[0].digest), 10)
        assert "stage/broken" in pull_error(containerd, reference)

    def test_a_missing_tag_is_not_found(self, registry: Registry, containerd: Containerd) -> None:
        assert "not found" in pull_error(containerd, registry.reference("stage/app", "none"))

    def test_a_private_ca_is_unknown_without_hosts_toml(self, registry: Registry, folder: Path) -> None:
        with Containerd(folder / "node") as own:
            assert "certificate signed by unknown authority" in pull_error(own, registry.push("stage/app", "1", APP))

    def test_it_survives_a_restart_and_a_crash_with_its_images(self, registry: Registry, folder: Path) -> None:
        reference = registry.push("stage/app", "1", APP)
        with Containerd(folder / "node") as own:
            own.hosts("_default", f'[host."{registry.url}"]\n  skip_verify = true\n')
            own.pull(reference)
            own.restart()
            own.kill()
            own.start()
            assert reference in own.ctr("images", "list", "--quiet")

    def test_extra_lines_reach_its_config(self, registry: Registry, authority: Authority, folder: Path) -> None:
        with Containerd(folder / "node", containerd_lines="    discard_unpacked_layers = true") as own:
            own.trust(registry.name, authority.pem)
            own.pull(registry.push("stage/app", "1", APP))
            deadline = time.monotonic() + 5
            while own.blob(APP.layers[0].digest).exists():  # until its garbage collector comes by
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def test_a_config_that_it_refuses_is_quoted(self, folder: Path) -> None:
        nonsense = 'root = "{root}"\nstate = "{state}"\ngrpc.address = "{socket}"\nversion = "none"'
        with pytest.raises(StageError, match="failed to unmarshal"), Containerd(folder / "node", config=nonsense):
            pass
        assert not (folder / "node").exists()

    def test_nothing_is_left_of_it(self, registry: Registry, authority: Authority, folder: Path) -> None:
        with Containerd(folder / "node") as own:
            own.trust(registry.name, authority.pem)
            reference, pid, mount = registry.push("stage/app", "1", APP), own.pid, folder / "node/state/mount"
            own.pull(reference)
            mount.mkdir()
            own.ctr("images", "mount", reference, str(mount))
            assert str(mount) in Path("/proc/thread-self/mountinfo").read_text()
        assert gone(pid)
        assert not (folder / "node").exists()
        assert str(folder) not in Path("/proc/thread-self/mountinfo").read_text()


class TestPods:
    def test_a_pod_runs_and_is_seen_through_cri(self, registry: Registry, containerd: Containerd) -> None:
        reference = registry.push("stage/resting", "1", pause(layer({"a": b"resting"})))
        containerd.pull(reference)
        with Pod(containerd, reference, name="rests") as pod:
            assert pod.container_id in containerd.ctr("tasks", "list")
        assert pod.container_id not in containerd.ctr("containers", "list")

    def test_pods_end_with_a_containerd_that_crashed(self, registry: Registry, folder: Path) -> None:
        with Containerd(folder / "node") as own:
            own.hosts("_default", f'[host."{registry.url}"]\n  skip_verify = true\n')
            pod = Pod(own, registry.push("stage/resting", "1", pause()))
            own.pull(pod.image)
            pod.__enter__()
            tasks = [int(line.split()[1]) for line in own.ctr("tasks", "list").splitlines()[1:]]
            own.kill()
        assert len(tasks) == 2
        assert all(gone(pid) for pid in tasks)
        assert not list(Path("/sys/fs/cgroup").glob(f"**/{own.cgroup}"))
        assert not (folder / "node").exists()
