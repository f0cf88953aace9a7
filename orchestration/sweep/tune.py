"""The sweep's door to Ray Tune: Tune decides which trials go on, the driver runs them.

Tune's own loop has a thread of the driver. A trial of Tune's is a light actor that holds nothing and is used again for
the next one: it waits for what the driver reports of its trial, so that a scheduler sees an epoch as it ends. What the
stages compute runs beside it, as tasks of the same cluster.

    Tune's thread        asks the search for a point       -> `Tuning.new`, the driver begins it
                         is told of a number of an epoch   <- `Tuning.report`
                         ends a trial                      -> `Tuning.over`, the driver stops what still runs
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from orchestration.sweep import rules
from orchestration.sweep.options import Scheduler

Ask = Callable[[], int | None]  # the number of the next trial; None when there is none; raises NotYet
JOIN_S = 5.0  # for Tune's loop to end once it is told to

_QUIET = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed ends without a number
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # the ledger is what a sweep goes on from
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",  # its new output prints a table of settings whatever `verbose` says
}


class NotYet(Exception):  # it is a state of the search, and no error
    """The next trial depends on some that are under way."""


class Tuning:
    """Ray Tune at work, from `start` to `stop`, after which `join` waits for it."""

    def __init__(self, ask: Ask, scheduler: Scheduler, *, epochs: int, concurrency: int, folder: Path) -> None:
        self.over: queue.SimpleQueue[int] = queue.SimpleQueue()  # trials that Tune has ended, for whatever reason
        self._ask, self._options, self._epochs = ask, scheduler, epochs
        self._concurrency, self._folder = concurrency, folder
        self._end, self._error = threading.Event(), list[BaseException]()
        self._thread = threading.Thread(target=self._run, name="tune", daemon=True)
        self._reports: Any = None

    @property
    def is_over(self) -> bool:
        """Whether no trial is left to run. Raises: what ended Tune, if that was no end."""
        if self._error and not self._end.is_set():
            raise self._error[0]
        return not self._thread.is_alive()

    def start(self, before: Iterable[tuple[int, Sequence[tuple[int, float]], bool]]) -> None:
        """Begin, given the (number, history, whether it came to its end) of trials that ran before this process did."""
        os.environ.update(_QUIET)
        import ray

        self._reports = ray.remote(num_cpus=0, max_concurrency=1000)(_Reports).remote()
        self._before = list(before)
        self._thread.start()

    def report(self, number: int, epoch: int, value: float) -> None:
        """Tell of a number of a trial under way."""
        self._reports.put.remote(number, {"epoch": epoch, "value": value})

    def end(self, number: int, last: tuple[int, float] | None) -> None:
        """Tell that a trial has ended by itself; `last` is what was told last."""
        epoch, value = last or (0, 0.0)  # before the first epoch no rule compares anything
        self._reports.put.remote(number, {"epoch": epoch, "value": value, "done": True})

    def stop(self) -> None:
        """Let Tune's loop end; what runs is the driver's to stop."""
        self._end.set()
        if self._reports is not None:
            self._reports.close.remote()

    def join(self) -> None:
        """Wait until Tune has ended, or long enough."""
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        try:
            self._fit()
        except BaseException as error:  # noqa: BLE001  # of another thread: `is_over` raises it in the driver's
            self._error.append(error)

    def _fit(self) -> None:
        from ray import tune

        shutil.rmtree(self._folder, ignore_errors=True)
        scheduler = rules.scheduler(self._options, self._epochs)
        for number, history, whole in self._before:
            rules.replay(scheduler, f"before-{number}", history, whole=whole)
        trainable = tune.with_parameters(_follower(), reports=self._reports)
        tune.Tuner(
            tune.with_resources(trainable, {"memory": 1}),  # one byte: it only waits
            tune_config=tune.TuneConfig(
                search_alg=_searcher(_Link(self._ask)),
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
                max_concurrent_trials=self._concurrency,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._folder),
                verbose=0,
                stop=_stopper(_Link(self._end.is_set)),
                callbacks=[_callback(_Link(self.over.put))],
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        ).fit()


class _Link:
    """A function of the driver, in what Tune copies and saves: a copy is the same one, and a saved one does nothing."""

    def __init__(self, call: Callable[..., Any] | None = None) -> None:
        self.call = call

    def __deepcopy__(self, memo: object) -> _Link:
        return self

    def __reduce__(self) -> tuple[type[_Link], tuple[()]]:
        return (_Link, ())


class _Reports:
    """The actor between the driver and Tune's trials: all that was told of each trial.

    A report is asked for by its place, and stays: Tune may start the actor of a trial anew, and what was given to the
    first one is there for the second.
    """

    def __init__(self) -> None:
        import asyncio
        from collections import defaultdict

        self._told: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self._news = asyncio.Condition()
        self._closed = False

    async def put(self, number: int, report: dict[str, Any]) -> None:
        async with self._news:
            self._told[number].append(report)
            self._news.notify_all()

    async def at(self, number: int, place: int) -> dict[str, Any]:
        told = self._told[number]
        async with self._news:
            await self._news.wait_for(lambda: self._closed or len(told) > place)
        return told[place] if len(told) > place else {"done": True}

    async def close(self) -> None:
        async with self._news:
            self._closed = True
            self._news.notify_all()


def _follower() -> Any:
    from ray import tune

    class Follower(tune.Trainable):  # type: ignore[misc]  # Ray has no types
        """Waits for the reports of one trial after the other."""

        def setup(self, config: dict[str, Any], reports: Any = None) -> None:
            self._number, self._place, self._reports = config["number"], 0, reports

        def step(self) -> dict[str, Any]:
            import ray

            report: dict[str, Any] = ray.get(self._reports.at.remote(self._number, self._place))
            self._place += 1
            return report

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._number, self._place = new_config["number"], 0
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

        def load_checkpoint(self, checkpoint: Any) -> None:
            pass

    return Follower


def _searcher(ask: _Link) -> Any:
    from ray.tune.search import Searcher

    class Numbers(Searcher):  # type: ignore[misc]
        """Hands out trial numbers; what a trial is, and what came of it, the driver knows."""

        def __init__(self) -> None:
            super().__init__(metric="value", mode="max")
            self._ask = ask

        def suggest(self, trial_id: str) -> Any:
            try:
                number = self._ask.call() if self._ask.call else None
            except NotYet:
                return None  # Tune asks again
            return Searcher.FINISHED if number is None else {"number": number}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            pass

        def save(self, checkpoint_path: str) -> None:
            Path(checkpoint_path).touch()

        def restore(self, checkpoint_path: str) -> None:
            raise NotImplementedError("a sweep goes on from its ledger")

    return Numbers()


def _stopper(ended: _Link) -> Any:
    from ray import tune

    class Told(tune.Stopper):  # type: ignore[misc]
        def __init__(self) -> None:
            self._ended = ended

        def __call__(self, trial_id: str, result: Any) -> bool:
            return False

        def stop_all(self) -> bool:
            return bool(self._ended.call and self._ended.call())

    return Told()


def _callback(over: _Link) -> Any:
    from ray import tune

    class Over(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self._over = over

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            if self._over.call:
                self._over.call(trial.config["number"])

    return Over()
