"""Error texts as they are met, each with the causes that are right for it, and those that only look alike."""

import time
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.causes import Cause, scope_of
from agent.explain import explain
from agent.explain.rules import RULES, Rule, rule_for
from agent.meanings import MEANINGS


class Case(NamedTuple):
    id: str
    causes: tuple[str, ...]
    source: str
    text: str


def read_corpus() -> list[Case]:
    """Rows of ``id, accepted causes, source, text``; the first cause is the best one, ``\\n`` is a line break."""
    rows = (Path(__file__).parent / "explain_corpus.tsv").read_text("utf-8").splitlines()[1:]
    cells = (row.split("\t") for row in rows)
    return [Case(id_, tuple(causes.split(",")), source, text) for id_, causes, source, text in cells]


CORPUS = read_corpus()
IMAGE = "reg.example/team/app:1"
PULL = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
HEAD = f'{PULL}failed to do request: Head "https://reg.example/v2/team/app/manifests/1": '
DIGEST = "sha256:" + "4f2a" * 16
EXPIRED = f"{HEAD}x509: certificate has expired or is not yet valid: current time "

# Each pair differs in little and means something else.
LOOK_ALIKE = [
    (f"{PULL}{IMAGE}: not found", Cause.IMAGE_NOT_FOUND),
    (f"{HEAD}dial tcp: lookup reg.example on 10.0.0.2:53: no such host", Cause.DNS_NOT_FOUND),
    (f"{PULL}no match for platform in manifest: not found", Cause.PLATFORM_MISMATCH),
    (f"{PULL}unexpected media type text/html for {DIGEST}: not found", Cause.REGISTRY_ERROR),
    (f"{PULL}unexpected media type application/octet-stream for {DIGEST}: not found", Cause.UNSUPPORTED_MANIFEST),
    (f"{PULL}no resolve hosts: not found", Cause.HOSTS_CONFIG_INVALID),
    (f"blob {DIGEST} expected at /x/blobs/sha256/4f: blob not found: not found", Cause.BLOB_MISSING),
    (f'{PULL}failed to create lease: lease "1-abc": not found', Cause.RUNTIME_ERROR),
    ('MountVolume.SetUp failed for volume "x" : secret "regcred" not found', Cause.UNKNOWN),
    ('Unable to retrieve pull secret a/regcred for a/b due to secret "regcred" not found', Cause.SECRET_MISSING),
    (f"{HEAD}Forbidden", Cause.PROXY_REFUSED),
    (
        f"{PULL}unexpected status from HEAD request to https://h/v2/a/manifests/1: 403 Forbidden",
        Cause("auth_missing_or_denied"),
    ),
    ("unexpected status from GET request to https://h/v2/a/blobs/sha256:ab: 403 Forbidden", Cause.BLOB_FORBIDDEN),
    (f"{HEAD}Bad Gateway", Cause.PROXY_REFUSED),
    (f"{PULL}unexpected status from HEAD request to https://h/v2/a/manifests/1: 502 Bad Gateway", Cause.REGISTRY_ERROR),
    (f"{HEAD}proxyconnect tcp: dial tcp: lookup http on 10.0.0.2:53: no such host", Cause.PROXY_MISCONFIGURED),
    (f"{HEAD}proxyconnect tcp: dial tcp: lookup proxy on 10.0.0.2:53: no such host", Cause.PROXY_UNREACHABLE),
    (f"{HEAD}proxyconnect tcp: dial tcp: lookup http-proxy on 10.0.0.2:53: no such host", Cause.PROXY_UNREACHABLE),
    (f"{HEAD}dial tcp 10.0.0.3:443: connect: connection refused", Cause.CONNECT_REFUSED),
    (
        f"{HEAD}dial tcp: lookup h on 10.0.0.2:53: read udp 10.0.0.9:4->10.0.0.2:53: read: connection refused",
        Cause.DNS_FAILURE,
    ),
    ("dial unix /run/containerd/containerd.sock: connect: connection refused", Cause.RUNTIME_UNAVAILABLE),
    (f"{HEAD}dial tcp 10.0.0.3:443: i/o timeout", Cause.CONNECT_TIMEOUT),
    (f"{HEAD}dial tcp: lookup reg.example: i/o timeout", Cause.DNS_FAILURE),
    (f"{PULL}read /x/data: input/output error", Cause.CACHE_CORRUPT),
    (f"{HEAD}net/http: TLS handshake timeout", Cause.TLS_HANDSHAKE),
    (f"{PULL}failed to copy: httpReadSeeker: failed open: unexpected EOF", Cause.CONNECTION_INTERRUPTED),
    (f"{PULL}failed to extract layer {DIGEST}: unexpected EOF", Cause.BLOB_TRUNCATED),
    (f"{PULL}failed to extract layer {DIGEST}: no space left on device", Cause.DISK_FULL),
    (f"{PULL}failed to extract layer {DIGEST}: context canceled", Cause.PULL_TIMEOUT),
    ("context canceled", Cause.UNKNOWN),
    (
        f"{EXPIRED}2026-11-24T05:00:00Z is after 2026-11-01T00:00:00Z",
        Cause.TLS_EXPIRED,
    ),
    (
        f"{EXPIRED}2026-11-24T05:00:00Z is before 2026-12-01T00:00:00Z",
        Cause.TLS_NOT_YET_VALID,
    ),
    (
        f"{EXPIRED}2000-01-01T00:00:09Z is before 2026-12-01T00:00:00Z",
        Cause.CLOCK_SKEW,
    ),
    (f"{HEAD}remote error: tls: unknown certificate authority", Cause.TLS_CLIENT_CERTIFICATE),
    (f"{HEAD}x509: certificate signed by unknown authority", Cause.TLS_UNKNOWN_AUTHORITY),
    (f"{PULL}failed to load X509 key pair: tls: private key does not match public key", Cause.HOSTS_CONFIG_INVALID),
    ("invalid character 'z' looking for beginning of value", Cause.SECRET_MALFORMED),
    (f"{PULL}unmarshal image config: invalid character 'z' looking for beginning of value", Cause.BLOB_CORRUPT),
    ("unable to decode token response: invalid character '<' looking for beginning of value", Cause.REGISTRY_ERROR),
    ("failed to fetch anonymous token: unexpected status: 403 Forbidden", Cause.AUTH_REQUIRED),
    ("failed to fetch oauth token: unexpected status: 403 Forbidden", Cause.AUTH_DENIED),
    (
        'Failed to inspect image "a": rpc error: code = DeadlineExceeded desc = context deadline exceeded',
        Cause.RUNTIME_UNAVAILABLE,
    ),
    (f"{PULL}failed to copy: context deadline exceeded", Cause.PULL_TIMEOUT),
]

