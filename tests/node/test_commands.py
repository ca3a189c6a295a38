"""The commands as their contract has them: exit status, one line for what is wrong, one document on stdout."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stage.containerd import Containerd
from stage.images import image, layer
from stage.registries import Registry
from stage.runtimes import OtherRuntime
from tests.node.cache import Cached, app
from tests.node.command import Agent

PULL_ERROR = 'failed to resolve reference "r.example/a:1": dial tcp: lookup r.example on 10.0.0.2:53: no such host'


def run(*arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what to do"),
        (("dance",), "invalid choice: 'dance'"),
        (("diagnose",), "IMAGE"),
        (("diagnose", "x", "--timeout", "soon"), "no number of seconds"),
        (("diagnose", "x", "--timeout", "-1"), "--timeout"),
        (("verify", "--depth", "abyss"), "abyss"),
        (("repull", "Not A Name"), "Not A Name"),
        (("verify", "bad\x1b[31mname"), "bad"),
        (("run", "--config", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
        (("config", "check", "/etc/hostname"), "rename it"),
        (("diagnose", "x", "--auth-file", "/nowhere.json"), "--auth-file /nowhere.json"),
    ],
)
def test_wrong_usage_is_one_line_on_stderr_and_status_2(arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "\x1b" not in done.stderr


def test_an_unknown_key_is_named_with_the_nearest_one(folder: Path) -> None:
    file = folder / "settings.yaml"
    file.write_text("probe: {intervall: 5m}\n")
    done = run("config", "check", str(file))
    assert done.returncode == 2
    assert done.stderr == f"node-agent: {file}: probe.intervall: unknown key; did you mean probe.interval?\n"


def test_the_example_settings_are_right(folder: Path) -> None:
    file = folder / "settings.yaml"
    file.write_text(run("config", "example").stdout)
    done = run("config", "check", str(file))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_secret_that_is_malformed_is_told_without_its_content(folder: Path) -> None:
    file = folder / "auth.json"
    file.write_text('{"auths": {"registry.example": {"auth": "geheim-geheim"}}}')
    done = run("diagnose", "x", "--auth-file", str(file))
    assert done.returncode == 2
    assert "registry.example" in done.stderr
    assert "geheim" not in done.stderr


def test_help_teaches_and_version_answers() -> None:
    told = run("--help").stdout
    for command in ("run", "diagnose", "explain", "verify", "repair", "repull", "node", "config"):
        assert command in told
    assert "exit status" in told
    assert run("--version").stdout.startswith("node-agent ")


def test_explain_answers_each_line_in_order_with_one_object() -> None:
    lines = [PULL_ERROR, "", "429 Too Many Requests\\nbody: toomanyrequests", "nonsense"]
    done = run("explain", "--output", "json", stdin="\n".join(lines) + "\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [answer["cause"] for answer in answers] == ["dns_not_found", "unknown", "rate_limited", "unknown"]
    assert all({"cause", "scope", "summary", "fix"} == set(answer) for answer in answers)


def test_explain_takes_a_text_as_an_argument_and_speaks_to_people() -> None:
    done = run("explain", PULL_ERROR)
    assert done.returncode == 0
    assert done.stdout.startswith("dns_not_found (network): ")
    assert "    1. " in done.stdout


def test_explain_survives_bytes_that_are_no_text() -> None:
    command = [sys.executable, "-m", "agent", "explain", "--output", "json"]
    done = subprocess.run(command, capture_output=True, input=b"\xff\xfe\x00\n", check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["cause"] == "unknown"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"yes nonsense | head -100000 | {sys.executable} -m agent explain | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - a pipeline
    assert "Traceback" not in done.stderr


def test_sound_images_verify_quickly_and_in_text(agent: Agent, cached: Cached) -> None:
    name = cached(app())
    quick = agent.run("verify", "--depth", "quick", "--runtime-endpoint", agent.endpoint, name)
    assert quick.status == 0
    title, row, closing = quick.stdout.splitlines()
    assert title.split() == ["STATE", "IMAGE", "SIZE", "UNPACKED", "USED", "BY", "FOUND"]
    assert row.split() == ["ok", name, "1.0", "MiB", "2", "layers"]
    assert closing.startswith("1 of 1 image sound; 0 B read")
    full = agent.run("verify", "--runtime-endpoint", agent.endpoint, name)
    assert full.status == 0
    assert "MiB read" in full.stdout


def test_ctrl_c_ends_a_slow_verification_at_once(agent: Agent, cached: Cached, folder: Path) -> None:
    settings = folder / "settings.yaml"
    settings.write_text("verify: {bytes_per_second: 64KiB}\n")
    name = cached(app())
    command = [sys.executable, "-m", "agent", "verify", "--config", str(settings), "--runtime-endpoint", agent.endpoint]
    # whoever starts the tests in the background has Ctrl-C ignored for all that they start
    heed = ["env", "--default-signal=INT"]
    with subprocess.Popen(
        [*heed, *command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text():  # it reads as soon as it has one that compares
            assert process.poll() is None
            time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert time.monotonic() - began < 3
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_a_timeout_ends_a_verification_and_says_so(agent: Agent, cached: Cached, folder: Path) -> None:
    settings = folder / "settings.yaml"
    settings.write_text("verify: {bytes_per_second: 64KiB}\n")
    name = cached(app())
    arguments = ("--config", str(settings), "--runtime-endpoint", agent.endpoint, "--timeout", "2", name)
    outcome = agent.run("verify", *arguments)
    assert (outcome.status, outcome.stderr) == (3, "node-agent: not done within 2 s\n")
    assert outcome.seconds < 6


def test_names_that_are_no_text_or_that_a_terminal_would_obey_are_shown_as_escapes(agent: Agent) -> None:
    odd = [b"a\x1b[31m", b"b\xff"]
    command = [
        os.fsencode(sys.executable),
        b"-m",
        b"agent",
        b"diagnose",
        b"--runtime-endpoint",
        agent.endpoint.encode(),
    ]
    for output in (b"text", b"json"):
        done = subprocess.run([*command, b"--output", output, *odd], capture_output=True, check=False)
        assert done.returncode == 1
        assert b"\x1b" not in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr


def test_a_short_blob_is_found_by_its_size_alone_and_other_bytes_are_not(
    agent: Agent, cached: Cached, containerd: Containerd
) -> None:
    built = app()
    name = cached(built)
    path = containerd.blob(built.layers[0].digest)
    good = path.read_bytes()
    path.write_bytes(b"x" * len(good))
    assert agent.run("verify", "--depth", "quick", "--runtime-endpoint", agent.endpoint, name).status == 0
    os.truncate(path, 10)
    outcome = agent.run("verify", "--depth", "quick", "--runtime-endpoint", agent.endpoint, name)
    assert outcome.status == 1
    assert "blob_truncated" in outcome.stdout
    assert f"node-agent repair {name}" in outcome.stdout


def test_an_image_that_is_not_cached_cannot_be_told_about(agent: Agent) -> None:
    outcome = agent.run("verify", "--output", "json", "--runtime-endpoint", agent.endpoint, "nowhere.example/a:1")
    assert outcome.status == 3
    assert outcome.only["verdict"] == "unknown"


def test_what_is_normal_is_never_flagged(
    agent: Agent, registry: Registry, containerd: Containerd, folder: Path
) -> None:
    """Layers that are only unpacked, and an image that was imported: facts, cache §2."""
    with Containerd(folder / "n") as own:
        own.trust(registry.name, (containerd.hosts_folder(registry.name) / "ca.crt").read_bytes())
        built = app()
        own.pull(registry.push("normal/unpacked", "1", built))
        own.ctr("content", "rm", built.layers[0].digest)
        archive = folder / "image.tar"
        containerd.pull(registry.push("normal/imported", "1", image(layer({"x": b"y"}))))
        containerd.ctr("images", "export", str(archive), f"{registry.name}/normal/imported:1")
        own.ctr("images", "import", "--no-unpack", str(archive))
        outcome = agent.run("verify", "--output", "json", "--runtime-endpoint", own.endpoint)
    assert outcome.status == 0
    assert [each["verdict"] for each in outcome.images] == ["ok", "ok"]


@pytest.fixture
def crio(folder: Path) -> Iterator[OtherRuntime]:
    with OtherRuntime(folder) as runtime:
        yield runtime


def test_with_another_runtime_diagnosing_works_and_the_cache_cannot_be_told_about(
    agent: Agent, crio: OtherRuntime, registry: Registry
) -> None:
    outcome = Agent(crio.endpoint, agent._folder).diagnose("nowhere.example/a:1")
    assert (outcome.status, outcome.only["cause"]) == (1, "dns_not_found")
    assert "cri-o 1.31.0" in outcome.only["steps"][0]["detail"]
    verify = agent.run("verify", "--runtime-endpoint", crio.endpoint)
    assert verify.status == 3
    assert verify.stderr.count("\n") == 1
    assert "not containerd" in verify.stderr
    assert registry.name not in verify.stderr


def test_a_runtime_that_is_too_old_is_told_as_such(agent: Agent, folder: Path) -> None:
    with OtherRuntime(folder, only_alpha=True) as old:
        outcome = Agent(old.endpoint, agent._folder).diagnose("nowhere.example/a:1")
    assert (outcome.status, outcome.only["cause"]) == (1, "runtime_unavailable")
    assert "v1alpha2" in outcome.only["summary"]


def test_node_tells_what_would_be_used_and_no_secret(agent: Agent, folder: Path, registry: Registry) -> None:
    environment = {"HTTPS_PROXY": "http://me:geheim@proxy.example:3128", "NO_PROXY": "10.*,registry.example"}
    with Containerd(folder / "n", environment=environment) as own:
        outcome = agent.run("node", "--output", "json", "--runtime-endpoint", own.endpoint)
        found = json.loads(outcome.stdout)
        assert outcome.status == 0
        assert found["runtime"]["name"] == "containerd"
        assert found["runtime"]["pid"] == own.pid
        assert found["mirrors"]["config_path"] == [str(own.certs_d)]
    assert found["proxy"]["https"] == "http://proxy.example:3128"
    assert "geheim" not in outcome.stdout
    assert found["resolver"]["nameservers"] == ["10.99.0.53"]
    assert any("10.*" in text for text in found["remarks"].values())
    assert registry.name in found["proxy"]["no_proxy"]
