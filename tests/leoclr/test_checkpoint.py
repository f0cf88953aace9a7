"""Checkpoints are whole or not there, belong to one stage, and never run code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from leoclr import backbones, checkpoint
from leoclr.checkpoint import KEEP, MANIFEST, CheckpointError, Position

CPU = torch.device("cpu")
OURS = "a" * 16


def save(root: Path, total: int, *, fingerprint: str = OURS) -> Path:
    state = {"weight": torch.full((3,), float(total)), "nested": [{"lr": 0.1, "name": "sgd", "none": None}]}
    return checkpoint.save(root, state, Position(1, total - 10, total), fingerprint=fingerprint)


def latest_total(root: Path) -> int:
    found = checkpoint.latest(root, fingerprint=OURS)
    assert found
    assert float(checkpoint.load(found[0], device=CPU)["weight"][0]) == found[1].total
    return found[1].total


def test_a_state_comes_back_with_its_position(tmp_path: Path) -> None:
    folder = save(tmp_path, 12)
    assert folder.name == "00000012"
    assert checkpoint.latest(tmp_path, fingerprint=OURS) == (folder, Position(epoch=1, step=2, total=12))
    state = checkpoint.load(folder, device=CPU)
    assert torch.equal(state["weight"], torch.full((3,), 12.0))
    assert state["nested"] == [{"lr": 0.1, "name": "sgd", "none": None}]


def test_nothing_is_found_where_nothing_was_saved(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none", fingerprint=OURS) is None
    assert checkpoint.latest(tmp_path, fingerprint=OURS) is None


def test_the_newest_is_by_number_and_only_the_last_few_are_kept(tmp_path: Path) -> None:
    for total in (9, 99_999_999, 100_000_000):  # the last has more digits than the names are padded to
        save(tmp_path, total)
    assert latest_total(tmp_path) == 100_000_000
    checkpoint.tidy(tmp_path, tmp_path / "100000000")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100000000", "99999999"]
    assert KEEP == 2


@pytest.mark.parametrize("best", [0, 1])
def test_what_was_passed_over_takes_no_place_of_what_is_saved_after_it(best: int, tmp_path: Path) -> None:
    state = {"weight": torch.zeros(1)}
    for total, score in ((31, 1.0), (248, 9.0)):
        checkpoint.save(tmp_path, state, Position(1, 1, total), fingerprint=OURS, score=score)
    flip(tmp_path / "00000248" / "state.pt")
    saved = save(tmp_path, 62)
    checkpoint.tidy(tmp_path, saved, last=1, best=best)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000031", "00000062"][1 - best :]


def test_a_kill_before_the_rename_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 11)

    def killed(self: Path, target: Path) -> Path:
        raise SystemExit(f"killed before {target.name} appeared")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Path, "rename", killed)
        save(tmp_path, 12)
    assert not (tmp_path / "00000012").exists()
    assert latest_total(tmp_path) == 11
    save(tmp_path, 12)  # the draft that was left is no obstacle
    assert latest_total(tmp_path) == 12


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("name", ["state.pt", MANIFEST])
@pytest.mark.parametrize("harm", [flip, cut, remove])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    harm: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    save(tmp_path, 11)
    newest = save(tmp_path, 12)
    harm(newest / name)
    assert latest_total(tmp_path) == 11
    save(tmp_path, 12)  # a run that comes there again replaces it
    assert latest_total(tmp_path) == 12


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"files": 3}', '{"files": {"state.pt": {}}}'])
def test_an_odd_manifest_is_no_manifest(manifest: str, tmp_path: Path) -> None:
    folder = save(tmp_path, 12)
    (folder / MANIFEST).write_text(manifest)
    assert checkpoint.latest(tmp_path, fingerprint=OURS) is None


def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 12, fingerprint="b" * 16)
    with pytest.raises(CheckpointError, match=f"belongs to fingerprint {'b' * 16}; this stage has {OURS}"):
        checkpoint.latest(tmp_path, fingerprint=OURS)


def test_a_checkpoint_of_another_format_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 2)
        save(tmp_path, 12)
    assert checkpoint.latest(tmp_path, fingerprint=OURS) is None


def test_a_seal_covers_files_in_subfolders_and_replaces_what_was_there(tmp_path: Path) -> None:
    for text in ("old", "new"):
        draft = tmp_path / "draft"
        (draft / "deep").mkdir(parents=True)
        (draft / "deep" / "file").write_text(text)
        checkpoint.seal(draft, tmp_path / "result", fingerprint=OURS, kind="linear")
        assert not draft.exists()
    manifest = json.loads((tmp_path / "result" / MANIFEST).read_text())
    digest = checkpoint.sha256_of(tmp_path / "result" / "deep" / "file")
    assert manifest["files"] == {"deep/file": {"sha256": digest, "bytes": 3}}
    assert (manifest["kind"], manifest["format"]) == ("linear", checkpoint.FORMAT)
    assert checkpoint.sealed(tmp_path / "result", fingerprint=OURS)
    flip(tmp_path / "result" / "deep" / "file")
    assert not checkpoint.sealed(tmp_path / "result", fingerprint=OURS)


class Attack:
    """Pickled, it calls `Path.touch` wherever it is unpickled with code allowed."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.victim,)


