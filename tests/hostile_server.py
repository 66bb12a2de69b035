"""A server with one hostile trick per path. Run as a program, it prints its URL."""

from __future__ import annotations

import asyncio
import functools
import gzip
import itertools
import json
import socket
import sys
import zlib
from collections.abc import Awaitable, Callable

MIB = 2**20
OK = b"HTTP/1.1 200 OK\r\n"
GOOD = OK + b"Content-Length: 2\r\n\r\nok"

Trick = Callable[[asyncio.StreamWriter], Awaitable[None]]


def whole(status: int = 200, head: str | bytes = b"", body: bytes = b"ok") -> bytes:
    """Return a well-formed answer."""
    lines = head.encode("latin-1") if isinstance(head, str) else head
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), lines) + body


@functools.cache
def bomb(layers: int = 1) -> bytes:
    """Return 256 MiB of zeros, compressed `layers` times."""
    pack = zlib.compressobj(9, wbits=31)
    packed = b"".join(pack.compress(bytes(MIB)) for _ in range(256)) + pack.flush()
    for _ in range(layers - 1):
        packed = gzip.compress(packed)
    return packed


def answer_of_type(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    return whole(status, f"Content-Type: {content_type}\r\n", body)


def timed(value: str) -> bytes:
    return whole(head=f"Server-Timing: {value}\r\n")


# -- answers that are sent whole -------------------------------------------------------------------------

_DETAIL = b'{"detail": "no"}'
GOOD_ANSWERS = {
    "good": GOOD,
    "header-9k": whole(head="X-Big: " + "x" * 9_000 + "\r\n"),
    "header-60k": whole(head="X-Big: " + "x" * 60_000 + "\r\n"),
    "headers-1000": whole(head="".join(f"X-{number}: 1\r\n" for number in range(1_000))),
    "reason-not-text": b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 2\r\n\r\nok",
    "cookies": whole(head="".join(f"Set-Cookie: a{n}=b; expires=Mon, 1 {n}\r\n" for n in range(500))),
    "close-each-time": whole(head="Connection: close\r\n"),
    "retry-after": whole(head="Retry-After: 999999999999999999999\r\n"),
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 50 + GOOD,
    "encoding-unknown": whole(head="Content-Encoding: rot13\r\n"),
    "encoding-br": whole(head="Content-Encoding: br\r\n"),
    "encoding-zstd": whole(head="Content-Encoding: zstd\r\n"),
    "encoding-not-true": whole(head="Content-Encoding: gzip\r\n"),
    "encoding-x-gzip": whole(head="Content-Encoding: x-gzip\r\n", body=gzip.compress(b"ok")),
    "encoding-1000": whole(head="Content-Encoding: " + ", ".join(["gzip"] * 1_000) + "\r\n"),
    "charset-undefined": answer_of_type(200, b"ok", "text/plain; charset=undefined"),
    "timing-1e308": timed(
        'model;dur=1e308, io;dur=-5, queue;dur=nan, handler;dur=1e308;desc="entered=1e308"'
    ),
    "timing-hex": timed('model;dur=0x10;desc="batch=1e300 pid=-1 cpu=inf", io;dur=' + "9" * 400),
    "timing-60k": timed("model;dur=1," * 5_000),
    "timing-quotes": timed('"' * 30_001 + "\\" * 30_001),
}
BAD_ANSWERS = {
    "body-after-204": b"HTTP/1.1 204 No Content\r\n\r\nwith a body",
    "redirect": whole(302, "Location: http://192.0.2.1/elsewhere\r\n"),
    "redirect-nowhere": whole(301, "Location: http://[:::\r\n"),
    "redirect-long": whole(308, "Location: /" + "x" * 60_000 + "\r\n"),
    "redirect-not-ascii": whole(307, b"Location: http://\xff\xe2\x98\x83..\x01/\r\n"),
    **{
        f"charset-{name}": answer_of_type(500, _DETAIL, f"application/json; charset={name}")
        for name in ("idna", "punycode", "rot13", "zip", "bz2", "unicode_escape", "raw-unicode-escape", "oem")
    },
    "charset-undefined-500": answer_of_type(500, b"\xff\x00", "text/plain; charset=undefined"),
    "json-deep": answer_of_type(500, b"[" * 100_000),
    "json-deep-detail": answer_of_type(422, b'{"detail": ' + b"[" * 4_000 + b"]" * 4_000 + b"}"),
    "json-surrogate": answer_of_type(500, b'{"detail": "\\ud800 and \\udfff"}'),
    "json-surrogate-in-a-list": answer_of_type(
        422, b'{"detail": [{"msg": "\\ud800", "loc": ["\\udc80", 1]}]}'
    ),
    "json-raw-surrogate": answer_of_type(500, b'{"detail": "\xed\xa0\x80"}'),
    "json-terminal": answer_of_type(
        500, json.dumps({"detail": "\0\x1b]0;x\x07\x9b2J\u202e\u2028\x7f"}).encode()
    ),
    "json-number": answer_of_type(500, b'{"detail": ' + b"9" * 5_000 + b"}"),
    "json-nan": answer_of_type(422, b'{"detail": [NaN, {"msg": Infinity, "loc": [-Infinity]}]}'),
    "json-utf-32": answer_of_type(500, '{"detail": "no"}'.encode("utf-32")),
    "bomb-500": whole(500, "Content-Encoding: gzip\r\n", gzip.compress(bytes(8 * MIB))),
    "no-gzip-500": whole(500, "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08" + b"x" * 100),
}
LONG_HEADS = {
    "header-70k": whole(head="X-Big: " + "x" * 70_000 + "\r\n"),
    "header-2m": whole(head="X-Big: " + "x" * 2 * MIB + "\r\n"),
    "headers-100k": whole(head="".join(f"X-{number}: 1\r\n" for number in range(10_000))),
    "timing-1m": timed("model;dur=1," * 90_000),
    "reason-1m": b"HTTP/1.1 200 " + b"x" * MIB + b"\r\nContent-Length: 2\r\n\r\nok",
}
BROKEN = {
    "closed-at-once": b"",
    "closed-in-status-line": b"HTTP/1.",
    "closed-in-headers": OK + b"Content-Le",
    "closed-after-headers": OK + b"Content-Length: 9\r\n\r\n",
    "closed-in-body": OK + b"Content-Length: 9\r\n\r\nok",
    "closed-in-chunk-size": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1f",
    "closed-in-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nok",
    "closed-before-last-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    "two-lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "length-no-number": OK + b"Content-Length: 0x2\r\n\r\nok",
    "chunk-size-bad": OK + b"Transfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
    "chunk-size-huge": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nok",
    "status-bad": b"HTTP/1.1 2OO OK\r\n\r\n",
    "http-0.9": b"<html>ok</html>",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "tls": bytes.fromhex("16030300"),
    "nul-in-header": whole(head=b"X: a\0b\r\n"),
}


# -- answers that are sent in pieces ---------------------------------------------------------------------


def endless(start: bytes, unit: bytes, *, every_s: float = 0.0) -> Trick:
    """Send `start`, then `unit` endlessly."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(unit)
            await writer.drain()
            await asyncio.sleep(every_s)

    return send


def length(size: int, head: bytes = b"") -> bytes:
    return OK + b"Content-Length: %d\r\n%s\r\n" % (size, head)


async def answer_twice(writer: asyncio.StreamWriter) -> None:
    """Send a second, unrequested answer when the connection is idle or in use again."""
    writer.write(GOOD)
    await asyncio.sleep(0.003)
    writer.write(whole(500))


async def bombed(writer: asyncio.StreamWriter) -> None:
    writer.write(whole(head="Content-Encoding: gzip\r\n", body=bomb()))
    await writer.drain()


async def silent(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


_CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_LONG = {
    "body-1g": endless(length(2**30), bytes(MIB)),
    "body-1g-500": endless(length(2**30).replace(b"200", b"500"), bytes(MIB)),
    "body-chunked": endless(_CHUNKED, b"10000\r\n" + bytes(65536) + b"\r\n"),
    "body-until-close": endless(OK + b"Connection: close\r\n\r\n", bytes(MIB)),
    "headers-endless": endless(OK, b"X-Big: " + b"x" * 8_000 + b"\r\n"),
    "headers-tiny": endless(OK, b"a:\r\n" * 1_000),
    "header-endless": endless(OK + b"X: ", b"x" * 65536),
    "status-endless": endless(b"HTTP/1.1 200 ", b"x" * 65536),
    "trailers-endless": endless(_CHUNKED + b"2\r\nok\r\n0\r\n", b"X-Big: " + b"x" * 8_000 + b"\r\n"),
    "chunk-extension-endless": endless(_CHUNKED + b"2;", b"x" * 65536),
}
ENDLESS = {
    "silent": silent,
    "body-slow": endless(length(9_999), b".", every_s=0.05),
    "chunks-slow": endless(_CHUNKED, b"1\r\n.\r\n", every_s=0.05),
    "head-slow": endless(OK + b"X: ", b".", every_s=0.05),
}
FLOODS = {
    "early-hints-endless": endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100),
    "continue-endless": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}
OTHERS: dict[str, Trick] = {"answer-twice": answer_twice, "bomb": bombed}


def _sent(answer: bytes, *, hang_up: bool = False) -> Trick:
    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        if hang_up:
            writer.close()

    return send


TRICKS: dict[str, Trick] = {
    **{name: _sent(answer) for name, answer in {**GOOD_ANSWERS, **BAD_ANSWERS, **LONG_HEADS}.items()},
    **{name: _sent(answer, hang_up=True) for name, answer in BROKEN.items()},
    "upgrade": _sent(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n\x81\x02ok"),
    **TOO_LONG,
    **ENDLESS,
    **FLOODS,
    **OTHERS,
}


class HostileServer:
    """Serves every trick on a free port of 127.0.0.1; `requests` counts those of each trick.

    At `/later/TRICK` the first answer is good, because `execbench load` sends one request before the load.
    """

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.requests: dict[str, int] = dict.fromkeys(TRICKS, 0)

    async def serve(self, until: Callable[[], Awaitable[object]]) -> None:
        """Serve until `until()` has returned."""
        async with await asyncio.start_server(self._connected, sock=self.listening, limit=MIB):
            await until()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(MIB)
        try:
            for _ in itertools.count():
                head = await reader.readuntil(b"\r\n\r\n")
                *later, trick = head.split(b" ")[1].decode().strip("/").split("/")
                self.requests[trick] += 1
                await TRICKS["good" if later and self.requests[trick] == 1 else trick](writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


async def main() -> None:
    server = HostileServer()
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()
    await server.serve(functools.partial(asyncio.to_thread, sys.stdin.read))


if __name__ == "__main__":
    asyncio.run(main())
