"""certs.d as containerd reads it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Fault, ImageRef
from agent.registry import hostfile, hostpaths, material
from agent.registry.hosts import Host, Route, is_local, is_namespace, legacy, route
from agent.registry.reference import parse
from stage.authority import Authority

ROOTS = (Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d"))
TAG = ImageRef("reg.example", "a", "1", None)
DIGEST = TAG.at("sha256:" + "0" * 64)


def write(prefix: Path, path: str, text: str | bytes = "") -> None:
    file = prefix / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def with_file(prefix: Path, text: str, registry: str = "reg.example", *, tree_required: bool = False) -> Route:
    write(prefix, f"/etc/containerd/certs.d/{registry}/hosts.toml", text)
    return route(registry, ROOTS, prefix, tree_required=tree_required)


def urls(found: Route) -> list[str]:
    return [f"{host.scheme}://{host.name}{host.path}" for host in found.hosts]


@pytest.mark.parametrize(
    ("registry", "url", "skip_verify", "fallback"),
    [
        ("docker.io", "https://registry-1.docker.io/v2", False, False),
        ("reg.example", "https://reg.example/v2", False, False),
        ("reg.example:80", "https://reg.example:80/v2", False, False),
        ("localhost", "https://localhost/v2", True, False),
        ("localhost:443", "https://localhost:443/v2", True, False),
        ("localhost:80", "http://localhost:80/v2", False, False),
        ("127.0.0.1:5000", "https://127.0.0.1:5000/v2", True, True),
        ("[::1]:5000", "https://[::1]:5000/v2", True, True),
    ],
)
def test_without_a_file_the_registry_itself_is_asked(
    tmp_path: Path,
    registry: str,
    url: str,
    skip_verify: bool,
    fallback: bool,
) -> None:
    found = route(registry, ROOTS, tmp_path)
    assert urls(found) == [url]
    assert (found.hosts[0].skip_verify, found.hosts[0].fallback_http) == (skip_verify, fallback)
    assert found.source is None


def test_the_hosts_of_the_file_come_in_order_and_the_server_last(tmp_path: Path) -> None:
    found = with_file(
        tmp_path,
        """
        server = "https://upstream.example"
        [host."https://one.example:5000/proxy"]
          capabilities = ["pull", "resolve"]
          skip_verify = true
          dial_timeout = "1m1.5s"
          [host."https://one.example:5000/proxy".header]
            x-one = "1"
            x-two = ["2", "3"]
        [host."two.example/v2"]
          capabilities = ["pull"]
        [host."http://three.example/raw/"]
          override_path = true
        """,
    )
    assert urls(found) == [
        "https://one.example:5000/proxy/v2",
        "https://two.example/v2",
        "http://three.example/raw",
        "https://upstream.example/v2",
    ]
    first = found.hosts[0]
    assert first.skip_verify
    assert first.dial_timeout == 61.5
    assert first.headers == (("x-one", "1"), ("x-two", "2"), ("x-two", "3"))
    assert [host.host for host in found.hosts_for(TAG)] == ["one.example", "three.example", "upstream.example"]
    assert len(found.hosts_for(DIGEST)) == 4


def test_without_server_the_default_keeps_tls_settings_but_not_capabilities(tmp_path: Path) -> None:
    found = with_file(tmp_path, 'ca = "my.crt"\ncapabilities = ["push"]\n[host."m.example"]\n', "docker.io")
    assert urls(found) == ["https://m.example/v2", "https://registry-1.docker.io/v2"]
    assert found.hosts[1].ca == (ROOTS[0] / "docker.io/my.crt",)
    assert found.hosts[1].serves(TAG)


def test_plain_http_with_tls_settings_tries_tls_first(tmp_path: Path) -> None:
    found = with_file(tmp_path, '[host."http://a.example"]\nskip_verify = false\n[host."http://a:80"]\nca = "x"\n')
    assert [(host.scheme, host.fallback_http) for host in found.hosts[:2]] == [("https", True), ("http", False)]
    clear = found.hosts[0].in_clear()
    assert (clear.scheme, clear.port, clear.fallback_http) == ("http", 80, False)
    assert Host.at("https", "a.example:5000").in_clear().port == 5000


@pytest.mark.parametrize(
    "names", [["reg.example_5000_", "reg.example:5000", "_default"], ["reg.example:5000", "_default"], ["_default"]]
)
def test_the_first_directory_that_exists_is_taken_even_an_empty_one(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / "etc/containerd/certs.d" / name).mkdir(parents=True)
    write(tmp_path, "/etc/docker/certs.d/reg.example:5000/hosts.toml", 'server = "https://never"')
    found = route("reg.example:5000", ROOTS, tmp_path)
    assert found.source == ROOTS[0] / names[0]
    assert urls(found) == ["https://reg.example:5000/v2"]


def test_a_directory_without_a_port_is_not_for_the_one_with(tmp_path: Path) -> None:
    write(tmp_path, "/etc/containerd/certs.d/reg.example/hosts.toml", 'server = "https://never"')
    assert urls(route("reg.example:5000", ROOTS, tmp_path)) == ["https://reg.example:5000/v2"]


def test_dockers_layout_gives_authorities_and_pairs(tmp_path: Path) -> None:
    for name in ("a.crt", "b.cert", "b.key", "c.cert", "d.pem", "e.crt/x"):
        write(tmp_path, f"/etc/docker/certs.d/reg.example/{name}", b"")
    directory = ROOTS[1] / "reg.example"
    (host,) = route("reg.example", ROOTS, tmp_path).hosts
    assert host.ca == (directory / "a.crt",)
    assert host.client == ((directory / "b.cert", directory / "b.key"), (directory / "c.cert", None))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("server = ", "not TOML"),
        ("\xff", "not TOML"),
        ("server = 5", "server is not a string"),
        ('[host."a"]\ncapabilities = ["fly"]', "unknown capability fly"),
        ('[host."a"]\ncapabilities = "pull"', 'invalid type for "capabilities"'),
        ('[host."a"]\nca = 5', 'invalid type for "ca"'),
        ('[host."a"]\nclient = 5', 'invalid type for "client"'),
        ('[host."a"]\nclient = [["a", "b", "c"]]', "two files"),
        ('[host."a"]\nskip_verify = "yes"', "skip_verify is not true or false"),
        ('[host."a"]\ndial_timeout = "5"', "no duration"),
        ('[host."a"]\nheader = 5', "header is not a table"),
        ('[host."a"]\nheader = {a = 5}', "invalid type"),
        ('[host."https://a:port"]', "Port"),
        ('[host."http:a"]', "unable to parse server"),
        ('host = "a"', "host is not a table"),
        ("a = " + "[" * 5000, "not TOML"),
    ],
)
def test_a_broken_file_is_told_and_the_directory_read_as_dockers(tmp_path: Path, text: str, why: str) -> None:
    write(tmp_path, "/etc/containerd/certs.d/reg.example/x.crt")
    write(tmp_path, "/etc/containerd/certs.d/reg.example/hosts.toml", text.encode("latin-1"))
    found = route("reg.example", ROOTS, tmp_path)
    (fault,) = found.faults
    assert fault.cause is Cause.HOSTS_CONFIG_INVALID
    assert why in fault.detail
    assert urls(found) == ["https://reg.example/v2"]
    assert len(found.hosts[0].ca) == 1


def test_a_file_with_only_a_server_is_refused_by_old_containerds(tmp_path: Path) -> None:
    assert urls(with_file(tmp_path, 'server = "https://m.example"')) == ["https://m.example/v2"]
    old = with_file(tmp_path, 'server = "https://m.example"', tree_required=True)
    assert urls(old) == ["https://reg.example/v2"]
    assert "host" in old.faults[0].detail


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        sections = hostfile.parse(text.encode("utf-8", "surrogatepass"), Path("/x"))
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
    else:
        assert sections


def test_legacy_mode_has_mirrors_then_the_registry() -> None:
    mirrors = {"docker.io": ["https://m.example", "localhost:5000/proxy"], "*": ["https://any.example/v2"]}
    assert urls(legacy("docker.io", mirrors)) == [
        "https://m.example/v2",
        "http://localhost:5000/proxy",
        "https://registry-1.docker.io/v2",
    ]
    assert urls(legacy("quay.io", mirrors)) == ["https://any.example/v2", "https://quay.io/v2"]
    assert urls(legacy("any.example", mirrors)) == ["https://any.example/v2"]
    assert urls(route("localhost:5000", ())) == ["http://localhost:5000/v2"]
    with pytest.raises(Fault, match="no URL"):
        legacy("a", {"a": ["https://m:port"]})


@pytest.mark.parametrize(
    ("host", "registry", "told"),
    [
        ("registry-1.docker.io", "docker.io", False),
        ("reg.example", "reg.example", False),
        ("reg.example:443", "reg.example", True),
        ("mirror.example", "docker.io", True),
        ("registry-1.docker.io", "reg.example", True),
    ],
)
def test_a_host_that_is_not_the_registrys_own_is_told_the_namespace(host: str, registry: str, told: bool) -> None:
    assert is_namespace(Host.at("https", host), registry) is told


@pytest.mark.parametrize("name", ["localhost", "localhost:5000", "127.1.2.3", "[::1]:5000", "[::1]"])
def test_loopback_names_are_local(name: str) -> None:
    assert is_local(name)
    assert parse(f"{name}/x") if ":" in name or "." in name else True


@pytest.mark.parametrize("name", ["localhost.example", "128.0.0.1", "foo.localhost", "[::2]"])
def test_other_names_are_not(name: str) -> None:
    assert not is_local(name)


def test_links_are_resolved_inside_the_root(tmp_path: Path) -> None:
    prefix = tmp_path / "root"
    write(prefix, "/nix/store/certs/reg.example/hosts.toml", 'server = "https://m.example"')
    (prefix / "etc/containerd").mkdir(parents=True)
    (prefix / "etc/containerd/certs.d").symlink_to("/nix/current")
    (prefix / "nix/current").symlink_to("../../../../nix/store/certs")
    assert urls(route("reg.example", ROOTS, prefix)) == ["https://m.example/v2"]


def test_no_link_leads_out_of_the_root(tmp_path: Path) -> None:
    write(tmp_path, "/outside/secret", "outside")
    prefix = tmp_path / "root"
    prefix.mkdir()
    (prefix / "up").symlink_to("../outside/secret")
    (prefix / "absolute").symlink_to(tmp_path / "outside/secret")
    for name in ("/up", "/absolute", "/../outside/secret"):
        with pytest.raises(FileNotFoundError):
            hostpaths.read(Path(name), prefix)


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic"):
        hostpaths.resolve(Path("/a"), tmp_path)


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path, "/large", b"x" * (4 * 1024 * 1024 + 1))
    for name in ("/pipe", "/large", "/"):
        with pytest.raises(OSError, match=r".+"):
            hostpaths.read(Path(name), tmp_path)


def test_a_hosts_toml_that_cannot_be_read_fails_the_pull(tmp_path: Path) -> None:
    (tmp_path / "etc/containerd/certs.d/reg.example/hosts.toml").mkdir(parents=True)
    with pytest.raises(Fault) as caught:
        route("reg.example", ROOTS, tmp_path)
    assert caught.value.cause is Cause.HOSTS_CONFIG_INVALID


def test_the_files_of_a_host_are_read_as_containerd_reads_them(tmp_path: Path) -> None:
    authority = Authority()
    pair = authority.issue("node", client=True).files(tmp_path / "pki", "node")
    write(tmp_path, "/pki/ca.crt", authority.pem)
    found = with_file(tmp_path, '[host."a"]\nca = "/pki/ca.crt"\nclient = [["/pki/node.crt", "/pki/node.key"]]\n')
    loaded = material.load(found.hosts[0], tmp_path)
    assert loaded.ca == (authority.pem,)
    assert loaded.client == (pair,)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('ca = "gone.crt"', "unable to read CA cert"),
        ('ca = "/pki/empty.crt"', "unable to load CA cert"),
        ('client = "gone.cert"', "unable to read CERT file"),
        ('client = "/pki/empty.crt"', "failed to load X509 key pair"),
        ('client = [["/pki/node.crt", "/pki/other.key"]]', "failed to load X509 key pair"),
    ],
)
def test_files_that_cannot_be_used_fail_the_pull(tmp_path: Path, line: str, why: str) -> None:
    authority = Authority()
    authority.issue("node", client=True).files(tmp_path / "pki", "node")
    authority.issue("other", client=True).files(tmp_path / "pki", "other")
    write(tmp_path, "/pki/empty.crt", b"nothing")
    found = with_file(tmp_path, f'[host."a"]\n{line}\n')
    with pytest.raises(Fault, match=why) as caught:
        material.load(found.hosts[0], tmp_path)
    assert caught.value.cause is Cause.HOSTS_CONFIG_INVALID
