"""The daemon, as a process on the stage: what it serves, how it starts and stops, and what it survives."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stage.containerd import Containerd
from stage.hostile import Scripted, rate_limited
from stage.images import image, layer
from stage.registries import Registry
from tests.node.daemon import PORT, Run, running, until


@pytest.fixture
def run(containerd: Containerd, registry: Registry, folder: Path) -> Iterator[Run]:
    containerd.pull(registry.push("run/app", "1", image(layer({"app": b"run"}))))
    with running(folder, containerd.endpoint) as daemon:
        until(lambda: daemon.get("/readyz")[0] == 200)
        yield daemon


def test_it_probes_the_registries_that_cached_images_come_from(run: Run) -> None:
    assert run.value('node_agent_probe_success{registry="registry.example"}') == 1
    assert run.value("node_agent_runtime_up") == 1
    assert run.value('node_agent_rounds_total{trigger="startup"}') == 1
    assert run.value("node_agent_cached_images") >= 1
    assert run.value("node_agent_image_filesystem_free_bytes") > 0
    assert run.value('node_agent_probe_phase_seconds_count{phase="tls"}') >= 1
    expiry = run.value(
        'node_agent_tls_not_after_timestamp_seconds{host="registry.example",registry="registry.example"}'
    )
    assert expiry > time.time()


def test_every_series_of_a_phase_exists_from_the_start_and_promtool_is_silent(run: Run) -> None:
    text = run.get("/metrics")[1]
    for phase in ("proxy", "dns", "connect", "tls", "registry", "token", "manifest"):
        assert f'node_agent_probe_phase_seconds_count{{phase="{phase}"}}' in text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_openmetrics_is_spoken_when_asked_for(run: Run) -> None:
    assert run.get("/metrics", "application/openmetrics-text; version=1.0.0")[1].endswith("# EOF\n")


def test_the_port_says_what_it_has_and_changes_nothing(run: Run) -> None:
    assert run.get("/healthz") == (200, "ok\n")
    assert run.get("/other")[0] == 404
    post = urllib.request.Request(f"http://127.0.0.1:{PORT}/metrics", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(post, timeout=5)


def test_a_sigterm_ends_it_cleanly_within_five_seconds(run: Run) -> None:
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(5) == 0
    assert run.lines()[-1]["event"] == "node-agent stopped"


def test_the_log_is_json_with_one_sentence_for_a_round(run: Run) -> None:
    rounds = [line for line in run.lines() if "problems" in line]
    assert [line["trigger"] for line in rounds] == ["startup"]
    assert rounds[0]["event"] == "1 of 1 registries can be reached"
    assert rounds[0]["level"] == "info"


def test_clients_that_hang_do_not_keep_others_out(run: Run) -> None:

    hanging = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(10)]
    try:
        assert run.get("/healthz") == (200, "ok\n")
    finally:
        for each in hanging:
            each.close()


def test_clients_that_send_a_byte_now_and_then_are_cut_off(run: Run) -> None:
    dripping = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(20)]
    began = time.monotonic()
    try:
        while time.monotonic() - began < 8:
            for each in dripping:
                with contextlib.suppress(OSError):
                    each.send(b"G")
            time.sleep(0.5)
        assert run.get("/healthz") == (200, "ok\n")
    finally:
        for each in dripping:
            each.close()


def test_a_debt_that_cannot_be_paid_keeps_nobody_from_working(containerd: Containerd, folder: Path) -> None:
    """The ledger says nonsense: told in the log, once, and no crash."""
    state = folder / "state"
    state.mkdir()
    debt = {"id": "sha256:x", "names": ["a"], "what": "repull", "details": {}, "since": 1.0}
    (state / "ledger.json").write_text(json.dumps({"version": 1, "debts": [debt]}))
    with running(folder, containerd.endpoint, "probe: {interval: 10s, jitter: 0}\n") as daemon:
        until(lambda: daemon.value('node_agent_rounds_total{trigger="schedule"}') >= 1, 30)
        told = [line for line in daemon.lines() if "cut short" in str(line["event"])]
        assert len(told) == 1
        assert "makes no sense" in str(told[0]["event"])
        assert daemon.get("/readyz")[0] == 200
    assert json.loads((state / "ledger.json").read_text())["debts"]


def test_containerd_may_be_absent_at_the_start_and_come_and_go(folder: Path) -> None:
    with Containerd(folder / "n") as own:
        own.stop()
        settings = "probe: {interval: 10s, jitter: 0}\n"
        with running(folder, own.endpoint, settings) as daemon:
            until(lambda: "runtime_unavailable" in daemon.get("/metrics")[1])
            status, why = daemon.get("/readyz")
            assert status == 503
            assert str(own.socket) in why
            own.start()
            until(lambda: daemon.get("/readyz")[0] == 200)
            own.kill()
            until(lambda: daemon.get("/readyz")[0] == 503)
            own.start()
            until(lambda: daemon.get("/readyz")[0] == 200)
            assert daemon.process.poll() is None


def test_a_registry_that_limits_the_rate_is_left_alone(containerd: Containerd, folder: Path) -> None:
    routes = {"GET /v2/": rate_limited("3600")}
    with Scripted(routes, port=80) as server:
        settings = f"probe: {{interval: 10s, jitter: 0, cached_images: false, registries: ['{server.name}:80']}}\n"
        containerd.hosts(f"{server.name}:80", f'server = "http://{server.name}:80"\n[host."http://{server.name}:80"]\n')
        with running(folder, containerd.endpoint, settings) as daemon:
            until(lambda: daemon.value('node_agent_rounds_total{trigger="schedule"}') >= 1, 30)
            failures = f'node_agent_probe_failures_total{{cause="rate_limited",registry="{server.name}:80"}}'
            assert daemon.value(failures) == 1
        assert len(server.requests) == 1


def test_a_port_that_is_taken_is_told_in_one_line(run: Run, containerd: Containerd, folder: Path) -> None:
    assert run.process.poll() is None
    config = folder / "second.yaml"
    config.write_text(f"state_dir: {folder}/state2\nlisten: {{address: 127.0.0.1}}\n")
    command = [sys.executable, "-m", "agent", "run", "--config", str(config), "--runtime-endpoint", containerd.endpoint]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 3
    assert second.stderr.count("\n") == 1
    assert "listen.port" in second.stderr


def test_a_round_once_prints_its_report(containerd: Containerd, registry: Registry) -> None:
    containerd.pull(registry.push("run/once", "1", image(layer({"app": b"once"}))))
    command = [sys.executable, "-m", "agent", "run", "--once", "--output", "json"]
    done = subprocess.run(
        [*command, "--runtime-endpoint", containerd.endpoint], capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["trigger"]) == (0, "command")
    assert [each["step"] for each in report["findings"]] == ["runtime", "disk"]
    assert "registry.example" in [each["image"] for each in report["registries"]]


def test_it_serves_metrics_soon_after_its_start_and_idles_small(
    containerd: Containerd, registry: Registry, folder: Path
) -> None:
    containerd.pull(registry.push("run/app", "1", image(layer({"app": b"run"}))))
    with running(folder, containerd.endpoint) as daemon:
        until(lambda: daemon.get("/readyz")[0] == 200)
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
        assert resident < 64 * 1024, f"{resident} KiB"
