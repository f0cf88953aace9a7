"""Ray's own reading of the file: its schema and the defaults that it would fill in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray

from tests.cluster.files import project_version, strings, tree


@pytest.fixture(scope="module")
def prepared() -> Any:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(tree("autoscaler/aws.yaml"))
    validate_config(config)
    return config


def test_the_launcher_would_take_it() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    assert [
        error.message for error in jsonschema.Draft7Validator(schema).iter_errors(tree("autoscaler/aws.yaml"))
    ] == []


def test_nothing_is_installed_on_a_node(prepared: Any) -> None:
    """Ray's defaults for AWS install a nightly build of Ray; the image has all."""
    for when in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert prepared[when] == []
    assert prepared["docker"]["image"] == f"registry.example.org/leoclr-ops:{project_version()}"


def test_every_node_asks_for_the_token_and_the_dashboard_is_on_loopback(prepared: Any) -> None:
    starts = [*prepared["head_start_ray_commands"], *prepared["worker_start_ray_commands"]]
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts if "ray start" in command)
    assert sum("ray start" in command for command in starts) == 2
    assert "--dashboard-host=127.0.0.1" in prepared["head_start_ray_commands"][-1]
    token = tree("profiles/aws.yaml")["auth"]["token"]["file"]
    assert prepared["file_mounts"] == {"/home/ray/.ray/auth_token": token}


def test_an_idle_cluster_is_a_head(prepared: Any) -> None:
    assert prepared["available_node_types"]["gpu"]["min_workers"] == 0
    assert prepared["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert not prepared["provider"]["cache_stopped_nodes"]
    assert "0.0.0.0" not in " ".join(strings(prepared))


def test_the_workers_of_a_stage_fill_a_machine(prepared: Any) -> None:
    machine, asked = prepared["available_node_types"]["gpu"]["resources"], tree("profiles/aws.yaml")["resources"]
    each = machine["GPU"] / asked["gpus_per_worker"]
    assert each * asked["cpus_per_worker"] <= machine["CPU"]
    most = f"{prepared['max_workers']}x{machine['GPU']}x{machine['CPU']}"
    assert tree("profiles/aws.yaml")["nodes"] == most
