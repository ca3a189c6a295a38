"""Where a redirect may lead, and where not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Fault
from agent.registry import redirects
from agent.registry.messages import Url
from tests.unit.registry.asking import response

URL = Url.parse("https://reg.example/v2/a/manifests/1?ns=secret")


def moved(location: str, seen: frozenset[str] = frozenset(), home: str = "192.0.2.1") -> Url:
    return redirects.target(response(307, None, ("location", location)), URL, seen, home)


def test_a_redirect_may_be_relative() -> None:
    assert str(moved("../blobs/x?y=z")) == "https://reg.example/v2/a/blobs/x?y=z"
    assert str(moved("//cdn.example:8443/x")) == "https://cdn.example:8443/x"


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/x",
        "file:///etc/passwd",
        "http://[::]/",
        "gopher://a",
    ],
)
def test_a_redirect_to_the_inside_is_not_followed(location: str) -> None:
    with pytest.raises(Fault) as caught:
        moved(location)
    assert caught.value.cause is Cause.REGISTRY_ERROR


def test_a_registry_on_loopback_may_redirect_there_but_not_to_link_local() -> None:
    moved("http://127.0.0.2/", home="127.0.0.1")
    with pytest.raises(Fault):
        moved("http://169.254.169.254/", home="127.0.0.1")


def test_circles_and_endless_redirects_end() -> None:
    with pytest.raises(Fault, match="circle"):
        moved("https://a.example/", frozenset({"https://a.example/"}))
    with pytest.raises(Fault, match="more than 10 times"):
        moved("https://a.example/", frozenset(map(str, range(11))))


@given(st.text(max_size=100))
def test_no_location_breaks_a_redirect(location: str) -> None:
    try:
        found = moved(location or "x")
    except Fault:
        return
    assert found.scheme in {"http", "https"}
    assert str(found).isascii()
