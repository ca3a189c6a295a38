"""Server certificates judged as Go judges them, not as OpenSSL would.

Facts: Go crypto/x509 verify.go. The leaf's dates first, then its names, then a path: by issuer name and
signature, through presented certificates in any order, to any certificate of the pool (an intermediate
or the leaf itself may be the anchor). SHA-1 and MD5 signatures are refused; the common name never
counts; nothing is fetched. Name constraints and path lengths are not judged here.

cryptography is imported only when a chain is judged: the daemon is idle most of the time.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote
from agent.registry.names import matches, shown_names
from agent.registry.trust import Trust, issuer_of, subject_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, ObjectIdentifier

__all__ = ["Judged", "Trust", "judge"]

_MOST_PRESENTED = 30
_MOST_SIGNATURES = 100


@dataclass(frozen=True, slots=True)
class Judged:
    """A chain that Go would accept: who issued the leaf, until when, and the subjects from leaf to anchor."""

    subject: str
    issuer: str
    not_after: datetime
    path: tuple[str, ...]


def judge(chain: Sequence[bytes], trust: Trust, host: str, now: datetime) -> Judged:
    """Whether ``chain`` (DER, leaf first) is good for ``host`` at ``now`` (aware), trusting ``trust``.

    Raises Fault: TLS_EXPIRED, TLS_NOT_YET_VALID, TLS_NAME_MISMATCH, TLS_UNKNOWN_AUTHORITY, and
    TLS_HANDSHAKE for what is no certificate or not one for servers. The evidence has the subject,
    issuer, dates and SHA-256 of the certificate that is at fault.
    """
    from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType  # noqa: PLC0415 - see above

    if not chain:
        raise Fault(Cause.TLS_HANDSHAKE, "the server sent no certificate")
    try:
        with warnings.catch_warnings():  # cryptography remarks on odd names and serials; the verdict is Go's
            warnings.simplefilter("ignore")
            return _judge(_load(chain), trust, host, now)
    except (ValueError, TypeError, DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType) as error:
        raise Fault(Cause.TLS_HANDSHAKE, f"the server's certificate cannot be read: {quote(str(error))}") from error


def _judge(presented: "list[Certificate]", trust: Trust, host: str, now: datetime) -> Judged:
    leaf = presented[0]
    _check_dates(leaf, now)
    if not matches(leaf, host):
        raise _fault(Cause.TLS_NAME_MISMATCH, f"the certificate is valid for {shown_names(leaf)}, not {host}", leaf)
    path = _Search(presented[1:], trust, now).path(leaf)
    _check_usage(path)
    return Judged(_name(leaf), _issuer(leaf), leaf.not_valid_after_utc, tuple(_name(each) for each in path))


def _load(chain: Sequence[bytes]) -> "list[Certificate]":
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - see above

    return [load_der_x509_certificate(der) for der in chain[:_MOST_PRESENTED]]


def _der(certificate: "Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - see above

    return certificate.public_bytes(Encoding.DER)


def _is_issuer(parent: "Certificate", child: "Certificate") -> bool:
    """By name only, byte for byte as Go compares."""
    return subject_of(_der(parent)) == issuer_of(_der(child))


class _Search:
    """Looks for a path to an anchor, and remembers why the best candidates failed."""

    def __init__(self, presented: "list[Certificate]", trust: Trust, now: datetime) -> None:
        self._presented = presented
        self._trust = trust
        self._now = now
        self._signatures = 0
        self._hint = ""
        self._dated: Fault | None = None

    def path(self, leaf: "Certificate") -> "list[Certificate]":
        found = [leaf] if self._trust.contains(leaf) else self._climb([leaf])
        if found is None:
            raise self._dated or self._unknown(leaf)
        return found

    def _climb(self, path: "list[Certificate]") -> "list[Certificate] | None":
        """Depth first, anchors before presented certificates, as Go's buildChains."""
        child = path[-1]
        for anchor in self._trust.named(issuer_of(_der(child))):
            if self._accepts(child, anchor, path):
                return [*path, anchor]
        for parent in self._presented:
            if (
                _is_issuer(parent, child)
                and self._accepts(child, parent, path)
                and (found := self._climb([*path, parent]))
            ):
                return found
        return None

    def _accepts(self, child: "Certificate", parent: "Certificate", path: "list[Certificate]") -> bool:
        if parent in path or self._signatures >= _MOST_SIGNATURES:
            return False
        self._signatures += 1
        if why := _unsigned(child, parent):
            self._hint = self._hint or f" ({why}; candidate authority {quote(_name(parent), 80)!r})"
            return False
        try:
            _check_dates(parent, self._now)
        except Fault as fault:
            self._dated = self._dated or fault
            return False
        return True

    def _unknown(self, leaf: "Certificate") -> Fault:
        """Names the certificate at which the path ends: there the missing issuer would have to come."""
        last = [leaf, *self._ancestors(leaf)][-1]
        if _is_issuer(last, last):
            own = "a self-signed certificate" if last is leaf else "a root which this node does not trust"
            return _fault(Cause.TLS_UNKNOWN_AUTHORITY, f"{own}: {_name(last)}{self._hint}", last)
        what = "which is not trusted and was not sent: an intermediate is missing, or its authority is not known here"
        if last is not leaf or self._hint:
            what = "an authority which this node does not know"
        detail = f"{_name(last)} was issued by {_issuer(last)}, {what}{self._hint}"
        return _fault(Cause.TLS_UNKNOWN_AUTHORITY, detail, last)

    def _ancestors(self, child: "Certificate") -> "Iterator[Certificate]":
        seen = [child]
        while parents := [p for p in self._presented if _is_issuer(p, seen[-1]) and p not in seen]:
            seen.append(parents[0])
            yield parents[0]


