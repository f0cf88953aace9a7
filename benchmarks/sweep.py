"""What a trial of a sweep costs besides its work: this project beside plain Ray Tune, with trials that do nothing.

    python -m benchmarks.sweep [--rounds N] [--json FILE]

A trial of ours is a whole pipeline: planned, recorded in MLflow with params, numbers and files, resumable. Its one
stage builds random weights of a tiny network and asks kNN of them. Ray's are a function that reports one number, and
that function around a `TorchTrainer`, as Ray's guide "Hyperparameter Tuning with Ray Tune" nests it (docs.ray.io,
train/user-guides/hyperparameter-optimization). A cost is the slope between few trials and many, each a
process of its own, so that the start of Ray counts for nobody.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import pairs
from benchmarks.pairs import Figure

GOAL_S = 0.6  # a trial
FEW, MANY = 2, 18
FEW_NESTED, MANY_NESTED = 1, 3  # a nested trial takes ten seconds and more
BASE = """
stages:
  pretrain:
    params: {dataset: digits, method: random, backbone: resnet18, width: 2, stem: stride2, image_size: 16}
    resources: {workers: WORKERS, cpus_per_worker: 0.5}
"""
SWEEP = """
base: base.yaml
axes: {pretrain.params.batch: [64]}
seeds: SEEDS
objectives: {kNN top-1: {stage: pretrain, metric: knn_top1}}
concurrency: 2
"""
PLAIN = """
from ray import tune
def trial(config):
    tune.report({"score": 1.0})
tune.Tuner(tune.with_resources(trial, {"CPU": 1}), param_space={"seed": tune.grid_search(list(range(TRIALS)))},
           run_config=tune.RunConfig(storage_path=FOLDER, verbose=0)).fit()
"""
NESTED = """
import ray.train
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
def loop(config):
    with __import__("tempfile").TemporaryDirectory() as folder:
        ray.train.report({"score": 1.0}, checkpoint=ray.train.Checkpoint.from_directory(folder))
def trial(config):
    TorchTrainer(loop, scaling_config=ray.train.ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 0.5}),
                 run_config=ray.train.RunConfig(name=f"trial-{config['seed']}", storage_path=FOLDER,
                                                callbacks=[TuneReportCallback()])).fit()
tune.Tuner(tune.with_resources(trial, {"CPU": 0.01}), param_space={"seed": tune.grid_search(list(range(TRIALS)))},
           tune_config=tune.TuneConfig(max_concurrent_trials=AT_ONCE),
           run_config=tune.RunConfig(storage_path=FOLDER, verbose=0)).fit()
"""


def figures(rounds: int) -> Iterator[Figure]:
    """Yield seconds a trial, and how many times cheaper than Ray's ways that is."""
    ours, plain = list[float](), list[float]()
    for _ in range(rounds):
        ours.append(_slope(_ours, (FEW, MANY)))
        plain.append(_slope(_plain, (FEW, MANY)))
    ratios = [theirs / own for own, theirs in zip(ours, plain, strict=True)]
    name = "a no-op trial, one worker"
    yield pairs.of_ratios(name, "nobody: seconds a trial", ours, goal=GOAL_S, at_most=True, note="seconds, not times")
    yield pairs.of_ratios(name, "Ray Tune's defaults, no-op function", ratios, goal=1.0, note=f"Ray: {_median(plain)}")
    for workers in (1, 2):
        nested, few = list[float](), list[float]()
        for _ in range(max(1, rounds // 2)):
            few.append(_slope(partial(_ours, workers=workers), (FEW_NESTED, MANY_NESTED)))
            nested.append(_slope(partial(_nested, workers=workers), (FEW_NESTED, MANY_NESTED)))
        ratios = [theirs / own for own, theirs in zip(few, nested, strict=True)]
        name, note = f"a no-op trial, {workers} worker(s)", f"ours {_median(few)}, Ray {_median(nested)}"
        yield pairs.of_ratios(name, "Ray Tune around TorchTrainer", ratios, goal=1.0, note=note)


def _median(seconds: Sequence[float]) -> str:
    return f"{sorted(seconds)[len(seconds) // 2]:.2f} s a trial"


def _slope(run: Callable[[int], None], counts: tuple[int, int]) -> float:
    """Return the seconds that one more trial takes."""
    few, many = (pairs.seconds(partial(run, count)) for count in counts)
    return max(1e-3, (many - few) / (counts[1] - counts[0]))


def _ours(trials: int, workers: int = 1) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base.yaml").write_text(BASE.replace("WORKERS", str(workers)))
        (folder / "noop.yaml").write_text(SWEEP.replace("SEEDS", str(list(range(trials)))))
        command = [str(Path(sys.executable).with_name("leoclr-ops")), "sweep", "noop.yaml"]
        _call(command, folder)


def _plain(trials: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        _call([sys.executable, "-c", _filled(PLAIN, trials, name)], Path(name))


def _nested(trials: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        script = _filled(NESTED, trials, name).replace("WORKERS", str(workers)).replace("AT_ONCE", str(2 // workers))
        _call([sys.executable, "-c", script], Path(name))


def _filled(script: str, trials: int, folder: str) -> str:
    return script.replace("TRIALS", str(trials)).replace("FOLDER", repr(folder))


def _call(command: Sequence[str], folder: Path) -> None:
    """Run a command in a folder and home of its own. Raises: CalledProcessError, with what it said."""
    environment = os.environ | {"LEOCLR_OPS_HOME": str(folder / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
    done.check_returncode()


if __name__ == "__main__":
    pairs.main(figures)
