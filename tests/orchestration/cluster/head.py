"""The jobs of a dashboard, answered as Ray 2.60.0 does: python/ray/dashboard/modules/job/{job_head,job_manager}.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

from ray.dashboard.modules.version import CURRENT_VERSION, VersionResponse

from orchestration.cluster import profile
from orchestration.cluster.profile import ClusterProfile

TOKEN = "s3cret-token"
PROFILE = """
title: a head
address: {address}
auth: {{token: {{env: HEAD_TOKEN}}}}
tracking: {{uri: "http://mlflow.example.org:5000"}}
storage: {{uri: /shared/leoclr-ops}}
"""
TAKEN = """Traceback (most recent call last):
  File "job_manager.py", line 510, in submit_job
    raise ValueError(
ValueError: Job with submission_id {} already exists. Please use a different submission_id.
"""


@dataclass
class Head:
    """What it keeps."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    packages: dict[str, bytes] = field(default_factory=dict)
    uploads: int = 0
    loses_reply: bool = False  # it starts the job, and the connection breaks
    first: str = "RUNNING"  # status of a job that was started
    is_full: bool = False  # it refuses what it is asked

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        parts = path.strip("/").split("/")
        if parts[1] == "version":
            facts = VersionResponse(CURRENT_VERSION, metadata.version("ray"), "b7f4", "session_x")
            return 200, json.dumps(asdict(facts))
        if parts[1] == "packages":
            return self._package(method, parts[3], body)
        if method == "POST" and len(parts) == 2:
            return self._submit(json.loads(body))
        if parts[2] not in self.jobs:
            return 404, f"Job {parts[2]} does not exist"
        job = self.jobs[parts[2]]
        if method == "POST":
            was_running, job["status"] = job["status"] == "RUNNING", "STOPPED"
            return 200, json.dumps({"stopped": was_running})
        return 200, json.dumps({"logs": job["logs"]} if parts[-1] == "logs" else job)

    def _package(self, method: str, name: str, body: bytes) -> tuple[int, str]:
        if method == "PUT":
            self.packages[name] = body
            self.uploads += 1
        return (200, "") if name in self.packages else (404, f"Package gcs://{name} does not exist")

    def _submit(self, asked: dict[str, Any]) -> tuple[int, str]:
        job_id = asked["submission_id"]
        if self.is_full:
            return 500, "No available agent to submit job, please try again later."
        if job_id in self.jobs:
            return 500, TAKEN.format(job_id)
        self.jobs[job_id] = {**asked, "status": self.first, "message": "", "start_time": 7, "logs": "one\ntwo\n"}
        return 200, json.dumps({"job_id": job_id, "submission_id": job_id})


@contextmanager
def serving(head: Head) -> Iterator[str]:
    """Serve it on an address until the block ends; it asks for the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = 403, "Forbidden: Invalid authentication token"
            if self.path == "/api/authentication_mode":  # answers to everybody
                status, text = 200, json.dumps({"authentication_mode": "token"})
            elif self.headers.get("Authorization") == f"Bearer {TOKEN}":
                status, text = head.answer(self.command, self.path, body)
            if head.loses_reply and self.command == "POST":
                self.connection.close()
                return
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def profile_of(folder: Path, address: str, more: str = "") -> ClusterProfile:
    """Return a profile of it; `more` are further lines."""
    path = folder / "ours.yaml"
    path.write_text(PROFILE.format(address=address) + more)
    return profile.load(path)
