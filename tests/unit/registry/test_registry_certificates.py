"""Chains judged by Go's rules."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from agent.causes import Cause
from agent.model import Fault
from agent.registry.certificates import Judged, Trust, judge
from agent.registry.trust import issuer_of, subject_of
from stage.authority import Authority, Certificate, self_signed

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
HOST = "registry.example"
ROOT = Authority("Root")
MIDDLE = ROOT.intermediate("Middle")
LOW = MIDDLE.intermediate("Low")
LEAF = LOW.issue(HOST, "*.wild.example", ips=["10.0.0.1", "2001:db8::1"])
TRUST = Trust.load(ROOT.pem)


def ders(*pems: bytes) -> list[bytes]:
    marked = b"".join(pems).split(b"-----END CERTIFICATE-----\n")[:-1]
    return [ssl.PEM_cert_to_DER_cert((block + b"-----END CERTIFICATE-----\n").decode()) for block in marked]


def fault(chain: list[bytes], trust: Trust = TRUST, host: str = HOST, now: datetime = NOW) -> Fault:
    with pytest.raises(Fault) as caught:
        judge(chain, trust, host, now)
    return caught.value


def test_a_good_chain_tells_its_issuer_end_and_path() -> None:
    judged = judge(ders(LEAF.chain), TRUST, HOST, NOW)
    assert isinstance(judged, Judged)
    assert judged.issuer == "CN=Low"
    assert judged.path == ("CN=registry.example", "CN=Low", "CN=Middle", "CN=Root")
    assert judged.not_after > NOW


def test_the_order_of_what_is_sent_and_what_is_sent_too_much_do_not_matter() -> None:
    stranger = Authority("Stranger")
    leaf, *rest = ders(LEAF.chain)
    judge([leaf, *ders(stranger.pem), *reversed(rest), leaf], TRUST, HOST, NOW)


@pytest.mark.parametrize("anchor", [MIDDLE.pem, LOW.pem, LEAF.cert_pem], ids=["intermediate", "issuer", "leaf"])
def test_any_certificate_of_the_pool_is_an_anchor(anchor: bytes) -> None:
    judge(ders(LEAF.chain), Trust.load(anchor), HOST, NOW)


def test_a_missing_intermediate_is_named() -> None:
    found = fault(ders(LEAF.cert_pem))
    assert found.cause is Cause.TLS_UNKNOWN_AUTHORITY
    assert "issued by CN=Low, which is not trusted and was not sent" in found.detail
    found = fault(ders(LEAF.cert_pem, LOW.pem))
    assert "CN=Low was issued by CN=Middle" in found.detail


def test_an_unknown_root_and_a_self_signed_leaf_are_told_apart() -> None:
    found = fault(ders(LEAF.chain, ROOT.pem), Trust.load(Authority("Other").pem))
    assert found.cause is Cause.TLS_UNKNOWN_AUTHORITY
    assert "a root which this node does not trust: CN=Root" in found.detail
    found = fault(ders(self_signed(HOST).chain))
    assert "a self-signed certificate: CN=registry.example" in found.detail
    assert len(found.evidence["sha256"]) == 64


def test_a_self_signed_certificate_in_the_pool_is_good() -> None:
    own = self_signed(HOST)
    judge(ders(own.chain), Trust.load(own.cert_pem), HOST, NOW)


def test_an_authority_of_the_same_name_with_another_key_is_a_hint() -> None:
    found = fault(ders(LEAF.chain), Trust.load(Authority("Root").pem))
    assert found.cause is Cause.TLS_UNKNOWN_AUTHORITY
    assert "not by this authority's key" in found.detail


def test_dates_are_told_with_the_clock_of_this_node() -> None:
    found = fault(ders(LEAF.chain), now=NOW + 400 * DAY)
    assert found.cause is Cause.TLS_EXPIRED
    assert "this node's clock says" in found.detail
    assert found.evidence["not_after"] in judge_dates(LEAF)
    assert fault(ders(LEAF.chain), now=NOW - 400 * DAY).cause is Cause.TLS_NOT_YET_VALID


def judge_dates(certificate: Certificate) -> str:
    return x509.load_pem_x509_certificate(certificate.cert_pem).not_valid_after_utc.isoformat()


def test_an_expired_authority_is_an_expired_certificate() -> None:
    old = Authority("Old", not_before=NOW - 10 * DAY, not_after=NOW - DAY)
    found = fault(ders(old.issue(HOST).chain), Trust.load(old.pem))
    assert found.cause is Cause.TLS_EXPIRED
    assert "CN=Old expired" in found.detail


@pytest.mark.parametrize(
    ("host", "good"),
    [
        (HOST, True),
        ("Registry.EXAMPLE.", True),
        ("a.wild.example", True),
        ("wild.example", False),
        ("a.b.wild.example", False),
        ("10.0.0.1", True),
        ("2001:DB8:0::1", True),
        ("[2001:db8::1]", True),
        ("10.0.0.2", False),
        ("other.example", False),
        ("", False),
    ],
)
def test_a_name_is_matched_as_go_matches_it(host: str, good: bool) -> None:
    if good:
        judge(ders(LEAF.chain), TRUST, host, NOW)
    else:
        found = fault(ders(LEAF.chain), host=host)
        assert found.cause is Cause.TLS_NAME_MISMATCH
        assert "valid for registry.example, *.wild.example, 10.0.0.1, 2001:db8::1" in found.detail


def test_the_common_name_never_counts() -> None:
    found = fault(ders(ROOT.common_name_only(HOST).chain))
    assert found.cause is Cause.TLS_NAME_MISMATCH
    assert "no name at all" in found.detail


def test_many_names_are_cut() -> None:
    many = ROOT.issue(*[f"host{number}.example" for number in range(100)])
    found = fault(ders(many.chain))
    assert "and 90 more" in found.detail
    assert len(found.detail) < 500


def test_a_certificate_for_clients_is_not_one_for_servers() -> None:
    found = fault(ders(ROOT.issue(HOST, client=True).chain))
    assert found.cause is Cause.TLS_HANDSHAKE
    assert "not a certificate for servers" in found.detail


def test_a_leaf_cannot_issue() -> None:
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    fake = _signed_by_leaf(leaf_key)
    found = fault([fake, *ders(LEAF.chain)])
    assert found.cause is Cause.TLS_UNKNOWN_AUTHORITY
    assert "not a certificate authority" in found.detail


def _signed_by_leaf(key: ec.EllipticCurvePrivateKey) -> bytes:
    issuer = x509.load_pem_x509_certificate(LEAF.cert_pem)
    builder = x509.CertificateBuilder(
        issuer_name=issuer.subject,
        subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake")]),
        public_key=key.public_key(),
        serial_number=7,
        not_valid_before=NOW.replace(tzinfo=None) - DAY,
        not_valid_after=NOW.replace(tzinfo=None) + DAY,
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def test_a_bundle_may_have_text_duplicates_and_broken_blocks() -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    trust = Trust.load(b"# Root\n" + ROOT.pem + ROOT.pem + broken + b"junk\xff", MIDDLE.pem, b"")
    assert len(trust) == 2
    assert len(trust.plus(LOW.pem)) == 3
    assert len(trust) == 2


def test_the_subject_is_cut_out_as_the_parser_has_it() -> None:
    for pem in (ROOT.pem, LOW.pem, LEAF.cert_pem):
        parsed = x509.load_pem_x509_certificate(pem)
        der = parsed.public_bytes(Encoding.DER)
        assert (subject_of(der), issuer_of(der)) == (parsed.subject.public_bytes(), parsed.issuer.public_bytes())


@given(st.binary(max_size=200) | st.integers(0, 400).map(lambda n: ders(LEAF.cert_pem)[0][:n]))
def test_no_bytes_break_the_judge(data: bytes) -> None:
    subject_of(data)
    assert fault([data]).cause is Cause.TLS_HANDSHAKE


@example(57, 6)  # a country of three letters, on which cryptography remarks
@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_changed_byte_gives_a_verdict(position: int, value: int) -> None:
    leaf, *rest = ders(LEAF.chain)
    changed = bytearray(leaf)
    changed[position % len(changed)] = value
    if bytes(changed) != leaf:
        fault([bytes(changed), *rest])


def test_no_certificate_at_all_is_a_fault() -> None:
    assert fault([]).cause is Cause.TLS_HANDSHAKE
