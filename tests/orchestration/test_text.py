import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jobs.contract import Resources
from orchestration import data_sets, look, text
from orchestration.doctor import Finding
from orchestration.look import StageLook, SubmissionLook
from orchestration.plan import Plan, PlannedStage, State
from orchestration.spec import StageSpec


@dataclasses.dataclass(frozen=True)
class Params:
    dataset: str = "mnist5k"
    seed: int = 0


def planned(name: str, arm: str, *, why: str = "new", done: bool = False, workers: int = 1) -> PlannedStage:
    spec = StageSpec(name, name, (), Params(), {}, Resources(workers=workers))
    return PlannedStage(
        fingerprint=f"{name[:2]}{arm[-1]}0123456789abc",
        kind=name,
        name=name,
        arms=(arm,),
        spec=spec,
        inputs={},
        digest="d",
        state=State.DONE if done else State.TODO,
        why=why,
        run_id=None,
        estimate_s=61.0,
    )


def plan(*stages: PlannedStage, total: float | None = 122.0) -> Plan:
    return Plan(pipeline="quickstart", stages=stages, arms={}, fingerprint="f", total_estimate_s=total)


def test_stages_of_one_name_stand_together_and_shared_resources_once() -> None:
    why = "reruns because settings.temperature 0.2 -> 0.1, settings.momentum 0.999 -> 0.99, epochs 8 -> 16 and 2 more"
    stages = [
        planned("pretrain", "a seed=0", why=why),
        planned("linear", "a seed=0"),
        planned("pretrain", "a seed=1", done=True),
    ]
    assert text.of_plan(plan(*stages), "A title").splitlines() == [
        "quickstart: A title",
        "",
        "       stage     arm       fingerprint   time  why",
        "to do  pretrain  a seed=0  pr0012345678  1:01  reruns because settings.temperature 0.2 -> 0.1,",
        "                                               settings.momentum 0.999 -> 0.99, epochs 8 -> 16 and 2",
        "                                               more",
        "done   pretrain  a seed=1  pr1012345678        new",
        "to do  linear    a seed=0  li0012345678  1:01  new",
        "",
        "3 stages: 1 done, 2 to do, about 2:02 one after the other, each on 1 worker x 1 CPU",
    ]


def test_resources_that_differ_have_a_column() -> None:
    lines = text.of_plan(
        plan(planned("pretrain", "a", workers=2), planned("linear", "a"), total=None), "t"
    ).splitlines()
    assert "2 workers x 1 CPU" in lines[3]
    assert "1 worker x 1 CPU" in lines[4]
    assert lines[-1] == "2 stages: 2 to do, time unknown (no earlier run tells)"


@given(st.lists(st.text("abc =._-/", min_size=1, max_size=60), min_size=1, max_size=6))
def test_a_plan_is_readable_at_100_columns(whys: list[str]) -> None:
    stages = [planned("semi_supervised", f"moco_v2 seed={i}", why=why) for i, why in enumerate(whys)]
    for line in text.of_plan(plan(*stages), "t").splitlines():
        assert len(line) <= text.WIDTH


def test_color_adds_nothing_but_color() -> None:
    shown = plan(planned("pretrain", "a"), planned("linear", "a", done=True))
    colored = text.of_plan(shown, "t", color=True)
    assert "\x1b[36mto do\x1b[0m" in colored
    assert "\x1b[32mdone\x1b[0m" in colored
    plain = colored.replace("\x1b[36m", "").replace("\x1b[32m", "").replace("\x1b[0m", "")
    assert plain == text.of_plan(shown, "t")


RUNNING = StageLook("bbbb22223333", "linear", "linear", "a seed=0", "running", 0.31, 3, 8, 62.0, {}, "")
FAILED = StageLook("cccc22223333", "transfer", "transfer", "a seed=0", "failed", 0.5, 0, 0, 5.0, {}, "no space left")
DONE = StageLook("dddd22223333", "pretrain", "pretrain", "a seed=0", "done", 1.0, 0, 0, 70.0, {}, "")
LOOK = SubmissionLook(
    "aaaa22223333", "quickstart", "t", "running", 1_790_000_000_000, 137.0, "host", (DONE, RUNNING, FAILED)
)


def test_status_shows_what_runs_and_what_failed() -> None:
    assert text.of_status([LOOK]).splitlines() == [
        "         run       pipeline    stages                       time  began",
        "running  aaaa2222  quickstart  1 done, 1 failed, 1 running  2:17  2026-09-21 14:13 UTC",
        "    running  bbbb2222  linear    a seed=0  31%  epoch 3/8  1:02",
        "    failed   cccc2222  transfer  a seed=0  50%             0:05  no space left",
    ]
    assert "dddd2222" in text.of_status([LOOK], full=True)
    assert text.of_status([]) == "nothing was submitted yet"
    lines = text.of_status([LOOK] * look.RECENT).splitlines()
    assert lines[-1] == "the newest 10 and what runs; `leoclr-ops status RUN` shows any other"
    assert not text.of_status([LOOK] * (look.RECENT - 1)).endswith("any other")


def test_a_finding_says_what_to_do_below_it() -> None:
    findings = [Finding("disk", "warn", "2.0 GB free at /", "free some space"), Finding("GPU", "ok", "none")]
    assert text.of_findings(findings).splitlines() == [
        "warn  disk:           2.0 GB free at /",
        "                      -> free some space",
        "ok    GPU:            none",
    ]


def test_a_report_has_counts_findings_and_what_to_do() -> None:
    findings = (data_sets.Finding("ok", "digest 1a2b"), data_sets.Finding("fail", "a file is missing", "fetch it"))
    report = data_sets.Report("cifar10", Path("/data"), "1a2b", {"train": 50000, "test": 10000}, 10, findings)
    assert text.of_report(report).splitlines() == [
        "cifar10 in /data: 10 classes, train 50,000, test 10,000",
        "ok    digest 1a2b",
        "fail  a file is missing",
        "      -> fetch it",
    ]
    assert "\x1b[31mfail" in text.of_report(report, color=True)
    empty = data_sets.Report("cifar10", Path("/data"), None, {}, 0, findings[1:])
    assert text.of_report(empty).splitlines()[0] == "cifar10 in /data"
