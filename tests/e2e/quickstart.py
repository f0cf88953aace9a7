"""A project in a folder of its own, as a user has one; and one whose quickstart, cut down, was submitted once."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestration.records import StageRun, Submission
from orchestration.storage import Home
from orchestration.tracking import Store

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))
CUT = (  # the shipped pipeline with one seed and next to no training
    "matrix.seed=[0]",
    "pretrain.params.width=2",
    "pretrain.params.batch=800",  # 5 steps an epoch
    "linear.params.settings.epochs=1",
    "semi_supervised.params.settings.few_epochs=[1]",
    "semi_supervised.params.settings.epochs=[1]",
    "transfer.params.settings.epochs=1",
    "detection.params.settings.iterations=2",
    "detection.params.settings.precise_bn_steps=1",
)
QUICKSTART = ("quickstart", *(word for change in CUT for word in ("--set", change)))


class Project:
    """A folder with a home; `cli` is what a user types there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, Home(folder / "home")

    def cli(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env=os.environ | {"LEOCLR_OPS_HOME": str(self.home.path)} | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def table(self, *arguments: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.cli("table", *arguments, "--format", "csv").stdout)))

    def status(self, *arguments: str) -> list[dict[str, Any]]:
        looks: list[dict[str, Any]] = json.loads(self.cli("status", *arguments, "--json").stdout)
        return looks

    def runs(self, submission: Submission) -> dict[tuple[str, str], StageRun]:
        """The run that serves each arm and stage of a submission."""
        found = Store.open(self.home).stage_runs(run for runs in submission.arms.values() for run in runs.values())
        return {(arm, stage): found[run] for arm, runs in submission.arms.items() for stage, run in runs.items()}


@pytest.fixture(scope="session")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project whose quickstart was submitted once, and what that printed."""
    project = Project(tmp_path_factory.mktemp("quickstart"))
    return project, project.cli("submit", *QUICKSTART).stdout
