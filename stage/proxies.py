"""HTTP proxies: tinyproxy for what is healthy or says no in the usual way, a scripted one for the odd ways."""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stage.listeners import Connection, Listener, Request
from stage.processes import Program, listens

Credentials = tuple[str, str]
_CONNECT = re.compile(r"Request \(file descriptor \d+\): (\S+ \S+)")


class Proxy:
    """A tinyproxy: asks for ``credentials`` (407), refuses ``denied`` hosts and CONNECT elsewhere than ``ports`` (403).

    ``denied`` are regular expressions on host names, as in tinyproxy's filter; no ``ports`` allows all.
    """

    def __init__(
        self,
        *,
        address: str = "10.99.0.5",
        port: int = 3128,
        credentials: Credentials | None = None,
        denied: Sequence[str] = (),
        ports: Sequence[int] = (),
    ) -> None:
        self.address, self.port, self.credentials = address, port, credentials
        self._denied, self._ports = denied, ports
        self._folder = Path(tempfile.mkdtemp(prefix="stage-proxy-"))
        config = self._folder / "tinyproxy.conf"
        self.program = Program("tinyproxy", "-d", "-c", str(config), log=self._folder / "log")

    @property
    def url(self) -> str:
        """What goes into HTTPS_PROXY, credentials and all."""
        user = "{}:{}@".format(*self.credentials) if self.credentials else ""
        return f"http://{user}{self.address}:{self.port}"

    @property
    def requests(self) -> list[str]:
        """What it was asked, first lines only: ``CONNECT registry.example:443``."""
        return _CONNECT.findall(self.program.log.read_text(errors="replace"))

    def __enter__(self) -> Self:
        (self._folder / "denied").write_text("".join(f"{pattern}\n" for pattern in self._denied))
        (self._folder / "tinyproxy.conf").write_text("\n".join(self._config()) + "\n")
        try:
            self.program.start(lambda: listens(self.address, self.port))
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.program.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _config(self) -> list[str]:
        lines = [f"Port {self.port}", f"Listen {self.address}", "Timeout 60", "MaxClients 50", "LogLevel Connect"]
        lines += ["BasicAuth {} {}".format(*self.credentials)] if self.credentials else []
        lines += [f'Filter "{self._folder}/denied"', "FilterExtended On"] if self._denied else []
        return lines + [f"ConnectPort {port}" for port in self._ports]


Manner = Callable[[Connection, Request], None]


class ScriptedProxy:
    """A proxy with one of the bad ``manners`` below; ``requests`` is what it was asked."""

    def __init__(self, manner: Manner, *, address: str = "10.99.0.5", port: int = 3129) -> None:
        self.manner, self.url = manner, f"http://{address}:{port}"
        self.requests: list[Request] = []
        self._listener = Listener(address, port, self._serve)

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.__exit__(kind, error, at)

    def _serve(self, connection: Connection) -> None:
        request = connection.request()
        self.requests.append(request)
        self.manner(connection, request)


def hangs_up(_connection: Connection, _request: Request) -> None:
    """Takes the request and ends the connection without a word."""


def hangs_up_after_connect(connection: Connection, _request: Request) -> None:
    """Says the tunnel is there, and ends the connection."""
    connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    connection.wire.recv(1 << 16)  # what is left unread would make it a reset


def never_answers(connection: Connection, _request: Request) -> None:
    """Takes the request and thinks about it for ever."""
    connection.pause()


def is_a_web_server(connection: Connection, _request: Request) -> None:
    """Knows nothing of CONNECT: somebody's web server stands where the proxy should be."""
    connection.reply(400, {"Content-Type": "text/html", "Server": "nginx"}, b"<html>400 Bad Request</html>")


def is_no_http_server(connection: Connection, _request: Request) -> None:
    """Speaks another protocol altogether."""
    connection.send(b"SSH-2.0-OpenSSH_9.6\r\n")


def says(status: int, body: bytes = b"") -> Manner:
    """Refuses with this status (502: it cannot reach the host; 503, 504, …)."""
    return lambda connection, _request: connection.reply(status, {"Content-Type": "text/html"}, body)
