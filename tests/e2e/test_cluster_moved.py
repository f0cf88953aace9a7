"""What was sent to a cluster is cancelled, resumed, moved to a new head after a crash, and ends as a calm run does."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from tests import cluster_live as live
from tests.e2e.quickstart import COMMAND
from tests.e2e.sent import SECRETS, TOKEN, Client, Cluster
from tests.e2e.sent import cluster as cluster

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_what_was_cancelled_goes_on_and_outlives_its_head(cluster: Cluster) -> None:
    laptop, colleague = cluster.laptop("second"), cluster.colleague("second-colleague", **SECRETS)
    run_id = laptop.run("submit", "small.yaml", "--cluster", "./one.yaml", "--detach").strip()
    colleague.wait_for(run_id, 0.1)
    assert "worker 0: checkpoint" in colleague.run("logs", run_id[:8])
    began = time.monotonic()
    colleague.run("cancel", run_id[:8])
    took_s = time.monotonic() - began
    stopped = colleague.look(run_id)
    assert (stopped["state"], stopped["stages"][0]["reason"]) == ("stopped", "cancelled by the user")
    assert took_s < 60, took_s  # a calm machine takes 5 s, most of it imports

    assert "no cluster is called `one`" in _refusal(colleague, "resume", run_id[:8])
    assert colleague.run("resume", run_id[:8], "--kept-profile", "--detach").strip() == run_id
    colleague.wait_for(run_id, stopped["stages"][0]["fraction"] + 0.1)
    cluster.head.kill()
    cluster.node.kill()

    with live.head(token=TOKEN, cpus=1) as head:
        (colleague.folder / "two.yaml").write_text(cluster.profile(head, "other-node"))
        colleague.run("resume", run_id[:8], "--cluster", "./two.yaml")
    ended = colleague.look(run_id)
    assert ended["state"] == "done"
    assert [stage["state"] for stage in ended["stages"]] == ["done", "done"]
    assert ended["stages"][0]["run_id"] == stopped["stages"][0]["run_id"]

    calm = Client(laptop.folder, {})
    calm.run("submit", "small.yaml")
    (expected,) = json.loads(calm.run("status", "--json"))
    assert _numbers(ended) == _numbers(expected)
    assert _weights(colleague, ended) == _weights(calm, expected)


def _refusal(client: Client, *words: str) -> str:
    done = subprocess.run(
        [COMMAND, *words], cwd=client.folder, env=client.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    return done.stderr


def _numbers(look: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What the stages ended with, less what the clock decides."""
    return {
        stage["name"]: {k: v for k, v in stage["metrics"].items() if not k.startswith(("system/", "images_per_s"))}
        for stage in look["stages"]
    }


def _weights(client: Client, look: dict[str, Any]) -> bytes:
    """The trained trunk: equal weights are equal files."""
    run_id = next(stage["run_id"] for stage in look["stages"] if stage["name"] == "pretrain")
    client.run("export", run_id, "--format", "safetensors", "--out", "trunk.safetensors")
    return (client.folder / "trunk.safetensors").read_bytes()