def _unsigned(child: "Certificate", parent: "Certificate") -> str:
    """Why ``parent`` cannot have issued ``child``; empty if it has."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 - see above

    if not _may_sign(parent):
        return "the issuer is not a certificate authority"
    try:
        algorithm = child.signature_hash_algorithm
        if algorithm is not None and algorithm.name in {"sha1", "md5"}:
            return f"insecure algorithm {algorithm.name.upper()}"
        child.verify_directly_issued_by(parent)
    except InvalidSignature:
        return "the signature is not by this authority's key"
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return quote(str(error), 80)
    return ""


def _may_sign(parent: "Certificate") -> bool:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        constraints = _extension(parent, x509.OID_BASIC_CONSTRAINTS)
        usage = _extension(parent, x509.OID_KEY_USAGE)
    except ValueError:
        return False
    if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        return False
    if isinstance(constraints, x509.BasicConstraints):
        return constraints.ca
    return parent.version is x509.Version.v1


def _extension(certificate: "Certificate", oid: "ObjectIdentifier") -> object:
    from cryptography.x509 import ExtensionNotFound  # noqa: PLC0415 - see above

    try:
        return certificate.extensions.get_extension_for_oid(oid).value
    except ExtensionNotFound:
        return None


def _check_dates(certificate: "Certificate", now: datetime) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    clock = f"this node's clock says {now:%Y-%m-%d %H:%M:%SZ}"
    if now < begins:
        detail = f"{_name(certificate)} is valid only from {begins:%Y-%m-%d %H:%M:%SZ}; {clock}"
        raise _fault(Cause.TLS_NOT_YET_VALID, detail, certificate, now)
    if now > ends:
        detail = f"{_name(certificate)} expired at {ends:%Y-%m-%d %H:%M:%SZ}; {clock}"
        raise _fault(Cause.TLS_EXPIRED, detail, certificate, now)


def _check_usage(path: "list[Certificate]") -> None:
    """Every certificate of the path that limits its uses must allow to be a server, or anything."""
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415 - see above

    good = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    for certificate in path:
        try:
            usage = _extension(certificate, x509.OID_EXTENDED_KEY_USAGE)
        except ValueError as error:
            raise _fault(
                Cause.TLS_HANDSHAKE, f"an extension cannot be read: {quote(str(error))}", certificate
            ) from error
        if isinstance(usage, x509.ExtendedKeyUsage) and not good & set(usage):
            detail = f"{_name(certificate)} is not a certificate for servers (extended key usage)"
            raise _fault(Cause.TLS_HANDSHAKE, detail, certificate)


def _name(certificate: "Certificate") -> str:
    return quote(certificate.subject.rfc4514_string(), 120) or "(no subject)"


def _issuer(certificate: "Certificate") -> str:
    return quote(certificate.issuer.rfc4514_string(), 120) or "(no issuer)"


def _fault(cause: Cause, detail: str, certificate: "Certificate", now: datetime | None = None) -> Fault:
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - see above

    evidence = {
        "subject": _name(certificate),
        "issuer": _issuer(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": certificate.fingerprint(SHA256()).hex(),
    }
    return Fault(cause, detail, evidence | ({"clock": now.isoformat()} if now else {}))