def test_code_in_a_state_is_not_executed_even_under_a_matching_manifest(tmp_path: Path) -> None:
    victim, draft = tmp_path / "victim", tmp_path / "draft"
    draft.mkdir()
    torch.save({"work": Attack(victim)}, draft / "state.pt")
    torch.load(draft / "state.pt", weights_only=False)
    assert victim.exists()  # the attack works where it is let
    victim.unlink()
    checkpoint.seal(draft, tmp_path / "00000012", fingerprint=OURS, position=[0, 12, 12])
    found = checkpoint.latest(tmp_path, fingerprint=OURS)
    assert found
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load(found[0], device=CPU)
    assert not victim.exists()


def test_a_backbone_comes_back_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(3)
    trunk = backbones.build("resnet18", width=2, stem="cifar")
    trunk.to(memory_format=torch.channels_last)  # as pre-training leaves it
    checkpoint.save_backbone(tmp_path / "b.safetensors", trunk, name="resnet18", width=2, stem="cifar")
    loaded = checkpoint.load_backbone(tmp_path / "b.safetensors")
    torch.testing.assert_close(loaded.state_dict(), trunk.state_dict(), rtol=0, atol=0)
    image = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(loaded.eval()(image), trunk.eval()(image))


@pytest.mark.parametrize("wrong", [{"width": "3"}, {"stem": "imagenet"}, {"backbone": "resnet34"}, {"stem": "x"}])
def test_a_backbone_that_does_not_fit_its_header_is_refused(wrong: dict[str, str], tmp_path: Path) -> None:
    trunk = backbones.build("resnet18", width=2, stem="cifar")
    header = {"format": "pt", "backbone": "resnet18", "width": "2", "stem": "cifar"}
    save_file(trunk.state_dict(), tmp_path / "b.safetensors", metadata=header | wrong)
    with pytest.raises(CheckpointError, match=r"b\.safetensors is not a backbone written by leoclr-ops"):
        checkpoint.load_backbone(tmp_path / "b.safetensors")


def test_files_that_are_no_backbone_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "plain.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"\x08" + b"\0" * 40)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("plain", "noise", "empty"):
        with pytest.raises(CheckpointError, match="is not a backbone"):
            checkpoint.load_backbone(tmp_path / f"{name}.safetensors")


def test_equal_backbones_are_equal_files(tmp_path: Path) -> None:
    trunk = backbones.build("resnet18", width=2, stem="cifar")
    for number in range(8):
        checkpoint.save_backbone(tmp_path / f"{number}", trunk, name="resnet18", width=2, stem="cifar")
    assert len({(tmp_path / f"{number}").read_bytes() for number in range(8)}) == 1
