"""Whether a certificate is for a host.

Facts: Go crypto/x509 verify.go VerifyHostname: DNS names of the SAN, a wildcard for the whole first label
only; an address needs an IP SAN; the common name never counts.
"""

import ipaddress
from typing import TYPE_CHECKING

from agent.quoting import quote

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, SubjectAlternativeName

_LISTED = 10


def matches(certificate: "Certificate", host: str) -> bool:
    """Whether ``host``, a name or an address with or without brackets, is one of the certificate's."""
    names, addresses = _names(certificate)
    try:
        return str(ipaddress.ip_address(host.strip("[]"))) in addresses
    except ValueError:
        wanted = host.lower().removesuffix(".").split(".")
        return any(_covers(pattern.lower().split("."), wanted) for pattern in names)


def shown_names(certificate: "Certificate") -> str:
    """What the certificate is valid for, bounded, for people."""
    names, addresses = _names(certificate)
    listed = [quote(name, 80) for name in names] + list(addresses)
    if not listed:
        return "no name at all (the common name does not count)"
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more


def _covers(pattern: list[str], wanted: list[str]) -> bool:
    if len(pattern) != len(wanted) or not all(wanted) or not all(pattern):
        return False
    if pattern[0] == "*" and len(pattern) > 1:
        return pattern[1:] == wanted[1:]
    return pattern == wanted


def _names(certificate: "Certificate") -> tuple[list[str], list[str]]:
    alternative = _alternative(certificate)
    if alternative is None:
        return [], []
    from cryptography import x509  # noqa: PLC0415 - paid for only when a chain is judged

    addresses = alternative.get_values_for_type(x509.IPAddress)
    return alternative.get_values_for_type(x509.DNSName), [str(address) for address in addresses]


def _alternative(certificate: "Certificate") -> "SubjectAlternativeName | None":
    from cryptography import x509  # noqa: PLC0415 - as above

    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
