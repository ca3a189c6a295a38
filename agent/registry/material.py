"""The CA and client files of one host, read as containerd reads them just before it connects.

Facts: containerd remotes/docker/config/hosts.go: any of these files that is missing or holds no
certificate fails the pull, unlike a broken hosts.toml.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from agent.causes import Cause
from agent.model import Fault
from agent.quoting import quote
from agent.registry import hostpaths
from agent.registry.hosts import Host
from agent.registry.trust import Trust


@dataclass(frozen=True, slots=True)
class Material:
    """``ca`` are PEM bytes to trust beside the node's own; ``client`` are files as this process opens them."""

    ca: tuple[bytes, ...] = ()
    client: tuple[tuple[Path, Path | None], ...] = ()


def load(host: Host, prefix: Path = Path("/")) -> Material:
    """Reads the files of ``host`` under ``prefix``. Raises Fault(HOSTS_CONFIG_INVALID), naming the file."""
    return Material(
        tuple(_authority(path, prefix) for path in host.ca),
        tuple(_client(certificate, key, prefix) for certificate, key in host.client),
    )


def _authority(path: Path, prefix: Path) -> bytes:
    try:
        pem = hostpaths.read(path, prefix)
    except OSError as error:
        raise _invalid(path, f'unable to read CA cert "{path}": {error.strerror}') from error
    if not len(Trust.load(pem)):
        raise _invalid(path, f'unable to load CA cert "{path}": it holds no certificate')
    return pem


def _client(certificate: Path, key: Path | None, prefix: Path) -> tuple[Path, Path | None]:
    """The pair must fit together; OpenSSL is asked, without a connection."""
    try:
        pair = hostpaths.resolve(certificate, prefix), hostpaths.resolve(key, prefix) if key else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.load_cert_chain(*pair, password="")
    except ssl.SSLError as error:
        raise _invalid(certificate, f"failed to load X509 key pair {certificate}: {quote(str(error))}") from error
    except OSError as error:
        raise _invalid(certificate, f'unable to read CERT file "{certificate}" or its key: {error.strerror}') from error
    return pair


def _invalid(path: Path, why: str) -> Fault:
    return Fault(Cause.HOSTS_CONFIG_INVALID, why, {"file": str(path)})
