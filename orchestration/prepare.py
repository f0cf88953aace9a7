"""What a plan must know of this machine before it can be made: the data's digests, and what ran before."""

from __future__ import annotations

from leoclr import RESULTS_VERSION
from leoclr import data as datasets
from leoclr.data.contract import DataError
from orchestration import plan
from orchestration.errors import DataProblem
from orchestration.plan import Plan
from orchestration.spec import PipelineSpec
from orchestration.storage import Home
from orchestration.tracking import Store


def prepare(spec: PipelineSpec, home: Home, store: Store | None) -> Plan:
    """Return the plan of `spec`, given what `store` remembers; None is a store that does not exist yet.

    Raises: DataProblem when a data set is missing or broken; StoreError when the store cannot be read.
    """
    past = store.past_runs() if store else []
    return plan.make(spec, digests=digests(spec, home), past=past, results_version=RESULTS_VERSION)


def digests(spec: PipelineSpec, home: Home) -> dict[str, str]:
    """Return the digest of each data set that `spec` uses, by name.

    Raises: DataProblem when one is missing or broken.
    """
    names = sorted({stage.params.dataset for arm in spec.arms for stage in arm.stages.values()})
    return {name: _digest(name, spec, home) for name in names}


def _digest(name: str, spec: PipelineSpec, home: Home) -> str:
    root = spec.data.get(name, home.data(name))
    try:
        return datasets.module(name).digest(root)
    except DataError as error:
        hint = error.hint or f"say where it is: --data {name}=FOLDER"
        raise DataProblem(str(error), place=f"data set {name}", hint=hint) from error
