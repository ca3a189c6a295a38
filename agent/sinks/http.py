"""The port that Prometheus and the kubelet's probes read: ``/metrics``, ``/healthz``, ``/readyz``. Nothing here acts.

A thread of its own answers, so that a loop that hangs is told as such instead of not answering; requests at the same
time and seconds per request are bounded, and what does not fit is turned away.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

BEAT_LIMIT = 10.0
AT_ONCE = 16
SECONDS_PER_REQUEST = 5

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Health:
    """What the two health pages say. ``beat`` is called by the event loop, from the loop itself."""

    def __init__(self) -> None:
        self._beat = time.monotonic()
        self._problem = "no round was run yet"

    def beat(self) -> None:
        """The loop lives."""
        self._beat = time.monotonic()

    def ready(self, problem: str) -> None:
        """Ready if `problem` is empty."""
        self._problem = problem

    def live(self) -> tuple[bool, str]:
        """Whether the loop ran lately."""
        silent = time.monotonic() - self._beat
        return (True, "ok") if silent < BEAT_LIMIT else (False, f"the event loop has not run for {silent:.0f} s")

    def readiness(self) -> tuple[bool, str]:
        """Whether containerd answers and one round was run."""
        return (not self._problem, self._problem or "ok")


class _Handler(WSGIRequestHandler):
    timeout = SECONDS_PER_REQUEST

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class has
        """Say nothing: a scrape every few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        """Without the base class's look-up of the host's name, which may wait for a resolver that is broken."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """A client that sends a byte now and then is cut off: the handler's timeout is that of a single read."""
        end = threading.Timer(SECONDS_PER_REQUEST, _hang_up, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or sent nonsense is its own trouble."""


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        request.shutdown(socket.SHUT_RDWR)


class Server:
    """Bound when made (`OSError` if the port is taken), answering from ``start`` to ``stop``."""

    def __init__(self, address: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        self._server = _Server(address, port)
        self._server.set_app(_application(registry, health))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._server.server_port)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _application(registry: CollectorRegistry, health: Health) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app(registry)
    pages = {"/healthz": health.live, "/readyz": health.readiness}

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in {"GET", "HEAD"}:
            return _text(start_response, "405 Method Not Allowed", "only GET\n")
        if path == "/metrics":
            return metrics(environ, start_response)  # type: ignore[no-any-return]  # prometheus_client types it Any
        if path in pages:
            well, words = pages[path]()
            return _text(start_response, "200 OK" if well else "503 Service Unavailable", f"{words}\n")
        return _text(start_response, "404 Not Found", "/metrics /healthz /readyz\n")

    return application


def _text(start_response: StartResponse, status: str, words: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [words.encode()]
