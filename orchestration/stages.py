"""What a pipeline file becomes: stages in arms, checked. Their nouns; `spec` reads them from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.contract import Params, Resources


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage of one arm, checked."""

    name: str
    kind: str  # a key of jobs.STAGES
    needs: tuple[str, ...]  # names of the stages it comes after
    params: Params  # what decides its numbers
    params_json: dict[str, Any]  # the same as JSON, defaults filled in: what is fingerprinted
    resources: Resources  # where and how it runs


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of the comparison: a point of the matrix and the stages that it runs."""

    labels: Mapping[str, str]  # label by axis, in file order; empty without a matrix
    stages: Mapping[str, StageSpec]  # by name, in file order

    @property
    def name(self) -> str:
        """The labels in words.

        >>> Arm({"method": "leoclr", "seed": "0", "pretrain.params.settings.temperature": "0.1"}, {}).name
        'leoclr seed=0 temperature=0.1'
        """
        return " ".join(
            label if axis == "method" else f"{axis.rpartition('.')[2]}={label}" for axis, label in self.labels.items()
        )


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A pipeline file, checked."""

    name: str
    title: str
    table: str | None  # name of a shipped table or absolute path of one; printed at the end
    data: Mapping[str, Path]  # absolute root folder by data set name
    arms: tuple[Arm, ...]
    source: str  # the path or the shipped name that it was loaded from
    yaml: str  # resolved: overrides and matrix applied, defaults filled in
