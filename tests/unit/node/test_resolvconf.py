"""Go's reading of resolv.conf, hosts and nsswitch.conf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.node.resolvconf import (
    NO_SERVERS,
    NameOrder,
    ResolvConf,
    glibc_reasons,
    parse_hosts,
    parse_nsswitch,
    parse_resolv_conf,
)


def test_without_a_file_the_own_machine_is_asked() -> None:
    assert parse_resolv_conf(None) == ResolvConf(servers=NO_SERVERS)
    assert parse_resolv_conf("").servers == NO_SERVERS


def test_only_the_first_three_servers_count_and_names_are_none() -> None:
    text = (
        "nameserver 10.0.0.1\nnameserver dns.example\nnameserver fd00::1\nnameserver fe80::1%eth0\nnameserver 10.0.0.9"
    )
    assert parse_resolv_conf(text).servers == ("10.0.0.1", "fd00::1", "fe80::1%eth0")


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("search a.example b.example.", ("a.example.", "b.example.")),
        ("search a\ndomain b c", ("b.",)),
        ("domain b\nsearch a c", ("a.", "c.")),
        ("search .", ("corp.example.",)),
        ("", ("corp.example.",)),
    ],
)
def test_the_last_search_list_wins_and_the_domain_of_the_host_stands_in(text: str, search: tuple[str, ...]) -> None:
    assert parse_resolv_conf(text, "node1.corp.example").search == search


def test_a_host_without_a_domain_searches_nothing() -> None:
    assert parse_resolv_conf("", "node1").search == ()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("ndots:5 timeout:2 attempts:3", ResolvConf(ndots=5, timeout=2, attempts=3)),
        ("ndots:99 timeout:0 attempts:0", ResolvConf(ndots=15, timeout=1, attempts=1)),
        ("ndots:0", ResolvConf(ndots=0)),
        ("ndots:x", ResolvConf(ndots=0)),
        ("rotate", ResolvConf(rotate=True)),
        ("single-request", ResolvConf(single_request=True)),
        ("single-request-reopen", ResolvConf(single_request=True)),
        ("use-vc", ResolvConf(use_tcp=True)),
        ("tcp", ResolvConf(use_tcp=True)),
        ("edns0 trust-ad no-reload", ResolvConf()),
        ("inet6", ResolvConf(unknown=("options inet6",))),
    ],
)
def test_options_are_those_of_go(options: str, wanted: ResolvConf) -> None:
    assert parse_resolv_conf(f"options {options}") == wanted


def test_comments_start_a_line_and_unknown_words_are_noted() -> None:
    conf = parse_resolv_conf("# nameserver 1.1.1.1\n;x\nsortlist 10.0.0.0\nnameserver 10.0.0.1 # a comment\n")
    assert conf == ResolvConf(servers=("10.0.0.1",), unknown=("sortlist",))


def test_the_hosts_file_gives_all_addresses_of_a_name_in_order() -> None:
    hosts = parse_hosts("10.0.0.1 A.example. b # c d\n\nfd00::1 a.example\nnonsense e\n10.0.0.300 f\n10.0.0.2\n")
    assert hosts == {"a.example": ("10.0.0.1", "fd00::1"), "b": ("10.0.0.1",)}


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        (None, ("files", "dns")),
        ("passwd: files\n", ("files", "dns")),
        ("hosts: files dns", ("files", "dns")),
        ("hosts: dns files", ("dns", "files")),
        ("hosts: files", ("files",)),
        ("hosts: dns # files", ("dns",)),
        ("hosts: files mdns4_minimal [NOTFOUND=return] dns myhostname", ("files", "dns")),
        ("hosts: files [SUCCESS=return NOTFOUND=continue] dns", ("files", "dns")),
        ("hosts: dns [!UNAVAIL=return] files", ("files", "dns")),
    ],
)
def test_the_order_of_sources_is_that_of_nsswitch(text: str | None, sources: tuple[str, ...]) -> None:
    assert parse_nsswitch(text).sources == sources


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("hosts: files resolve [!UNAVAIL=return] dns", "resolve"),
        ("hosts: mymachines files dns", "mymachines"),
        ("hosts: files [!SUCCESS=return] dns", "!success=return"),
        ("hosts: files [NOTFOUND=return SUCCESS=return] dns", "notfound=return"),
    ],
)
def test_glibc_answers_where_nsswitch_says_what_go_does_not_know(text: str, word: str) -> None:
    (reason,) = glibc_reasons(ResolvConf(), parse_nsswitch(text), {})
    assert word in reason


@pytest.mark.parametrize(
    "environ", [{"LOCALDOMAIN": ""}, {"RES_OPTIONS": "x"}, {"HOSTALIASES": "x"}, {"GODEBUG": "netdns=cgo+1"}]
)
def test_glibc_answers_where_the_environment_speaks_to_it(environ: dict[str, str]) -> None:
    assert len(glibc_reasons(ResolvConf(), NameOrder(), environ)) == 1


def test_glibc_answers_for_unknown_options_and_for_local_names_with_mdns() -> None:
    assert glibc_reasons(ResolvConf(unknown=("sortlist",)), NameOrder(), {}) == ("resolv.conf has sortlist",)
    order = parse_nsswitch("hosts: files mdns4 dns")
    assert glibc_reasons(ResolvConf(), order, {}, "printer.local.") != ()
    assert glibc_reasons(ResolvConf(), order, {}, "registry.example") == ()


@given(
    st.text(max_size=200) | st.from_regex(r"((nameserver|search|options|hosts:) [a-z0-9:.\[\]!= ]*\n)*", fullmatch=True)
)
def test_no_text_whatever_raises(text: str) -> None:
    assert len(parse_resolv_conf(text).servers) in (1, 2, 3)
    parse_hosts(text)
    parse_nsswitch(text)
