"""Names in containerd's normal form: the table is facts, distribution/reference v0.6.0."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Fault
from agent.registry.reference import parse

HEX = "0123456789abcdef" * 4
SHA = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "registry", "path", "target"),
    [
        ("nginx", "docker.io", "library/nginx", "latest"),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27"),
        ("localhost", "docker.io", "library/localhost", "latest"),
        ("example.com", "docker.io", "library/example.com", "latest"),
        ("myreg:5000", "docker.io", "library/myreg", "5000"),
        ("user/app", "docker.io", "user/app", "latest"),
        ("docker.io/nginx", "docker.io", "library/nginx", "latest"),
        ("docker.io/a/b", "docker.io", "a/b", "latest"),
        ("index.docker.io/nginx", "docker.io", "library/nginx", "latest"),
        ("registry-1.docker.io/nginx", "registry-1.docker.io", "nginx", "latest"),
        ("docker.io:443/nginx", "docker.io:443", "nginx", "latest"),
        ("localhost/x", "localhost", "x", "latest"),
        ("LOCALHOST/x", "LOCALHOST", "x", "latest"),
        ("localhost:5000/x:1", "localhost:5000", "x", "1"),
        ("Foo/bar", "Foo", "bar", "latest"),
        ("reg.example/a/b/c:t", "reg.example", "a/b/c", "t"),
        ("reg:5000/a", "reg:5000", "a", "latest"),
        ("reg_x/a", "docker.io", "reg_x/a", "latest"),
        ("reg/a", "docker.io", "reg/a", "latest"),
        ("[::1]/a", "[::1]", "a", "latest"),
        ("[2001:db8::1]:5000/a:b", "[2001:db8::1]:5000", "a", "b"),
        ("10.0.0.1:5000/a", "10.0.0.1:5000", "a", "latest"),
        ("a__b", "docker.io", "library/a__b", "latest"),
        ("a--b", "docker.io", "library/a--b", "latest"),
        ("a---b.c_d/e", "a---b.c_d", "e", None),
        ("x:_tag", "docker.io", "library/x", "_tag"),
        (f"x@{SHA}", "docker.io", "library/x", SHA),
        (f"x:gone@{SHA}", "docker.io", "library/x", SHA),
        (f"x@sha512:{HEX}{HEX}", "docker.io", "library/x", f"sha512:{HEX}{HEX}"),
        (f"x@sha384:{HEX}{HEX[:32]}", "docker.io", "library/x", f"sha384:{HEX}{HEX[:32]}"),
        (f"a/{HEX}", "docker.io", f"a/{HEX}", "latest"),
        (f"{HEX}:tag", "docker.io", f"library/{HEX}", "tag"),
        ("r.example/" + "a" * 255, "r.example", "a" * 255, "latest"),
    ],
)
def test_a_name_gets_containerds_normal_form(text: str, registry: str, path: str, target: str | None) -> None:
    if target is None:
        with pytest.raises(Fault):
            parse(text)
        return
    ref = parse(text)
    assert (ref.registry, ref.path, ref.target) == (registry, path, target)
    assert (ref.tag is None) == (ref.digest is not None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (HEX, "image ID"),
        ("Nginx", "lower case"),
        ("reg.example/App", "lower case"),
        ("docker.io/User/app", "lower case"),
        (" nginx", "white space at character 1"),
        ("nginx\n", "white space at character 6"),
        ("ngi\x00nx", "U+0000 at character 4"),
        ("ngi\u00a0nx", "at character 4"),
        ("ngïnx", "ASCII"),
        ("a..b", "component 'a..b'"),
        ("a___b", "component"),
        ("-a", "component"),
        ("a-", "component"),
        ("a/", "empty component"),
        ("/a", "empty component"),
        ("a//b", "empty component"),
        ("reg.example/", "empty component"),
        ("reg_x.example:5000/a", "registry host"),
        ("reg_x:5000/a", "registry host"),
        ("-reg.example/a", "registry host"),
        ("reg.example:/a", "registry host"),
        ("reg:port/a", "registry host"),
        ("[fe80::1%eth0]/a", "registry host"),
        ("[::ffff:1.2.3.4]/a", "registry host"),
        ("[::1/a", "registry host"),
        ("https://reg.example/a", "registry host"),
        ("x:", "tag after the colon is empty"),
        ("x:.a", "tag '.a'"),
        ("x:a:b", "tag 'a:b'"),
        ("x:" + "t" * 129, "129 characters"),
        ("x@", "digest"),
        ("x@sha256", "digest"),
        (f"x@sha256:{HEX[:-1]}", "has 64 hexadecimal digits, this one 63"),
        (f"x@sha256:{HEX.upper()}", "upper-case"),
        (f"x@md5:{HEX[:32]}", "algorithm 'md5'"),
        (f"x@sha256:{HEX}@sha256:{HEX}", "digest"),
        (f"x@{SHA}:tag", "digest"),
        ("r.example/" + "a" * 256, "256 characters"),
        ("user@host.example/x", "registry host"),
    ],
)
def test_a_bad_name_is_refused_and_the_fault_tells_why(text: str, why: str) -> None:
    with pytest.raises(Fault) as caught:
        parse(text)
    assert caught.value.cause is Cause.INVALID_REFERENCE
    assert why in caught.value.detail


@given(st.text(max_size=400))
def test_whatever_is_named_the_answer_is_a_reference_or_one_printable_bounded_line(text: str) -> None:
    fault: Fault | None = None
    try:
        ref = parse(text)
    except Fault as refused:
        fault = refused
    if fault is None:
        assert parse(str(ref)) == ref
    else:
        assert fault.detail.isprintable()
        assert len(fault.detail) < 450


@given(st.text(alphabet=string.ascii_lowercase + string.digits + "./:@_-[]A", max_size=60))
def test_the_normal_form_of_a_normal_form_is_itself(text: str) -> None:
    try:
        ref = parse(text)
    except Fault:
        return
    assert parse(str(ref)) == ref
    assert parse(ref.repository).path == ref.path
