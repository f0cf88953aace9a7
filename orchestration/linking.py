"""A stage's run and what MLflow's pages link it with: its data set, the checkpoint it stands on or leaves, its numbers.

A checkpoint is a logged model without a flavor: nothing is copied, its one artifact says where the weights are, with
their sha256. Every call can be repeated. A server that knows no logged models (before MLflow 3) shows none.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration import naming, records
from orchestration.records import Point

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric, Run
    from mlflow.tracking import MlflowClient

_UNKNOWN = ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")  # what a server says to a question that it does not know


def stand_on(client: MlflowClient, run_id: str, *, dataset: str, digest: str, model_id: str | None) -> None:
    """Link a run with its data set, where it has one, and with the checkpoint that it stands on."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput
    from mlflow.exceptions import MlflowException

    context = "evaluation" if model_id else "training"
    source, profile = json.dumps({"name": dataset}), json.dumps({"digest": digest})
    data = Dataset(dataset, digest[: naming.SHOWN], naming.SOURCE_TYPE, source, profile=profile)
    datasets = [DatasetInput(data, [InputTag(naming.CONTEXT, context)])] if dataset and digest else []
    models = [LoggedModelInput(model_id)] if model_id else []
    if not datasets and not models:
        return
    try:
        client.log_inputs(run_id, datasets=datasets, models=models)
    except MlflowException:  # another process has recorded the same new data set at this moment: now it is there
        client.log_inputs(run_id, datasets=datasets, models=models)


def checkpoint(client: MlflowClient, run: Run, digests: Mapping[str, str]) -> str | None:
    """Return the id of the model that is the checkpoint of a finished pre-training; one is made where there is none.

    `digests`: sha256 by file of its result. None where it has no backbone, or the server knows no models.
    """
    if run.outputs and run.outputs.model_outputs:
        return str(run.outputs.model_outputs[0].model_id)
    from mlflow.exceptions import MlflowException

    from jobs.inputs import BACKBONE  # here: it imports torch, and most commands only read a store

    if BACKBONE not in digests:
        return None
    weights = f"runs:/{run.info.run_id}/{BACKBONE}"
    try:
        model = _found(client, run) or _made(client, run, weights, digests[BACKBONE])
        _complete(client, run, model)
    except MlflowException as error:
        if error.error_code not in _UNKNOWN:
            raise
        return None
    return str(model.model_id)


def finals(run: Run, metrics: Mapping[str, float], model_id: str | None, ended_ms: int) -> list[Metric]:
    """Return what a stage ended with: for its run, and by `KIND/metric` for the checkpoint that the numbers are of.

    A model's metrics cannot be NaN: MLflow would show it as 0.
    """
    from mlflow.entities import Metric

    points = [Point(records.FINAL + key, value, 0, ended_ms) for key, value in metrics.items()]
    plain = [Metric(each.key, each.value, each.timestamp_ms, each.step) for each in points]
    kind = run.data.tags[records.KIND]
    data = next((each.dataset for each in run.inputs.dataset_inputs), None) if run.inputs else None
    of_model = [
        Metric(
            f"{kind}/{key}",
            value,
            ended_ms,
            0,
            model_id=model_id,
            dataset_name=data.name if data else None,
            dataset_digest=data.digest if data else None,
            run_id=run.info.run_id,
        )
        for key, value in metrics.items()
        if value == value
    ]
    return plain + of_model


def stands_on(run: Run) -> str | None:
    """Return the id of the model that a run was linked with as its input."""
    return str(run.inputs.model_inputs[0].model_id) if run.inputs and run.inputs.model_inputs else None


def _found(client: MlflowClient, run: Run) -> LoggedModel | None:
    """Return the model that an earlier attempt made and did not complete."""
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return found[0] if found else None


def _made(client: MlflowClient, run: Run, weights: str, digest: str) -> LoggedModel:
    name = naming.model_name(run.data.tags.get(records.RUN_NAME, ""))
    kept = (records.FINGERPRINT, records.PIPELINE, records.ARM, records.RESULTS_VERSION, records.DIGEST)
    tags = {key: run.data.tags[key] for key in kept if run.data.tags.get(key)}
    params = {key: value for key, value in run.data.params.items() if key.startswith(f"{naming.PRETRAIN}.")}
    return client.create_logged_model(
        run.info.experiment_id,
        name=name,
        source_run_id=run.info.run_id,
        tags={**tags, records.CHECKPOINT: weights, records.SHA256: digest},
        params=params,
        model_type=naming.MODEL_TYPE,
    )


def _complete(client: MlflowClient, run: Run, model: LoggedModel) -> None:
    """Say where the weights are; then that the model is ready; last, on the run, that it has one."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run_id = run.info.run_id
    where = {"weights": model.tags[records.CHECKPOINT], "sha256": model.tags[records.SHA256]}
    where["export"] = f"leoclr-ops export {run_id[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, naming.POINTER)
        file.write_text(json.dumps(where, indent=1) + "\n", encoding="utf-8")
        client.log_model_artifact(model.model_id, str(file))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
