"""``NO_PROXY``: the table of golang.org/x/net/http/httpproxy, and the entries that do nothing."""

import pytest

from agent.node.proxies import ProxySettings


def _around(no_proxy: str, host: str, port: int | None = None) -> bool:
    """Whether an https request goes around the proxy."""
    settings = ProxySettings.from_environ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": no_proxy})
    return settings.proxy_for("https", host, port) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "around"),
    [
        ("", "registry.example", False),
        ("", "localhost", True),
        ("", "LOCALHOST", False),
        ("", "localhost.", False),
        ("", "foo.localhost", False),
        ("", "127.0.0.1", True),
        ("", "127.9.9.9", True),
        ("", "::1", True),
        ("", "[::1]", True),
        ("", "::ffff:127.0.0.1", True),
        ("*", "registry.example", True),
        ("a.example, * ,b", "registry.example", True),
        ("*.*", "registry.example", False),
        ("foo.com", "foo.com", True),
        ("foo.com", "bar.foo.com", True),
        ("foo.com", "barfoo.com", False),
        ("foo.com", "foo.com.", False),
        ("foo.com.", "foo.com", False),
        ("foo.com.", "foo.com.", True),
        (".foo.com", "foo.com", False),
        (".foo.com", "bar.foo.com", True),
        ("*.foo.com", "foo.com", False),
        ("*.foo.com", "a.bar.foo.com", True),
        ("*foo.com", "foo.com", False),
        ("*foo.com", "xfoo.com", False),
        ("foo*", "foo.com", False),
        ("FOO.com", "foo.COM", True),
        (" foo.com ", "foo.com", True),
        ("a.com b.com", "b.com", False),
        ("a.com;b.com", "b.com", False),
        ("a.com,b.com", "b.com", True),
        (",,b.com", "b.com", True),
        ("https://foo.com", "foo.com", False),
        ("foo.com/path", "foo.com", False),
        ("com", "foo.com", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "ten.example", False),
        ("10.0.0.0/255.0.0.0", "10.1.2.3", False),
        ("10.0.0.0/8:443", "10.1.2.3", False),
        ("10.0.0.0/33", "10.1.2.3", False),
        ("10.", "10.1.2.3", False),
        ("10.*", "10.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.30", False),
        ("10.01.2.3", "10.1.2.3", False),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.200.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("fd00::/8", "fd12::1", True),
        ("fd00::1", "fd00::1", True),
        ("fd00:0::1", "[fd00::1]", True),
        ("[fd00::1]", "fd00::1", False),
        ("::/0", "10.1.2.3", False),
        ("fe80::1%eth0", "fe80::1", False),
    ],
)
def test_the_bypass_list_is_read_as_go_reads_it(no_proxy: str, host: str, around: bool) -> None:
    assert _around(no_proxy, host) is around


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "around"),
    [
        ("foo.com:5000", "foo.com", 5000, True),
        ("foo.com:5000", "foo.com", 443, False),
        ("foo.com:5000", "foo.com", None, False),
        ("foo.com:443", "foo.com", None, True),
        ("foo.com:443", "sub.foo.com", 443, True),
        (".foo.com:443", "sub.foo.com", 443, True),
        ("*.foo.com:443", "foo.com", 443, False),
        ("foo.com:", "foo.com", 5000, True),
        ("foo.com:https", "foo.com", 443, False),
        ("foo.com", "foo.com", 5000, True),
        ("10.1.2.3:5000", "10.1.2.3", 5000, True),
        ("10.1.2.3:5000", "10.1.2.3", 443, False),
        ("[fd00::1]:5000", "fd00::1", 5000, True),
        ("[fd00::1]:5000", "fd00::1", 443, False),
        (":5000", "foo.com", 5000, False),
    ],
)
def test_a_port_in_the_bypass_list_restricts_it(
    no_proxy: str,
    host: str,
    port: int | None,
    around: bool,
) -> None:
    assert _around(no_proxy, host, port) is around


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("10.", "CIDR"),
        ("10.*", "CIDR"),
        ("192.168", "CIDR"),
        ("*foo.com", "star"),
        ("foo*", "star"),
        ("a.com b.com", "commas"),
        ("a.com;b.com", "commas"),
        ("https://foo.com", "scheme"),
        ("foo.com/path", "slash"),
        ("10.0.0.0/8:443", "slash"),
        ("foo.com.", "dot"),
        ("[::1]", "brackets"),
        (":5000", "no host"),
        ("foo.com:https", "no number"),
    ],
)
def test_an_entry_without_effect_is_remarked_on(entry: str, word: str) -> None:
    settings = ProxySettings.from_environ({"HTTPS_PROXY": "proxy", "NO_PROXY": f"good.example,{entry}"})
    (remark,) = settings.remarks()
    assert word in remark
    assert repr(entry) in remark


@pytest.mark.parametrize(
    "entry",
    ["foo.com", ".foo.com", "*.foo.com", "10.0.0.0/8", "10.1.2.3:5000", "fd00::/8", "fd00::1", "[fd00::1]:5000"],
)
def test_an_entry_with_an_effect_is_not_remarked_on(entry: str) -> None:
    assert ProxySettings.from_environ({"HTTPS_PROXY": "proxy", "NO_PROXY": entry}).remarks() == ()
