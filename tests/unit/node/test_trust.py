"""The trust store in folders laid out as distributions, and attackers, lay them out."""

import os
from pathlib import Path

import pytest

from agent.node import trust
from agent.node.roots import HostRoot
from agent.node.trust import read_trust


def _write(host: HostRoot, path: str, content: str, mtime: float = 1000) -> Path:
    place = host.prefix / path.removeprefix("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)
    os.utime(place, (mtime, mtime))
    return place


@pytest.fixture
def host(tmp_path: Path) -> HostRoot:
    return HostRoot(tmp_path)


def _paths(host: HostRoot, environ: dict[str, str] | None = None) -> list[str]:
    return [path for path, _ in read_trust(host, environ or {}).blobs]


def test_an_empty_host_trusts_nobody(host: HostRoot) -> None:
    store = read_trust(host, {})
    assert (store.blobs, store.newest, store.remarks) == ((), 0.0, ())


def test_only_the_first_bundle_counts_and_every_file_of_the_folders(host: HostRoot) -> None:
    _write(host, "/etc/pki/tls/certs/ca-bundle.crt", "red hat")
    _write(host, "/etc/ssl/ca-bundle.pem", "suse")
    _write(host, "/etc/ssl/certs/own-ca.pem", "own", mtime=5000)
    store = read_trust(host, {})
    assert store.blobs == (("/etc/pki/tls/certs/ca-bundle.crt", b"red hat"), ("/etc/ssl/certs/own-ca.pem", b"own"))
    assert store.newest == 5000


def test_debians_hash_links_are_not_read_twice(host: HostRoot) -> None:
    _write(host, "/etc/ssl/certs/ca-certificates.crt", "bundle")
    _write(host, "/usr/share/ca-certificates/a.crt", "a")
    (host.prefix / "etc/ssl/certs/a.pem").symlink_to("/usr/share/ca-certificates/a.crt")
    (host.prefix / "etc/ssl/certs/12345678.0").symlink_to("a.pem")
    assert _paths(host) == ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/a.pem"]


def test_the_environment_replaces_the_bundle_and_the_folders(host: HostRoot) -> None:
    _write(host, "/etc/ssl/certs/ca-certificates.crt", "bundle")
    _write(host, "/opt/one.pem", "one")
    _write(host, "/opt/d1/two.pem", "two")
    _write(host, "/opt/d2/three.pem", "three")
    assert _paths(host, {"SSL_CERT_FILE": "/opt/one.pem"}) == ["/opt/one.pem", "/etc/ssl/certs/ca-certificates.crt"]
    both = {"SSL_CERT_FILE": "/opt/one.pem", "SSL_CERT_DIR": "/opt/d1:/opt/d2/"}
    assert _paths(host, both) == ["/opt/one.pem", "/opt/d1/two.pem", "/opt/d2/three.pem"]


def test_an_environment_that_names_nothing_leaves_no_trust_and_is_remarked_on(host: HostRoot) -> None:
    store = read_trust(host, {"SSL_CERT_FILE": "/none.pem", "SSL_CERT_DIR": "/none"})
    assert store.blobs == ()
    assert "SSL_CERT_FILE=/none.pem" in store.remarks[0]


def test_an_empty_variable_is_as_none(host: HostRoot) -> None:
    _write(host, "/etc/ssl/cert.pem", "alpine")
    assert _paths(host, {"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}) == ["/etc/ssl/cert.pem"]


def test_what_is_no_file_does_not_hold_us_up(host: HostRoot) -> None:
    _write(host, "/etc/ssl/certs/a.pem", "a")
    os.mkfifo(host.prefix / "etc/ssl/certs/pipe")
    (host.prefix / "etc/ssl/certs/java").mkdir()
    (host.prefix / "etc/ssl/certs/dangling").symlink_to("/none")
    (host.prefix / "etc/ssl/certs/loop").symlink_to("/etc/ssl/certs/loop")
    store = read_trust(host, {})
    assert [path for path, _ in store.blobs] == ["/etc/ssl/certs/a.pem"]
    assert len(store.remarks) == 1
    assert "loop" in store.remarks[0]


def test_a_link_out_of_the_host_is_not_followed(host: HostRoot, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_text("secret")
    (host.prefix / "etc/ssl/certs").mkdir(parents=True)
    (host.prefix / "etc/ssl/certs/evil").symlink_to(outside)
    assert _paths(host) == []


def test_huge_files_and_folders_are_cut(host: HostRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "FILE_LIMIT", 10)
    monkeypatch.setattr(trust, "TOTAL_LIMIT", 25)
    _write(host, "/etc/ssl/certs/0-huge", "x" * 11)
    for number in range(1, 9):
        _write(host, f"/etc/ssl/certs/{number}", "x" * 10)
    store = read_trust(host, {})
    assert len(store.blobs) == 3
    assert len(store.remarks) == 2


def test_the_trust_store_of_this_machine_is_found() -> None:
    if not any(Path(path).exists() for path in trust.CERT_FILES):
        pytest.skip("this machine has no trust store")
    assert b"BEGIN CERTIFICATE" in read_trust(HostRoot(), {}).blobs[0][1]
