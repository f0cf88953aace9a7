"""Ray loses requests and replies between its processes, as it can be told to: the stage runs on, or begins again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project, assert_same

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("side", ["req_failure_prob", "resp_failure_prob"])
@pytest.mark.parametrize(
    "method", ["NodeManagerService.grpc_client.RequestWorkerLease", "CoreWorkerService.grpc_client.PushTask"]
)
def test_what_ray_loses_costs_no_number(
    method: str,
    side: str,
    calm: Callable[[int], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, struck = calm(1), Project(tmp_path, 1)
    losses = {"num_failures": 2, "req_failure_prob": 0, "resp_failure_prob": 0, side: 100}
    monkeypatch.setenv("RAY_testing_rpc_failure", json.dumps({method: losses}))
    struck.finish()
    found = struck.result()
    assert_same(found["state"], expected["state"])
    assert found["history"] == expected["history"]
    assert sorted(struck.runs()) == ["linear", "pretrain"]
