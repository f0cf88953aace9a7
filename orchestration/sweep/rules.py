"""The rules that end trials early: Ray Tune's schedulers, and what they are shown of the trials before."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from orchestration.sweep.options import Asha, Median, NoScheduler, Pbt, Scheduler


def scheduler(options: Scheduler, epochs: int) -> Any:
    """Return Ray's scheduler of these options, for trials of so many epochs."""
    from ray.tune import schedulers

    if isinstance(options, NoScheduler | Pbt):  # what a population does between generations is `population`'s
        return schedulers.FIFOScheduler()
    seen = {"time_attr": "epoch", "metric": "value", "mode": options.direction}
    if isinstance(options, Median):
        return _median(**seen, grace_period=options.grace, min_samples_required=options.min_samples)
    assert isinstance(options, Asha)
    return schedulers.AsyncHyperBandScheduler(
        **seen,
        max_t=max(epochs, options.grace + 1),
        grace_period=options.grace,
        reduction_factor=options.reduction,
        stop_last_trials=False,  # the last rung is the end of the stage, and evaluations come after it
    )


def _median(**options: Any) -> Any:
    from ray.tune import schedulers

    class Median(schedulers.MedianStoppingRule):  # type: ignore[misc]
        """Ray's rule, which without enough trials to compare pauses one where another waits; ours go on."""

        def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
            return str(schedulers.TrialScheduler.CONTINUE)

        def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
            """Ray's counts the last result twice where it was told before it was told again as the end."""
            seen = self._results.get(trial)
            if not seen or seen[-1]["epoch"] < result["epoch"]:
                super().on_trial_complete(tune_controller, trial, result)

        def remember(self, trial: Any, result: Any) -> None:
            """Note a number of the past without a verdict: Ray's fails at the next number of a trial that it ended."""
            self._results[trial].append(result)

    return Median(**options)


class _Past:
    """A trial that ran before this process did, as schedulers know one."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def replay(scheduler: Any, name: str, history: Sequence[tuple[int, float]], *, whole: bool) -> None:
    """Show a scheduler what a trial showed before this process began."""
    trial, last = _Past(name), dict[str, Any]()
    scheduler.on_trial_add(None, trial)
    remember = getattr(scheduler, "remember", partial(scheduler.on_trial_result, None))
    for epoch, value in history:
        last = {"epoch": epoch, "value": value}
        remember(trial, last)
    if whole and last:
        scheduler.on_trial_complete(None, trial, last)
