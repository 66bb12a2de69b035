"""Servers that tests start as commands: `python command_servers.py KIND PORT`. Standard library only."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROGRAM = Path(__file__)
CPU_S = 0.01  # that a request to `orphans` uses in a process that has no parent of its own
STARTS_WITHIN_S = 0.3  # `slow` answers 503 for so long


class Plain(BaseHTTPRequestHandler):
    """Answers a POST with a few bytes, and tells how long its model took."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(200)

    def do_GET(self) -> None:
        self.reply(200)

    def reply(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.send_header("Server-Timing", "model;dur=1.5")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Orphans(Plain):
    """Computes in a grandchild whose parent ends at once."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if child := os.fork():
            os.waitpid(child, 0)
            self.reply(200)
            return
        if not os.fork():
            while time.process_time() < CPU_S:  # a new process begins at 0
                pass
        os._exit(0)


class Slow(Plain):
    """Is not available at first."""

    began = time.monotonic()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(503 if time.monotonic() - self.began < STARTS_WITHIN_S else 200)


class Single(Plain):
    """Answers one request at a time."""

    lock = threading.Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            time.sleep(0.02)
        self.reply(200)


def detach() -> None:
    """Leave the parent, its process group and its session, and ignore the signals that stop a server."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)


def main() -> None:
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "broken":
        sys.exit("no such model")
    if kind == "detached":
        detach()
    if kind == "busy" and not os.fork():
        while True:  # computes beside its server
            pass
    handler = {"orphans": Orphans, "single": Single, "slow": Slow}.get(kind, Plain)
    ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


if __name__ == "__main__":
    main()
