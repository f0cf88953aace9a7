"""A node with all that it wrote goes away, and the stage goes on from the bucket: the same run, the same numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.project import Project, assert_same
from tests.orchestration import s3

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    with s3.server() as address:
        yield {
            "LEOCLR_OPS_MIRROR": f"s3://{s3.NAME}/ann",
            "AWS_ENDPOINT_URL_S3": address,
            "AWS_ACCESS_KEY_ID": "ours",
            "AWS_SECRET_ACCESS_KEY": "ours",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def project(folder: Path) -> Project:
    """A pre-training of four epochs of 62 steps, with a checkpoint after every tenth step."""
    folder.mkdir()
    return Project(folder, 1, epochs=4)


def lose_the_node(made: Project, process: subprocess.Popen[str]) -> None:
    """Kill all at once; what is left is the tracking store, which lies elsewhere in earnest."""
    family = psutil.Process(process.pid).children(recursive=True)
    for each in (process, *family):
        each.kill()
    process.communicate()
    psutil.wait_procs(family, timeout=10)
    for part in ("node", "stages", "submissions"):
        shutil.rmtree(made.home.path / part)


def test_a_lost_node_costs_no_result(
    tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = project(tmp_path / "calm")
    calm.finish()
    struck = project(tmp_path / "struck")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    there = s3.objects(variables["AWS_ENDPOINT_URL_S3"], "ann/")
    process = struck.start()
    deadline = time.monotonic() + 240
    while not any(
        "/checkpoints/000000" in each.key and each.key.endswith("70/manifest.json") for each in there.list("")
    ):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint came there"
        time.sleep(0.5)
    lose_the_node(struck, process)
    output = struck.finish()
    logs = "".join(path.read_text() for path in (struck.home.path / "stages").glob("*/log.txt"))
    assert "continues from checkpoint 000000" in logs, logs + output
    found, expected = struck.result(), calm.result()
    assert_same(found["backbone"], expected["backbone"])
    assert_same(found["state"], expected["state"])
    assert found["history"] == expected["history"]
    assert sorted(struck.runs()) == ["linear", "pretrain"]  # each in one run
    left = {each.key.rpartition("/")[2] for each in there.list("stages/")}
    assert left <= {"attempt", "lease", "run.json", "journal.jsonl", "log.txt"}
    (submission,) = json.loads(struck.cli("status", "--json"))
    assert submission["state"] == "done"


def test_a_wrong_bucket_is_one_clear_error_before_anything_starts(
    tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = project(tmp_path / "p")
    for name, value in {**variables, "LEOCLR_OPS_MIRROR": "s3://nobody/ann"}.items():
        monkeypatch.setenv(name, value)
    process = made.start()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error: HeadBucket is refused: 404" in output
    assert "Traceback" not in output
    assert made.runs() == []


def test_a_frozen_process_on_a_node_of_its_own_is_ended(
    tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is not the driver's: the sign of life comes another way, and stops."""
    made = Project(tmp_path, 1, hang_after_s=10, max_failures=1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    process = made.start()
    made.wait_for_step(40, process)
    family = psutil.Process(process.pid).children(recursive=True)
    (trainer,) = [each for each in family if "ray::pretrain" in " ".join(each.cmdline())]
    for path in (made.home.path / "node").glob("*/alive.json"):
        path.unlink()  # it is not seen from the driver's machine
    trainer.suspend()
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert "attempt 2 of 2" in output


SWEEP = """
title: rates of the probe
base: small.yaml
axes:
  linear.params.settings.epochs: [1, 2, 3]
objectives:
  linear top-1: {stage: linear, metric: top1}
concurrency: 1
"""


def test_a_sweep_goes_on_from_another_head(
    tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    struck = Project(tmp_path, 1, epochs=1)
    (tmp_path / "s.yaml").write_text(SWEEP)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    there = s3.objects(variables["AWS_ENDPOINT_URL_S3"], "ann/")

    def known() -> list[dict[str, object]]:
        found = there.get("sweeps/s/1/ledger.jsonl")
        return [json.loads(line) for line in found[0].splitlines()] if found else []

    process = struck.start("sweep", "s.yaml")
    deadline = time.monotonic() + 240
    while not any(line.get("state") == "done" for line in known()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no trial came there"
        time.sleep(0.2)
    lose_the_node(struck, process)
    shutil.rmtree(struck.home.path / "sweeps")
    before = known()
    process = struck.start("sweep", "s.yaml")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    lines = known()
    assert lines[: len(before)] == before
    assert [line["n"] for line in lines if "point" in line] == [0, 1, 2]  # none is asked twice
    assert [line["n"] for line in lines if line.get("state") == "done"] == [0, 1, 2]
    assert sorted(struck.runs()) == ["linear", "linear", "linear", "pretrain"]
    assert (tmp_path / "sweep-s" / "table.md").is_file()
