from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.cluster import api
from orchestration.cluster.api import ClusterProblem
from orchestration.cluster.profile import ClusterProfile
from orchestration.cluster.reach import Unreachable
from orchestration.errors import NotFound
from tests.orchestration.cluster.head import TOKEN, Head, profile_of, serving


@pytest.fixture
def head() -> Head:
    return Head()


@pytest.fixture
def profile(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterProfile]:
    monkeypatch.setenv("HEAD_TOKEN", TOKEN)
    with serving(head) as address:
        yield profile_of(tmp_path, address)


def submit(profile: ClusterProfile, job_id: str = "small-1") -> bool:
    return api.submit(profile, job_id, entrypoint="true", runtime={"env_vars": {"A": "b"}}, facts={"who": "we"})


def test_a_job_is_started_once_however_often_it_is_asked_for(profile: ClusterProfile, head: Head) -> None:
    assert api.find(profile, "small-1") is None
    assert submit(profile) is True
    assert submit(profile) is False
    assert head.jobs.keys() == {"small-1"}
    assert head.jobs["small-1"]["runtime_env"] == {"env_vars": {"A": "b"}}
    assert api.find(profile, "small-1") == api.Job("small-1", "RUNNING", "", 7)


def test_a_lost_reply_is_no_failure(profile: ClusterProfile, head: Head) -> None:
    head.loses_reply = True
    assert submit(profile) is True
    assert head.jobs.keys() == {"small-1"}


def test_a_refusal_is_told_in_the_last_line_of_its_reason(profile: ClusterProfile, head: Head) -> None:
    head.is_full = True
    with pytest.raises(ClusterProblem, match="refuses to start a job: 500 No available agent") as caught:
        submit(profile)
    assert "doctor --cluster ours" in caught.value.hint


def test_a_refused_token_is_told_and_not_shown(profile: ClusterProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAD_TOKEN", "wrong-token")
    with pytest.raises(ClusterProblem, match="refuses the token") as caught:
        api.find(profile, "small-1")
    assert "wrong-token" not in str(caught.value) + caught.value.hint


def test_nobody_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAD_TOKEN", TOKEN)
    with pytest.raises(Unreachable, match="no answer"):
        submit(profile_of(tmp_path, "http://127.0.0.1:9"))


@pytest.mark.parametrize("name", ["../../x", "a b", "", "a/b", "A", "a..b", "a" * 65, ".a", "a\n"])
def test_no_other_name_gets_to_ray(profile: ClusterProfile, head: Head, name: str) -> None:
    for ask in (lambda: api.find(profile, name), lambda: submit(profile, name), lambda: api.stop(profile, name)):
        with pytest.raises(ClusterProblem, match="is not the id of a job"):
            ask()
    assert not head.jobs


def test_a_job_is_stopped(profile: ClusterProfile) -> None:
    submit(profile)
    assert api.stop(profile, "small-1") is True
    assert api.stop(profile, "small-1") is False
    with pytest.raises(NotFound, match="knows no job other"):
        api.stop(profile, "other")
    found = api.find(profile, "small-1")
    assert found and found.is_over


def test_its_last_words(profile: ClusterProfile, head: Head) -> None:
    submit(profile)
    head.jobs["small-1"]["logs"] = "\n".join(map(str, range(30))) + "\n\x1b[31mred"
    assert api.last_words(profile, "small-1", lines=2) == "29\n\\x1b[31mred"
    assert api.last_words(profile, "other") == ""


def test_a_package_is_uploaded_once(profile: ClusterProfile, head: Head) -> None:
    assert api.upload(profile, "code.zip", b"zip") == "gcs://code.zip"
    assert api.upload(profile, "code.zip", b"zip") == "gcs://code.zip"
    assert (head.uploads, head.packages) == (1, {"code.zip": b"zip"})


def test_a_package_that_ray_does_not_take_is_not_sent(profile: ClusterProfile, head: Head) -> None:
    with pytest.raises(ClusterProblem, match="more than the 100 MB"):
        api.upload(profile, "code.zip", bytes((100 << 20) + 1))
    assert not head.uploads
