"""The runner, with everything real but Ray: what is ready runs, once; what fails is told; what stops goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs import journal
from jobs.contract import Job
from jobs.inputs import BACKBONE
from jobs.journal import Journal
from leoclr import checkpoint
from orchestration import backend, recorder, records, runner, spec, underway
from orchestration.backend import Backend, Ended
from orchestration.errors import LeoclrOpsError, StoreError, Unanswered
from orchestration.prepare import prepare
from orchestration.progress import Outcome, Snapshot
from orchestration.schedule import Ask, Size
from orchestration.storage import Home, write_atomic
from orchestration.tracking import Store

PIPELINE = """
matrix: {seed: [0, 1]}
stages:
  pretrain: {params: {dataset: digits, method: random, epochs: 0}}
  linear: {needs: [pretrain], params: {dataset: digits}, resources: {max_failures: 2}}
"""
LOSSES = [(1, 0.1), (2, 0.2), (3, 0.3)]
Behavior = Callable[[Job], Ended]


def train(job: Job, steps: int = 3) -> None:
    """Write the journal of a stage, as its first worker does."""
    book = Journal(Path(job.folder) / "journal.jsonl", steps=3)
    for step in range(1, steps + 1):
        book.step(step, {"loss": step / 10, "images": 8}, (1, 1, step / 3))
    book.close()


def finish(job: Job) -> Ended:
    """Train and seal a result, or find it sealed."""
    folder = Path(job.folder)
    if not checkpoint.sealed(folder / "result", fingerprint=job.fingerprint):
        train(job)
        draft = folder / "draft"
        draft.mkdir()
        (draft / BACKBONE).write_text(f"weights of {job.fingerprint}")
        (draft / "metrics.json").write_text(json.dumps({"knn_top1": 50.0, "top1": 60.0, "top5": 70.0}))
        checkpoint.seal(draft, folder / "result", fingerprint=job.fingerprint, ended_ms=time.time_ns() // 1_000_000)
    return Ended()


def fail(job: Job) -> Ended:
    train(job, steps=2)
    return Ended(reason="Diverged: the loss is nan")


def crash(job: Job) -> Ended:
    train(job, steps=1)
    return Ended(crashed=True, reason="WorkerCrashedError: it died")


def finish_and_fail(job: Job) -> Ended:
    """End badly, though the result is sealed."""
    finish(job)
    return Ended(reason="ControllerError: it could not say that it had ended")


def vanish(job: Job) -> Ended:
    """End well, but for the result."""
    return Ended()


def terminate(job: Job) -> Ended:
    train(job, steps=2)
    os.kill(os.getpid(), signal.SIGTERM)
    return Ended()


class Double(Backend):
    """A cluster of this process: a job runs when the runner asks which have ended, one a time."""

    there: tuple[Size, ...] = ()
    _own = True

    def __init__(self, cpus: float = 2) -> None:
        self.there = (Size(cpus, 0.0),)
        self.scripts: dict[tuple[str, int], list[Behavior]] = {}  # by stage and seed; what is not written ends well
        self.jobs: list[Job] = []
        self.connected = self.most = 0

    @property
    def nodes(self) -> tuple[Size, ...]:
        return self.there

    def start(self, job: Job, ask: Ask) -> int:
        for file in job.inputs.values():
            assert Path(file).read_text().startswith("weights of ")
        assert Path(job.folder).is_dir()
        self.jobs.append(job)
        return len(self.jobs) - 1

    def ended(self, handles: Sequence[int], *, timeout_s: float) -> dict[int, Ended]:
        self.most = max(self.most, len(handles))
        job = self.jobs[handles[0]]
        script = self.scripts.get((job.stage, job.params["seed"]), [])
        return {handles[0]: (script.pop(0) if script else finish)(job)}

    @property
    def started(self) -> list[str]:
        return [f"{job.stage} {job.params['seed']}" for job in self.jobs]


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> Double:
    double = Double()

    @contextlib.contextmanager
    def connect() -> Iterator[Double]:
        double.connected += 1
        yield double

    monkeypatch.setattr(backend, "connect", connect)
    monkeypatch.setattr(runner, "POLL_S", 0.01)
    for name in ("FIRST_S", "LOOK_S", "RETRY_S"):
        monkeypatch.setattr(underway, name, 0.01)
    return double


class Desk:
    """Where a user submits."""

    def __init__(self, home: Home, store: Store, text: str = PIPELINE, name: str = "p") -> None:
        self.home, self.store, self.file = home, store, home.path.parent / f"{name}.yaml"
        self.file.write_text(text)
        self.shown: list[Snapshot] = []

    def prepared(self) -> tuple[Any, Any]:
        loaded = spec.load(str(self.file))
        return loaded, prepare(loaded, self.home, self.store)

    def submit(self, show: Callable[[Snapshot], None] | None = None) -> Outcome:
        return runner.submit(*self.prepared(), self.store, self.home, show=show or self.shown.append)

    def runs(self) -> dict[str, list[records.StageRun]]:
        """Every run of each stage and arm, in the order of their beginning."""
        found = self.store.stage_runs(run.run_id for run in self.store.past_runs()).values()
        by_name: dict[str, list[records.StageRun]] = {}
        for run in sorted(found, key=lambda run: run.started_ms):
            by_name.setdefault(f"{run.stage} {run.arm.removeprefix('seed=')}", []).append(run)
        return by_name

    def statuses(self) -> dict[str, list[str]]:
        return {name: [run.status for run in runs] for name, runs in self.runs().items()}

    def submission(self, run_id: str) -> records.Submission:
        (found,) = (each for each in self.store.submissions() if each.run_id == run_id)
        return found

    def history(self, run_id: str) -> list[tuple[int, float]]:
        return sorted((p.step, p.value) for p in self.store._client.get_metric_history(run_id, "loss"))

    def states(self) -> dict[str, str]:
        """What the display shows at last."""
        return {f"{stage.name} {stage.arms[0].removeprefix('seed=')}": stage.state for stage in self.shown[-1].stages}


@pytest.fixture
def desk(home: Home, store: Store) -> Desk:
    return Desk(home, store)


ALL = ["pretrain 0", "linear 0", "pretrain 1", "linear 1"]


def test_stages_run_after_what_they_need_and_are_recorded(desk: Desk, cluster: Double) -> None:
    outcome = desk.submit()
    assert outcome == Outcome(outcome.run_id)
    assert sorted(cluster.started) == sorted(ALL)
    for seed in "01":
        assert cluster.started.index(f"pretrain {seed}") < cluster.started.index(f"linear {seed}")
    runs = {name: run for name, (run,) in desk.runs().items()}
    assert desk.submission(outcome.run_id).arms == {
        f"seed={seed}": {stage: runs[f"{stage} {seed}"].run_id for stage in ("pretrain", "linear")} for seed in "01"
    }
    for run in runs.values():
        assert (run.status, run.parent) == ("FINISHED", outcome.run_id)
        assert (run.metrics["top1"], desk.history(run.run_id)) == (60.0, LOSSES)
        assert run.metrics["system/process_memory_megabytes"] > 0
    assert {job.stage: list(job.inputs) for job in cluster.jobs} == {"pretrain": [], "linear": ["pretrain"]}
    assert set(desk.states().values()) == {"done"}
    last = desk.shown[-1].stages
    assert {stage.kind: stage.metric for stage in last} == {"pretrain": ("knn_top1", 50.0), "linear": ("top1", 60.0)}


def test_a_second_submit_starts_no_cluster_and_reuses_all(desk: Desk, cluster: Double) -> None:
    first = desk.submit()
    before = desk.runs()
    second = desk.submit()
    assert (cluster.connected, len(cluster.jobs)) == (1, 4)
    assert second.run_id != first.run_id
    assert desk.submission(second.run_id).arms == desk.submission(first.run_id).arms
    assert desk.submission(second.run_id).status == "FINISHED"
    assert desk.runs() == before
    assert set(desk.states().values()) == {"reused"}


def test_stages_wait_for_room(desk: Desk, cluster: Double) -> None:
    cluster.there = (Size(1, 0),)
    desk.submit()
    assert cluster.most == 1
    cluster.there = (Size(2, 0),)
    Desk(desk.home, desk.store, PIPELINE.replace("[0, 1]", "[2, 3]")).submit()
    assert cluster.most == 2


def test_a_stage_that_can_never_fit_is_told_before_anything_starts(desk: Desk, cluster: Double) -> None:
    cluster.there = (Size(0.5, 0),)
    with pytest.raises(LeoclrOpsError, match="needs 1 CPUs and 0 GPUs; this cluster has 0.5 and 0") as caught:
        desk.submit()
    assert caught.value.place == "stages.pretrain.resources"
    assert (cluster.jobs, desk.runs()) == ([], {})


def test_a_crash_is_survived_as_often_as_the_user_says_in_one_run(desk: Desk, cluster: Double) -> None:
    cluster.scripts["linear", 0] = [crash, crash]
    outcome = desk.submit()
    assert not outcome.failed
    assert cluster.started.count("linear 0") == 3
    (run,) = desk.runs()["linear 0"]
    assert desk.history(run.run_id) == LOSSES
    notes = {stage.note for shot in desk.shown for stage in shot.stages}
    assert "crashed (WorkerCrashedError: it died); attempt 3 of 3" in notes


def test_one_crash_too_many_is_a_failure(desk: Desk, cluster: Double) -> None:
    cluster.scripts["linear", 0] = [crash, crash, crash]
    assert desk.submit().failed == ("linear seed=0: WorkerCrashedError: it died",)
    assert cluster.started.count("linear 0") == 3


def test_a_node_that_is_taken_away_is_no_failure_of_the_stage(desk: Desk, cluster: Double) -> None:
    def taken(job: Job) -> Ended:
        train(job, steps=2)
        return Ended(crashed=True, charged=False, reason="Preempted: a node is taken away")

    cluster.scripts["linear", 0] = [taken, crash, taken, taken, crash]  # two crashes are allowed
    assert not desk.submit().failed
    assert cluster.started.count("linear 0") == 6
    (run,) = desk.runs()["linear 0"]
    assert desk.history(run.run_id) == LOSSES
    notes = {stage.note for shot in desk.shown for stage in shot.stages}
    assert "stopped (Preempted: a node is taken away); goes on elsewhere" in notes


def test_a_stage_waits_for_nodes_that_went_and_begins_with_as_many_workers_as_there_is_room_for(
    desk: Desk, cluster: Double
) -> None:
    shrunk = PIPELINE.replace("max_failures: 2", "workers: {min: 2, max: 4}")

    def lose_a_node(job: Job) -> Ended:
        cluster.there = (Size(1, 0),)
        return finish(job)

    waits = "waits for nodes: needs 2 CPUs and 0 GPUs; this cluster has 1 and 0"
    waited: list[Snapshot] = []

    def show(shot: Snapshot) -> None:
        if any(stage.note == waits for stage in shot.stages):
            waited.append(shot)
            cluster.there = (Size(3, 0),)

    cluster.there = (Size(8, 0),)
    cluster.scripts["pretrain", 1] = [lose_a_node]
    assert not Desk(desk.home, desk.store, shrunk).submit(show).failed
    assert waited
    workers = {f"{job.stage} {job.params['seed']}": job.resources.workers for job in cluster.jobs}
    assert workers["pretrain 0"] == 1
    assert sorted(workers[f"linear {seed}"] for seed in "01") == [2, 4]  # 3 share no batch of 256


def test_a_failure_blocks_what_needs_it_and_nothing_else(desk: Desk, cluster: Double) -> None:
    cluster.scripts["pretrain", 0] = [fail]
    outcome = desk.submit()
    assert outcome.failed == ("pretrain seed=0: Diverged: the loss is nan",)
    assert not outcome.stopped
    assert desk.states() == {"pretrain 0": "failed", "linear 0": "blocked", "pretrain 1": "done", "linear 1": "done"}
    assert cluster.started.count("pretrain 0") == 1  # an error of its own is not tried again
    runs = desk.runs()
    assert set(runs) == {"pretrain 0", "pretrain 1", "linear 1"}
    (failed,) = runs["pretrain 0"]
    assert (failed.status, failed.tags[records.REASON]) == ("FAILED", "Diverged: the loss is nan")
    assert desk.history(failed.run_id) == LOSSES[:2]
    assert desk.submission(outcome.run_id).status == "FAILED"


def test_a_job_without_a_result_is_a_failure(desk: Desk, cluster: Double) -> None:
    cluster.scripts["linear", 1] = [vanish]
    assert desk.submit().failed == ("linear seed=1: its job ended without a whole result",)


def test_a_job_that_says_it_failed_has_ended_well_when_its_result_is_whole(desk: Desk, cluster: Double) -> None:
    cluster.scripts["pretrain", 0] = [finish_and_fail]
    cluster.scripts["linear", 1] = [finish_and_fail]
    assert not desk.submit().failed
    assert cluster.started.count("pretrain 0") == cluster.started.count("linear 1") == 1
    assert desk.statuses() == {name: ["FINISHED"] for name in ALL}
    assert {run.tags.get(records.REASON, "") for (run,) in desk.runs().values()} == {""}


def test_what_failed_is_continued_in_its_own_run(desk: Desk, cluster: Double) -> None:
    cluster.scripts["pretrain", 0] = [fail]
    first = desk.submit()
    assert not desk.submit().failed
    assert desk.statuses() == {name: ["FINISHED"] for name in ALL}
    (run,) = desk.runs()["pretrain 0"]
    assert desk.history(run.run_id) == LOSSES
    assert run.parent == first.run_id  # the same question: its submission is continued too


def test_a_stop_ends_every_run_and_the_next_submit_goes_on(desk: Desk, cluster: Double) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    cluster.scripts["pretrain", 1] = [terminate]
    outcome = desk.submit()
    assert outcome.stopped and not outcome.failed
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    statuses = desk.statuses()
    assert statuses["pretrain 1"] == ["KILLED"]
    assert ["RUNNING"] not in statuses.values()
    assert desk.submission(outcome.run_id).status == "KILLED"
    assert desk.states()["pretrain 1"] == "stopped"
    stopped = desk.runs()
    again = desk.submit()
    assert again.run_id == outcome.run_id
    assert desk.statuses() == {name: ["FINISHED"] for name in ALL}
    for name, (run,) in desk.runs().items():
        assert run.run_id == stopped.get(name, [run])[0].run_id
        assert desk.history(run.run_id) == LOSSES


def test_a_stop_while_a_crashed_stage_waits_ends_its_run_too(desk: Desk, cluster: Double) -> None:
    def stop(shot: Snapshot) -> None:
        if any("attempt 2" in stage.note for stage in shot.stages if stage.state != "stopped"):
            raise KeyboardInterrupt

    cluster.scripts["linear", 0] = [crash]
    assert desk.submit(stop).stopped
    assert desk.statuses()["linear 0"] == ["KILLED"]


def test_two_pipelines_at_once_compute_each_common_stage_once(
    desk: Desk, cluster: Double, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "stoppable", contextlib.nullcontext)  # signals are the main thread's
    met = threading.Event()

    def wait_for_the_other(job: Job) -> Ended:
        assert met.wait(60)
        return finish(job)

    def watch(shot: Snapshot) -> None:
        if any(stage.note == "another submit is running it" for stage in shot.stages):
            met.set()

    for seed in (0, 1):
        cluster.scripts["pretrain", seed] = [wait_for_the_other]
    outcomes: list[Outcome] = []
    desks = [Desk(home, Store.open(home), name=name) for name in "pq"]
    prepared = [each.prepared() for each in desks]  # both before either has run: both plan to compute all

    def submit(each: Desk, made: tuple[Any, Any]) -> None:
        outcomes.append(runner.submit(*made, each.store, home, show=watch))

    threads = [threading.Thread(target=submit, args=pair) for pair in zip(desks, prepared, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert sorted(cluster.started) == sorted(ALL)
    assert desk.statuses() == {name: ["FINISHED"] for name in ALL}
    one, two = (desk.submission(outcome.run_id) for outcome in outcomes)
    assert one.run_id != two.run_id
    assert one.arms == two.arms
    assert (one.status, two.status) == ("FINISHED", "FINISHED")


def test_a_damaged_artifact_is_computed_again_into_a_new_run(desk: Desk, cluster: Double) -> None:
    desk.submit()
    (old,) = desk.runs()["linear 0"]
    desk.store.fetch(old.run_id, BACKBONE).write_text("weights of nobody")
    outcome = desk.submit()
    assert cluster.started[4:] == ["linear 0"]
    kept, new = desk.runs()["linear 0"]
    assert kept == old
    assert new.status == "FINISHED"
    assert desk.history(new.run_id) == LOSSES  # the whole, though the journal was sent once
    assert desk.submission(outcome.run_id).arms["seed=0"]["linear"] == new.run_id


def test_a_run_that_was_deleted_is_replaced_by_one_with_the_whole_history(desk: Desk, cluster: Double) -> None:
    def stop_after_a_checkpoint(job: Job) -> Ended:
        write_atomic(Path(job.folder) / "checkpoints" / "00000002" / "state.pt", "")
        return fail(job)

    cluster.scripts["linear", 0] = [stop_after_a_checkpoint]
    desk.submit()
    (old,) = desk.runs()["linear 0"]
    folder = desk.home.stage(old.tags[records.FINGERPRINT])
    assert [line["s"] for line in journal.read(folder / "journal.jsonl")[0] if "s" in line] == [1, 2]
    desk.store._client.delete_run(old.run_id)
    assert not desk.submit().failed
    (new,) = desk.runs()["linear 0"]
    assert new.run_id != old.run_id
    assert desk.history(new.run_id) == LOSSES


def test_a_damaged_line_of_a_journal_stops_nothing_and_is_told(desk: Desk, cluster: Double) -> None:
    def damage(job: Job) -> Ended:
        aside = Path(job.folder) / "aside"
        aside.mkdir()
        train(job.model_copy(update={"folder": str(aside)}), steps=2)
        path = aside / "journal.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"s":2', b'"s":\x922'))
        path.rename(aside.parent / path.name)  # damaged before anybody has read it
        return Ended(crashed=True, reason="WorkerCrashedError: it died")

    cluster.scripts["linear", 0] = [damage]
    assert not desk.submit().failed
    (run,) = desk.runs()["linear 0"]
    assert run.status == "FINISHED"
    assert desk.history(run.run_id) == LOSSES  # it was written again: the training went on from before it
    assert run.tags[recorder.DAMAGE] == "line 3 of the journal is damaged, its numbers are left out"
    assert "line 3 of the journal is damaged" in desk.shown[-1].note


def test_a_store_that_fails_at_the_commit_is_asked_again(
    desk: Desk, cluster: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, refusals = desk.store.finish_stage, [1, 2, 3]

    def refuse(run_id: str, **result: Any) -> None:
        if refusals:
            refusals.pop()
            raise Unanswered("connection refused")
        commit(run_id, **result)

    monkeypatch.setattr(desk.store, "finish_stage", refuse)
    assert not desk.submit().failed
    assert sorted(cluster.started) == sorted(ALL)  # nothing is computed twice
    assert desk.statuses() == {name: ["FINISHED"] for name in ALL}
    waiting = [stage for shot in desk.shown for stage in shot.stages if stage.note == "connection refused"]
    assert waiting
    assert {stage.state for stage in waiting} <= {"running", "done"}


def test_what_a_store_says_for_good_fails_the_stage_and_the_others_go_on(
    desk: Desk, cluster: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = desk.store.begin_stage

    def refuse(planned: Any, **facts: Any) -> str:
        if planned.name == "linear" and planned.arms == ("seed=1",):
            raise StoreError("9000 characters are more than the 8000 that MLflow keeps", place="params", hint="less")
        return begin(planned, **facts)

    monkeypatch.setattr(desk.store, "begin_stage", refuse)
    (failed,) = desk.submit().failed
    assert failed == "linear seed=1: params: 9000 characters are more than the 8000 that MLflow keeps; less"
    assert desk.states() == {"pretrain 0": "done", "linear 0": "done", "pretrain 1": "done", "linear 1": "failed"}


def test_a_result_that_the_store_refuses_is_recorded_by_the_next_submit(
    desk: Desk, cluster: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_id: str, **result: Any) -> None:
        raise StoreError("the result is damaged")

    with monkeypatch.context() as patched:
        patched.setattr(desk.store, "finish_stage", refuse)
        assert len(desk.submit().failed) == 2
    assert desk.statuses() == {"pretrain 0": ["FAILED"], "pretrain 1": ["FAILED"]}
    assert not desk.submit().failed
    assert sorted(cluster.started) == sorted(ALL)  # nothing is computed twice
    assert desk.statuses() == {name: ["FINISHED"] for name in ALL}


def test_an_outage_of_days_overflows_nothing() -> None:
    stage = underway.Underway(None, "waiting", tries=5000)  # type: ignore[arg-type]  # no plan is asked for
    stage.wait("connection refused")
    assert stage.retry_at <= time.monotonic() + 60
