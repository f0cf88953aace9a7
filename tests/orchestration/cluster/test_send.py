import io
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.cluster import api, send
from orchestration.cluster.profile import ClusterProfile
from orchestration.cluster.secrets import SecretProblem
from orchestration.cluster.send import Parcel, Sent
from tests.orchestration.cluster.head import TOKEN, Head, profile_of, serving

PARCEL = Parcel("small", ("submit", "pipeline.yaml"), {"pipeline.yaml": "a: 1\n"})
MORE = """
data: {imagenet: /data/imagenet}
environment: {variables: {NCCL_DEBUG: INFO}, secrets: {HF_TOKEN: {env: MY_TOKEN}}, pip: [tqdm==4.67.1]}
"""


@pytest.fixture
def head() -> Head:
    return Head()


@pytest.fixture
def address(head: Head, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HEAD_TOKEN", TOKEN)
    with serving(head) as served:
        yield served


@pytest.fixture
def profile(address: str, tmp_path: Path) -> ClusterProfile:
    return profile_of(tmp_path, address, MORE)


def test_the_same_finds_the_job_that_runs_and_follows_one_that_is_over(profile: ClusterProfile, head: Head) -> None:
    first = send.send(profile, PARCEL)
    assert first == Sent(PARCEL.job_id(1), is_new=True)
    assert send.send(profile, PARCEL) == Sent(first.id, is_new=False)
    head.jobs[first.id]["status"] = "FAILED"
    assert send.send(profile, PARCEL) == Sent(PARCEL.job_id(2), is_new=True)
    assert len(head.jobs) == 2


def test_what_is_sent_is_our_command_its_files_and_no_secret(profile: ClusterProfile, head: Head) -> None:
    job_id = send.send(profile, PARCEL).id
    sent = head.jobs[job_id]
    assert sent["entrypoint"] == "python -m orchestration submit pipeline.yaml"
    ((name, content),) = head.packages.items()
    assert sent["runtime_env"]["working_dir"] == f"gcs://{name}"
    package = zipfile.ZipFile(io.BytesIO(content))
    assert package.namelist() == ["cluster.yaml", "pipeline.yaml"]
    assert package.read("cluster.yaml") == profile.source.read_bytes()
    assert sent["runtime_env"]["pip"] == ["tqdm==4.67.1"]
    variables = sent["runtime_env"]["env_vars"]
    assert variables == {
        "LEOCLR_OPS_HOME": "/shared/leoclr-ops",
        "MLFLOW_TRACKING_URI": "http://mlflow.example.org:5000",
        "NCCL_DEBUG": "INFO",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "LEOCLR_OPS_JOB": job_id,
        "LEOCLR_OPS_CLUSTER": "ours",
        "LEOCLR_OPS_PROFILE": "cluster.yaml",
    }
    assert TOKEN not in json.dumps(head.jobs)


def test_secrets_travel_where_the_profile_says_so(
    address: str, head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = profile_of(tmp_path, address, MORE.replace("pip:", "send_secrets: true, pip:"))
    with pytest.raises(SecretProblem, match="MY_TOKEN"):
        send.send(profile, PARCEL)
    assert not head.jobs
    monkeypatch.setenv("MY_TOKEN", "hf_1")
    job = head.jobs[send.send(profile, PARCEL).id]
    assert job["runtime_env"]["env_vars"]["HF_TOKEN"] == "hf_1"


def test_code_that_is_sent_says_its_commit(address: str, head: Head, tmp_path: Path) -> None:
    profile = profile_of(tmp_path, address, "environment: {code: wheel}\n")
    job = head.jobs[send.send(profile, PARCEL).id]
    assert "orchestration/cli.py" in zipfile.ZipFile(io.BytesIO(*head.packages.values())).namelist()
    assert len(job["runtime_env"]["env_vars"]["LEOCLR_OPS_COMMIT"].removesuffix("-dirty")) == 40


@pytest.mark.parametrize("name", ["small", "a" * 64, "a.b_c-d", "a" * 39 + ".-_" + "b"])
def test_every_id_is_one_that_ray_is_given(name: str) -> None:
    assert api.ID.fullmatch(Parcel(name, (), {}).job_id(999))


def test_an_id_says_what_is_sent_and_nothing_else() -> None:
    assert PARCEL.digest == Parcel("other", PARCEL.words, dict(PARCEL.files)).digest
    others = [
        Parcel("small", ("submit", "pipeline.yaml", "--debug"), PARCEL.files),
        Parcel("small", PARCEL.words, {"pipeline.yaml": "a: 2\n"}),
        Parcel("small", PARCEL.words, PARCEL.files, run="0" * 32),
    ]
    assert len({PARCEL.digest, *(each.digest for each in others)}) == 4


def test_a_shell_takes_every_word_as_it_is(tmp_path: Path) -> None:
    words = ("submit", "a b.yaml", "--set", "title=$(touch hacked); `id` 'x' \"y\" \\ \n * ~", "\u00e9")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    python.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        send.entrypoint(words), shell=True, cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert tuple(done.stdout.decode().split("\0")[:-1]) == ("-m", "orchestration", *words)
    assert not (tmp_path / "hacked").exists()
