"""A store that somebody else wrote to does not have this machine write where it likes."""

from pathlib import Path

import pytest

from orchestration import locations
from orchestration.errors import StoreError
from orchestration.storage import Home
from orchestration.tracking import Store


@pytest.mark.parametrize("root", ["/etc", "file:///etc", "../x", "/tmp/../etc", "x", "file:///"])
def test_a_folder_that_is_not_of_mlflow_is_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="its experiment's artifacts are said to lie in"):
        locations.require(root, own=tmp_path / "artifacts", store="sqlite:///x")


def test_our_own_remote_ones_and_those_of_mlflow_are_taken(tmp_path: Path) -> None:
    own = tmp_path / "artifacts"
    own.mkdir()
    (own / "whatever").touch()
    theirs = tmp_path / "theirs"
    for name in ("0" * 32, "models", "3"):
        (theirs / name).mkdir(parents=True)
    for root in (own.as_uri(), str(theirs), "s3://bucket/x", "mlflow-artifacts:/1", str(tmp_path / "not" / "there")):
        locations.require(root, own=own, store="sqlite:///x")


def test_a_run_lies_inside_of_its_experiment(tmp_path: Path) -> None:
    locations.require_inside(f"{tmp_path.as_uri()}/ab/artifacts", str(tmp_path))
    locations.require_inside("s3://bucket/ab", "s3://bucket")
    for uri in ("/etc/ab", f"{tmp_path}/../ab", "s3://bucket/ab"):
        with pytest.raises(StoreError, match="a run's artifacts would go to"):
            locations.require_inside(uri, str(tmp_path))


def test_a_store_that_says_etc_is_not_opened(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'foreign.db'}"
    MlflowClient(uri).create_experiment("leoclr-ops", artifact_location="/etc")
    with pytest.raises(StoreError, match=r"lie in /etc, which holds `.*`, which is none of MLflow's"):
        Store.open(Home(tmp_path / "home"), uri)


def test_a_store_of_another_scheme_or_a_metadata_service_is_not_asked(tmp_path: Path) -> None:
    for uri in ("file:///tmp/x", "databricks", "http://ann:hunter2@169.254.169.254/"):
        with pytest.raises(StoreError) as caught:
            Store.open(Home(tmp_path), uri)
        assert "hunter2" not in str(caught.value)
