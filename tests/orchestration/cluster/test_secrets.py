from pathlib import Path

import pytest

from orchestration.cluster import secrets
from orchestration.cluster.secrets import Secret, SecretProblem
from orchestration.document import Place, Tree
from orchestration.errors import SpecError

PLACE = Place("c.yaml", ("auth", "token"))


def test_a_secret_is_read_from_the_environment_or_from_a_file_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("A_TOKEN", "hunter2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "token"
    file.write_text("hunter3\n")
    file.chmod(0o600)
    assert Secret(env="A_TOKEN").value() == "hunter2"
    assert Secret(file=Path("~/token")).value() == "hunter3"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
def test_a_file_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2")
    file.chmod(mode)
    with pytest.raises(SecretProblem, match="others can read it") as caught:
        Secret(file=file).value()
    assert caught.value.hint == f"chmod 600 {file}"


def test_what_is_not_there_is_named_and_never_guessed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NO_TOKEN", raising=False)
    with pytest.raises(SecretProblem, match=r"\$NO_TOKEN: is not set"):
        Secret(env="NO_TOKEN").value()
    with pytest.raises(SecretProblem, match="No such file"):
        Secret(file=tmp_path / "none").value()
    for content, words in ((b"", "is empty"), (b"two\nlines", "not one line"), (b"\xff\xfe", "not text")):
        file = tmp_path / "token"
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(SecretProblem, match=words):
            Secret(file=file).value()


@pytest.mark.parametrize(
    "tree",
    [
        "hunter2",
        ["hunter2"],
        {"value": "hunter2"},
        {"hunter2": None},
        {"env": "hunter2"},
        {"env": "hunter-2"},
        {"file": "hunter2"},
        {"env": "A", "file": "/hunter2"},
        {},
        None,
        {"env": ["hunter2"]},
    ],
)
def test_what_may_be_a_secret_is_refused_and_not_shown(tree: Tree) -> None:
    with pytest.raises(SpecError) as caught:
        secrets.check(tree, PLACE)
    assert "hunter" not in str(caught.value) + caught.value.hint
    assert str(caught.value).startswith("c.yaml: auth.token")


def test_a_reference_passes() -> None:
    secrets.check({"env": "RAY_AUTH_TOKEN"}, PLACE)
    secrets.check({"file": "~/.ray/auth_token"}, PLACE)
