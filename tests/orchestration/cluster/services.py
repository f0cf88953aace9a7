"""A dashboard and a tracking server that answer as Ray's and MLflow's do to what the doctor asks.

Ray: ray/dashboard/modules/{job/job_head,version}.py and ray/_private/authentication/http_token_authentication.py.
MLflow: mlflow/server/__init__.py (/health, /version), mlflow/server/auth (401 before anything else but /health).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from threading import Thread

from ray.dashboard.modules.version import CURRENT_VERSION, VersionResponse


@dataclass(frozen=True)
class Services:
    """What they say."""

    token: str | None = None  # None: Ray asks nobody
    ray: str = metadata.version("ray")
    mlflow: str = metadata.version("mlflow")
    basic: str | None = None  # what MLflow wants as Authorization
    hosts: bool = True  # False: MLflow refuses the host name

    def answer(self, path: str, authorization: str | None) -> tuple[int, str]:
        if path == "/api/authentication_mode":
            return 200, json.dumps({"authentication_mode": "token" if self.token else "disabled"})
        if path == "/api/version":
            if self.token and authorization is None:
                return 401, "Unauthorized: Missing authentication token"
            if self.token and authorization != f"Bearer {self.token}":
                return 403, "Forbidden: Invalid authentication token"
            return 200, json.dumps(asdict(VersionResponse(CURRENT_VERSION, self.ray, "b7f4", "session_x")))
        if path == "/health":
            return 200, "OK"
        if not self.hosts and path != "/version":
            return 403, "Invalid Host header - possible DNS rebinding attack detected"
        if self.basic and authorization != self.basic:
            return 401, "You are not authenticated."
        if path == "/version":
            return 200, self.mlflow
        return (200, "{}") if path == "/api/2.0/mlflow/experiments/search" else (404, "")


@contextmanager
def serving(services: Services) -> Iterator[str]:
    """Serve them on one address until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = services.answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