# Names that people could give, each holding what would be a cause if it were said by a registry.
TREACHEROUS = [
    "reg.example/reg/403:404",
    "reg.example:429/a:500",
    "reg.example/toomanyrequests/denied:1",
    "reg.example/unauthorized/manifest_unknown:name_unknown",
    "localhost:5000/insufficient_scope/x509:502",
    f"reg.example/404@{DIGEST}",
]


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.id)
def test_a_text_from_the_field_is_read_rightly(case: Case) -> None:
    assert explain(case.text).cause in case.causes


def test_the_corpus_is_large_and_names_only_causes_that_exist() -> None:
    assert len(CORPUS) >= 150
    assert len({case.id for case in CORPUS}) == len(CORPUS)
    assert {cause for case in CORPUS for cause in case.causes} <= set(Cause)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.id)
def test_the_kubelets_wrappers_change_nothing(case: Case) -> None:
    bare = explain(case.text)
    for wrapper in ('Back-off pulling image "a.example/b:1": ErrImagePull: ', 'Failed to pull image "a.example/b:1": '):
        # Docker Hub's 404 is narrower than that of a.example, the image that the wrapper names first.
        wrapped = wrapper.replace("a.example/b:1", "nginx:1" if "docker.io/" in case.text else "a.example/b:1")
        assert explain(wrapped + case.text).cause in {bare.cause, *case.causes}


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.id)
def test_a_text_quoted_once_more_or_joined_with_itself_means_the_same(case: Case) -> None:
    if "\\" in case.text or case.source == "pull.md 2.1":
        return  # already quoted; and the keyring's texts mean what they do only because they stand bare
    quoted = case.text.replace('"', '\\"')
    assert explain(quoted).cause is explain(case.text).cause
    assert explain(f"[{case.text}, {case.text}]").cause in {explain(case.text).cause, *case.causes}


