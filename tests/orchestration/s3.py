"""An S3 server for tests (moto's, over HTTP), and a way to it that fails, cuts off and lies as told."""

from __future__ import annotations

import functools
import http.client
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from moto.server import ThreadedMotoServer

from orchestration.cluster.bucket import Bucket
from orchestration.cluster.objects import Objects

NAME = "runs"
Refuse = Callable[[str, str], int | None]
"""Given method and path: a status to answer with in place of asking the server, or None."""

Change = Callable[[str, str, bytes], bytes]
"""Given method, path and the answer's body: the body to hand on. A shorter one is a connection that broke."""


@contextmanager
def empty() -> Iterator[str]:
    """Serve S3 on a port of its own, without a bucket; yield its address."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    address = f"http://{host}:{port}"
    try:  # moto keeps for the whole process what other servers of it were given
        urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
        yield address
    finally:
        moto.stop()


@contextmanager
def server() -> Iterator[str]:
    """Serve S3 on a port of its own, with one bucket; yield its address."""
    with empty() as address:
        bucket(address).client().create_bucket(Bucket=NAME)
        yield address


def bucket(endpoint: str, prefix: str = "") -> Bucket:
    """Return the bucket of `server` at an address."""
    return Bucket(name=NAME, prefix=prefix, endpoint=endpoint, region="us-east-1", access_key="ours", secret_key="ours")


def objects(endpoint: str, prefix: str) -> Objects:
    """Return its objects below a prefix; all share one client, which takes half a second to make."""
    found = Objects(bucket(endpoint, prefix))
    found.__dict__["client"] = _client(endpoint)
    return found


@functools.cache
def _client(endpoint: str) -> Any:
    return bucket(endpoint).client()


@dataclass
class Way:
    """A proxy in front of a server; what goes wrong on it is set at any time."""

    address: str
    refuse: Refuse | None = None
    change: Change | None = None
    asked: list[str] = field(default_factory=list)  # method and path of each request


@contextmanager
def way(to: str) -> Iterator[Way]:
    """Serve a `Way` to the server at address `to`."""
    found = Way("")
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(found, to))
    proxy.daemon_threads = True
    found.address = f"http://127.0.0.1:{proxy.server_address[1]}"
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield found
    proxy.shutdown()
    proxy.server_close()


def _handler(found: Way, to: str) -> type[BaseHTTPRequestHandler]:
    target = urlsplit(to)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.asked.append(f"{self.command} {self.path}")
            refused = found.refuse(self.command, self.path) if found.refuse else None
            if refused is not None:
                self.send_response(refused)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            onward = http.client.HTTPConnection(str(target.hostname), int(target.port or 80), timeout=30)
            onward.request(self.command, self.path, sent, dict(self.headers))
            answer = onward.getresponse()
            body = answer.read()
            onward.close()
            self._answer(answer, body)

        def _answer(self, answer: http.client.HTTPResponse, body: bytes) -> None:
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(key, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            made = found.change(self.command, self.path, body) if found.change else body
            self.wfile.write(made)
            self.close_connection = len(made) != len(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the class above has it
            return

    return Handler
