"""A web server on loopback for tests: range requests, listings, and faults on request."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

Fault = Callable[["Handler", bytes], bool]
"""Gets the request and its right answer; returns True if it has answered itself."""


class RangeServer(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        lists: whether folders are answered with a page of links; otherwise with 403.
        ranges: whether range requests are served.
        faults: faults of the next GET requests of files, each used once.
        requests: method, path and range of every request.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, handler: type["Handler"] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.folder, self.lists, self.ranges = folder, True, True
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str]] = []
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gets(self, ending: str) -> list[str]:
        """The ranges of all GET requests of files whose path ends so."""
        return [part for method, path, part in self.requests if method == "GET" and path.endswith(ending)]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that closes its connection is no error."""


class Handler(BaseHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """Without it, every answer takes 40 ms more."""

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def respond(self) -> None:
        path = unquote(self.path)
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        place = self.server.folder / path.strip("/")
        if place.is_dir():
            links = "".join(
                f'<a href="{quote(entry.name)}{"/" * entry.is_dir()}">{escape(entry.name)}</a>'
                for entry in sorted(place.iterdir())
            )
            page = f'<html><a href="?C=N">by name</a><a href="../">up</a>{links}</html>'.encode()
            self.answer(200, page, "text/html") if self.server.lists else self.answer(403, b"")
        elif place.is_file():
            self.send_file(place)
        else:
            self.answer(404, b"")

    def send_file(self, place: Path) -> None:
        part = self.headers.get("Range", "").removeprefix("bytes=")
        status, stated, first, length = 200, "", 0, place.stat().st_size
        if part and self.server.ranges:
            first, last = (int(number) for number in part.split("-"))
            status, stated = 206, f"bytes {first}-{last}/{length}"
            length = min(last + 1, length) - first
        with place.open("rb") as file:
            file.seek(first)
            body = file.read(length)
        if self.command == "GET" and self.server.faults and self.server.faults.pop(0)(self, body):
            return
        self.answer(status, body, "application/octet-stream", stated)

    def answer(
        self, status: int, body: bytes, kind: str = "text/plain", part: str = "", length: int = -1, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.send_header("ETag", '"1"')
        if part:
            self.send_header("Content-Range", part)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, form: str, *values: object) -> None:
        """Tests print nothing."""


def fails(request: Handler, body: bytes) -> bool:
    request.answer(500, b"")
    return True


def cuts(request: Handler, body: bytes) -> bool:
    """Promises the whole answer, sends half of it and closes the connection."""
    request.answer(206, body[: len(body) // 2], length=len(body))
    request.close_connection = True
    return True


def shortens(request: Handler, body: bytes) -> bool:
    """Sends half of the answer and calls it whole."""
    request.answer(206, body[: len(body) // 2])
    return True


def lies(request: Handler, body: bytes) -> bool:
    """Sends other bytes of the same number."""
    request.answer(206, bytes(byte ^ 255 for byte in body))
    return True


def waits(request: Handler, body: bytes) -> bool:
    time.sleep(0.1)
    return False


def denies(request: Handler, body: bytes) -> bool:
    request.answer(403, b"")
    return True


@contextmanager
def serving(folder: Path, kind: type[RangeServer] = RangeServer) -> Iterator[RangeServer]:
    """A running server of a folder."""
    server = kind(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.hang_up()
        server.server_close()
        thread.join()
