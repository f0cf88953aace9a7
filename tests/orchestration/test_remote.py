import io
import os
import shlex
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestration import attach, reconcile, records, remote, spec
from orchestration.cli import app
from orchestration.cluster import api, find
from orchestration.cluster.api import ClusterProblem
from orchestration.errors import LeoclrOpsError, NotFound, SpecError
from orchestration.provenance import Owner
from orchestration.records import Submission
from orchestration.stopping import STOPPED
from orchestration.storage import Home
from orchestration.sweep import spec as sweeps
from orchestration.sweep import trial_spec
from orchestration.sweep.records import sweep_tags
from orchestration.tracking import Store
from tests.orchestration import tracked
from tests.orchestration.cluster.head import PROFILE, TOKEN, Head, profile_of, serving

runner = CliRunner()


@pytest.fixture
def head() -> Head:
    return Head()


@pytest.fixture
def folder(head: Head, home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a pipeline, a profile called `ours` of a cluster that is there, and a store of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEAD_TOKEN", TOKEN)
    monkeypatch.setenv("LEOCLR_OPS_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("LEOCLR_OPS_HOME", str(home.path))
    monkeypatch.setattr(remote, "open_store", lambda profile: (home, store))
    monkeypatch.setattr(remote, "DETACH_S", 0.1)
    monkeypatch.setattr(remote, "POLL_S", 0.05)
    monkeypatch.setattr(attach, "POLL_S", 0.05)
    monkeypatch.setattr(attach, "TABLE_S", 0.3)
    tracked.table(tmp_path)
    (tmp_path / "config" / "clusters").mkdir(parents=True)
    with serving(head) as address:
        (tmp_path / "config" / "clusters" / "ours.yaml").write_text(
            PROFILE.format(address=address) + "resources: {loader_workers: 3}\ndata: {mnist5k: /data/mnist}\n"
        )
        yield tmp_path


def begin(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, job: str = "", cluster: str = "ours") -> str:
    """Open a submission's run as a driver does, as that job where one is named."""
    if job:
        (folder / "cluster.yaml").write_text(PROFILE.format(address="http://127.0.0.1:9"))
        variables = {"LEOCLR_OPS_JOB": job, "LEOCLR_OPS_CLUSTER": cluster, "LEOCLR_OPS_PROFILE": "cluster.yaml"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    loaded = spec.load(str(folder / "tiny.yaml"))
    labels = {arm.name: arm.labels for arm in loaded.arms}
    plan = tracked.planned(folder)
    run_id = store.begin_submission(plan, title="", spec_yaml=loaded.yaml, arm_labels=labels, resume=None)
    for name in ("LEOCLR_OPS_JOB", "LEOCLR_OPS_CLUSTER", "LEOCLR_OPS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return run_id


def begin_sweep(store: Store, job: str = "") -> str:
    """Open the run of a sweep as its driver does."""
    tags = sweep_tags("rates", title="", owner=Owner("elsewhere", 1, 0.0), now_ms=int(time.time() * 1000) - 5)
    return store.begin(tags | {records.JOB: job, records.CLUSTER: "ours"}, {"sweep.yaml": "a: 1\n"}, resume=None)


def submission(store: Store, run_id: str) -> Submission:
    found = store.submission(run_id)
    assert found
    return found


def test_a_pipeline_is_sent_as_it_runs_there(folder: Path, head: Head) -> None:
    head.first = "PENDING"  # it waits for the cluster, so that a client that detaches does not wait for its run
    done = runner.invoke(
        app, ["submit", "tiny.yaml", "--cluster", "ours", "--detach", "--set", "pretrain.params.epochs=3"]
    )
    assert done.exit_code == 0, done.stderr
    ((job_id, job),) = head.jobs.items()
    assert done.stdout == f"{job_id}\n"
    assert f"leoclr-ops attach {job_id}" in done.stderr
    assert job["entrypoint"] == "python -m orchestration submit pipeline.yaml"
    (content,) = head.packages.values()
    sent = spec.recorded(zipfile.ZipFile(io.BytesIO(content)).read("pipeline.yaml").decode(), "sent")
    assert {stage.resources.loader_workers for arm in sent.arms for stage in arm.stages.values()} == {3}
    assert {arm.stages["pretrain"].params_json["epochs"] for arm in sent.arms} == {3}
    assert sent.data == {"mnist5k": Path("/data/mnist")}
    again = runner.invoke(
        app, ["submit", "tiny.yaml", "--cluster", "ours", "--detach", "--set", "pretrain.params.epochs=3"]
    )
    assert (again.stdout, len(head.jobs)) == (f"{job_id}\n", 1)
    assert "found on ours as job" in again.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--detach"], 2, "name a --cluster"),
        (["--cluster", "ours", "--dry-run"], 2, "leave --cluster away"),
        (["--cluster", "ours", "--data", "imagenet=here"], 2, "an absolute folder of the nodes"),
        (["--cluster", "other"], 1, "no cluster is called `other`"),
        (["--cluster", "ours", "--set", "pretrain.params.epoch=1"], 1, "no param here is called `epoch`"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(
    folder: Path, head: Head, words: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = runner.invoke(app, ["submit", "tiny.yaml", *words])
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert not head.jobs
    assert not head.packages


def test_a_token_that_is_refused_is_told_before_anything_is_sent(
    folder: Path, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAD_TOKEN", "wrong-token")
    done = runner.invoke(app, ["submit", "tiny.yaml", "--cluster", "ours", "--detach"])
    assert done.exit_code == 1
    assert "refuses the token" in done.stderr
    assert "wrong-token" not in done.stderr
    assert not head.packages


def test_a_sweep_is_sent_with_its_base(folder: Path, head: Head) -> None:
    head.first = "PENDING"
    (folder / "rates.yaml").write_text(
        "base: tiny.yaml\nset: {pretrain.params.epochs: 1}\naxes: {pretrain.params.lr: [0.1, 0.2]}\n"
        "objectives: {kNN: {stage: knn, metric: top1, direction: max}}\nseeds: [0]\n"
    )
    words = ["sweep", "rates.yaml", "--cluster", "ours", "--detach", "--set", "knn.params.settings.k=20"]
    done = runner.invoke(app, [*words, "--concurrency", "2"])
    assert done.exit_code == 0, done.stderr
    (job,) = head.jobs.values()
    sets = ["knn.params.settings.k=20", "pretrain.resources.loader_workers=3", "knn.resources.loader_workers=3"]
    said = " ".join(f"--set {each}" for each in sets)
    expected = f"python -m orchestration sweep sweep.yaml {said} --data mnist5k=/data/mnist"
    assert job["entrypoint"] == expected
    (content,) = head.packages.values()
    zipfile.ZipFile(io.BytesIO(content)).extractall(folder / "node")
    os.chdir(folder / "node")
    there = sweeps.load("sweep.yaml", overrides=sets)
    assert (there.name, there.concurrency, there.base) == ("rates", 2, "base.yaml")
    assert spec.load(there.base).arms == spec.load(str(folder / "tiny.yaml")).arms


def test_a_sweep_s_base_says_there_what_it_says_here(folder: Path, head: Head) -> None:
    head.first = "PENDING"
    (folder / "here").mkdir()
    text = tracked.PIPELINE + "data: {digits: roots/digits, mnist5k: roots/mnist}\ntable: ../tiny-table.yaml\n"
    (folder / "here" / "tiny.yaml").write_text(text)
    (folder / "rates.yaml").write_text(
        "base: here/tiny.yaml\nset: {pretrain.params.epochs: 1, pretrain.resources.loader_workers: 1}\n"
        "axes: {pretrain.params.lr: [0.1, 0.2]}\n"
        "objectives: {kNN: {stage: knn, metric: top1, direction: max}}\nseeds: [0]\n"
    )
    more = ["--set", "pretrain.params.epochs=3", "--set", "matrix.method=[leoclr]"]
    done = runner.invoke(app, ["sweep", "rates.yaml", "--cluster", "ours", "--detach", *more])
    assert done.exit_code == 0, done.stderr
    ((job, content),) = zip(head.jobs.values(), head.packages.values(), strict=True)
    words = shlex.split(job["entrypoint"])
    sets = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    zipfile.ZipFile(io.BytesIO(content)).extractall(folder / "node")
    os.chdir(folder / "node")
    there = sweeps.load("sweep.yaml", overrides=sets)
    trial = trial_spec.pipeline(there, {"pretrain.params.lr": 0.1}, [0])
    (stages,) = (arm.stages for arm in trial.arms)
    assert (trial.name, stages["pretrain"].params_json["epochs"]) == ("tiny", 3)
    assert [stages[name].resources.loader_workers for name in ("pretrain", "knn")] == [1, 3]  # its own, the profile's
    base = spec.load(there.base)
    assert (base.data["digits"], base.table) == (folder / "here" / "roots" / "digits", None)


def test_the_run_of_a_job_is_found_and_watched_from_anywhere(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(store, folder, monkeypatch, "tiny-1")
    found = submission(store, run_id)
    assert (found.job, found.cluster) == ("tiny-1", "ours")
    assert found.host.startswith("tiny-1@")
    assert found.owner.alive() is None  # judged by its heartbeat, also where this is its machine
    assert "http://127.0.0.1:9" in (store.text(run_id, "provenance/cluster.yaml") or "")
    store.end(run_id, "FAILED", reason="no")
    done = runner.invoke(app, ["attach", "tiny-1"])
    assert done.exit_code == 0, done.stderr
    assert run_id[:8] in done.stdout


def test_a_job_that_ends_before_it_opens_a_run_leaves_its_last_words(
    folder: Path, head: Head, store: Store, tmp_path: Path
) -> None:
    (address,) = [
        line.split()[1] for line in (folder / "config/clusters/ours.yaml").read_text().splitlines() if "addr" in line
    ]
    profile = profile_of(tmp_path, address)
    head.jobs["tiny-1"] = {"status": "FAILED", "message": "exit 1", "logs": "one\nImportError: no\n"}
    told: list[str] = []
    with pytest.raises(ClusterProblem, match="before it opened a run\n\none\nImportError: no"):
        remote.await_run(profile, store, "tiny-1", tell=told.append)
    with pytest.raises(LeoclrOpsError, match="does not know it any more"):
        remote.await_run(profile, store, "tiny-2", tell=told.append)
    head.jobs["tiny-1"]["status"] = "PENDING"
    assert remote.await_run(profile, store, "tiny-1", tell=told.append, most_s=0.2) is None
    assert told == ["job tiny-1: pending"]

    def begun(line: str) -> None:
        head.jobs["tiny-1"]["status"] = "FAILED"  # a look later

    head.jobs["tiny-1"]["status"] = "RUNNING"
    with pytest.raises(ClusterProblem):  # one that runs is waited for, however long it takes to open its run
        remote.await_run(profile, store, "tiny-1", tell=begun, most_s=0.0)


@pytest.mark.parametrize("reason", ["", "the budget of 2 hours is spent"])
def test_the_table_of_a_sweep_comes_after_its_end(
    folder: Path, store: Store, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin_sweep(store)
    text, asked = Store.text, iter(range(100))
    (folder / "table.md").write_text("| first |\n")
    store.log_files(run_id, [folder / "table.md"])  # of an earlier attempt
    (folder / "table.md").write_text("| second |\n")

    def ending(self: Store, run: str, file: str) -> str | None:
        found = text(self, run, file)
        if (time := next(asked)) == 0:
            store.end(run_id, "KILLED" if reason else "FINISHED", reason=reason)
        elif time == 2:
            store.log_files(run_id, [folder / "table.md"])
        return found

    monkeypatch.setattr(Store, "text", ending)
    done = runner.invoke(app, ["attach", run_id[:8]])
    assert (done.exit_code, done.stdout) == (0, "| second |\n"), done.stderr


def test_a_sweep_without_a_table_is_said_to_have_none(folder: Path, store: Store) -> None:
    run_id = begin_sweep(store)
    store.end(run_id, "FINISHED")
    done = runner.invoke(app, ["attach", run_id[:8]])
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"sweep run {run_id[:8]} ended and left no table" in done.stderr


def test_a_sweep_whose_driver_is_lost_is_stopped(folder: Path, store: Store) -> None:
    run_id = begin_sweep(store)
    store.set_tags(run_id, {records.HEARTBEAT_MS: str(int(time.time() * 1000) - 100_000)})
    done = runner.invoke(app, ["attach", run_id[:8]])
    assert (done.exit_code, done.stdout) == (130, ""), done.stderr
    assert store.tags(run_id)[records.REASON].startswith("no sign of life from elsewhere")


def test_a_run_of_a_job_that_was_called_the_same_on_a_lost_cluster_is_not_taken_for_its_own(
    folder: Path, head: Head, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(store, folder, monkeypatch, "tiny-1")
    profile = find.load("ours")
    began_ms = submission(store, run_id).attempt_ms
    head.jobs["tiny-1"] = {"status": "PENDING", "message": "", "logs": "", "start_time": began_ms}
    assert remote.await_run(profile, store, "tiny-1", tell=print, most_s=0.2) == run_id
    head.jobs["tiny-1"]["start_time"] = began_ms + 1
    assert remote.await_run(profile, store, "tiny-1", tell=print, most_s=0.2) is None


def test_where_a_run_continues(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def where(run_id: str, cluster: str | None = None, *, kept: bool = False) -> str | None:
        found = remote.profile_for(store, submission(store, run_id), cluster=cluster, kept=kept)
        return found.address if found else None

    here = begin(store, folder, monkeypatch)
    assert where(here) is None
    assert where(here, "ours") not in (None, "http://127.0.0.1:9")
    there = begin(store, folder, monkeypatch, "tiny-1")
    assert where(there) == where(here, "ours")
    assert where(there, kept=True) == "http://127.0.0.1:9"
    other = begin(store, folder, monkeypatch, "tiny-2", cluster="theirs")
    with pytest.raises(NotFound, match="it ran on theirs, and no cluster is called `theirs`") as caught:
        where(other)
    assert "--kept-profile" in caught.value.hint
    assert where(other, kept=True) == "http://127.0.0.1:9"


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/passwd", "./here.yaml", "a\nb"])
def test_a_store_names_no_file_of_this_machine(
    folder: Path, store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(store, folder, monkeypatch, "tiny-1", cluster=name)
    for kept in (False, True):
        with pytest.raises(NotFound):
            remote.profile_for(store, submission(store, run_id), cluster=None, kept=kept)
    assert remote.stop(store, submission(store, run_id)) is False


def test_what_a_store_says_of_a_pipeline_is_checked_like_any_file(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(store, folder, monkeypatch)
    loaded = spec.load(str(folder / "tiny.yaml"))
    assert remote.recorded(store, submission(store, run_id)).arms == loaded.arms
    changed = remote.recorded(store, submission(store, run_id), ["pretrain.resources.workers=1"])
    assert {arm.stages["pretrain"].resources.workers for arm in changed.arms} == {1}
    store._client.log_text(
        run_id, loaded.yaml.replace("method: moco_v2", "method: ../moco"), "provenance/pipeline.yaml"
    )
    with pytest.raises(SpecError, match="no method is called"):
        remote.recorded(store, submission(store, run_id))


def test_a_run_is_continued_only_where_it_is_recorded(
    folder: Path, home: Home, head: Head, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(store, folder, monkeypatch, "tiny-1")
    store.end(run_id, "KILLED", reason=STOPPED)
    other = Home(folder / "other")
    other.path.mkdir()
    shutil.copy(home.database, other.database)
    theirs = Store.open(other)
    theirs._client.delete_run(run_id)
    monkeypatch.setattr(remote, "open_store", lambda profile: (other, theirs))
    done = runner.invoke(app, ["resume", run_id[:8], "--cluster", "ours", "--detach"])
    assert done.exit_code == 1
    assert f"it is in {store.uri}, and ours records in {theirs.uri}, where it would begin anew" in done.stderr
    assert not head.jobs
    head.first = "PENDING"
    monkeypatch.setattr(remote, "open_store", lambda profile: (home, store))
    done = runner.invoke(app, ["resume", run_id[:8], "--cluster", "ours", "--detach"])
    assert (done.exit_code, len(head.jobs)) == (0, 1), done.stderr


@pytest.mark.parametrize("by_job", [True, False])
def test_a_sweep_goes_on_by_its_own_command(folder: Path, store: Store, by_job: bool) -> None:
    run_id = begin_sweep(store, "rates-1")
    store.end(run_id, "KILLED", reason=STOPPED)
    done = runner.invoke(app, ["resume", "rates-1" if by_job else run_id[:8]])
    assert done.exit_code == 1
    assert f"run {run_id}: it is the sweep rates" in done.stderr
    assert "the same `leoclr-ops sweep` command goes on with it" in done.stderr


def test_a_run_is_continued_once_nobody_runs_it(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    run_id = begin(store, folder, monkeypatch, "tiny-1")
    monkeypatch.setattr(reconcile, "SILENCE_S", 0.3)
    store.heartbeat([run_id])
    assert remote.await_silence(store, run_id, told.append).status == "KILLED"  # its driver was silent long enough
    assert len(told) == 1
    assert remote.await_silence(store, run_id, told.append).run_id == run_id
    store.end(run_id, "FINISHED")
    with pytest.raises(NotFound, match="it finished"):
        remote.await_silence(store, run_id, told.append)


def test_a_run_that_gives_signs_of_life_is_left_alone(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(store, folder, monkeypatch, "tiny-1")
    with pytest.raises(LeoclrOpsError, match="it runs on tiny-1@") as caught:
        remote.await_silence(store, run_id, lambda line: store.heartbeat([run_id]))
    assert "leoclr-ops attach" in caught.value.hint


def test_a_silent_driver_is_ended_through_its_cluster(
    folder: Path, head: Head, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(store, folder, monkeypatch, "tiny-1")
    assert remote.stop(store, submission(store, run_id)) is True  # the cluster has forgotten it
    assert store.status(run_id) == "KILLED"
    again = begin(store, folder, monkeypatch, "tiny-2")
    head.jobs["tiny-2"] = {"status": "RUNNING", "message": "", "logs": ""}
    assert remote.stop(store, submission(store, again)) is True
    assert head.jobs["tiny-2"]["status"] == "STOPPED"
    assert store.tags(again)["leoclr.reason"] == "cancelled by the user"


def test_a_job_that_does_not_end_keeps_its_runs(
    folder: Path, head: Head, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "STOP_S", 0.2)
    run_id = begin(store, folder, monkeypatch, "tiny-1")
    head.jobs["tiny-1"] = {"status": "RUNNING", "message": "", "logs": ""}
    monkeypatch.setattr(api, "stop", lambda profile, job_id: True)  # it was asked, and hangs
    assert remote.stop(store, submission(store, run_id)) is False
    assert store.status(run_id) == "RUNNING"
