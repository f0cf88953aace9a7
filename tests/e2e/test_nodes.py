"""Several Ray nodes on this machine: gangs across them, nodes that are taken away in time, nodes that are lost."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.state import state
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.e2e.project import Project, assert_same

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PREEMPTION = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
NOTICE_S = 30.0  # as some clouds give


@contextmanager
def cluster(count: int) -> Iterator[Cluster]:
    """A head without CPUs, and `count` nodes with one each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            made.add_node(num_cpus=1)
        ray.init(address=made.address, logging_level="ERROR", log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def busy(made: Cluster) -> list[str]:
    """The nodes on which a stage runs."""
    free = state.available_resources_per_node()
    return [n.node_id for n in made.worker_nodes if free.get(n.node_id, {}).get("CPU", 0.0) < 1]


def drain(made: Cluster, node: str) -> None:
    """Say that a node is taken away, as a cloud's notice does."""
    deadline_ms = int((time.time() + NOTICE_S) * 1000)
    accepted, why = GcsClient(address=made.address).drain_node(node, PREEMPTION, "reclaimed", deadline_ms)
    assert accepted, why


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def log(project: Project) -> str:
    return "".join(path.read_text() for path in (project.home.path / "stages").glob("*/log.txt"))


@pytest.mark.parametrize(
    ("nodes", "workers", "placement"),
    [(2, 1, "pack"), (3, 2, "strict_spread")],
    ids=["one worker", "two nodes of three"],
)
def test_a_node_that_is_taken_away_costs_no_step_and_no_failure(
    nodes: int, workers: int, placement: str, calm: Callable[[int], dict[str, Any]], tmp_path: Path
) -> None:
    """Nor does it matter on how many nodes the workers are: all is compared with an undisturbed run on one."""
    expected = calm(workers)
    resources = {
        "placement": placement,
        "checkpoint_every_steps": 0,
        "checkpoint_every_s": 3600,
        "max_failures": 0,
        "cpus_per_worker": 1,
    }
    with cluster(nodes) as made:
        project = Project(tmp_path, workers, address=made.address, **resources)
        process = project.start()
        project.wait_for_step(75, process)
        before = busy(made)
        assert len(before) == workers
        drain(made, before[-1])
        output = ended(process)
    assert "goes on elsewhere" in output
    (stopped,) = re.findall(r"stopped after step (\d+) with a checkpoint", output)
    assert f"continues from checkpoint {int(stopped):08d}" in log(project)  # at the very next step
    assert log(project).count("continues from") == 1
    found = project.result()
    assert_same(found["backbone"], expected["backbone"])
    assert_same(found["state"], expected["state"])
    assert found["history"] == expected["history"]


def test_a_stage_whose_node_is_lost_goes_on_with_fewer_workers(tmp_path: Path) -> None:
    with cluster(2) as made:
        project = Project(tmp_path, {"min": 1, "max": 2}, address=made.address, cpus_per_worker=1, max_failures=1)
        process = project.start()
        project.wait_for_step(75, process)
        assert "starts on cpu with 2 worker(s)" in log(project)
        both = busy(made)
        assert len(both) == 2
        made.remove_node(next(node for node in made.worker_nodes if node.node_id == both[-1]), allow_graceful=False)
        output = ended(process)
    assert "attempt 2 of 2" in output
    found = project.result()
    assert [step for step, _ in found["history"]["loss"]] == list(range(1, 125))
    assert len(project.runs()) == 2  # of one pre-training and its evaluation: the run went on
