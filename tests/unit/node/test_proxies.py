"""Which proxy Go takes: the table of golang.org/x/net/http/httpproxy, and what people really write."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Fault
from agent.node.proxies import Proxy, ProxySettings


def _proxy(value: str) -> Proxy | None:
    return ProxySettings.from_environ({"HTTPS_PROXY": value}).proxy_for("https", "registry.example", 443)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("proxy:3128", "http://proxy:3128"),
        ("proxy", "http://proxy:80"),
        ("10.0.0.1:3128", "http://10.0.0.1:3128"),
        ("https://proxy", "https://proxy:443"),
        ("HTTP://proxy:1", "http://proxy:1"),
        ("socks5://proxy", "socks5://proxy:1080"),
        ("socks5h://proxy:9", "socks5h://proxy:9"),
        ("http://proxy:", "http://proxy:80"),
        ("http://proxy:3128/path?query#fragment", "http://proxy:3128"),
        ("https://[fd00::1]:8080", "https://[fd00::1]:8080"),
        ("http://user:word@proxy:3128", "http://proxy:3128"),
        ("http://user:w@rd@proxy:3128", "http://proxy:3128"),
        ("http://user:w:rd@proxy:3128", "http://proxy:3128"),
        ("user:word@proxy:3128", "http://proxy:3128"),
        ("http://user:w%23rd@proxy", "http://proxy:80"),
    ],
)
def test_an_address_is_read_as_go_reads_it(value: str, shown: str) -> None:
    proxy = _proxy(value)
    assert proxy is not None
    assert proxy.shown == shown


@pytest.mark.parametrize("character", ["#", "/", "?", " ", "[", "\\", "^", "|"])
def test_an_unescaped_character_in_the_password_makes_the_host_the_word_http(character: str) -> None:
    proxy = _proxy(f"http://user:pa{character}ss@proxy:3128")
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.authorization) == ("http", 80, None)


def test_quotes_around_the_value_make_a_host_of_the_scheme() -> None:
    proxy = _proxy('"http://proxy:3128"')
    assert proxy is not None
    assert proxy.host == '"http'


@pytest.mark.parametrize(
    "value",
    [" http://proxy:1", "http://u:%zz@proxy:1", "http://proxy:1\n", "proxy%41:1"],
)
def test_what_go_cannot_parse_is_ignored_in_silence_and_remarked_on(value: str) -> None:
    settings = ProxySettings.from_environ({"HTTPS_PROXY": value})
    assert settings.proxy_for("https", "registry.example") is None
    assert settings.remarks() == ("HTTPS_PROXY is not a URL: Go ignores it in silence and connects directly",)


@pytest.mark.parametrize("value", ["pro xy", "proxy:x", "user:p/w@proxy:1", "proxy%41", "http://", "http:proxy:3128"])
def test_what_go_parses_without_a_host_is_a_proxy_that_nobody_can_reach(value: str) -> None:
    settings = ProxySettings.from_environ({"HTTPS_PROXY": value})
    proxy = settings.proxy_for("https", "registry.example")
    assert proxy is not None
    assert proxy.host == ""
    assert settings.remarks() == ("HTTPS_PROXY names no host",)


def test_another_scheme_becomes_the_host_of_an_http_proxy() -> None:
    proxy = _proxy("ftp://proxy:21")
    assert proxy is not None
    assert (proxy.scheme, proxy.host) == ("http", "ftp")


def test_the_credentials_are_those_of_the_url_unescaped() -> None:
    proxy = _proxy("http://us%20er:p%40ss@proxy")
    assert proxy is not None
    assert proxy.authorization == "Basic " + base64.b64encode(b"us er:p@ss").decode()


def test_a_user_without_a_password_is_sent_with_an_empty_one() -> None:
    proxy = _proxy("http://user@proxy")
    assert proxy is not None
    assert proxy.authorization == "Basic " + base64.b64encode(b"user:").decode()


@pytest.mark.parametrize(
    "value",
    [
        "http://user:s3cret@proxy",
        "http://user:s3cret#x@proxy",
        "http://s3cret#x@proxy:1",
        "http://user:s3cret /@proxy",
        "s3cret/@proxy",
        "http://user:s3cret@:x",
        "ftp://user:s3cret@proxy",
    ],
)
def test_no_secret_is_shown(value: str) -> None:
    settings = ProxySettings.from_environ({"HTTPS_PROXY": value, "https_proxy": "http://s3cret@x", "ALL_PROXY": value})
    proxy = settings.proxy_for("https", "registry.example")
    shown = "" if proxy is None else proxy.shown
    assert "s3cret" not in f"{shown} {settings.remarks()}"


@pytest.mark.parametrize(
    ("environ", "scheme", "host"),
    [
        ({"HTTPS_PROXY": "a", "https_proxy": "b"}, "https", "a"),
        ({"HTTPS_PROXY": "", "https_proxy": "b"}, "https", "b"),
        ({"https_proxy": "b"}, "https", "b"),
        ({"HTTP_PROXY": "a", "HTTPS_PROXY": "b"}, "http", "a"),
        ({"HTTP_PROXY": "a"}, "https", None),
        ({"HTTPS_PROXY": "a"}, "http", None),
        ({"ALL_PROXY": "a", "all_proxy": "a"}, "https", None),
        ({"Https_Proxy": "a"}, "https", None),
        ({"HTTPS_PROXY": "a"}, "ftp", None),
        ({}, "https", None),
    ],
)
def test_each_scheme_has_its_variable_upper_case_first(environ: dict[str, str], scheme: str, host: str | None) -> None:
    proxy = ProxySettings.from_environ(environ).proxy_for(scheme, "registry.example")
    assert (proxy and proxy.host) == host


def test_a_cgi_environment_refuses_http_requests_only() -> None:
    settings = ProxySettings.from_environ({"HTTP_PROXY": "a", "HTTPS_PROXY": "b", "REQUEST_METHOD": "GET"})
    with pytest.raises(Fault) as caught:
        settings.proxy_for("http", "localhost")
    assert caught.value.cause is Cause.PROXY_MISCONFIGURED
    assert settings.proxy_for("https", "registry.example") is not None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"HTTP_PROXY": "p"}, "HTTPS_PROXY is not: https registries are reached directly"),
        ({"ALL_PROXY": "p"}, "ALL_PROXY is set: Go does not read it"),
        ({"Https_Proxy": "p"}, "Go reads only HTTPS_PROXY and https_proxy"),
        ({"HTTPS_PROXY": "p", "https_proxy": "q"}, "https_proxy differs from HTTPS_PROXY"),
        ({"NO_PROXY": "a", "no_proxy": "b"}, "no_proxy differs from NO_PROXY"),
        ({"HTTPS_PROXY": "http://"}, "names no host"),
        ({"HTTPS_PROXY": "http://p:70000"}, "port beyond 65535"),
        ({"HTTPS_PROXY": "http://p:" + "9" * 5000}, "port beyond 65535"),
        ({"HTTPS_PROXY": "ftp://p"}, "a proxy called ftp"),
        ({"HTTPS_PROXY": "http://p q:1"}, "a proxy called http"),
        ({"HTTPS_PROXY": "http://u:p#q@proxy"}, "must be escaped"),
        ({"NO_PROXY": "*"}, "no proxy is used at all"),
    ],
)
def test_a_variable_without_its_effect_is_remarked_on(environ: dict[str, str], words: str) -> None:
    assert words in " ".join(ProxySettings.from_environ(environ).remarks())


def test_a_sound_environment_has_no_remarks() -> None:
    environ = {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://p:1", "https_proxy": "http://p:1", "NO_PROXY": "a.b"}
    assert ProxySettings.from_environ(environ).remarks() == ()


_VALUES = st.text(st.characters(), max_size=40) | st.from_regex(r"(https?|socks5h?)://[\[\]a:@%#/?.0-9 *,]*")


@given(proxy=_VALUES, no_proxy=_VALUES, host=_VALUES, port=st.none() | st.integers(0, 65535))
def test_no_value_whatever_raises(proxy: str, no_proxy: str, host: str, port: int | None) -> None:
    settings = ProxySettings.from_environ({"HTTPS_PROXY": proxy, "NO_PROXY": no_proxy})
    chosen = settings.proxy_for("https", host, port)
    assert chosen is None or 0 <= chosen.port <= 65536
    assert all(isinstance(remark, str) for remark in settings.remarks())
