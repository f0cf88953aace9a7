"""Runs go in and come out the same; a replay, a crash in between, or a damaged artifact does no harm."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.contract import Resources
from leoclr import RESULTS_VERSION
from orchestration import query, records
from orchestration.connection import Connection, speaking, without_secrets
from orchestration.errors import NotFound, StoreError
from orchestration.plan import Plan, PlannedStage, State
from orchestration.query import Query
from orchestration.records import Point
from orchestration.spec import StageSpec
from orchestration.storage import Home
from orchestration.tracking import Store

ARM = "leoclr seed=0"
LABELS = {ARM: {"method": "leoclr", "seed": "0"}}


@dataclasses.dataclass(frozen=True)
class _Params:
    dataset: str = "digits"
    seed: int = 0


def _planned(name: str = "linear", **params: object) -> PlannedStage:
    written = {"dataset": "digits", "seed": 0, "epochs": 8, "settings": {"temperature": 0.1, "view": None}, **params}
    spec = StageSpec(name, "linear", ("pretrain",), _Params(), written, Resources())
    return PlannedStage(
        fingerprint=hashlib.sha256(json.dumps([name, written]).encode()).hexdigest()[:16],
        kind="linear",
        name=name,
        arms=(ARM,),
        spec=spec,
        inputs={"pretrain": "b" * 16},
        digest="d" * 8,
        state=State.TODO,
        why="new",
        run_id=None,
        estimate_s=None,
    )


def _submit(store: Store, *, pipeline: str = "quick", resume: str | None = None) -> str:
    plan = Plan(pipeline=pipeline, stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None)
    return store.begin_submission(plan, title="A title", spec_yaml="a: 1\n", arm_labels=LABELS, resume=resume)


def _begin(store: Store, planned: PlannedStage, parent: str, resume: str | None = None) -> str:
    return store.begin_stage(planned, parent=parent, pipeline="quick", arm_labels=LABELS[ARM], resume=resume)


def _result(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    listing = {}
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        listing[name.replace("__", "/")] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": listing}))
    return folder


def _finished(store: Store, home: Home, parent: str) -> str:
    run_id = _begin(store, _planned(), parent)
    result = _result(home.path / "result", backbone=b"weights", deep__file=b"deep")
    store.finish_stage(run_id, metrics={"top1": 90.5, "labels_1/top1": 60.25}, result=result, ended_ms=_now() + 2000)
    return run_id


def _now() -> int:
    return time.time_ns() // 1_000_000


def _points(store: Store, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in store._client.get_metric_history(run_id, key)]


def test_a_finished_stage_comes_back_as_it_was_planned(store: Store, home: Home) -> None:
    planned, parent = _planned(), _submit(store)
    run_id = _finished(store, home, parent)
    [past] = store.past_runs()
    assert (past.run_id, past.fingerprint, past.kind, past.stage) == (run_id, planned.fingerprint, "linear", "linear")
    assert (past.arm, past.pipeline, past.digest) == (ARM, "quick", "d" * 8)
    assert past.results_version == RESULTS_VERSION
    assert past.params == planned.spec.params_json
    assert past.inputs == {"pretrain": "b" * 16}
    assert (past.status, past.reusable, past.problem) == ("FINISHED", True, "")
    assert past.seconds == pytest.approx(2.0, abs=1.5)


def test_a_stage_run_shows_what_it_ended_with_beside_its_curve(store: Store, home: Home) -> None:
    parent = _submit(store)
    run_id = _begin(store, _planned(), parent)
    store.log_points(run_id, [Point("top1", 50.0, 1, 1000), Point("top1", 70.0, 900, 2000), Point("loss", 0.5, 3, 1)])
    assert store.stage_runs([run_id])[run_id].metrics == {"top1": 70.0, "loss": 0.5}
    store.finish_stage(run_id, metrics={"top1": 68.0}, result=_result(home.path / "r", a=b"1"), ended_ms=_now())
    run = store.stage_runs([run_id, parent, "0" * 32])[run_id]
    assert run.metrics == {"top1": 68.0, "loss": 0.5}
    assert _points(store, run_id, "top1") == [(1, 50.0), (900, 70.0)]
    assert (run.parent, run.status, run.arm, run.params) == (parent, "FINISHED", ARM, _planned().spec.params_json)
    assert run.tags["leoclr.version.torch"]
    assert store._client.get_run(run_id).data.params["settings.temperature"] == "0.1"


def test_a_replay_adds_nothing_and_finishing_twice_is_finishing_once(store: Store, home: Home) -> None:
    run_id = _begin(store, _planned(), _submit(store))
    points = [Point("loss", step / 7, step, 1000 + step) for step in range(1500)]  # more than MLflow takes at once
    store.log_points(run_id, points)
    store.log_points(run_id, points[700:])
    assert len(_points(store, run_id, "loss")) == 1500
    begun_ms = int(store.stage_runs([run_id])[run_id].tags[records.ATTEMPT_MS])
    result, ended_ms = _result(home.path / "r", a=b"1"), begun_ms + 5000
    for _ in range(2):
        store.finish_stage(run_id, metrics={"top1": 1.0}, result=result, ended_ms=ended_ms)
    assert _points(store, run_id, "final/top1") == [(0, 1.0)]
    assert store.past_runs()[0].seconds == 5.0


def test_a_database_without_its_driver_is_told_without_the_password(home: Home) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(home, "postgresql+nobodys://ann:secret@127.0.0.1:9/runs")
    with pytest.raises(StoreError) as other:
        Store.open(home, "postgresql+asyncpg://ann:secret@127.0.0.1:9/runs")
    assert "asyncpg" in str(other.value)
    assert "secret" not in str(caught.value) + str(other.value)


def test_infinity_and_nan_survive(store: Store) -> None:
    run_id = _begin(store, _planned(), _submit(store))
    values = {"up": math.inf, "down": -math.inf, "none": math.nan, "large": 1e300}
    store.log_points(run_id, [Point(key, value, 0, 1) for key, value in values.items()])
    found = store.stage_runs([run_id])[run_id].metrics
    assert math.isnan(found.pop("none"))
    assert found == {"up": math.inf, "down": -math.inf, "large": 1e300}


def test_an_interrupted_stage_continues_in_its_run_and_sums_its_time(store: Store, home: Home) -> None:
    first, second = _submit(store), _submit(store)
    run_id = _begin(store, _planned(), first)
    store.end(run_id, "KILLED", reason="power cut", ended_ms=_now() + 10_000)
    [past] = store.past_runs()
    assert (past.status, past.reusable, past.problem) == ("KILLED", False, "not finished (killed)")
    assert _begin(store, _planned(), second, resume=run_id) == run_id
    run = store.stage_runs([run_id])[run_id]
    assert (run.status, run.parent, run.ended_ms, run.tags[records.REASON]) == ("RUNNING", second, None, "")
    store.finish_stage(run_id, metrics={}, result=_result(home.path / "r", a=b"1"), ended_ms=_now() + 5_000)
    assert store.past_runs()[0].seconds == pytest.approx(15.0, abs=3)


def test_a_finished_or_deleted_run_is_not_reopened(store: Store, home: Home) -> None:
    parent = _submit(store)
    finished = _finished(store, home, parent)
    assert _begin(store, _planned(), parent, resume=finished) != finished
    deleted = _begin(store, _planned(), parent)
    store._client.delete_run(deleted)
    assert _begin(store, _planned(), parent, resume=deleted) != deleted


def test_a_run_cannot_be_continued_with_other_params(store: Store) -> None:
    parent = _submit(store)
    run_id = _begin(store, _planned(), parent)
    with pytest.raises(StoreError, match="Changing param values is not allowed"):
        _begin(store, _planned(epochs=9), parent, resume=run_id)


def test_values_that_mlflow_would_cut_are_refused(store: Store) -> None:
    parent = _submit(store)
    with pytest.raises(StoreError, match=r"params\.note: .* more than the 6000"):
        _begin(store, _planned(note="x" * 6001), parent)
    with pytest.raises(StoreError, match=r"leoclr\.params: .* more than the 8000"):
        _begin(store, _planned(note="x" * 5000, more="x" * 5000), parent)
    with pytest.raises(StoreError, match="more than the 8000"):
        store.set_tags(parent, {"leoclr.note": "x" * 8001})


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda folder: (folder / "backbone").write_bytes(b"Weights"), "damaged (backbone)"),
        (lambda folder: (folder / "deep" / "file").unlink(), "missing (deep/file)"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": {}}'), "damaged (manifest.json)"),
    ],
)
def test_a_harmed_artifact_is_not_reused(
    harm: Callable[[Path], object], problem: str, store: Store, home: Home
) -> None:
    run_id = _finished(store, home, _submit(store))
    assert store.past_runs()[0].reusable  # and its sha256 are remembered, which must not hide what comes
    harm(home.artifacts / run_id / "artifacts")
    [past] = store.past_runs()
    assert (past.reusable, past.problem) == (False, problem)
    with pytest.raises(StoreError, match=r"an artifact is (damaged|missing)"):
        store.fetch(run_id, "deep/file" if "deep" in problem else "backbone")


def test_a_torn_result_is_not_uploaded(store: Store, home: Home) -> None:
    run_id = _begin(store, _planned(), _submit(store))
    result = _result(home.path / "r", a=b"whole")
    (result / "a").write_bytes(b"half")
    with pytest.raises(StoreError, match=r"the result is damaged \(a\)"):
        store.finish_stage(run_id, metrics={}, result=result, ended_ms=_now())
    assert store.past_runs()[0].status == "RUNNING"


def test_fetch_gives_only_what_the_manifest_names(store: Store, home: Home) -> None:
    run_id = _finished(store, home, _submit(store))
    assert store.fetch(run_id, "backbone").read_bytes() == b"weights"
    assert store.fetch(run_id, "deep/file").read_bytes() == b"deep"
    for file in ("manifest.json", "../../../mlflow.db", "/etc/passwd", "other"):
        with pytest.raises(StoreError, match="has no file"):
            store.fetch(run_id, file)
    with pytest.raises(StoreError, match="it did not finish"):
        store.fetch(_begin(store, _planned("transfer"), _submit(store)), "backbone")


def test_a_store_cannot_point_at_files_outside_its_folder(store: Store, home: Home, tmp_path: Path) -> None:
    run_id = _finished(store, home, _submit(store))
    raw = next(raw for raw in store._find(Query()) if raw.run_id == run_id)
    _result(tmp_path / "elsewhere", backbone=b"weights", deep__file=b"deep")
    odd = dataclasses.replace(raw, artifact_uri=(tmp_path / "elsewhere").as_uri())
    assert store._artifacts.problems([odd]) == {run_id: "outside the store's folder"}
    with pytest.raises(StoreError, match="outside the store's folder"):
        store._artifacts.fetch(odd, "backbone")


def test_a_submission_knows_its_arms_and_the_runs_that_serve_them(store: Store) -> None:
    old, other = _submit(store), _submit(store, pipeline="other")
    store.record_arm(old, ARM, "linear", "r" * 32)
    store.record_arm(old, ARM, "odd / stage = (1)", "s" * 32)
    store.end(old, "KILLED", reason="Ctrl-C")
    new = _submit(store)
    assert [each.run_id for each in store.submissions("quick")] == [new, old]
    assert {each.run_id for each in store.submissions()} == {new, old, other}
    assert _submit(store, resume=old) == old
    latest, _ = store.submissions("quick")
    assert (latest.run_id, latest.status, latest.title, latest.ended_ms) == (old, "RUNNING", "A title", None)
    assert latest.arms == {ARM: {"linear": "r" * 32, "odd / stage = (1)": "s" * 32}}
    assert latest.arm_labels == LABELS
    assert (latest.pid, latest.host, latest.owner.alive()) == (os.getpid(), socket.gethostname(), True)
    with pytest.raises(StoreError, match="cannot be the name"):
        store.submissions("x' or '1' = '1")


def test_find_wants_one_run(store: Store) -> None:
    run_ids = [_submit(store) for _ in range(3)]
    assert store.find(run_ids[1]) == run_ids[1]
    assert store.find(run_ids[1][:12].upper()) == run_ids[1]
    for reference in ("abc", "", "%%%%", "zzzz", "a' or 1"):
        with pytest.raises(NotFound):
            store.find(reference)


def test_a_heartbeat_is_newer_than_the_last(store: Store) -> None:
    run_id = _submit(store)
    before = store.submissions()[0].heartbeat_ms
    time.sleep(0.002)
    store.heartbeat([run_id])
    assert store.submissions()[0].heartbeat_ms > before


def test_a_run_that_was_deleted_takes_no_heartbeat_from_the_others(store: Store) -> None:
    gone, alive = _submit(store), _submit(store)
    before = next(each for each in store.submissions() if each.run_id == alive).heartbeat_ms
    store._client.delete_run(gone)
    time.sleep(0.002)
    with pytest.raises(StoreError, match=gone):
        store.heartbeat([gone, alive])
    assert next(each for each in store.submissions() if each.run_id == alive).heartbeat_ms > before


def test_opening_twice_finds_the_same_runs(store: Store, home: Home) -> None:
    run_id = _submit(store)
    assert [each.run_id for each in Store.open(home).submissions()] == [run_id]
    assert (home.artifacts / run_id / "artifacts" / "provenance" / "pipeline.yaml").read_text() == "a: 1\n"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ann:pa%40ss@host:5000", "http://host:5000"),
        ("postgresql://ann:secret@db/mlflow?password=x", "postgresql://db/mlflow"),
        ("sqlite:////home/ann/mlflow.db", "sqlite:////home/ann/mlflow.db"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://[::1", "http://[::1"),  # what is no address is said too
        ("http://ann:secret@[::1?token=x", "http://[::1"),
        ("http://ann:pa#ss@host:5000", "http://host:5000"),
        ("ann:secret@host:5000", "host:5000"),
        ("http:/ann:secret@host", "host"),
        ("databricks", "databricks"),
    ],
)
def test_no_password_is_shown(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


@pytest.mark.parametrize("uri", ["http://ann:secret@[::1", "http://ann:secret@host:x", "ann:secret@host"])
def test_what_is_no_address_is_refused_in_one_error(uri: str, home: Home) -> None:
    with pytest.raises(StoreError) as caught:
        Connection(home, uri)
    assert "secret" not in str(caught.value)
    assert caught.value.hint == "mend MLFLOW_TRACKING_URI"


@pytest.mark.parametrize(
    ("uri", "said", "shown"),
    [
        ("postgresql://ml@db/mlflow", "no mlflow at ml@db", "no mlflow at ***@db"),
        ("postgresql://ml:pa%40ss@db/x", "ml:pa%40ss, ml:pa%40ss@db, pa@ss, mlflow", "***, ***@db, ***, mlflow"),
        ("http://host", "no user @ all", "no user @ all"),
    ],
)
def test_a_user_goes_from_addresses_alone_and_a_password_from_everywhere(uri: str, said: str, shown: str) -> None:
    with pytest.raises(StoreError) as caught, speaking(uri):
        raise OSError(said)
    assert caught.value.fact == shown


def test_a_dead_server_is_one_readable_error_without_its_password(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError) as caught:
        Store.open(home, f"http://ann:hunter2@127.0.0.1:{_free_port()}")
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint.startswith("is the store up")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _server(folder: Path, database: Path) -> Iterator[str]:
    """Serve MLflow from `folder`; it starts helpers of its own, so its whole process group is killed."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(folder / "kept")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(port, process, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()[-3000:]}")


