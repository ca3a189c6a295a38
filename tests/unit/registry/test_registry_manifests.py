"""Manifests as foreign JSON, and the platform a node takes."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Fault
from agent.registry.manifests import Config, Descriptor, Index, Manifest, check_digest, digest_of, parse, parse_config
from agent.registry.platforms import Platform, choose

OCI, OCI_INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
SHA = "sha256:" + "1" * 64
AMD64 = Platform("linux", "amd64")


def blob(**fields: object) -> dict[str, object]:
    return {"mediaType": "x", "digest": SHA, "size": 5} | fields


def manifest(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": blob(), "layers": [blob(size=7)]} | fields).encode()


def entry(*names: str, number: int = 1) -> dict[str, object]:
    platform = dict(zip(("os", "architecture", "variant"), names, strict=False))
    return blob(digest=f"sha256:{number:064x}", mediaType=OCI, **({"platform": platform} if names else {}))


def index(*entries: Mapping[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def unsupported(body: bytes, media_type: str = OCI) -> str:
    with pytest.raises(Fault) as caught:
        parse(body, media_type)
    assert caught.value.cause is Cause.UNSUPPORTED_MANIFEST
    return caught.value.detail


@pytest.mark.parametrize("media_type", [OCI, DOCKER])
def test_a_manifest_has_a_config_and_layers(media_type: str) -> None:
    found = parse(manifest(), media_type, SHA)
    assert isinstance(found, Manifest)
    assert (found.config.size, len(found.layers), found.size, found.digest) == (5, 1, 12, SHA)


def test_the_body_tells_its_kind_before_the_header_does() -> None:
    found = parse(json.dumps({"mediaType": OCI_INDEX, "manifests": []}).encode(), "application/octet-stream")
    assert found == Index(())


def test_a_foreign_layer_keeps_its_places() -> None:
    found = parse(manifest(layers=[blob(urls=["https://a.example/x", 5])]), OCI)
    assert isinstance(found, Manifest)
    assert found.layers[0].foreign
    assert found.layers[0].urls == ("https://a.example/x",)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[]", "not an object"),
        (b"5", "not an object"),
        (manifest(schemaVersion=1), "schema 1"),
        (manifest(fsLayers=[]), "schema 1"),
        (manifest(mediaType="application/vnd.cncf.helm.config.v1+json"), "is no image"),
        (manifest(manifests=[]), "expected manifest but found index"),
        (manifest(mediaType=OCI_INDEX), "expected index but found manifest"),
        (manifest(config=None), "config is not an object"),
        (manifest(layers={}), "layers is not a list"),
        (manifest(layers=[5]), "layers[0] is not an object"),
        (manifest(layers=[blob(digest="sha256:../../etc")]), "layers[0] has no usable digest"),
        (manifest(layers=[blob(digest=5)]), "no usable digest"),
        (manifest(layers=[blob(size=-1)]), "no usable size"),
        (manifest(layers=[blob(size="5")]), "no usable size"),
        (manifest(layers=[blob(size=True)]), "no usable size"),
        (manifest(layers=[blob(size=1 << 63)]), "no usable size"),
        (manifest(layers=[blob(mediaType=None)]), "no media type"),
        (manifest(layers=[0] * 10_001), "more than 10000"),
    ],
)
def test_what_is_no_manifest_is_refused(body: bytes, why: str) -> None:
    assert why in unsupported(body)


def test_another_media_type_is_no_image() -> None:
    assert "'text/plain'" in unsupported(manifest(), "text/plain")
    assert "'nothing'" in unsupported(manifest(), "")


@pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 20_000])
def test_what_is_no_json_is_an_error_of_the_registry(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        parse(body, OCI)
    assert caught.value.cause is Cause.REGISTRY_ERROR


_KEYS = ["config", "layers", "manifests", "digest", "size", "mediaType", "platform", "os", "rootfs", "diff_ids", "urls"]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=6))
def test_no_document_breaks_the_parsers(document: dict[str, object]) -> None:
    body = json.dumps(document).encode()
    for read in (lambda: parse(body, OCI), lambda: parse(body, OCI_INDEX), lambda: parse_config(body)):
        try:
            read()
        except Fault as fault:
            assert fault.cause is Cause.UNSUPPORTED_MANIFEST  # noqa: PT017 - either outcome is right


def test_a_config_tells_its_platform_and_layers() -> None:
    body = json.dumps({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": [SHA]}}).encode()
    assert parse_config(body) == Config(Platform("linux", "arm64"), (SHA,))
    assert parse_config(b"{}") == Config(None, ())
    with pytest.raises(Fault, match="list of digests"):
        parse_config(b'{"rootfs": {"diff_ids": ["x"]}}')


def test_a_body_is_what_its_digest_names_or_corrupt() -> None:
    for algorithm in ("sha256", "sha384", "sha512"):
        check_digest(b"body", digest_of(b"body", algorithm))
    with pytest.raises(Fault) as caught:
        check_digest(b"other", digest_of(b"body"))
    assert caught.value.cause is Cause.REGISTRY_CONTENT_CORRUPT
    assert caught.value.evidence["found"] == digest_of(b"other")


def chosen(node: Platform, *entries: Mapping[str, object]) -> str:
    found = parse(index(*entries), OCI_INDEX)
    assert isinstance(found, Index)
    return choose(found.manifests, node).digest[-2:].lstrip("0")


@pytest.mark.parametrize(
    ("node", "offers", "taken"),
    [
        ("linux/amd64", ["linux/386", "linux/amd64"], 2),
        ("linux/amd64", ["linux/arm64", "linux/386"], 2),
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64/v1"], 2),
        ("linux/amd64", ["windows/amd64", "linux/x86_64"], 2),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 1),
        ("linux/amd64", ["", "linux/amd64"], 2),
        ("linux/amd64", ["", ""], 1),
        ("linux/amd64", ["unknown/unknown", "linux/amd64"], 2),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 2),
        ("linux/arm64", ["linux/arm/v6", "linux/arm", "linux/arm/v5"], 2),
        ("linux/arm64/v8", ["linux/aarch64"], 1),
        ("linux/arm/v7", ["linux/arm/v8", "linux/arm/v6", "linux/armhf"], 3),
        ("linux/arm/v6", ["linux/arm/v7", "linux/armel"], 2),
        ("linux/s390x", ["linux/amd64", "linux/s390x"], 2),
    ],
)
def test_a_node_takes_what_containerd_would(node: str, offers: list[str], taken: int) -> None:
    entries = [
        entry(*(offer.split("/") if offer else ()), number=number) for number, offer in enumerate(offers, start=1)
    ]
    assert chosen(Platform(*node.split("/")), *entries) == str(taken)


@pytest.mark.parametrize(
    ("node", "offers"),
    [
        ("linux/amd64", ["linux/amd64/v2", "linux/amd64/v3"]),
        ("linux/amd64", ["windows/amd64", "linux/arm64"]),
        ("linux/386", ["linux/amd64"]),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm64"]),
        ("linux/amd64", []),
        ("linux/amd64", ["unknown/unknown"]),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(node: str, offers: list[str]) -> None:
    with pytest.raises(Fault) as caught:
        chosen(Platform(*node.split("/")), *(entry(*offer.split("/")) for offer in offers))
    assert caught.value.cause is Cause.PLATFORM_MISMATCH
    shown = [offer for offer in offers if offer != "unknown/unknown"]
    assert all(offer in caught.value.evidence["available"] for offer in shown)
    assert "unknown" not in caught.value.evidence["available"]


def test_a_node_runs_its_own_and_what_it_is_compatible_with() -> None:
    assert AMD64.runs(Platform("linux", "x86_64"))
    assert AMD64.runs(Platform("", "386"))
    assert not AMD64.runs(Platform("linux", "arm64"))
    assert Descriptor("x", SHA, 0).platform is None
