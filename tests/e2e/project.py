"""A folder with a small pipeline in it, that is submitted and struck, and what it leaves, to compare bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from orchestration.chaos.lab import RESOURCES, pipeline
from orchestration.document import Tree
from orchestration.storage import Home
from orchestration.tracking import Store

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
MEASURED = ("system/", "images_per_s")  # by the clock: differ from run to run


class Project:
    """A folder with a pipeline file and a home."""

    def __init__(self, folder: Path, workers: Tree, *, epochs: int = 2, address: str = "", **resources: object) -> None:
        """Write the pipeline; `resources` of the pre-training are added, `address` names a cluster to run on."""
        self.folder, self.home = folder, Home(folder / "home")
        self._variables = {"LEOCLR_OPS_HOME": str(self.home.path)} | ({"RAY_ADDRESS": address} if address else {})
        (folder / "small.yaml").write_text(pipeline({**RESOURCES, "workers": workers, **resources}, epochs=epochs))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *(words or ("submit", "small.yaml"))],
            cwd=self.folder,
            env=os.environ | self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> str:
        process = self.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def journal(self) -> list[dict[str, Any]]:
        """The whole lines of the journal of the pre-training, which is the first stage to have one."""
        for path in (self.home.path / "stages").glob("*/journal.jsonl"):
            lines = path.read_text().split("\n")[:-1]
            return [json.loads(line) for line in lines]
        return []

    def wait_for_step(self, step: int, process: subprocess.Popen[str]) -> None:
        """Wait until the pre-training has passed `step`; a checkpoint lies behind it and an epoch is under way."""
        deadline = time.monotonic() + 240  # a busy machine takes minutes to start two workers
        while not any(line.get("s", 0) >= step for line in self.journal()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "the pre-training did not get there"
            time.sleep(0.05)

    def cli(self, *arguments: str) -> str:
        environment = os.environ | self._variables
        return subprocess.run(
            [COMMAND, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=True
        ).stdout

    def runs(self) -> list[str]:
        """The stages that were run, by name, once for each of their runs."""
        return [run.stage for run in Store.open(self.home).past_runs()]

    def result(self) -> dict[str, Any]:
        """All that the pre-training left: run id, weights, states and the history of each metric."""
        store = Store.open(self.home)
        (run,) = (run for run in store.past_runs() if run.stage == "pretrain")
        assert run.reusable
        state = torch.load(store.fetch(run.run_id, "checkpoint.pt"), weights_only=True)
        client = store._client  # the history of a metric is not part of the product's own interface
        names = [name for name in client.get_run(run.run_id).data.metrics if not name.startswith(MEASURED)]
        history = {
            name: sorted((point.step, point.value) for point in client.get_metric_history(run.run_id, name))
            for name in names
        }
        return {
            "run_id": run.run_id,
            "backbone": load_file(store.fetch(run.run_id, "backbone.safetensors")),
            "state": state["work"],
            "history": history,
        }


def assert_same(left: Any, right: Any) -> None:
    """Compare nested states; tensors bit for bit."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right
