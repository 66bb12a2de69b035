"""A server that answers some requests very late and counts them, to check timeouts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EVERY = 10


class Silent(ThreadingHTTPServer):
    """Answers at once, except for every tenth request, which waits `late_s`."""

    daemon_threads = True  # an open connection must not delay the exit
    request_queue_size = 128

    def __init__(self, late_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        self.received = 0
        self.kept_waiting = 0
        self.closing = threading.Event()
        self.late_s = late_s
        self._counting = threading.Lock()

    def is_late(self) -> bool:
        """Count one more request; return whether it must wait."""
        with self._counting:
            self.received += 1
            late = self.received % EVERY == 0
            self.kept_waiting += late
            return late

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: clients that disconnect are expected here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    server: Silent

    def do_GET(self) -> None:
        if self.server.is_late():
            self.server.closing.wait(self.server.late_s)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def silent_server(late_s: float) -> Iterator[Silent]:
    """Run the server in a thread of this process."""
    with Silent(late_s) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