@pytest.mark.slow
def test_a_server_over_http_does_all_of_it(home: Home, tmp_path: Path) -> None:
    with _server(tmp_path, home.database) as uri:
        store = Store.open(home, uri)
        parent = _submit(store)
        run_id = _finished(store, home, parent)
        store.record_arm(parent, ARM, "linear", run_id)
        store.log_points(run_id, [Point("loss", 0.5, 1, 1)])
        assert store.stage_runs([run_id])[run_id].metrics == {"top1": 90.5, "labels_1/top1": 60.25, "loss": 0.5}
        assert store.past_runs()[0].reusable
        assert store.submissions("quick")[0].arms == {ARM: {"linear": run_id}}
        fetched = store.fetch(run_id, "backbone")
        assert fetched.is_relative_to(home.path / "cache")
        assert fetched.read_bytes() == b"weights"
        fetched.write_bytes(b"damaged")
        assert store.fetch(run_id, "backbone").read_bytes() == b"weights"  # brought again


def test_a_plan_asks_for_its_own_past_and_some_history(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, other = _submit(store), _submit(store, pipeline="other")
    done = _finished(store, home, parent)
    finished, new = _planned(), _planned("transfer")
    assert [run.run_id for run in store.past_of([finished.fingerprint], "quick")] == [done]  # nothing else is read
    failed = _begin(store, _planned(epochs=9), parent)
    elsewhere = store.begin_stage(_planned(epochs=7), parent=other, pipeline="other", arm_labels={}, resume=None)
    past = {run.run_id: run for run in store.past_of([finished.fingerprint, new.fingerprint], "quick")}
    assert set(past) == {done, failed, elsewhere}
    assert past[done].reusable
    monkeypatch.setattr("orchestration.finding.HISTORY", 1)
    past = {run.run_id: run for run in store.past_of([new.fingerprint], "quick")}
    assert set(past) == {failed}  # the newest of this pipeline
    assert past[failed].problem == "not finished (running)"
    past = {run.run_id: run for run in store.past_of([new.fingerprint], "never")}
    assert set(past) == {elsewhere}  # the newest of all


def test_mlflow_is_asked_first_for_what_the_newest_submission_has_done(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear, transfer = _planned(), _planned("transfer")
    wanted = [linear.fingerprint, transfer.fingerprint]
    earlier, latest = _submit(store), _submit(store)
    first = _finished(store, home, earlier)
    store.record_arm(earlier, "a", "linear", first)
    again = _finished(store, home, latest)
    store.record_arm(latest, "a", "linear", again)
    direct = {run.run_id: run for run in store.past_of(wanted, "quick")}
    asked: list[Query] = []
    search = query.search
    monkeypatch.setattr(query, "search", lambda *words: asked.append(words[2]) or search(*words))
    store._file = None
    found = store.past_of(wanted, "quick")
    assert [run for run in found if run.reusable] == [direct[again]]
    assert (transfer.fingerprint,) in [each.fingerprints for each in asked]
    assert linear.fingerprint not in {own for each in asked for own in each.fingerprints or ()}
    [file] = [path for path in home.artifacts.rglob("backbone") if again in path.parts]
    file.unlink()  # of the newest, which nobody can reuse now
    reusable = [run.run_id for run in store.past_of(wanted, "quick") if run.reusable]
    assert reusable == [first]


def test_the_newest_submissions_are_the_last_continued(store: Store) -> None:
    first, second, third = (_submit(store) for _ in range(3))
    store.end(first, "KILLED")
    store.end(second, "FINISHED")
    assert _submit(store, resume=first) == first
    assert [each.run_id for each in store.submissions(newest=2)] == [first, third]
    assert [each.run_id for each in store.submissions(running=True)] == [first, third]
    found = store.submission(second)
    assert found is not None
    assert found.status == "FINISHED"
    assert store.submission("0" * 32) is None


def test_a_database_that_cannot_be_read_directly_is_asked_through_mlflow(store: Store, home: Home) -> None:
    run_id = _finished(store, home, _submit(store))
    direct = (store.past_runs(), store.submissions(), store.stage_runs([run_id]), store.running(), store.find(run_id))
    store._file = None
    assert direct == (
        store.past_runs(),
        store.submissions(),
        store.stage_runs([run_id]),
        store.running(),
        store.find(run_id),
    )


def test_who_only_looks_at_a_file_does_not_import_mlflow(home: Home) -> None:
    """To import it takes longer than all that `status` and `table` do."""
    plan = Plan(pipeline="p", stages=(), arms={}, fingerprint="c" * 16, total_estimate_s=None)
    Store.open(home).begin_submission(plan, title="", spec_yaml="", arm_labels={}, resume=None)
    look = (
        "import sys; from pathlib import Path; from orchestration.storage import Home; "
        "from orchestration.tracking import Store; store = Store.open(Home(Path(sys.argv[1]))); "
        "print(len(store.submissions()), 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", look, str(home.path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"], done.stderr
