"""The files of cluster/ and what they agree on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
HEAD = ("What:", "Command:", "Cost:", "Expected:", "Source:")


def ours() -> list[Path]:
    """Return every file that is shipped."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        patterns = tomllib.load(stream)["tool"]["setuptools"]["package-data"]["orchestration.cluster.files"]
    return sorted(path for pattern in patterns for path in CLUSTER.glob(pattern))


def tree(file: str) -> Any:
    return yaml.safe_load((CLUSTER / file).read_text())


def constraints() -> dict[str, str]:
    """Return the version of every package that was tested together."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def project_version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        return str(tomllib.load(stream)["project"]["version"])


def strings(node: Any) -> list[str]:
    """Return every text of a tree, keys left out."""
    if isinstance(node, dict):
        return [text for value in node.values() for text in strings(value)]
    if isinstance(node, list):
        return [text for value in node for text in strings(value)]
    return [node] if isinstance(node, str) else []


def commands(text: str) -> set[str]:
    """Return the commands of ours that a text names."""
    return set(re.findall(r"(?<![\w/.-])leoclr-ops ((?:data |table )?[a-z]+)", text))