@pytest.mark.parametrize(("text", "cause"), LOOK_ALIKE, ids=lambda value: str(value)[-60:])
def test_texts_that_look_alike_are_told_apart(text: str, cause: Cause) -> None:
    assert explain(text).cause is cause


@pytest.mark.parametrize(
    ("phrase", "rule"), [(phrase, rule) for rule in RULES for phrase in rule.phrases], ids=lambda value: str(value)[:40]
)
def test_no_phrase_of_the_table_is_hidden_by_an_earlier_rule(phrase: str, rule: Rule) -> None:
    found = rule_for(phrase.replace(" … ", " and "))
    assert found is not None
    assert found.cause is rule.cause


@pytest.mark.parametrize("image", TREACHEROUS)
def test_a_name_is_never_taken_for_an_answer_of_the_registry(image: str) -> None:
    pull = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
    url = f"https://{image.partition('@')[0]}/v2/401/503/manifests/403"
    refused = f'{pull}failed to do request: Head "{url}": dial tcp 10.4.0.3:404: connect: connection refused'
    assert explain(f"{pull}{image}: not found").cause is Cause.IMAGE_NOT_FOUND
    assert explain(refused).cause is Cause.CONNECT_REFUSED
    assert explain(f'Back-off pulling image "{image}"').cause is Cause.UNKNOWN
    assert explain(f"{pull}pulling from host 404.example failed with status code [manifests 404]: 500").cause is (
        Cause.REGISTRY_ERROR
    )


def test_a_tag_before_the_words_of_a_status_is_no_status() -> None:
    assert explain("waiting for app:403 forbidden or not").cause is Cause.UNKNOWN
    assert explain("the status of app:404 is not known").cause is Cause.UNKNOWN


def test_docker_hubs_404_means_the_tag_only_where_the_hub_itself_was_asked() -> None:
    pull = 'failed to resolve reference "docker.io/library/nginx:9": unexpected status from HEAD request to https://'
    assert explain(f"{pull}registry-1.docker.io/v2/library/nginx/manifests/9: 404").cause is Cause.TAG_NOT_FOUND
    assert explain(f"{pull}m.example/v2/library/nginx/manifests/9?ns=docker.io: 404").cause is Cause.IMAGE_NOT_FOUND


def test_the_summary_names_image_host_name_and_name_server() -> None:
    summary = explain(f"{HEAD}dial tcp: lookup reg.example on [fd00::53]:53: server misbehaving").summary
    assert summary.startswith(f"{IMAGE}: ")
    assert "registry host reg.example, looked up reg.example, name server [fd00::53]:53" in summary


def test_the_summary_of_a_refused_connection_names_the_address() -> None:
    assert "address 10.1.2.3:5000" in explain(f"{HEAD}dial tcp 10.1.2.3:5000: connect: connection refused").summary


def test_the_summary_tells_when_the_error_is_a_mirrors() -> None:
    text = f"{PULL}unexpected status from HEAD request to https://m.example/v2/a/manifests/1?ns=docker.io: 500"
    assert "mirror" in explain(text).summary
    assert "docker.io" not in explain(text).summary


def test_the_summary_of_a_wide_cause_says_what_would_tell() -> None:
    assert "list of the repository's tags" in explain(f"{PULL}{IMAGE}: not found").summary
    assert "with and without credentials" in explain(f"{PULL}unexpected status: 401 Unauthorized").summary
    assert "only this node" in explain("unexpected commit digest sha256:ab, expected sha256:cd").summary
    assert "journal" in explain("context canceled").summary


