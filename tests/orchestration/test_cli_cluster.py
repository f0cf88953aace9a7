from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration import cli_cluster
from orchestration.cli import app
from tests.orchestration.cluster.services import Services, serving

runner = CliRunner()


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEOCLR_OPS_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "config" / "clusters"


def test_profiles_are_listed_and_a_damaged_one_hides_none(user: Path) -> None:
    copied = runner.invoke(app, ["clusters", "--init", "kuberay"])
    assert copied.stdout == f"{user / 'kuberay.yaml'}\n"
    (user / "broken.yaml").write_text("adress: x\n")
    lines = runner.invoke(app, ["clusters"]).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["aws", "example"], ["broken", "yours"], ["kuberay", "yours"], ["local", "example"], ["slurm", "example"],
    ]  # fmt: skip
    assert "no key here is called `adress`" in lines[1]
    assert "http://127.0.0.1:8265" in lines[2]
    assert cli_cluster.complete("ku") == ["kuberay"]


def test_the_doctor_ends_with_what_it_found(tmp_path: Path) -> None:
    with serving(Services()) as address:
        tracking = f"tracking: {{uri: 'http://m:1', uri_here: '{address}'}}"
        text = f"address: {address}\n{tracking}\nstorage: {{uri: {tmp_path}}}\n"
        (tmp_path / "mine.yaml").write_text(text)
        ready = runner.invoke(app, ["doctor", "--cluster", str(tmp_path / "mine.yaml")])
        (tmp_path / "mine.yaml").write_text(text + "auth: {token: {file: /none}}\n")
        failed = runner.invoke(app, ["doctor", "--cluster", str(tmp_path / "mine.yaml")])
    assert ready.exit_code == 0, ready.output
    assert [line.split()[0] for line in ready.stdout.splitlines() if not line.startswith(" ")] == [
        "ok", "ok", "warn", "ok", "ok", "ok", "ok",
    ]  # fmt: skip
    assert failed.exit_code == 1
    assert "the token: /none: cannot be read" in failed.stdout


def test_a_misspelt_cluster_is_one_readable_error() -> None:
    result = runner.invoke(app, ["doctor", "--cluster", "slum"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: no cluster is called `slum`\n\nhint: did you mean `slurm`?")
