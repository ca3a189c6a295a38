"""What an image is unpacked to, as its manifest and config say."""

import hashlib
import json
import tracemalloc

import pytest

from agent.runtime.anatomy import Anatomy, chain_id, config_of, dissect

CONFIG = "sha256:" + "c" * 64
DIFFS = tuple("sha256:" + letter * 64 for letter in "123")


def manifest(count: int = 3, media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip") -> bytes:
    layers = [{"digest": f"sha256:{number:064}", "size": number, "mediaType": media_type} for number in range(count)]
    return json.dumps({"config": {"digest": CONFIG}, "layers": layers}).encode()


def config(*diff_ids: str) -> bytes:
    rootfs = {"type": "layers", "diff_ids": list(diff_ids)}
    return json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()


def test_each_layer_stands_on_the_chain_below_it() -> None:
    anatomy = dissect(manifest(), config(*DIFFS), {})
    first, second, third = anatomy.layers
    assert (first.parent, first.chain) == ("", DIFFS[0])
    expected = hashlib.sha256(f"{DIFFS[0]} {DIFFS[1]}".encode()).hexdigest()
    assert (second.parent, second.chain) == (DIFFS[0], f"sha256:{expected}")
    assert third.parent == second.chain
    assert (anatomy.top, anatomy.platform, anatomy.config) == (third.chain, "linux/amd64", CONFIG)


def test_the_same_layer_twice_makes_two_chains() -> None:
    assert chain_id(chain_id("", DIFFS[0]), DIFFS[0]) != chain_id("", DIFFS[0])


def test_what_is_unpacked_again_goes_from_the_lowest_damaged_layer_to_the_top() -> None:
    anatomy = dissect(manifest(), config(*DIFFS), {})
    second, third = anatomy.layers[1:]
    assert anatomy.above(frozenset({third.chain, second.chain})) == (second, third)
    assert anatomy.above(frozenset({third.chain})) == (third,)
    assert anatomy.above(frozenset({"sha256:other"})) == ()


@pytest.mark.parametrize("kind", ["nondistributable.v1.tar+gzip", "foreign.diff.tar.gzip"])
def test_layers_that_nobody_has_to_distribute_are_known_by_their_type(kind: str) -> None:
    assert dissect(manifest(1, f"application/vnd.oci.image.layer.{kind}"), config(DIFFS[0]), {}).layers[0].foreign


@pytest.mark.parametrize(
    ("manifest_bytes", "config_bytes"),
    [
        pytest.param(manifest(), b"{}", id="an artifact: its config is empty"),
        pytest.param(manifest(), config(*DIFFS[:2]), id="a layer more than diff IDs"),
        pytest.param(manifest(), b"[]", id="a config that is a list"),
        pytest.param(manifest(), b"\xff\x00", id="a config that is no text"),
        pytest.param(b'{"layers": 3}', config(*DIFFS), id="layers that are a number"),
        pytest.param(b'{"layers": [1, null]}', config(*DIFFS), id="layers that are none"),
        pytest.param(b"[" * 100_000, config(*DIFFS), id="too deep to be read"),
        pytest.param(b"", b"", id="nothing at all"),
        pytest.param(manifest(), config("sha256:aa\ud800", *DIFFS[1:]), id="half a character in a diff ID"),
        pytest.param(manifest(), config("../../etc", *DIFFS[1:]), id="a diff ID that is none"),
        pytest.param(manifest(1001), config(*[DIFFS[0]] * 1001), id="more layers than can be mounted"),
        pytest.param(b'{"layers": [{"digest": "x"}]}', config(DIFFS[0]), id="a layer's digest that is none"),
    ],
)
def test_what_does_not_fit_together_has_no_layers(manifest_bytes: bytes, config_bytes: bytes) -> None:
    assert dissect(manifest_bytes, config_bytes, {}).layers == ()


def test_a_document_of_millions_of_things_takes_no_memory() -> None:
    hostile = b'{"layers": [], "x": [' + b"[]," * 1_300_000 + b"[]]}"
    tracemalloc.start()
    assert dissect(hostile, config(), {}).layers == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1024 * 1024


def test_a_config_digest_that_is_none_is_not_looked_up() -> None:
    assert config_of(b'{"config": {"digest": "sha256:aa\\ud800"}}') == ""
    assert config_of(b'{"config": {"digest": "../../etc/passwd"}}') == ""


def test_an_index_names_no_config() -> None:
    assert config_of(b'{"manifests": []}') == ""
    assert Anatomy("", "", ()).top == ""
