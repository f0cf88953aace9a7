"""What travels with a job so that its node can keep files elsewhere: addresses, and no key."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import keeping
from jobs.contract import Job, Resources
from jobs.keeping import Here
from orchestration import installed
from orchestration.mirror_keeper import Node
from orchestration.storage import Home, root_of

DATA = Path("/data/imagenet")


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "open")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")


def job(keeper: dict[str, str]) -> dict[str, object]:
    made = Job(
        stage="s",
        kind="linear",
        fingerprint="a" * 16,
        params={},
        resources=Resources(),
        folder="/home/ann/node/a",
        data_root="/data",
        keeper=keeper,
    )
    dumped: dict[str, object] = made.model_dump(mode="json")
    return dumped


def test_where_all_nodes_see_one_folder_nothing_is_installed() -> None:
    assert installed.facts(Home(Path("/home/ann")), DATA) == {}
    with installed.keeper(job({})):
        assert type(keeping.keeper()) is Here


def test_a_mirror_travels_with_the_job_and_its_keys_do_not() -> None:
    home = Home(Path("/home/ann"), "s3://runs/ann")
    facts = installed.facts(home, DATA)
    assert facts["mirror"] == "s3://runs/ann"
    assert facts["home"] == "/home/ann"
    assert facts["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:9"
    assert "sesame" not in str(facts)
    assert "open" not in str(facts)
    assert home.work("a" * 16) != home.stage("a" * 16)
    with installed.keeper(job(facts)):
        own = keeping.keeper()
        assert isinstance(own, Node)
        assert own.data("/data/imagenet") == DATA
        own.bring(Path("/data/of/the/user"))  # what lies outside of the home is not ours to bring
    assert type(keeping.keeper()) is Here


def test_data_in_a_bucket_needs_no_mirror() -> None:
    facts = installed.facts(Home(Path("/home/ann")), root_of("s3://runs/packed", Path()))
    assert facts["mirror"] == ""
    with installed.keeper(job(facts)):
        assert isinstance(keeping.keeper(), Here)
        assert type(keeping.keeper()) is not Here
        assert keeping.keeper().data("/data/imagenet") == DATA
