"""Certificates of every kind that a registry is met with, made in a millisecond each (P-256 keys)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A leaf: ``cert_pem`` alone, ``chain`` with the intermediates that a server has to send, its key."""

    cert_pem: bytes
    key_pem: bytes
    chain: bytes

    def files(self, folder: Path, name: str = "tls") -> tuple[Path, Path]:
        """Write chain and key as ``name.crt`` and ``name.key`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(self.chain)
        key.write_bytes(self.key_pem)
        return certificate, key


class Authority:
    """A certificate authority; with a parent an intermediate one, whose leaves carry it in their chain."""

    def __init__(
        self,
        name: str = "Stage Root CA",
        *,
        parent: Self | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> None:
        self.parent = parent
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        builder = _builder(self.name, self.key.public_key(), not_before, not_after, DAY * 3650)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_CA_USAGE, critical=True)
        self.certificate = (parent or self).sign(builder)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> bytes:
        """What a server sends after its leaf: the intermediates, without the root."""
        return b"" if self.parent is None else self.pem + self.parent.chain

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.issuer_name(self.name).add_extension(identifier, critical=False)
        return builder.sign(self.key, SHA256())

    def intermediate(self, name: str = "Stage Intermediate CA") -> "Authority":
        return Authority(name, parent=self)

    def issue(
        self,
        *names: str,
        ips: Iterable[str] = (),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        common_name: str | None = None,
        client: bool = False,
    ) -> Certificate:
        """A leaf for these names and addresses; with neither, one that has only its common name.

        Valid from an hour ago for a year unless told otherwise; ``client`` makes it one for client
        authentication.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(common_name or next(iter(names), "stage"))
        builder = _builder(subject, key.public_key(), not_before, not_after, DAY * 365)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([_CLIENT if client else _SERVER]), critical=False)
        builder = _with_names(builder, names, ips)
        return _certificate(self.sign(builder), key, self.chain)

    def expired(self, *names: str, ips: Iterable[str] = ()) -> Certificate:
        """A leaf that ended yesterday."""
        now = datetime.now(UTC)
        return self.issue(*names, ips=ips, not_before=now - 30 * DAY, not_after=now - DAY)

    def not_yet_valid(self, *names: str, ips: Iterable[str] = ()) -> Certificate:
        """A leaf that begins tomorrow."""
        return self.issue(*names, ips=ips, not_before=datetime.now(UTC) + DAY)

    def common_name_only(self, name: str) -> Certificate:
        """A leaf in the old manner, which Go refuses: the name in the subject and nowhere else."""
        return self.issue(common_name=name)


def self_signed(*names: str, ips: Iterable[str] = ()) -> Certificate:
    """A server certificate that is its own issuer, as many appliances come with."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(names[0])
    builder = _with_names(_builder(subject, key.public_key(), None, None, DAY * 365), names, ips)
    return _certificate(builder.issuer_name(subject).sign(key, SHA256()), key, b"")


_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    not_before: datetime | None,
    not_after: datetime | None,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    begin = not_before or datetime.now(UTC) - DAY / 24
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(not_after or begin + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _with_names(builder: x509.CertificateBuilder, names: Iterable[str], ips: Iterable[str]) -> x509.CertificateBuilder:
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ip_address(ip)) for ip in ips]
    if not alternatives:
        return builder
    return builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)


def _certificate(leaf: x509.Certificate, key: ec.EllipticCurvePrivateKey, rest: bytes) -> Certificate:
    pem = leaf.public_bytes(Encoding.PEM)
    return Certificate(pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), pem + rest)
