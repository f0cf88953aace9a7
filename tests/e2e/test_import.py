"""A published checkpoint is imported, evaluated by a pipeline, and leaves as another project's file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from orchestration.storage import Home
from orchestration.tracking import Store

pytestmark = pytest.mark.e2e

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
EVALUATION = """
  linear:
    needs: [pretrain]
    params: {dataset: digits, protocol: small, settings: {view: {resize: 32, size: 32}, epochs: 2}}
    resources: {cpus_per_worker: 1}
"""


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LEOCLR_OPS_HOME": str(folder / "home"), "COLUMNS": "200"}
    done = subprocess.run(
        [COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A ResNet-18 in the file that main_moco.py of facebookresearch/moco writes."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=128)
    state = {f"module.encoder_q.{key}": weight for key, weight in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    tree = {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(tree, tmp_path / "moco_r18_200ep.pth.tar")
    return tmp_path / "moco_r18_200ep.pth.tar"


@pytest.mark.slow
def test_an_imported_checkpoint_is_evaluated_and_exported(checkpoint: Path, tmp_path: Path) -> None:
    pipeline = tmp_path / "evaluate.yaml"
    done = cli(tmp_path, "import", checkpoint.name, "--as", "moco_v2", "--dataset", "imagenet", "--epochs", "200")
    assert "layout moco: resnet18 of width 64 with the imagenet stem" in done.stderr
    run_id = done.stderr.split("imported as run ")[1].split()[0]
    pipeline.write_text(done.stdout + EVALUATION)

    checkpoint.unlink()  # it is not needed any more
    cli(tmp_path, "submit", pipeline.name)

    store = Store.open(Home(tmp_path / "home"))
    (submission,) = store.submissions("evaluate")
    runs = store.stage_runs(run for stages in submission.arms.values() for run in stages.values())
    by_kind = {run.kind: run for run in runs.values()}
    assert by_kind["pretrain"].run_id == run_id  # it was reused, not computed
    linear = by_kind["linear"]
    assert linear.status == "FINISHED"
    assert 0 <= linear.metrics["top1"] <= 100
    assert json.loads(linear.tags["leoclr.inputs"]) == {"pretrain": by_kind["pretrain"].tags["leoclr.fingerprint"]}
    assert store.fetch(run_id, "backbone.safetensors").stat().st_size > 40_000_000

    written = cli(tmp_path, "export", run_id[:8], "--format", "torchvision").stdout.strip()
    network = torchvision.models.resnet18()
    report = network.load_state_dict(torch.load(tmp_path / written, weights_only=True), strict=False)
    assert (report.missing_keys, report.unexpected_keys) == (["fc.weight", "fc.bias"], [])
