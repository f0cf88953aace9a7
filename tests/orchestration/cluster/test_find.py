from pathlib import Path

import pytest

from orchestration.cluster import find, folders
from orchestration.errors import LeoclrOpsError, NotFound

PROFILE = "address: http://127.0.0.1:1\ntracking: {uri: http://m}\nstorage: {uri: /x}\n"


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEOCLR_OPS_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config" / "clusters").mkdir(parents=True)
    return tmp_path / "config" / "clusters"


def test_ones_own_come_before_the_examples(user: Path) -> None:
    assert find.load("slurm").title == "Ray inside a Slurm allocation"
    (user / "slurm.yaml").write_text(PROFILE)
    assert find.load("slurm").source == user / "slurm.yaml"


def test_a_path_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(PROFILE)
    assert find.load(str(tmp_path / "c.yaml")).name == "c"
    with pytest.raises(NotFound, match="there is no file"):
        find.load(str(tmp_path / "d.yaml"))


def test_a_misspelt_name_is_helped(user: Path) -> None:
    with pytest.raises(NotFound, match="no cluster is called `slum`") as caught:
        find.load("slum")
    assert "did you mean `slurm`?" in caught.value.hint
    assert str(user) in caught.value.hint


def test_an_example_is_copied_once(user: Path) -> None:
    assert find.copy("kuberay") == user / "kuberay.yaml"
    assert (user / "kuberay.yaml").read_bytes() == folders.shipped()["kuberay"].read_bytes()
    with pytest.raises(LeoclrOpsError, match="there is a profile already"):
        find.copy("kuberay")
    with pytest.raises(NotFound, match="no example"):
        find.copy("../kuberay")


@pytest.mark.parametrize("name", ["a" * 5000 + ".yaml", "x/" + "b" * 400])
def test_a_name_that_is_too_long_is_one_short_error(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        find.load(name)
    assert len(str(caught.value)) < 300
