"""The commands on files, as they are typed: what is printed where, and with which code they end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from leoclr import backbones, formats
from orchestration import data_sets
from orchestration.cli import app
from orchestration.storage import Home
from tests.leoclr.data import trees

runner = CliRunner()


@pytest.fixture
def here(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with a checkpoint in it and the home of the command line below."""
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(home.path))
    monkeypatch.chdir(tmp_path)
    state = {f"backbone.{key}": weight for key, weight in backbones.build("resnet18", width=2).state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    return tmp_path


def test_import_prints_a_stage_and_export_the_file_that_it_wrote(here: Path) -> None:
    done = runner.invoke(app, ["import", "model.ckpt", "--as", "moco_v2", "--epochs", "200"])
    assert done.exit_code == 0, done.output
    stage = yaml.safe_load(done.stdout)["stages"]["pretrain"]
    assert stage["params"]["settings"]["as_method"] == "moco_v2"
    run_id = done.stderr.split("imported as run ")[1].strip()
    again = runner.invoke(app, ["import", "model.ckpt", "--as", "moco_v2"])
    assert (again.stdout, f"already imported: run {run_id}" in again.stderr) == (done.stdout, True)
    written = runner.invoke(app, ["export", run_id[:6]])
    assert written.stdout == f"moco_v2-{run_id[:8]}.safetensors\n"
    assert written.stderr.startswith("to load it: ")
    assert formats.read(here / written.stdout.strip()).width == 2
    refused = runner.invoke(app, ["export", run_id])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"error: moco_v2-{run_id[:8]}.safetensors: there is a file already")
    assert runner.invoke(app, ["export", run_id, "--force"]).exit_code == 0


def test_a_wrong_file_is_one_error_without_a_traceback(here: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(2)}, here / "vgg.pth")
    done = runner.invoke(app, ["import", "vgg.pth", "--as", "moco_v2"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: vgg.pth: no ResNet is in it: its keys are features.0.weight\n\nhint: ")
    assert runner.invoke(app, ["import", "vgg.pth"]).exit_code == 2
    assert runner.invoke(app, ["export", "abcd", "--format", "onnx"]).exit_code == 2


def test_a_pipeline_on_weights_that_were_not_imported_asks_for_them(here: Path) -> None:
    params = f"{{method: imported, settings: {{as_method: swav, sha256: {'a' * 64}}}}}"
    (here / "mine.yaml").write_text(f"stages:\n  pretrain: {{params: {params}}}\n")
    for command in ("plan", "submit"):
        done = runner.invoke(app, [command, "mine.yaml"])
        assert (done.exit_code, done.stdout, done.stderr) == (
            1,
            "",
            "error: stage pretrain: `swav` with sha256 aaaaaaaaaaaa... is not imported here\n\n"
            "hint: leoclr-ops import FILE --as swav\n",
        )


def test_check_prints_the_digest_and_fails_where_data_is_missing(home: Home) -> None:
    done = runner.invoke(app, ["data", "check", "digits"])
    assert done.exit_code == 0, done.output
    assert "digest " in done.stdout
    missing = runner.invoke(app, ["data", "check", "cifar10", "--root", str(home.path / "none")])
    assert missing.exit_code == 1
    assert "fail" in missing.stdout
    unknown = runner.invoke(app, ["data", "check", "cifar11"])
    assert (unknown.exit_code, unknown.stderr) == (
        1,
        "error: no data set is called `cifar11`\n\nhint: did you mean `cifar10`?\n",
    )


def test_fetch_shows_how_far_it_is_and_prints_the_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Path]] = []

    def fetch(name: str, root: Path, show: Callable[[int, int | None], None]) -> tuple[str, ...]:  # no network here
        asked.append((name, root))
        show(1_000_000, 2_000_000)
        return ("file",)

    monkeypatch.setattr(data_sets, "fetch", fetch)
    done = runner.invoke(app, ["data", "fetch", "cifar10", "--root", "there"])
    assert (done.stdout, done.stderr) == (f"{here / 'there'}\n", "cifar10: 1.0 of 2.0 MB\n")
    runner.invoke(app, ["data", "fetch", "cifar10"])
    assert asked == [("cifar10", here / "there"), ("cifar10", here / "home" / "data" / "cifar10")]


def test_what_cannot_be_downloaded_is_told_how_to_get(home: Home) -> None:
    done = runner.invoke(app, ["data", "fetch", "imagenet"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: data set imagenet: ")
    assert "hint: " in done.stderr


def test_pack_prints_the_folder_that_a_pipeline_may_name_and_check_says_what_it_is(here: Path) -> None:
    trees.folder(here / "photos")
    shutil.rmtree(here / "photos" / "unlabeled")
    ask = ["data", "pack", "folder", "--root", "photos", "--to", "packed", "--form", "raw", "--side", "8"]
    done = runner.invoke(app, [*ask, "--workers", "1"])
    assert (done.exit_code, done.stdout) == (0, f"{here / 'packed'}\n"), done.output
    assert done.stderr == "folder: 0 of 30 images\nfolder: 30 of 30 images\n30 images, 0.0 MB\n"
    again = runner.invoke(app, ask)
    assert (again.stdout, again.stderr) == (done.stdout, "already there: 30 images, 0.0 MB\n")
    checked = runner.invoke(app, ["data", "check", "folder", "--root", "packed"])
    assert checked.exit_code == 0, checked.output
    assert "packed as raw, side 8" in checked.stdout and "every sha256 agrees" in checked.stdout
    params = "{method: moco_v2, dataset: folder, backbone: resnet18, width: 2, image_size: 16, epochs: 1, batch: 8}"
    (here / "mine.yaml").write_text(f"stages:\n  pretrain: {{params: {params}}}\n")
    plans = [runner.invoke(app, ["plan", "mine.yaml", "--data", f"folder={root}"]) for root in ("photos", "packed")]
    assert all(plan.exit_code == 0 and "to do" in plan.stdout for plan in plans), plans[1].output
    assert plans[0].stdout != plans[1].stdout  # the fingerprint: other pixels, other results


def test_what_cannot_be_packed_is_one_error(here: Path) -> None:
    done = runner.invoke(app, ["data", "pack", "digits", "--to", "packed"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: data set digits: its images are not files")
    assert runner.invoke(app, ["data", "pack", "folder"]).exit_code == 2
    assert runner.invoke(app, ["data", "pack", "folder", "--to", "x", "--quality", "96"]).exit_code == 2
