"""Held against an excerpt of the published schema (kuberay.schema.json), and against what the operator does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cluster.files import project_version, tree

SCHEMA = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text())
OWN = ("workerGroupSpecs", "enableInTreeAutoscaling", "autoscalerOptions")  # what the two may differ in
FILES = {"RayCluster": "kuberay/raycluster.yaml", "RayJob": "kuberay/rayjob.yaml"}


def cluster(kind: str) -> Any:
    spec = tree(FILES[kind])["spec"]
    return spec["rayClusterSpec"] if kind == "RayJob" else spec


def pods(kind: str) -> list[Any]:
    spec = cluster(kind)
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


@pytest.mark.parametrize("kind", FILES)
def test_the_operator_would_take_it(kind: str) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(tree(FILES[kind]))] == []
    wrong = tree(FILES[kind])
    spec = wrong["spec"]["rayClusterSpec"] if kind == "RayJob" else wrong["spec"]
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["imag"] = "x"
    assert len(list(validator.iter_errors(wrong))) == 1


@pytest.mark.parametrize("kind", FILES)
def test_a_token_is_asked_for(kind: str) -> None:
    assert cluster(kind)["authOptions"] == {"mode": "token", "secretName": "leoclr-ops-token"}


@pytest.mark.parametrize("kind", FILES)
def test_each_pod_has_what_ray_and_a_stage_need(kind: str) -> None:
    for pod in pods(kind):
        (container,) = pod["containers"]
        assert container["image"] == f"registry.example.org/leoclr-ops:{project_version()}"
        assert container["resources"]["requests"] == container["resources"]["limits"]  # Ray counts on what it is told
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {"shared": "/shared", "shm": "/dev/shm"}  # 64 MB of shared memory is a container's default
        assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
        claim = tree("kuberay/storage.yaml")
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert pod["securityContext"]["runAsNonRoot"]


def test_the_head_does_no_stages_and_the_job_is_ours() -> None:
    for kind in FILES:
        assert cluster(kind)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert tree(FILES["RayJob"])["spec"]["entrypoint"] == "leoclr-ops submit quickstart"


def test_job_and_cluster_are_alike() -> None:
    def fixed(kind: str) -> Any:
        spec = {
            key: value for key, value in cluster(kind).items() if key in ("headGroupSpec", "authOptions", "rayVersion")
        }
        return spec, pods(kind)

    assert fixed("RayCluster") == fixed("RayJob")


def test_the_profile_names_this_cluster() -> None:
    profile, spec = tree("profiles/kuberay.yaml"), cluster("RayCluster")
    environment = {each["name"]: each["value"] for each in pods("RayCluster")[1]["containers"][0]["env"]}
    assert environment["LEOCLR_OPS_HOME"] == profile["storage"]["uri"]
    assert environment["MLFLOW_TRACKING_URI"] == profile["tracking"]["uri"]
    worker = spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert profile["resources"]["cpus_per_worker"] < int(worker["cpu"])  # fits into a pod
    assert profile["resources"]["gpus_per_worker"] <= worker["nvidia.com/gpu"]
    most = spec["workerGroupSpecs"][0]["maxReplicas"]
    assert profile["nodes"] == f"{most}x{worker['nvidia.com/gpu']}x{worker['cpu']}"
