"""Images of every form that containerd takes, pulled for real on each version: nothing is wrong with any of them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from stage.containerd import Containerd
from stage.entries import NET_BIND, device, fifo, file, folder, hard_link, opaque, symlink, whiteout
from stage.images import (
    Built,
    Compression,
    attestation,
    exactly,
    filler,
    image,
    index,
    layer,
    nondistributable,
    pack,
)
from tests.node import oracle
from tests.node.cache import Cached, Node
from tests.node.victims import victim, with_other_platform

LONG = "/".join(["a-folder-with-a-name-that-is-long-enough"] * 8)


def compressed(compression: Compression) -> Built:
    return image(layer({"bin/app": b"app" * 5000}, compression), filler(1, f"of {compression}", compression))


def mistyped() -> Built:
    """Of two compressed types containerd goes by the first bytes (what is typed as a plain tar has to be one)."""
    pairs: list[tuple[Compression, Compression]] = [("zstd", "gzip"), ("gzip", "zstd"), ("none", "gzip")]
    return image(*(replace(layer({f"bin/{real}": b"x" * 1000}, real), compression=told) for real, told in pairs))


def padded() -> Built:
    """Zeros after the end of the tar, as writers with a large record size leave."""
    return image(pack(exactly(file("a", b"padded"), compression="none").blob + bytes(20480)))


def odd_names() -> Built:
    return image(
        exactly(
            folder("./"),
            folder("./etc/"),
            file("./etc//conf", b"cleaned"),
            file("/rooted", b"leading slash"),
            file("etc/latin-\udce9", b"no UTF-8"),
            file("etc/new\nline", b"two lines"),
            file(f"{LONG}/file", b"a long name"),
            symlink("to-a-long-name", f"{LONG}/file"),
        )
    )


def repeated() -> Built:
    """The last one of a name wins, also over another type."""
    return image(
        exactly(
            file("twice", b"first"),
            file("twice", b"second", 0o600),
            folder("folder", 0o700),
            file("folder/inner", b"goes with it"),
            file("folder", b"now a file"),
            file("file", b"first a file"),
            folder("file", 0o711),
            folder("merged", 0o700),
            file("merged/kept", b"kept"),
            folder("merged", 0o750),
            whiteout("was-hidden"),
            file("was-hidden", b"there again"),
        )
    )


def implicit() -> Built:
    """Folders that no entry names, some with the same folder in the layer below."""
    return image(
        exactly(folder("known", 0o710, owner=(7, 8), xattrs={"user.of": "below"}), file("known/one", b"1")),
        exactly(file("known/two", b"2"), file("unknown/deep/three", b"3")),
    )


def through_a_link() -> Built:
    """A folder through a link of the layer below is a folder of its own in the layer above."""
    return image(
        exactly(folder("usr"), folder("usr/lib"), file("usr/lib/x", b"x"), symlink("lib", "usr/lib")),
        exactly(file("lib/y", b"y")),
        exactly(symlink("var", "srv"), folder("srv"), file("var/z", b"through a link of this layer")),
    )


def hidden() -> Built:
    return image(
        exactly(folder("a"), file("a/one", b"1"), folder("b"), file("b/two", b"2"), file("c", b"3")),
        exactly(whiteout("a/one"), folder("b"), opaque("b"), file("b/new", b"new"), whiteout("c")),
        exactly(whiteout("b"), whiteout("never-was")),
    )


def special() -> Built:
    capability = {"security.capability": NET_BIND.decode("utf-8", "surrogateescape"), "user.a": "1", "trusted.b": "2"}
    return image(
        exactly(
            folder("dev"),
            device("dev/null", 1, 3),
            fifo("dev/pipe"),
            folder("tmp", 0o1777),
            file("suid", b"\x7fELF", 0o6755, owner=(1000, 1000)),
            file("capable", b"\x7fELF", 0o755, xattrs=capability),
            file("linked", b"linked", 0o4755, owner=(5, 5), xattrs={"user.c": "3"}),
            hard_link("again", "linked"),
            symlink("nowhere", "/does/not/exist"),
            file("fine-time", b"t", mtime=1_000_000_000.123456789),
            file("before-time", b"t", mtime=-1.5),
            file("long-ago", b"t", mtime=0),
            file("great-id", b"g", owner=(4_000_000_000, 3_000_000_000)),
            file("empty", b""),
        )
    )


FORMS: dict[str, Callable[[], Built]] = {
    "plain": lambda: compressed("none"),
    "gzip": lambda: compressed("gzip"),
    "members": lambda: compressed("members"),
    "zstd": lambda: compressed("zstd"),
    "docker": lambda: image(layer({"bin/app": b"docker"}), layer({"etc/x": b"y"}, "none"), docker=True),
    "docker-index": lambda: index(image(layer({"bin/app": b"in a list"}), docker=True), docker=True),
    "mistyped": mistyped,
    "padded": padded,
    "nondistributable": lambda: image(nondistributable(layer({"base": b"licensed"})), layer({"bin/app": b"free"})),
    "empty-layers": lambda: image(layer({"a": b"between"}), pack(bytes(1024)), pack(bytes(10240), "none")),
    "only-empty": lambda: image(pack(bytes(1024))),
    "duplicate-layers": lambda: image(
        *[layer({"same": b"same"})] * 3, layer({"other": b"o"}), layer({"same": b"same"})
    ),
    "many-layers": lambda: image(*(layer({f"{number}": b"x"}) for number in range(60))),
    "other-platforms": lambda: with_other_platform(victim()),
    "attested": lambda: index(built := victim(), attestation(built)),
    "everything": victim,
    "odd-names": odd_names,
    "repeated": repeated,
    "implicit": implicit,
    "through-a-link": through_a_link,
    "hidden": hidden,
    "special": special,
}


def test_nothing_is_wrong_with_any_of_them_before_and_after_a_restart(
    fresh: Containerd, fresh_node: Node, pulled: Cached
) -> None:
    names = {form: pulled(make()) for form, make in FORMS.items()}
    proofs = oracle.prove_each(fresh, names.values())
    assert_silent(fresh_node)
    fresh.restart()
    assert_silent(fresh_node)
    assert fresh_node.run("verify", "--depth", "full")[0] == 0
    oracle.assert_as_before(*proofs)


def assert_silent(node: Node) -> None:
    """At a glance, and at full depth, which is how `repair` begins: nothing is found and nothing done."""
    for command in (("verify", "--depth", "quick"), ("repair",)):
        status, document = node.run(*command)
        assert {report["names"][0]: report["findings"] for report in document["images"] if report["findings"]} == {}
        assert status == 0
        assert not [action for report in document["images"] for action in report["actions"]]


@pytest.mark.parametrize("first", ["gzip", "none", "zstd"])
def test_layers_of_the_same_content_in_other_compression_are_unpacked_once_and_the_others_never_fetched(
    fresh: Containerd, fresh_node: Node, pulled: Cached, first: Compression
) -> None:
    order: list[Compression] = [first, *(each for each in ("gzip", "none", "zstd", "members") if each != first)]
    images = [image(layer({"bin/app": b"the same" * 1000}, each), layer({"own": each.encode()})) for each in order]
    names = [pulled(built) for built in images]
    assert not fresh.blob(images[1].layers[0].digest).exists()
    proofs = oracle.prove_each(fresh, names)
    assert_silent(fresh_node)
    oracle.assert_as_before(*proofs)
