"""What a trial of a sweep costs besides its work: this project beside plain Ray Tune, with trials that do nothing.

    python -m benchmarks.sweep [--rounds N] [--json FILE]

A trial of ours is a whole pipeline: planned, recorded in MLflow with params, numbers and files, resumable. Its one
stage builds random weights of a tiny network and asks kNN of them. Ray's are a function that reports one number, and
that function around a `TorchTrainer`, as Ray's guide "Hyperparameter Tuning with Ray Tune" nests it (docs.ray.io,
train/user-guides/hyperparameter-optimization). Two trials run at once, or one that has two workers. A cost is the time
between the end of the first ones and that of the last, by trial, so that the start of Ray counts for nobody. The first
row is seconds, the others say how many times cheaper ours is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import pairs
from benchmarks.pairs import Figure

GOAL_S = 0.6  # a trial
MANY, SOME = 18, 6  # trials of ours, of Ray's
FEW = 2  # of those with two workers, which take half a minute each
BASE = """
stages:
  pretrain:
    params: {dataset: digits, method: random, backbone: resnet18, width: 2, stem: stride2, image_size: 16}
    resources: {workers: WORKERS, cpus_per_worker: 0.4}
"""
SWEEP = """
base: base.yaml
axes: {pretrain.params.batch: [64]}
seeds: SEEDS
objectives: {kNN top-1: {stage: pretrain, metric: knn_top1}}
concurrency: AT_ONCE
"""
ENDS = """
import time
from ray import tune
class Ends(tune.Callback):
    def on_trial_complete(self, **info):
        print("ended at", time.monotonic(), flush=True)
"""
PLAIN = """
def trial(config):
    tune.report({"score": 1.0})
tune.Tuner(tune.with_resources(trial, {"CPU": 1}), param_space={"seed": tune.grid_search(list(range(TRIALS)))},
           run_config=tune.RunConfig(storage_path=FOLDER, verbose=0, callbacks=[Ends()])).fit()
"""
NESTED = """
import ray.train
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
def loop(config):
    with __import__("tempfile").TemporaryDirectory() as folder:
        ray.train.report({"score": 1.0}, checkpoint=ray.train.Checkpoint.from_directory(folder))
def trial(config):
    TorchTrainer(loop, scaling_config=ray.train.ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 0.4}),
                 run_config=ray.train.RunConfig(name=f"trial-{config['seed']}", storage_path=FOLDER,
                                                callbacks=[TuneReportCallback()])).fit()
tune.Tuner(tune.with_resources(trial, {"CPU": 0.01}), param_space={"seed": tune.grid_search(list(range(TRIALS)))},
           tune_config=tune.TuneConfig(max_concurrent_trials=1),
           run_config=tune.RunConfig(storage_path=FOLDER, verbose=0, callbacks=[Ends()])).fit()
"""


def figures(rounds: int) -> Iterator[Figure]:
    """Yield seconds a trial, and how many times cheaper than Ray's ways that is, of one pair of sweeps each.

    A pair takes one to three minutes whatever `rounds` is, and its figure is a mean over trials already.
    """
    del rounds
    name, own, their = "a no-op trial, one worker", _ours(MANY), _ray(PLAIN, SOME)
    yield pairs.of_ratios(name, "nobody: seconds a trial", [own], goal=GOAL_S, at_most=True, note="seconds, not times")
    yield _times(name, "Ray Tune's defaults, no-op function", own, their)
    own, their = _ours(FEW, workers=2), _ray(NESTED, FEW, workers=2)
    yield _times("a no-op trial, two workers", "Ray Tune around TorchTrainer", own, their)


def _times(name: str, peer: str, own: float, their: float) -> Figure:
    """Return how many times cheaper ours is, of our seconds a trial and theirs."""
    note = f"ours {own:.2f} s a trial, Ray {their:.2f} s a trial"
    return pairs.of_ratios(name, peer, [their / own], goal=1.0, note=note)


def _each(ends: Sequence[float], trials: int, at_once: int) -> float:
    """Return the seconds that a trial takes, of the times at which trials ended.

    >>> _each([10.0, 10.5, 11.0, 12.0], trials=4, at_once=2)
    0.75
    """
    assert len(ends) == trials, f"{len(ends)} of {trials} trials ended"
    return (ends[-1] - ends[at_once - 1]) / (trials - at_once)


def _at_once(workers: int) -> int:
    return 2 if workers == 1 else 1


def _ours(trials: int, workers: int = 1) -> float:
    """Return the seconds of one of our trials: its end is when the ledger has it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base.yaml").write_text(BASE.replace("WORKERS", str(workers)))
        (folder / "noop.yaml").write_text(
            SWEEP.replace("SEEDS", str(list(range(trials)))).replace("AT_ONCE", str(_at_once(workers)))
        )
        command = [str(Path(sys.executable).with_name("leoclr-ops")), "sweep", "noop.yaml"]
        ends, ledger = list[float](), folder / "home" / "sweeps" / "noop" / "1" / "ledger.jsonl"

        def look() -> None:
            done = ledger.read_text().count('"state":"done"') if ledger.exists() else 0
            ends.extend([time.monotonic()] * (done - len(ends)))

        _call(command, folder, look)
    return _each(ends, trials, _at_once(workers))


def _ray(script: str, trials: int, workers: int = 1) -> float:
    """Return the seconds of a trial of Ray's, which tells their ends itself."""
    with tempfile.TemporaryDirectory() as name:
        filled = script.replace("TRIALS", str(trials)).replace("FOLDER", repr(name)).replace("WORKERS", str(workers))
        said = _call([sys.executable, "-c", ENDS + filled], Path(name), lambda: None)
    ends = [float(line.split()[-1]) for line in said.splitlines() if line.startswith("ended at")]
    return _each(ends, trials, _at_once(workers))


def _call(command: Sequence[str], folder: Path, look: Callable[[], None]) -> str:
    """Run a command in a folder and home of its own, looking all the while; return what it printed.

    Raises: CalledProcessError, with what it said.
    """
    environment = os.environ | {"LEOCLR_OPS_HOME": str(folder / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
    with (folder / "said.txt").open("w+") as said, (folder / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=errors)
        while process.poll() is None:
            look()
            time.sleep(0.02)
        look()
        if process.returncode:
            print((folder / "errors.txt").read_text()[-2000:], file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)
        return (folder / "said.txt").read_text()


if __name__ == "__main__":
    pairs.main(figures)