@pytest.mark.parametrize("text", ["", "x" * 2**20], ids=len)
def test_an_empty_or_endless_text_is_unknown(text: str) -> None:
    assert explain(text).cause is Cause.UNKNOWN


def test_head_and_tail_of_a_long_text_are_read() -> None:
    filler = "and so on " * 100_000
    assert explain(f"{filler}no space left on device").cause is Cause.DISK_FULL
    assert explain(f"no space left on device {filler}").cause is Cause.DISK_FULL


HOSTILE = [
    "a:",
    "a/",
    "\\",
    "status ",
    '"',
    "a:b@",
    "4",
    "[manifests ",
    'image "',
    "lookup a ",
    "://",
    "errimagepull: ",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_of_a_mebibyte_takes_long(piece: str) -> None:
    started = time.perf_counter()
    explain(piece * (2**20 // len(piece)))
    explain(piece * (16_000 // len(piece)))
    assert time.perf_counter() - started < 1


PIECES = """https:// http:// @ : / ? & ns= image reference lookup dial tcp denied for docker:// sha256: proxyconnect
10.0.0.2:53 failed to pull and unpack " ' \\ [ ] < > 403 status code = NotFound not found: reg.example"""
WORDS = st.sampled_from(PIECES.split())


@given(
    st.one_of(st.text(), st.lists(st.one_of(WORDS, st.text(max_size=8))).map(" ".join), st.lists(WORDS).map("".join))
)
def test_any_text_has_an_answer_of_one_line(text: str) -> None:
    told = explain(text)
    assert (told.scope, told.fix) == (scope_of(told.cause), MEANINGS[told.cause].fix)
    assert told.summary.endswith(".")
    assert "\n" not in told.summary


SECRET = st.text(
    st.characters(categories=("L", "N"), include_characters="!$%&*+,;=~._-/?#[] "), min_size=6, max_size=20
)


@given(
    user=st.from_regex(r"u5er[a-z]{2,6}", fullmatch=True),
    password=SECRET.map(lambda text: "90210" + text),
    frame=st.sampled_from(
        [
            'failed to do request: Head "https://{}reg.example/v2/a/manifests/1": EOF',
            "proxyconnect tcp: dial tcp: lookup {}proxy.example on 10.0.0.2:53: no such host",
            'Failed to pull image "{}reg.example/a:1": not found',
            'parse "http://{}proxy.example:3128": invalid port',
            "initializing source docker://{}reg.example/a:1: manifest unknown",
            "manifest for {}reg.example/a:1 not found",
            "dial tcp {}10.0.0.1:443: connect: connection refused",
        ]
    ),
)
def test_no_credentials_reach_the_summary(user: str, password: str, frame: str) -> None:
    summary = explain(frame.format(f"{user}:{password}@")).summary
    assert f"{user}:{password}@" not in summary
    assert "u5er" not in summary
    assert "90210" not in summary


@pytest.mark.parametrize("password", ["90210/x", "90210 x", "90210?x", "90210#x", "90210@x", "9021"])
@pytest.mark.parametrize("before", ['Head "https://', "docker://", "manifest for ", 'image "', "lookup ", "dial tcp "])
def test_half_a_password_does_not_look_like_a_port_or_tag(before: str, password: str) -> None:
    summary = explain(f"{before}u5er:{password}@reg.example/v2/: connection refused").summary
    assert "u5er" not in summary
    assert "9021" not in summary


def test_a_query_string_does_not_reach_the_summary() -> None:
    text = 'Get "https://b.example/layer?X-Amz-Signature=abcdef&token=hunter2": connection reset by peer'
    assert "b.example" in explain(text).summary
    assert "hunter2" not in explain(text).summary


def test_a_cut_in_the_middle_of_credentials_shows_no_half_of_them() -> None:
    for length in range(8_190, 8_240):
        text = f"{'x' * (length - 30)} https://u5er:12345678901234567890@reg.example/v2/ {'y' * 20_000}"
        assert "12345" not in explain(text).summary
        assert "u5er" not in explain(text).summary
