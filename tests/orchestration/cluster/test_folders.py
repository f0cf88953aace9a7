from pathlib import Path

import pytest

from orchestration.cluster import folders


def test_the_users_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LEOCLR_OPS_CONFIG", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.user() == tmp_path / ".config" / "leoclr-ops" / "clusters"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert folders.user() == tmp_path / "xdg" / "leoclr-ops" / "clusters"
    monkeypatch.setenv("LEOCLR_OPS_CONFIG", str(tmp_path / "ours"))
    assert folders.user() == tmp_path / "ours" / "clusters"


def test_a_wheel_holds_the_files_beside_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert folders.files() == Path(__file__).parents[3] / "cluster"
    monkeypatch.setattr(folders, "_WHEEL", tmp_path)
    assert folders.files() == tmp_path
    assert folders.shipped() == {}
