"""Ray loses requests and replies between its processes, as it can be told to: the stage runs on, or begins again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.project import Project, assert_same

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Project:
    found = Project(tmp_path_factory.mktemp("calm"), 1, epochs=1)
    found.finish()
    return found


@pytest.mark.parametrize("side", ["req_failure_prob", "resp_failure_prob"])
@pytest.mark.parametrize(
    "method", ["NodeManagerService.grpc_client.RequestWorkerLease", "CoreWorkerService.grpc_client.PushTask"]
)
def test_what_ray_loses_costs_no_number(
    method: str, side: str, calm: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck = Project(tmp_path, 1, epochs=1)
    losses = {"num_failures": 2, "req_failure_prob": 0, "resp_failure_prob": 0, side: 100}
    monkeypatch.setenv("RAY_testing_rpc_failure", json.dumps({method: losses}))
    struck.finish()
    expected, found = calm.result(), struck.result()
    assert_same(found["state"], expected["state"])
    assert found["history"] == expected["history"]
    assert sorted(struck.runs()) == ["linear", "pretrain"]
