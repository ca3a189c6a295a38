"""The certificates a node trusts: PEM bundles, indexed by subject without parsing what is never asked for.

A bundle has some 140 certificates, and a probe asks for one or two of them. The subject's bytes are cut
out of the DER by hand (RFC 5280 §4.1); only what is asked for becomes an object.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_SEQUENCE, _VERSION = 0x30, 0xA0


class Trust:
    """A pool of anchors. Made by `load`."""

    __slots__ = ("_by_subject",)

    def __init__(self, by_subject: dict[bytes, tuple[bytes, ...]]) -> None:
        self._by_subject = by_subject

    @classmethod
    def load(cls, *pems: bytes) -> "Trust":
        """The certificates in these files; text between them, duplicates and broken blocks are passed over."""
        return cls({}).plus(*pems)

    def plus(self, *pems: bytes) -> "Trust":
        """These certificates beside the ones of this pool, which stays as it is."""
        return self.including(_decoded(block[1]) for pem in pems for block in _PEM.finditer(pem))

    @classmethod
    def of(cls, ders: Iterable[bytes]) -> "Trust":
        """A pool of these certificates, given as DER."""
        return cls({}).including(ders)

    def including(self, ders: Iterable[bytes]) -> "Trust":
        """As `plus`, given as DER."""
        by_subject = dict(self._by_subject)
        for der in ders:
            subject = subject_of(der)
            if subject and der not in by_subject.get(subject, ()):
                by_subject[subject] = (*by_subject.get(subject, ()), der)
        return Trust(by_subject)

    def candidates(self, chain: Iterable[bytes]) -> tuple[bytes, ...]:
        """The anchors, as DER, that can matter for a chain (DER): issuers of its certificates, or those themselves."""
        names = {name(der) for der in chain for name in (issuer_of, subject_of)}
        return tuple(der for subject in sorted(names) for der in self._by_subject.get(subject, ()))

    def __len__(self) -> int:
        return sum(len(ders) for ders in self._by_subject.values())

    def named(self, subject: bytes) -> "list[Certificate]":
        """The anchors with exactly this subject, given as DER."""
        from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - paid for only when a chain is judged

        found = []
        for der in self._by_subject.get(subject, ()):
            try:
                found.append(load_der_x509_certificate(der))
            except ValueError:
                continue
        return found

    def contains(self, certificate: "Certificate") -> bool:
        """Whether this very certificate is an anchor."""
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - as above

        der = certificate.public_bytes(Encoding.DER)
        return der in self._by_subject.get(subject_of(der), ())


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return b""


def issuer_of(der: bytes) -> bytes:
    """The issuer's DER within a certificate's: the fourth element, the version counted; empty if broken."""
    return _field(der, 3)


def subject_of(der: bytes) -> bytes:
    """The subject's DER within a certificate's: the sixth element, the version counted; empty if broken."""
    return _field(der, 5)


def _field(der: bytes, number: int) -> bytes:
    try:
        _, at, _ = _element(der, 0)
        _, at, _ = _element(der, at)
        if der[at] != _VERSION:  # version 1 leaves it out
            number -= 1
        for _ in range(number):
            _, _, at = _element(der, at)
        tag, _, end = _element(der, at)
    except IndexError:
        return b""
    return der[at:end] if tag == _SEQUENCE and end <= len(der) else b""


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start of the content and end of the element at ``at``. Raises IndexError past the end."""
    length, content = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[content : content + size], "big")
        content += size
    return der[at], content, content + length
