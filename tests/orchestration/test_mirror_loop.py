"""The loop itself between nodes: stopped on one, wiped, continued on another, with a grid of trials too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import keeping, loop
from jobs.contract import Job, Point, Resources, Retention
from jobs.health import DIVERGED
from leoclr.work import Work
from orchestration import mirror_keeper
from orchestration.mirror import Mirror
from orchestration.mirror_keeper import Node
from tests.jobs.test_loop import Stage, Walk
from tests.orchestration import s3

OURS = "a" * 16


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3.server() as found:
        yield found


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand in for Ray, which is asked for the device and told of checkpoints."""
    threads, level = torch.get_num_threads(), loop.log.level
    monkeypatch.setattr(loop, "_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(loop, "_report", lambda numbers, saved=None: None)
    monkeypatch.setattr(mirror_keeper, "SEND_S", 0.1)
    yield
    torch.set_num_threads(threads)
    loop.log.setLevel(level)


def run(home: Path, far: Mirror | None, *, stop_at: int = 0, **more: Any) -> None:
    """Run one attempt at a stage in the home of a node."""
    job = Job(
        stage="walk",
        kind="linear",
        fingerprint=OURS,
        params={"dataset": "digits", "seed": 3},
        resources=Resources(checkpoint_every_s=0, checkpoint_every_steps=3),
        folder=str(home / "node" / OURS),
        data_root=str(home),
        **more,
    )

    def build(job: Job, device: torch.device) -> Work:
        return Walk(stop_at=stop_at)

    own = Node(far, fingerprint=OURS, retention=Retention()) if far else keeping.Here()
    with keeping.use(own):
        loop.run(job.model_dump(mode="json"), build, Stage.export)


def state(result: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(result / "checkpoint.pt", weights_only=True)["work"]
    return {name: value.tolist() for name, value in found.items()}


@pytest.mark.parametrize("stop_at", [2, 5, 11])
def test_a_node_that_is_gone_changes_no_number(address: str, tmp_path: Path, stop_at: int) -> None:
    run(tmp_path / "calm", None)
    calm = tmp_path / "calm" / "node" / OURS / "result"
    there = s3.objects(address, f"{tmp_path.name}/")
    with pytest.raises(SystemExit):
        run(tmp_path / "one", Mirror(there, tmp_path / "one"), stop_at=stop_at)
    shutil.rmtree(tmp_path / "one")
    two = Mirror(there, tmp_path / "two")
    run(tmp_path / "two", two)
    if stop_at > 3:
        assert "continues from checkpoint" in (tmp_path / "two" / "node" / OURS / "log.txt").read_text()
    head = tmp_path / "head" / "stages" / OURS
    assert Mirror(there, tmp_path / "head").fetch(head / "result", fingerprint=OURS)
    assert state(head / "result") == state(calm)
    for name in ("metrics.json", "trunk", "params.json"):
        assert (head / "result" / name).read_text() == (calm / name).read_text()
    steps = [
        [
            (line["s"], line["m"]["loss"])
            for line in map(json.loads, path.read_text().splitlines())
            if "s" in line and "e" not in line
        ]
        for path in (tmp_path / name / "node" / OURS / "journal.jsonl" for name in ("calm", "two"))
    ]
    assert steps[0] == steps[1]
    assert two.checkpoints(tmp_path / "two" / "node" / OURS) == []
    run(tmp_path / "three", Mirror(there, tmp_path / "three"))  # it is finished: nothing runs again
    assert "already finished" in (tmp_path / "three" / "node" / OURS / "log.txt").read_text()


def test_a_trial_is_seen_by_who_leads_the_grid(address: str, tmp_path: Path) -> None:
    there = s3.objects(address, f"{tmp_path.name}/")
    point = Point(settings={"lr": 0.1})
    folder = f"work/{OURS}/trials/{point.name}"
    run(tmp_path / "one", Mirror(there, tmp_path / "one"), trial=point)
    lead = Node(Mirror(there, tmp_path / "lead"), fingerprint=OURS, retention=Retention())
    lead.bring(tmp_path / "lead" / folder / "result")
    lead.bring(tmp_path / "lead" / folder / DIVERGED)
    assert not (tmp_path / "lead" / folder / DIVERGED).exists()
