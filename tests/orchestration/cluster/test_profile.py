from pathlib import Path
from typing import Any

import pytest

from jobs.contract import Resources
from orchestration.cluster import folders, profile
from orchestration.cluster.profile import ClusterProfile
from orchestration.cluster.secrets import Secret
from orchestration.document import dump
from orchestration.errors import SpecError
from orchestration.nodes import NODES
from orchestration.storage import address

BASE: dict[str, Any] = {
    "address": "http://127.0.0.1:8265",
    "tracking": {"uri": "http://mlflow:5000"},
    "storage": {"uri": "/shared/runs"},
}
S3 = {"uri": "s3://bucket/some/runs/", "endpoint": "http://s3:9000", "region": "eu-west-1"}
KEYS = {"access_key": {"env": "KEY"}, "secret_key": {"file": "/run/secrets/key"}}


def made(tmp_path: Path, **more: Any) -> ClusterProfile:
    path = tmp_path / "mine.yaml"
    path.write_text(dump({**BASE, **more}))
    return profile.load(path)


def refused(tmp_path: Path, **more: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        made(tmp_path, **more)
    return caught.value


def test_the_nodes_that_may_come_are_told_to_the_driver(tmp_path: Path) -> None:
    assert made(tmp_path, nodes="4x4x48").variables()[NODES] == "4x4x48"


def test_the_least_profile_has_defaults(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert (found.name, found.title) == ("mine", "mine")
    assert found.home_there == Path("/shared/runs")
    assert found.environment.code == "image"
    assert not found.environment.send_secrets
    assert (found.headers(), found.secrets()) == ({}, {})
    assert found.variables() == {"LEOCLR_OPS_HOME": "/shared/runs", "MLFLOW_TRACKING_URI": "http://mlflow:5000"}


def test_data_may_lie_in_a_bucket(tmp_path: Path) -> None:
    found = made(tmp_path, data={"imagenet": "s3://bucket/packed/imagenet", "cifar10": "/data/cifar10"})
    assert [address(root) for root in found.data.values()] == ["s3://bucket/packed/imagenet", ""]


def test_driver_and_workers_get_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t0ken")
    found = made(
        tmp_path,
        auth={"token": {"env": "TOKEN"}},
        tracking={"uri": "https://mlflow/", "username": "ann", "password": {"env": "PASSWORD"}},
        storage=S3 | KEYS,
        home="/tmp/x",
        environment={"variables": {"NCCL_DEBUG": "WARN"}, "secrets": {"HF_TOKEN": {"env": "MY_HF"}}},
    )
    assert found.headers() == {"Authorization": "Bearer t0ken"}
    assert (found.storage.bucket, found.storage.prefix) == ("bucket", "some/runs/")
    assert found.variables() == {
        "LEOCLR_OPS_HOME": "/tmp/x",
        "MLFLOW_TRACKING_URI": "https://mlflow",
        "MLFLOW_TRACKING_USERNAME": "ann",
        "LEOCLR_OPS_MIRROR": "s3://bucket/some/runs/",
        "MLFLOW_S3_ENDPOINT_URL": "http://s3:9000",
        "AWS_ENDPOINT_URL_S3": "http://s3:9000",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "NCCL_DEBUG": "WARN",
    }
    assert found.secrets() == {
        "MLFLOW_TRACKING_PASSWORD": Secret(env="PASSWORD"),
        "AWS_ACCESS_KEY_ID": Secret(env="KEY"),
        "AWS_SECRET_ACCESS_KEY": Secret(file=Path("/run/secrets/key")),
        "HF_TOKEN": Secret(env="MY_HF"),
    }
    assert "t0ken" not in repr(found)


@pytest.mark.parametrize(
    "address", ["http://head:8265", "http://10.0.0.7:8265", "https://ray.example.org", "http://0.0.0.0:8265"]
)
def test_a_cluster_that_asks_nobody_is_refused_unless_it_is_local_or_intended(tmp_path: Path, address: str) -> None:
    error = refused(tmp_path, address=address)
    assert error.place == "mine.yaml: auth"
    assert "auth: {open: true}" in error.hint
    assert made(tmp_path, address=address, auth={"open": True}).auth.open
    assert made(tmp_path, address=address, auth={"token": {"env": "TOKEN"}}).auth.token


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8265", "http://127.1.2.3:1", "http://localhost", "http://[::1]:8265"]
)
def test_loopback_needs_no_token(tmp_path: Path, address: str) -> None:
    assert made(tmp_path, address=address).is_local


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ({"adress": "x"}, "adress", "did you mean `address`?"),
        ({"auth": {"tokn": {"env": "A"}}}, "auth.tokn", "did you mean `token`?"),
        ({"auth": {"token": {"env": "A"}, "open": True}}, "auth.open", "is not open"),
        ({"address": "ray://127.0.0.1:10001"}, "address", "http://127.0.0.1:8265"),
        ({"tracking": {}}, "tracking", "`uri` is missing"),
        ({"tracking": {"uri": "http://m", "username": "ann"}}, "tracking.username", "together"),
        ({"storage": {"uri": "runs"}}, "storage.uri", "absolute path"),
        ({"storage": {"uri": "s3://B/x"}, "home": "/x"}, "storage.uri", "no bucket"),
        ({"storage": {"uri": "/x", "region": "y"}}, "storage.uri", "belong to s3"),
        ({"storage": S3 | {"access_key": {"env": "A"}}, "home": "/x"}, "storage.access_key", "together"),
        ({"storage": S3}, "", "`home` is missing"),
        ({"home": "x"}, "home", "absolute"),
        ({"data": {"imagnet": "/x"}}, "data.imagnet", "did you mean `imagenet`?"),
        ({"data": {"imagenet": "x"}}, "data.imagenet", "absolute"),
        ({"nodes": "8 nodes"}, "nodes", "expected nodes such as 8x8x64"),
        ({"resources": {"workers": 0}}, "resources.workers", "at least 1"),
        ({"resources": {"worker": 2}}, "resources.worker", "did you mean `workers`?"),
        ({"environment": {"code": "imag"}}, "environment.code", "did you mean `image`?"),
        ({"environment": {"variables": {"A B": "x"}}}, "environment.variables", "name of an environment variable"),
        ({"environment": {"variables": {"A": "1"}, "secrets": {"A": {"env": "A"}}}}, "environment.secrets", "too"),
        ({"name": "x"}, "name", "no key"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place_and_a_hint(tmp_path: Path, more: dict[str, Any], place: str, words: str) -> None:
    error = refused(tmp_path, **more)
    assert error.place == "mine.yaml" + (f": {place}" if place else "")
    assert words in f"{error} {error.hint}"


@pytest.mark.parametrize(
    "more",
    [
        {"auth": "hunter2"},
        {"auth": {"token": "hunter2"}},
        {"tracking": {"uri": "http://ann:hunter2@mlflow"}},
        {"tracking": {"uri": "http://m", "username": "ann", "password": "hunter2"}},
        {"storage": {"uri": "s3://key:hunter2@bucket/x"}},
        {"storage": S3 | {"access_key": "hunter2", "secret_key": "hunter2"}},
        {"environment": {"secrets": {"X": "hunter2"}}},
        {"environment": {"secrets": ["hunter2"]}},
        {"environment": {"variables": {"WANDB_API_KEY": "hunter2"}}},
        {"environment": {"pip": ["git+https://ann:hunter2@example.org/x"]}},
    ],
)
def test_a_written_secret_is_refused_and_not_shown(tmp_path: Path, more: dict[str, Any]) -> None:
    error = refused(tmp_path, **more)
    assert "hunter2" not in f"{error} {error.hint}"


def test_what_a_stage_says_itself_stays(tmp_path: Path) -> None:
    found = made(tmp_path, resources={"workers": 4, "gpus_per_worker": 0.5})
    assert found.fill(Resources(workers=1)) == Resources(workers=1, gpus_per_worker=0.5)
    assert found.fill(Resources()) == Resources(workers=4, gpus_per_worker=0.5)
    assert found.fill(Resources(gpus_per_worker=None)).gpus_per_worker is None


@pytest.mark.parametrize("name", folders.shipped())
def test_every_example_is_a_profile(name: str) -> None:
    found = profile.load(folders.shipped()[name])
    assert found.auth.token
    assert found.title != name
