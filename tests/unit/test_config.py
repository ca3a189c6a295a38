"""Settings files, right and wrong, and what is said about the wrong ones."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import (
    Settings,
    SettingsError,
    check,
    describe,
    example,
    load,
    markdown,
)
from agent.config.text import Kind

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def _error(text: str, kind: Kind = "yaml") -> str:
    with pytest.raises(SettingsError) as caught:
        check(text, kind)
    message = str(caught.value)
    assert message.isprintable(), "an error is one line"
    return message


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "{}", "probe:\nlog:\n"])
def test_an_empty_file_says_the_defaults(text: str) -> None:
    assert check(text, "yaml") == Settings()


def test_an_empty_toml_file_says_the_defaults() -> None:
    assert check("", "toml") == Settings()


def test_the_defaults_are_those_that_are_promised() -> None:
    assert {key.path: key.default for key in describe()} == {
        "host_root": "null",
        "state_dir": '"/var/lib/node-agent"',
        "runtime.endpoint": "null",
        "runtime.timeout": "10s",
        "listen.address": '"0.0.0.0"',
        "listen.port": "9100",
        "log.level": '"info"',
        "probe.registries": "[]",
        "probe.cached_images": "true",
        "probe.interval": "5m",
        "probe.jitter": "0.2",
        "probe.deadline": "30s",
        "probe.concurrency": "8",
        "probe.per_registry_per_hour": "30",
        "connect.timeout": "10s",
        "dns.timeout": "5s",
        "verify.bytes_per_second": "null",
        "verify.concurrency": "2",
        "verify.interval": "168h",
        "verify.background_bytes_per_second": "10MiB",
        "verify.background_cpu_share": "0.05",
        "verify.boot_bytes_per_second": "100MiB",
        "verify.crash_interval": "30s",
        "repair.pull_timeout": "10m",
        "repair.automatic": "true",
        "repair.in_use": '"leave"',
        "repair.per_hour": "10",
    }


def test_yaml_and_toml_say_the_same() -> None:
    yaml = """
        runtime: {endpoint: "unix:///run/k3s/containerd/containerd.sock", timeout: 1m30s}
        probe: {registries: [registry.example:5000, docker.io], jitter: 0}
        verify: {bytes_per_second: 10Mi}
    """
    toml = """
        runtime.endpoint = "unix:///run/k3s/containerd/containerd.sock"
        runtime.timeout = "90s"
        verify.bytes_per_second = "10MiB"
        [probe]
        registries = ["registry.example:5000", "docker.io"]
        jitter = 0.0
    """
    settings = check(yaml, "yaml")
    assert settings == check(toml, "toml")
    assert settings.runtime.timeout == 90.0
    assert settings.verify.bytes_per_second == 10 * 1024 * 1024
    assert settings.probe.registries == ("registry.example:5000", "docker.io")


def test_the_background_scan_is_turned_off_by_a_size_of_nothing() -> None:
    assert check("verify: {background_bytes_per_second: 0KiB}", "yaml").verify.background_bytes_per_second == 0


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        setattr(Settings().probe, "jitter", 1.0)  # noqa: B010 - the point is that the type checker would refuse it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("probes: {}", "probes: unknown key; did you mean probe?"),
        ("probe: {intervall: 5m}", "probe.intervall: unknown key; did you mean probe.interval?"),
        ("jitter: 1", "jitter: unknown key; it belongs elsewhere: probe.jitter"),
        ("log: {zzz: 1}", "log.zzz: unknown key; known here: level"),
        ("1: 2", "1: unknown key; known here: "),
        ("probe: 5", "probe is not a table: "),
        ("[1]", "the whole is not a table: "),
        ("just words", "the whole is not a table: "),
        ("probe: {interval: 300}", "probe.interval: 300 has no unit: write it with one, such as 30s"),
        ("probe: {interval: 5:00}", "probe.interval: 300 has no unit"),
        ("probe: {interval: 5 m}", "probe.interval: '5 m' is no duration: write a number and its unit"),
        ("probe: {interval: -5m}", "probe.interval: '-5m' is no duration"),
        ("probe: {interval: 1s}", "probe.interval: 1s is too little: write 10s or more"),
        ("probe: {interval: 48h}", "probe.interval: 48h is too much: write 24h or less"),
        ("probe: {jitter: 2}", "probe.jitter: 2 is too much: write 1 or less"),
        ("probe: {jitter: .nan}", "probe.jitter: nan is too little: write 0 or more"),
        ("probe: {jitter: .inf}", "probe.jitter: inf is too much"),
        ("probe: {concurrency: 0}", "probe.concurrency: 0 is too little: write 1 or more"),
        ("probe: {registries: docker.io}", "probe.registries: write a list, got a text"),
        ("probe: {registries: [1]}", "probe.registries[0]: write a text, got a whole number"),
        ("probe: {cached_images: 1}", "probe.cached_images: write true or false, got a whole number"),
        ("listen: {port: 70000}", "listen.port: 70000 is too much: write 65535 or less"),
        ("listen: {port: '9100'}", "listen.port: write a whole number, got a text"),
        ("listen: {port: true}", "listen.port: write a whole number, got true or false"),
        ("listen: {port: 1.5}", "listen.port: write a whole number, got a number"),
        ("listen: {address: eth0}", "listen.address: 'eth0' is not usable: write an IP address"),
        ("log: {level: loud}", "log.level: no such choice; write one of debug, info, warning, error"),
        ("verify: {bytes_per_second: 10485760}", "verify.bytes_per_second: 10485760 has no unit: write it with one"),
        ("verify: {bytes_per_second: 10MB}", "verify.bytes_per_second: '10MB' is no size: "),
        ("verify: {bytes_per_second: 1KiB}", "verify.bytes_per_second: 1KiB is too little: write 64KiB or more"),
        ("verify: {interval: 1s}", "verify.interval: 1s is too little: write 1m or more"),
        ("verify: {background_bytes_per_second: 0}", "verify.background_bytes_per_second: 0 has no unit"),
        ("verify: {background_cpu_share: 0}", "verify.background_cpu_share: 0 is too little: write 0.001 or more"),
        ("verify: {boot_bytes_per_second: null}", "verify.boot_bytes_per_second: "),
        ("repair: {in_use: evict}", "repair.in_use: 'evict' is not usable: write leave or replace-files"),
        ("repair: {automatic: maybe}", "repair.automatic: write true or false, got a text"),
        ("repair: {per_hour: 0}", "repair.per_hour: 0 is too little: write 1 or more"),
        ("host_root: host", "host_root: 'host' is not usable: write a path that starts with /"),
        ("runtime: {endpoint: 'tcp://x'}", "runtime.endpoint: 'tcp://x' is not usable: write the path of a socket"),
    ],
)
def test_what_is_wrong_is_said_by_key_with_what_to_write_instead(text: str, message: str) -> None:
    assert _error(text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log:\n  level: info\nlog: {}\n", "line 3: the key log is there twice"),
        ("log: {level: info, level: debug}", "line 1: the key level is there twice"),
        ("a: [1\nb: 2", "line 2: "),
        ("a: b: c", "line 1: "),
        ("\tlog: {}", "line 1: "),
        ("a: &x [1]\nb: *x\n", "line 2: aliases are refused"),
        ("log: !!python/object:os.system {}", "line 1: "),
        ("? [a]\n: b", "line 1: "),
        ("a: 1\n---\nb: 2", "line 2: "),
        ("a: \x00", "not YAML: "),
        ("a: 2024-13-45", "a value that YAML cannot make: "),
        ("a: " + "9" * 5000, "a value that YAML cannot make: "),
        ("[" * 20000, "nested too deeply"),
        ('"a\\nb": 1', "a b: unknown key"),
    ],
)
def test_a_broken_text_is_one_line_with_its_place(text: str, message: str) -> None:
    assert _error(text).startswith(message)


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2", "[log]\n[log]", "a = " + "[" * 20000, "\x00"])
def test_a_broken_toml_is_one_line(text: str) -> None:
    assert _error(text, "toml").startswith(("not TOML: ", "nested too deeply"))


def test_an_alias_bomb_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "aliases are refused" in _error("\n".join(lines))


def test_a_file_is_read_by_the_end_of_its_name(tmp_path: Path) -> None:
    for name, text in (("a.yaml", "listen: {port: 1}"), ("a.YML", "listen: {port: 1}"), ("a.toml", "listen.port = 1")):
        path = tmp_path / name
        path.write_text(text)
        assert load(path).listen.port == 1
    assert load(None) == Settings()


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbflisten.port = 1")
    assert load(path).listen.port == 1


def _load_error(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path)
    return str(caught.value)


def test_each_error_of_a_file_begins_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    assert _load_error(path) == f"{path}: cannot be read: No such file or directory"
    path.mkdir()
    assert _load_error(path).startswith(f"{path}: cannot be read: ")
    (tmp_path / "b.yaml").write_text("listen: {port: 0}")
    assert _load_error(tmp_path / "b.yaml") == f"{tmp_path / 'b.yaml'}: listen.port: 0 is too little: write 1 or more"
    (tmp_path / "c.yaml").write_bytes(b"a: \xff")
    assert "byte 4 is not UTF-8" in _load_error(tmp_path / "c.yaml")
    (tmp_path / "d.ini").write_text("")
    assert "ends in .yaml" in _load_error(tmp_path / "d.ini")


def test_a_file_beyond_a_mebibyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("#" * 1024 * 1024)
    assert load(path) == Settings()
    path.write_text("#" * (1024 * 1024 + 1))
    assert "longer than 1 MiB" in _load_error(path)


def test_an_endless_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("/dev/zero")
    assert "longer than 1 MiB" in _load_error(tmp_path / "a.yaml")


_TREE = st.fixed_dictionaries(
    {},
    optional={
        "host_root": st.just("/host"),
        "listen": st.fixed_dictionaries({"port": st.integers(1, 65535)}),
        "probe": st.fixed_dictionaries(
            {
                "interval": st.integers(10, 86400).map(lambda n: f"{n}s"),
                "jitter": st.integers(0, 100).map(lambda n: n / 100),
            },
            optional={"registries": st.lists(st.from_regex(r"[a-z]{1,9}\.example", fullmatch=True), max_size=3)},
        ),
        "verify": st.fixed_dictionaries({"bytes_per_second": st.integers(64, 10**6).map(lambda n: f"{n}KiB")}),
    },
)


@given(_TREE)
def test_a_right_tree_is_read_as_it_was_meant(tree: dict[str, dict[str, object]]) -> None:
    settings = check(msgspec.json.encode(tree).decode(), "yaml")
    assert settings.listen.port == tree.get("listen", {}).get("port", 9100)
    assert settings.probe.registries == tuple(tree.get("probe", {}).get("registries", ()))  # type: ignore[arg-type]
    assert settings.probe.jitter == tree.get("probe", {}).get("jitter", 0.2)


KINDS: tuple[Kind, ...] = ("yaml", "toml")


def _outcome(text: str, kind: Kind) -> Settings | SettingsError:
    try:
        return check(text, kind)
    except SettingsError as error:
        return error


_WORDS = st.sampled_from(
    ["log", "probe", "level", "interval", "{", "}", "[", "]", ":", " ", "\n", "-", "5m", "&a", "*a", "?", "'"]
)


@given(st.text(max_size=60) | st.lists(_WORDS, max_size=20).map("".join))
def test_no_text_whatever_is_a_traceback(text: str) -> None:
    for kind in KINDS:
        said = _outcome(text, kind)
        assert isinstance(said, Settings) or str(said).isprintable()


def test_every_key_is_described_once_with_a_default_that_is_right() -> None:
    keys = describe()
    assert len(keys) == len({key.path for key in keys}) == 27
    assert all(key.description and key.type and key.default for key in keys)
    assert all(key.path in markdown() for key in keys)


def test_the_example_says_every_key_and_only_defaults() -> None:
    assert check(example(), "yaml") == Settings()
    assert sum(1 for line in example().splitlines() if ": " in line and "#" not in line) == len(describe())
    uncommented = [line for line in example().splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(uncommented) == len(describe()) + 8


def test_the_page_of_the_settings_is_current() -> None:
    assert PAGE.read_text() == markdown(), "write agent.config.markdown() to docs/settings.md"


def test_a_start_without_a_settings_file_does_without_yaml() -> None:
    code = "import sys, agent.config; agent.config.load(None); sys.exit('yaml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
