"""A stage on one node, the driver on another, a bucket between them: what is lost, what goes on, who may write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.contract import Retention
from jobs.keeping import Superseded
from leoclr import checkpoint
from leoclr.checkpoint import Position
from orchestration import mirror_keeper, mirror_watch
from orchestration.errors import StoreError
from orchestration.folders import StageFolder
from orchestration.mirror import Mirror
from orchestration.mirror_keeper import Node
from orchestration.mirror_watch import Watch
from orchestration.storage import Busy
from tests.orchestration import s3
from tests.orchestration.s3 import Way

OURS = "a" * 16


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3.server() as found:
        yield found


@pytest.fixture
def road(address: str) -> Iterator[Way]:
    with s3.way(address) as found:
        yield found


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_keeper, "SEND_S", 0.1)
    monkeypatch.setattr(mirror_keeper, "FIRST_S", 0.05)
    monkeypatch.setattr(mirror_watch, "PULL_S", 0.1)


class World:
    """Nodes with homes of their own, and one bucket."""

    def __init__(self, tmp: Path, road: Way, prefix: str) -> None:
        self.tmp, self._road, self._prefix = tmp, road, prefix

    def far(self, node: str) -> Mirror:
        return Mirror(s3.objects(self._road.address, f"{self._prefix}/"), self.tmp / node)

    def work(self, node: str) -> Path:
        return self.tmp / node / "node" / OURS

    def keeper(self, node: str, **retention: int) -> Node:
        return Node(self.far(node), fingerprint=OURS, retention=Retention(**retention))

    def driver(self, node: str) -> StageFolder:
        return StageFolder(self.tmp / node / "stages" / OURS, Watch(self.far(node)))


@pytest.fixture
def world(tmp_path: Path, road: Way, request: pytest.FixtureRequest) -> World:
    return World(tmp_path, road, request.node.name)


def save(folder: Path, total: int, content: str = "weights", score: float | None = None) -> Path:
    return checkpoint.save(
        folder / "checkpoints", {"w": content}, Position(0, total, total), fingerprint=OURS, score=score
    )


def lines(folder: Path, *steps: int) -> None:
    with (folder / "journal.jsonl").open("a") as file:
        file.writelines(json.dumps({"s": step, "t": step, "m": {"loss": 1.0}}) + "\n" for step in steps)


def result(folder: Path) -> None:
    draft = folder / ".result-1"
    draft.mkdir()
    (draft / "metrics.json").write_text('{"top1": 50.0}')
    checkpoint.seal(draft, folder / "result", fingerprint=OURS, kind="linear", ended_ms=5)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_another_node_goes_on_from_the_newest_checkpoint_and_the_same_journal(world: World) -> None:
    one, two = world.work("one"), world.work("two")
    with pytest.raises(RuntimeError, match="lost"), world.keeper("one").stage(one) as held:
        lines(one, 1, 2, 3)
        held.keep(save(one, 3), wait=True)
        lines(one, 4)
        raise RuntimeError("lost")
    with world.keeper("two").stage(two):
        found = checkpoint.latest(two / "checkpoints", fingerprint=OURS)
        assert found is not None
        assert found[1] == Position(0, 3, 3)
        assert [json.loads(line)["s"] for line in (two / "journal.jsonl").read_text().splitlines()] == [1, 2, 3, 4]


def test_a_driver_sees_journal_and_result_and_then_nothing_is_left(world: World) -> None:
    driver, work = world.driver("head"), world.work("one")
    with driver.held():
        driver.note_run("run 1")
        with world.keeper("one").stage(work) as held:
            lines(work, 1)
            until(lambda: (driver.path / "journal.jsonl").exists())
            held.keep(save(work, 1))
            lines(work, 2)
            result(work)
        assert not (work / "result").exists()  # the node has handed it over
        sealed = driver.confirmed().sealed()
        assert sealed is not None
        assert sealed.metrics == {"top1": 50.0}
        assert (driver.path / "journal.jsonl").read_text() == (work / "journal.jsonl").read_text()
        driver.drop_result()
    left = {each.key.removeprefix(f"stages/{OURS}/") for each in world.far("one").objects.list("")}
    assert left == {"attempt", "journal.jsonl", "lease", "run.json"}


def test_a_new_head_knows_the_run_and_all_numbers(world: World) -> None:
    old, work = world.driver("old"), world.work("one")
    with old.held():
        old.note_run("run 1")
        with pytest.raises(RuntimeError), world.keeper("one").stage(work) as held:
            lines(work, 1, 2)
            held.keep(save(work, 2), wait=True)
            raise RuntimeError("the cluster is gone")
    new = world.driver("new")
    with new.held():
        assert new.run_id() == "run 1"
        new.note_run("run 1")
        assert len((new.path / "journal.jsonl").read_text().splitlines()) == 2


def test_another_run_without_a_checkpoint_begins_a_history_of_its_own(world: World) -> None:
    driver, work = world.driver("head"), world.work("one")
    with driver.held():
        driver.note_run("run 1")
        with world.keeper("one").stage(work):
            lines(work, 1)
    with driver.held():
        driver.note_run("run 2")
    assert not (driver.path / "journal.jsonl").exists()
    assert world.far("x").objects.get(f"stages/{OURS}/journal.jsonl") is None


@pytest.mark.parametrize("refusals", [[], [403]], ids=["at once", "at the second try"])
def test_a_node_that_was_overtaken_forgets_what_it_wrote_by_itself(
    world: World, road: Way, refusals: list[int]
) -> None:
    one, two = world.work("one"), world.work("two")
    with world.keeper("one").stage(one) as held:
        lines(one, 1)
        held.keep(save(one, 1), wait=True)
    lines(one, 2)  # it dies before these reach the bucket
    save(one, 5, "of nobody")
    with world.keeper("two").stage(two) as held:
        lines(two, 3)
        (two / "log.txt").write_text("of two\n")
        held.keep(save(two, 3), wait=True)
    left = list(refusals)  # of the log, once the journal is here
    road.refuse = lambda method, path: left.pop() if left and path.endswith("log.txt") else None
    with world.keeper("one").stage(one):
        found = checkpoint.latest(one / "checkpoints", fingerprint=OURS)
        assert found is not None
        assert found[1].total == 3
        assert (one / "journal.jsonl").read_text() == (two / "journal.jsonl").read_text()
    assert not left


def test_what_a_node_wrote_last_counts_where_nobody_went_on(world: World) -> None:
    one = world.work("one")
    with world.keeper("one").stage(one) as held:
        lines(one, 1)
        held.keep(save(one, 1), wait=True)
    lines(one, 2)
    save(one, 2)
    with world.keeper("one").stage(one):
        found = checkpoint.latest(one / "checkpoints", fingerprint=OURS)
        assert found is not None
        assert found[1].total == 2


def test_an_older_attempt_writes_nothing_more_and_ends(world: World) -> None:
    one, two = world.work("one"), world.work("two")
    with pytest.raises(Superseded), world.keeper("one").stage(one) as old:
        lines(one, 1)
        old.keep(save(one, 1), wait=True)
        with world.keeper("two").stage(two) as new:
            new.keep(save(two, 2, "new"), wait=True)
            lines(one, 9)
            old.keep(save(one, 9, "old"), wait=True)
    assert [path.name for path in world.far("two").checkpoints(two)] == ["00000002", "00000001"]


def test_a_bucket_that_is_away_holds_up_no_step_and_only_the_end_waits(world: World, road: Way) -> None:
    work = world.work("one")
    with world.keeper("one").stage(work) as held:
        road.refuse = lambda method, path: 503
        began = time.monotonic()
        for total in range(1, 6):
            held.keep(save(work, total))
        assert time.monotonic() - began < 2.0
        result(work)

        def comes_back(method: str, path: str) -> int | None:
            return None if time.monotonic() - began > 4.0 else 503

        road.refuse = comes_back
    assert time.monotonic() - began > 4.0
    assert world.far("two").manifest(world.work("two") / "result") is not None


def test_checkpoints_that_retention_lets_go_are_removed_there_too(world: World) -> None:
    work = world.work("one")
    with world.keeper("one", keep_last=1, keep_best=1).stage(work) as held:
        for total, score in ((1, 0.5), (2, 0.9), (3, 0.1), (4, 0.2)):
            held.keep(save(work, total, score=score), wait=True)
        until(lambda: [path.name for path in world.far("one").checkpoints(work)] == ["00000004", "00000002"])
    left = [each.key for each in world.far("one").objects.list(f"stages/{OURS}/checkpoints/")]
    assert len(left) == 4  # two manifests, two states


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(world: World, road: Way) -> None:
    one, two = world.work("one"), world.work("two")
    with world.keeper("one").stage(one) as held:
        for total in (1, 2):
            held.keep(save(one, total), wait=True)
    key = next(
        each.key for each in world.far("x").objects.list(f"stages/{OURS}/checkpoints/00000002/") if "state" in each.key
    )
    world.far("x").objects.put(key, b"torn")
    with world.keeper("two").stage(two):
        found = checkpoint.latest(two / "checkpoints", fingerprint=OURS)
        assert found is not None
        assert found[1].total == 1
    assert sorted(path.name for path in (two / "checkpoints").iterdir()) == ["00000001"]


def test_a_manifest_that_names_files_outside_is_refused(world: World) -> None:
    far, two = world.far("one"), world.work("two")
    facts = {"files": {"../../../evil": {"sha256": "0" * 64}}, "fingerprint": OURS, "format": 1}
    far.objects.put(f"stages/{OURS}/result/manifest.json", json.dumps(facts).encode())
    with pytest.raises(StoreError, match="not a path inside"):
        world.far("two").fetch(two / "result", fingerprint=OURS)
    assert not (two / "result").exists()


def test_two_drivers_on_two_hosts_are_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = world.driver("one"), world.driver("two")
    with one.held():
        monkeypatch.setattr("socket.gethostname", lambda: "another")
        with pytest.raises(Busy, match="a submit on"), two.held():
            pass
        monkeypatch.undo()
    with two.held():
        pass


def test_what_a_stage_starts_from_is_brought_and_checked(world: World) -> None:
    from orchestration.storage import Home

    trunk = world.tmp / "head" / "trunk"
    trunk.parent.mkdir()
    trunk.write_bytes(b"weights")
    shared = world.far("head").share(trunk, Home(world.tmp / "head"))
    there = world.tmp / "one" / shared.relative_to(world.tmp / "head")
    world.keeper("one").bring(there)
    assert there.read_bytes() == b"weights"
    world.far("x").objects.put(f"cache/{shared.parent.name}/trunk", b"other weights")
    there.unlink()
    with pytest.raises(StoreError, match="sha256"):
        world.keeper("one").bring(there)


@pytest.mark.slow
def test_a_worker_killed_in_mid_upload_leaves_the_checkpoint_before_it(world: World, road: Way, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from jobs.contract import Retention
        from leoclr import checkpoint
        from leoclr.checkpoint import Position
        from orchestration.mirror import Mirror
        from orchestration.mirror_keeper import Node
        from tests.orchestration import s3

        address, prefix, home = sys.argv[1:]
        work = Path(home, "node", "a" * 16)
        node = Node(Mirror(s3.objects(address, prefix), Path(home)), fingerprint="a" * 16, retention=Retention())
        with node.stage(work) as held:
            for total in (1, 2):
                at = Position(0, total, total)
                saved = checkpoint.save(work / "checkpoints", {"w": "x" * 100_000}, at, fingerprint="a" * 16)
                held.keep(saved, wait=total == 1)
            print("sent", flush=True)
            time.sleep(60)
        """
    )
    reached: list[str] = []

    def stall(method: str, path: str) -> int | None:
        if method == "PUT" and "00000002" in path and path.endswith("manifest.json"):
            reached.append(path)
            time.sleep(5)
            return 500
        return None

    road.refuse = stall
    prefix = world.far("one").objects.bucket.prefix
    worker = subprocess.Popen(
        [sys.executable, "-c", program, road.address, prefix, str(tmp_path / "one")], stdout=subprocess.PIPE
    )
    until_deadline = time.monotonic() + 30
    while not reached and time.monotonic() < until_deadline:
        time.sleep(0.05)
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    assert reached
    road.refuse = None
    two = world.work("two")
    with world.keeper("two").stage(two):
        found = checkpoint.latest(two / "checkpoints", fingerprint=OURS)
        assert found is not None
        assert found[1].total == 1
