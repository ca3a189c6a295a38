"""Real registries: docker-registry (distribution 2.8) processes, each with a folder for its storage."""

import ctypes
import secrets
import shutil
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import yaml

from stage.authority import Certificate
from stage.images import Built
from stage.processes import Program, listens
from stage.tokens import TokenServer
from stage.uploads import Credentials, push

NOBODY: Mapping[str, str] = MappingProxyType({})
Settings = Mapping[str, object]
_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Registry:
    """A registry at an address; on 443 with a certificate, else plain on 5000.

    ``users`` (name → password) makes it demand Basic, ``tokens`` Bearer; ``client_ca`` (PEM file) client
    certificates; ``settings`` replaces top-level tables of its configuration (``proxy`` makes a
    pull-through cache). ``name`` is what its images are called by: `Nameserver` has to know it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "10.99.0.2",
        port: int | None = None,
        name: str = "registry.example",
        certificate: Certificate | None = None,
        users: Mapping[str, str] = NOBODY,
        tokens: TokenServer | None = None,
        client_ca: Path | None = None,
        settings: Settings = NOBODY,
        environment: Mapping[str, str] = NOBODY,
    ) -> None:
        self.folder, self.address, self.certificate = folder, address, certificate
        self.port = port or (443 if certificate else 5000)
        self.name = name if self.port == 443 else f"{name}:{self.port}"
        self.users, self.tokens, self.client_ca, self.settings = dict(users), tokens, client_ca, settings
        config = folder / "config.yml"
        command = ("docker-registry", "serve", str(config))
        self.program = Program(*command, log=folder / "registry.log", environment=environment)

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.name}"

    @property
    def log(self) -> str:
        """All it has said so far; a line ``"GET /v2/… HTTP/1.1" 200 …`` for each request."""
        return self.program.log.read_text(errors="replace")

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yml").write_text(yaml.safe_dump(self._config()))
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        self.program.start(lambda: listens(self.address, self.port))

    def stop(self) -> None:
        """Take it down; connections are refused until `start`."""
        self.program.kill()  # on SIGTERM it lingers; its storage is complete after each answer

    def blob_path(self, digest: str) -> Path:
        """Where its storage has a blob, to be truncated, overwritten or deleted."""
        algorithm, _, value = digest.partition(":")
        return self.folder / "storage/docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"

    def reference(self, repository: str, tag: str) -> str:
        """What a pod would call an image here."""
        return f"{self.name}/{repository}{'' if tag.startswith('@') else ':'}{tag}"

    def push(
        self,
        repository: str,
        tag: str,
        built: Built,
        credentials: Credentials | None = None,
        client: Path | None = None,
    ) -> str:
        """Push an image and give its reference; whatever is wrong with the registry's certificate.

        ``client`` is a PEM file with certificate and key, for a registry that asks for one. The registry is
        reached by its address; a token server by its name, so there a `Nameserver` has to run.
        """
        context = ssl._create_unverified_context()  # noqa: S323, SLF001 - to fill a registry whose TLS is at fault
        if client is not None:
            context.load_cert_chain(client)
        push(
            f"{self.scheme}://{self.address}:{self.port}",
            repository,
            tag,
            built,
            credentials=credentials,
            context=context,
        )
        return self.reference(repository, tag)

    def _config(self) -> dict[str, object]:
        storage = {"filesystem": {"rootdirectory": str(self.folder / "storage")}, "delete": {"enabled": True}}
        http: dict[str, object] = {"addr": f"{self.address}:{self.port}", "relativeurls": True, "tls": self._tls()}
        own = {"version": "0.1", "log": {"level": "info"}, "storage": storage, "http": http, "auth": self._auth()}
        return {name: value for name, value in (own | dict(self.settings)).items() if value}

    def _tls(self) -> dict[str, object]:
        if self.certificate is None:
            return {}
        certificate, key = self.certificate.files(self.folder)
        clients = {"clientcas": [str(self.client_ca)]} if self.client_ca else {}
        return {"certificate": str(certificate), "key": str(key), **clients}

    def _auth(self) -> dict[str, object]:
        if self.tokens is not None:
            bundle = self.folder / "tokens.pem"
            bundle.write_bytes(self.tokens.authority.pem)
            return {"token": self.tokens.settings | {"rootcertbundle": str(bundle)}}
        if not self.users:
            return {}
        users = self.folder / "htpasswd"
        users.write_text("".join(f"{name}:{_bcrypt(password)}\n" for name, password in self.users.items()))
        return {"htpasswd": {"realm": "stage", "path": str(users)}}


def _bcrypt(password: str) -> str:
    """A bcrypt hash, the only kind docker-registry reads, by the system's libcrypt (Python's crypt is gone in 3.13)."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    salt = "".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(21)) + "u"  # the last sign holds but 2 bits
    hashed: bytes = crypt(password.encode(), f"$2b$05${salt}".encode())
    return hashed.decode()
