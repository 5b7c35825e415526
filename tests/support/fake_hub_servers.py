"""The servers of the fake hub: the hub itself, its CDN, and an optional forward proxy for both."""

import fcntl
import http.client
import shutil
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from fake_hub import CDN_BEHIND_PROXY, HUB_BEHIND_PROXY, FakeHub, Request


@contextmanager
def serving() -> Iterator[FakeHub]:
    """Start a hub, its CDN and a proxy for both."""
    hub = FakeHub()
    handlers = {"hub": _Handler, "cdn": _Handler, "proxy": _Proxy}
    servers = {name: ThreadingHTTPServer(("127.0.0.1", 0), handler) for name, handler in handlers.items()}
    for name, server in servers.items():
        server.hub, server.name = hub, name
        hub.ports[name] = server.server_port
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """The hub or its CDN."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def log_message(self, *_):
        """Keep the tests' output clean."""

    def _answer(self) -> None:
        answer = self.server.hub.answer(_request(self))
        # A client that was killed, or has enough, hangs up.
        with suppress(ConnectionError):
            self.send_response(answer.status)
            for name, value in {"X-Request-Id": "Root=1-fake", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command == "GET" and not self.server.hub.send(answer, self.wfile.write):
                self._break_off(answer.fault.resets)

    def _break_off(self, resets: bool) -> None:
        self.close_connection = True
        if resets:
            while _unread_bytes(self.connection):
                time.sleep(0.01)
            # Closing a socket that lingers for 0 seconds resets its connection.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


class _Proxy(BaseHTTPRequestHandler):
    """A forward proxy that knows where the hub and its CDN are."""

    def do_HEAD(self):
        self._forward()

    def do_GET(self):
        self._forward()

    def log_message(self, *_):
        """Keep the tests' output clean."""

    def _forward(self) -> None:
        self.server.hub.requests.append(_request(self))
        target = urlsplit(self.path)
        server = {HUB_BEHIND_PROXY: "hub", CDN_BEHIND_PROXY: "cdn"}.get(target.hostname)
        if server is None:
            self.send_error(502)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.hub.ports[server])
        hop_by_hop = ("connection", "proxy-connection", "proxy-authorization")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hop_by_hop}
        connection.request(self.command, target._replace(scheme="", netloc="").geturl(), headers=headers)
        response = connection.getresponse()
        self.send_response(response.status)
        for name, value in response.getheaders():
            self.send_header(name, value)
        self.end_headers()
        shutil.copyfileobj(response, self.wfile)
        connection.close()


def _unread_bytes(connection: socket.socket) -> int:
    """Return how many sent bytes the client's kernel has not acknowledged. Source: tcp(7), SIOCOUTQ."""
    return struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]


def _request(handler: BaseHTTPRequestHandler) -> Request:
    headers = {name.lower(): value for name, value in handler.headers.items()}
    return Request(handler.server.name, handler.command, handler.path, headers)
