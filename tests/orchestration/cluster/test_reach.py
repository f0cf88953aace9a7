from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from orchestration.cluster import reach
from orchestration.cluster.reach import Answer, Unreachable, ask

SEEN: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        SEEN.append((self.path, self.headers.get("Authorization")))
        if self.path == "/hang":
            self.rfile.read(1)
        self.send_response({"/elsewhere": 302, "/no": 403}.get(self.path, 200))
        self.send_header("Location", "/other")
        self.end_headers()
        self.wfile.write(b'{"ray_version": "2.60.0"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Content-Type"].encode() + b" " + body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_an_answer_is_an_answer_whatever_its_status(server: str) -> None:
    assert ask(f"{server}/yes").field("ray_version") == "2.60.0"
    assert ask(f"{server}/no").status == 403
    assert ask(f"{server}/p", post={"a": 1}).text == 'application/json {"a": 1}'


def test_a_token_is_not_carried_to_another_address(server: str) -> None:
    SEEN.clear()
    assert ask(f"{server}/elsewhere", {"Authorization": "Bearer x"}).status == 302
    assert SEEN == [("/elsewhere", "Bearer x")]


def test_nobody_and_silence_are_unreachable(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        ask("http://127.0.0.1:9")
    monkeypatch.setattr(reach, "TIMEOUT_S", 0.2)
    with pytest.raises(Unreachable, match="timed out"):
        ask(f"{server}/hang")


def test_what_is_no_json_has_no_fields() -> None:
    assert Answer(200, "<html>").field("a") is None
    assert Answer(200, "[1]").field("a") is None
