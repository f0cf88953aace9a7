"""What orchestration costs, beside MLflow's own logging and search, Ray's bare trainer, and MLflow's command.

python -m benchmarks.orchestration [--rounds N]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import many_runs, noop, over_runs, pairs
from benchmarks.pairs import Figure
from jobs.contract import Job, Resources
from jobs.journal import Journal
from orchestration import backend, look, query, records
from orchestration.plan import Plan
from orchestration.query import Query
from orchestration.recorder import Recorder
from orchestration.storage import Home
from orchestration.tracking import Store

RUNS = 10_000
THEIR_RUNS = 2_000  # that MLflow's search goes through: what it takes grows faster than the store
LEAST = 46  # runs of one submission of quickstart: the store that memory is compared with
STEPS, THEIR_STEPS = 1000, 12  # of a training, each with 8 metrics; MLflow's calls take so long that few must do
LONG_ROUNDS = 2  # of what takes 10 s and more
POLL, RAYS_POLL_S = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "2"  # Ray 2.60's default, which the product shortens
BIN = Path(sys.executable).parent
COMMANDS = {
    "--help": ["--help"],
    "--version": ["--version"],
    "completion": [],  # what the shell runs when Tab is pressed
}
COMPLETE = {
    "_LEOCLR_OPS_COMPLETE": "complete_bash",
    "COMP_WORDS": "leoclr-ops submit q",
    "COMP_CWORD": "2",
    "_TYPER_COMPLETE_ARGS": "leoclr-ops submit q",
}


def figures(rounds: int) -> Iterator[Figure]:
    """Yield all figures."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        yield from logging(Path(folder, "logging"), rounds)
        yield from searching(Path(folder), rounds)
    yield from starting(rounds)
    yield from empty_stages()


def logging(folder: Path, rounds: int) -> Iterator[Figure]:
    """Yield what 8 numbers a step cost, in the step's own thread and until they are in MLflow."""
    store = Store.open(Home(folder))
    run_id = store.begin_submission(
        Plan(pipeline="p", stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None),
        title="",
        spec_yaml="",
        arm_labels={},
        resume=None,
    )
    client = store._client
    one = (f"{THEIR_STEPS} steps of 8 x MlflowClient.log_metric", lambda: _log_metric(client, run_id))
    batch = (f"{THEIR_STEPS} steps of MlflowClient.log_batch", lambda: _log_batch(client, run_id))

    def journal() -> None:
        _write(Path(tempfile.mkdtemp(dir=folder), "journal.jsonl"))

    def whole() -> None:
        stage = Path(tempfile.mkdtemp(dir=folder))
        _write(stage / "journal.jsonl")
        recorder = Recorder(store, run_id)
        recorder.follow(run_id, stage)
        recorder.drain(run_id)
        recorder.close()

    acts = (journal, whole, one[1], batch[1])
    for act in acts:
        act()
    rows = [[pairs.seconds(act) for act in acts] for _ in range(rounds)]
    each = STEPS / THEIR_STEPS  # our run has so many times more steps
    for i, name in enumerate(("8 metrics a step, as the step sees it", "8 metrics a step, until MLflow has them")):
        note = f"{median(row[i] for row in rows) / STEPS * 1e3:.2f} ms a step"
        for j, (peer, goal) in enumerate(((one[0], 40), (batch[0], 6))):
            ratios = [row[2 + j] * each / row[i] for row in rows]
            yield pairs.of_ratios(name, peer, ratios, goal=goal, note=note)


def _numbers(step: int) -> dict[str, float]:
    return {f"number_{i}": step / (i + 1) for i in range(7)} | {"loss": 1 / step}


def _write(path: Path) -> None:
    book = Journal(path, steps=STEPS)
    for step in range(1, STEPS + 1):
        book.step(step, {**_numbers(step), "images": 64}, (1, 1, step / STEPS))
    book.close()


def _log_metric(client: Any, run_id: str) -> None:
    for step in range(1, THEIR_STEPS + 1):
        for key, value in _numbers(step).items():
            client.log_metric(run_id, key, value, step=step)


def _log_batch(client: Any, run_id: str) -> None:
    from mlflow.entities import Metric

    for step in range(1, THEIR_STEPS + 1):
        now_ms = time.time_ns() // 1_000_000
        client.log_batch(run_id, [Metric(key, value, now_ms, step) for key, value in _numbers(step).items()])


