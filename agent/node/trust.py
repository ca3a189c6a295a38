"""The certificate authorities that a Go program on this node trusts, read where it reads them.

Go (crypto/x509 root_linux.go, root_unix.go) takes the first readable bundle of a list, plus every file of
two folders; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` of the process replace the one and the other. It reads
once per process: what is newer than the process is not trusted yet.
"""

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.node.roots import HostRoot

CERT_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
CERT_DIRS = ("/etc/ssl/certs", "/etc/pki/tls/certs")

# A usual bundle is 220 KiB with 140 certificates; the limits only stop what cannot be a trust store.
FILE_LIMIT = 8 * 1024 * 1024
TOTAL_LIMIT = 32 * 1024 * 1024
COUNT_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class TrustStore:
    """What was found: (path on the host, content) of each file, in Go's order, the contents unparsed.

    ``newest`` is the latest modification among them in epoch seconds (0.0 if there is none);
    ``remarks`` say what was left out and why.
    """

    blobs: tuple[tuple[str, bytes], ...]
    newest: float
    remarks: tuple[str, ...] = ()


def read_trust(root: HostRoot, environ: Mapping[str, str]) -> TrustStore:
    """The trust store of a process with this environment below this root. Missing files are no error."""
    reading = _Reading(root)
    chosen = environ.get("SSL_CERT_FILE")
    for path in (chosen,) if chosen else CERT_FILES:
        if reading.take(path):
            break
    folders = environ.get("SSL_CERT_DIR")
    for folder in folders.split(":") if folders else CERT_DIRS:
        for path in _files_of(root, folder):
            reading.take(path)
    if chosen and not reading.blobs:
        reading.remarks.append(f"SSL_CERT_FILE={chosen} cannot be read, and replaces the system's bundle")
    return TrustStore(tuple(reading.blobs), reading.newest, tuple(reading.remarks))


class _Reading:
    """The files so far; each is taken once, whatever links lead to it."""

    def __init__(self, root: HostRoot) -> None:
        self._root = root
        self._seen: set[tuple[int, int]] = set()
        self._size = 0
        self.blobs: list[tuple[str, bytes]] = []
        self.remarks: list[str] = []
        self.newest = 0.0

    def take(self, path: str) -> bool:
        """Whether the file could be read, now or before."""
        try:
            about = self._root.stat(path)
            if (about.st_dev, about.st_ino) in self._seen:
                return True
            if self._full():
                return False
            content = self._root.read_bytes(path, FILE_LIMIT)
        except OSError as error:
            self._remark(path, error)
            return False
        self._seen.add((about.st_dev, about.st_ino))
        self._size += len(content)
        self.newest = max(self.newest, about.st_mtime)
        self.blobs.append((path, content))
        return True

    def _full(self) -> bool:
        full = self._size >= TOTAL_LIMIT or len(self.blobs) >= COUNT_LIMIT
        note = f"more than {COUNT_LIMIT} files or {TOTAL_LIMIT} bytes of certificates: the rest is left out"
        if full and note not in self.remarks:
            self.remarks.append(note)
        return full

    def _remark(self, path: str, error: OSError) -> None:
        """What is not there is nothing to speak of, nor are folders within a folder."""
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.EISDIR):
            self.remarks.append(f"{path}: {error.strerror or error}")


def _files_of(root: HostRoot, folder: str) -> Iterator[str]:
    """Paths in a folder; a link to a neighbour is left out, as by Go's readUniqueDirectoryEntries."""
    try:
        names = root.names(folder, COUNT_LIMIT * 2)
    except OSError:
        return
    for name in names:
        path = f"{folder.rstrip('/')}/{name}"
        try:
            target = root.link(path)
        except OSError:
            continue
        if target is None or "/" in target:
            yield path
