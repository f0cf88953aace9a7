"""What every file of cluster/ keeps: a head, tested versions, no secret, commands that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, HEAD, ROOT, commands, constraints, ours, project_version
from tests.orchestration.test_cli import COMMANDS

SCRIPTS = [path for path in ours() if path.suffix != ".md" and path.name != "make_bucket.py"]
PAGES = [CLUSTER / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("cluster", "slurm", "kubernetes", "cloud"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_nothing_is_left_out_of_the_wheel() -> None:
    kept = {path for path in CLUSTER.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert kept == set(ours())


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_a_file_opens_with_what_it_costs(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("# ") and line[2:3] != " "]
    assert [line.split()[1] for line in head if line.split()[1] in HEAD] == list(HEAD)


@pytest.mark.parametrize("path", [*SCRIPTS, *PAGES], ids=named)
def test_versions_are_those_that_were_tested(path: Path) -> None:
    text, tested = path.read_text(), constraints()
    for package, version in re.findall(r"\b(ray|mlflow|boto3)(?:\[[a-z,]+\])?==([0-9.]+)", text):
        assert version == tested[package], package
    for version in re.findall(r"rayVersion: (\S+)", text):
        assert version == tested["ray"]
    for version in re.findall(r"python:(\S+?)-slim", text):
        assert version == "3.11"
    for version in re.findall(r"leoclr-ops:([0-9][^\s\"]*)", text):
        assert version == project_version()
    for version in re.findall(r"leoclr-ops-mlflow:(\S+)", text):
        assert version == tested["mlflow"]


@pytest.mark.parametrize("path", [*SCRIPTS, *PAGES], ids=named)
def test_no_secret_is_written(path: Path) -> None:
    """A value behind a word that asks for one is a reference, a variable, or a name of a file."""
    for line in re.sub(r"\$\{[^}]*\}", "$X", path.read_text()).splitlines():
        found = re.search(r"(?i)\b\w*(?:password|secret_key|access_key|auth_token)\w*\s*[:=]\s*(\S+)", line)
        if found and not line.lstrip().startswith(("#", "|")):
            assert re.match(r"\$|\{|%s|~/|\"?\$|\w*/|random", found[1]), line
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|(?i:bearer )[a-z0-9]{16}", path.read_text())


@pytest.mark.parametrize("path", [*SCRIPTS, *PAGES], ids=named)
def test_commands_are_there(path: Path) -> None:
    unknown = commands(path.read_text()) - set(COMMANDS)
    assert not unknown


@pytest.mark.parametrize("path", [path for path in ours() if path.suffix in (".sh", ".sbatch")], ids=named)
def test_scripts_can_be_started(path: Path) -> None:
    assert path.stat().st_mode & 0o111