def searching(folder: Path, rounds: int) -> Iterator[Figure]:
    """Yield what the commands cost that ask the store, and the same question through MLflow's search."""
    small, middle, large = (Home(folder / name) for name in ("small", "middle", "large"))
    many_runs.fill(small, LEAST)
    for home, runs in ((middle, THEIR_RUNS), (large, RUNS)):
        many_runs.copied(small, home)
        many_runs.multiply(home.database, runs)
    for name in over_runs.COMMANDS:
        words = [sys.executable, "-m", "benchmarks.over_runs", name, str(small.path), str(large.path), str(rounds)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        yield _limit(f"`{name}` over {RUNS:,} runs, s", found["seconds"], 2.0)
        yield _limit(f"`{name}` over {RUNS:,} runs, MB more than over {LEAST}", [found["megabytes"]], 200.0)
    store = Store.open(middle)
    newest = store.submissions(newest=look.RECENT)
    asked = Query(run_ids=tuple(run for each in newest for run in each.run_ids), metrics=True)
    yield pairs.compare(
        f"the {len(asked.run_ids or ())} newest runs of {THEIR_RUNS:,}, with metrics",
        lambda: store._find(asked),
        ("MlflowClient.search_runs", lambda: query.search(store._client, store._experiment, asked)),
        goal=5,
        rounds=min(rounds, LONG_ROUNDS),
    )
    past = Query(tags={records.ROLE: "stage"}, fingerprints=_fingerprints(store))
    yield pairs.compare(
        f"{len(past.fingerprints or ())} fingerprints among {THEIR_RUNS:,} runs",
        lambda: store._find(past),
        ("MlflowClient.search_runs", lambda: query.search(store._client, store._experiment, past)),
        goal=5,
        rounds=min(rounds, LONG_ROUNDS),
    )


def _fingerprints(store: Store) -> tuple[str, ...]:
    runs = store.stage_runs(store.submissions(newest=1)[0].run_ids)
    return tuple(run.tags[records.FINGERPRINT] for run in runs.values())


def _limit(name: str, values: list[float], goal: float) -> Figure:
    return pairs.of_ratios(name, "the limit", values, goal=goal, at_most=True)


def starting(rounds: int) -> Iterator[Figure]:
    """Yield what commands cost that import nothing heavy."""
    for name, words in COMMANDS.items():
        environment = os.environ | (COMPLETE if name == "completion" else {})
        act = _command(["leoclr-ops", *words], environment)
        act()
        yield _limit(f"`leoclr-ops` {name}, s", [pairs.seconds(act) for _ in range(rounds)], 0.5)
    yield pairs.compare(
        "`leoclr-ops --help`",
        _command(["leoclr-ops", "--help"], os.environ),
        ("`mlflow --help`", _command(["mlflow", "--help"], os.environ)),
        goal=2,
        rounds=min(rounds, LONG_ROUNDS),
    )


def _command(words: list[str], environment: Any) -> Callable[[], object]:
    line = [str(BIN / words[0]), *words[1:]]
    return lambda: subprocess.run(line, env=environment, stdout=subprocess.DEVNULL, check=True)


def empty_stages() -> Iterator[Figure]:
    """Yield what a stage that does nothing costs beside a bare trainer, in the same cluster, with 1 worker and 2."""
    with tempfile.TemporaryDirectory() as folder, _cluster():
        for workers in (1, 2):
            ours, bare = partial(_ours, Path(folder), workers), partial(_bare, Path(folder), workers)
            if workers == 1:
                bare()  # the first of a cluster takes 30 % longer and imports Ray Train into this process
            pair = _both_ways(ours, bare)
            note = f"{median(own for own, _ in pair):.2f} s against {median(their for _, their in pair):.1f} s"
            yield pairs.of_ratios(
                f"a stage of {workers} worker(s) that does nothing, time",
                "TorchTrainer.fit of an empty function",
                [own / their for own, their in pair],
                goal=1.0,
                at_most=True,
                note=note,
            )


def _both_ways(ours: Callable[[], object], theirs: Callable[[], object]) -> list[tuple[float, float]]:
    """Return two pairs of seconds, taken as ours, theirs, theirs, ours: what drifts counts for both.

    One run of ours before does not count: it imports Ray Train into the process that leads those of its size. All of
    theirs are led by this process.
    """
    ours()
    own, first = pairs.seconds(ours), pairs.seconds(theirs)
    second = pairs.seconds(theirs)
    return [(own, first), (pairs.seconds(ours), second)]


@contextmanager
def _cluster() -> Iterator[None]:
    """Start the product's cluster; its workers find this package."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    with backend.connect():
        yield


def _ours(folder: Path, workers: int) -> None:
    import ray

    home = Path(tempfile.mkdtemp(dir=folder))
    job = Job(
        stage="empty",
        kind=noop.KIND,
        fingerprint="f" * 16,
        params={"seed": 0},
        resources=Resources(workers=workers, cpus_per_worker=1 if workers == 1 else 0.5),
        folder=str(home),
        data_root="",
    )
    task = ray.remote(max_retries=0, num_cpus=1 if workers == 1 else 0)(noop.fit)
    ray.get(task.remote(job.model_dump(mode="json"), 0.0))
    assert (home / "result" / "manifest.json").is_file()


def _bare(folder: Path, workers: int) -> None:
    """Do what the first example of Ray Train's documentation does, with an empty function and Ray's own poll."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    cpus = {"CPU": 1 if workers == 1 else 0.5}
    scaling = ScalingConfig(num_workers=workers, resources_per_worker=cpus)
    ours = os.environ[POLL]
    os.environ[POLL] = RAYS_POLL_S
    try:
        TorchTrainer(_nothing, scaling_config=scaling, run_config=RunConfig(storage_path=str(folder))).fit()
    finally:
        os.environ[POLL] = ours


def _nothing() -> None:
    pass


if __name__ == "__main__":
    pairs.main(figures)
