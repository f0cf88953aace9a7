"""A pipeline file is loaded, or refused with one message that says where, what and what to do."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jobs
from jobs.contract import FORBID
from orchestration import spec
from orchestration.document import Place, dump, read
from orchestration.errors import NotFound, SpecError

PIPELINE = """\
title: LeOCLR and MoCo-v2 against random weights
data: {folder: photos}
matrix:
  method:
    leoclr: {pretrain.params.settings: {temperature: 0.1}}
    random: {pretrain.params.epochs: 0}
  seed: [0, 1]
stages:
  pretrain:
    params: {dataset: mnist5k, epochs: 12, lr: 1e-2, crop: [0.2, 1]}
    resources: {workers: 2}
  probe:
    kind: linear
    needs: [pretrain]
    params: {dataset: mnist5k, schedule: cosine}
"""


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    temperature: float = 0.2

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature: must be above 0, got {self.temperature}")


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class Pretrain:
    dataset: str
    method: str
    epochs: int
    lr: float
    seed: int = 0
    crop: tuple[float, float] = (0.08, 1.0)
    flip: bool = False
    settings: Settings = pydantic.Field(default_factory=Settings)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=FORBID)
class Linear:
    dataset: str
    schedule: Literal["step", "cosine"] = "step"
    seed: int = 0
    milestones: int | tuple[int, ...] = 0


@pytest.fixture(scope="module", autouse=True)
def stage_table() -> Iterator[None]:
    """Two small stage kinds in place of those that import torch."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, params, needs in (("pretrain", Pretrain, ()), ("linear", Linear, ("pretrain",))):
            module = SimpleNamespace(NEEDS=needs, params_type=lambda raw, its=params: its)
            patch.setitem(sys.modules, f"stage_{kind}", module)
            patch.setitem(jobs.STAGES, kind, f"stage_{kind}")
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(PIPELINE)
    return path


def test_a_pipeline_becomes_typed_arms(file: Path) -> None:
    pipeline = spec.load(str(file))
    assert (pipeline.name, pipeline.table, pipeline.source) == ("small", None, str(file))
    assert pipeline.data == {"folder": file.parent / "photos"}
    assert [arm.name for arm in pipeline.arms] == ["leoclr seed=0", "leoclr seed=1", "random seed=0", "random seed=1"]
    stage = pipeline.arms[1].stages["pretrain"]
    expected = Pretrain(
        dataset="mnist5k",
        method="leoclr",
        epochs=12,
        lr=0.01,
        seed=1,
        crop=(0.2, 1.0),
        settings=Settings(temperature=0.1),
    )
    assert repr(stage.params) == repr(expected)
    assert stage.params_json["settings"] == {"temperature": 0.1}
    assert stage.params_json["flip"] is False  # defaults are filled in
    assert stage.resources.workers == 2
    probe = pipeline.arms[1].stages["probe"]
    assert (probe.kind, probe.needs, probe.params.seed) == ("linear", ("pretrain",), 1)
    assert pipeline.arms[2].stages["pretrain"].params_json["epochs"] == 0


def test_set_wins(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    overrides = ["matrix.method=[leoclr]", "matrix.seed=[5]", "pretrain.params.epochs=2", "data.folder=mine", "title=T"]
    pipeline = spec.load(str(file), overrides)
    assert [arm.name for arm in pipeline.arms] == ["leoclr seed=5"]
    assert pipeline.arms[0].stages["pretrain"].params_json["epochs"] == 2
    assert pipeline.data == {"folder": Path("/mine")}  # relative to where the command is typed
    assert pipeline.title == "T"


def test_the_resolved_text_is_what_runs(file: Path) -> None:
    pipeline = spec.load(str(file))
    resolved: Any = read(pipeline.yaml, Place("resolved"))
    assert resolved["title"] == "LeOCLR and MoCo-v2 against random weights"
    assert [arm["labels"] for arm in resolved["arms"]] == [dict(arm.labels) for arm in pipeline.arms]
    assert resolved["arms"][3]["stages"]["pretrain"]["params"] == pipeline.arms[3].stages["pretrain"].params_json
    assert resolved["arms"][0]["stages"]["probe"]["needs"] == ["pretrain"]


MISTAKES = [  # (text, replaced by, place after the file's, fact, hint)
    ("title:", "titel:", "titel", "no key here is called `titel`", "did you mean `title`?"),
    ("title: LeOCLR", "title: [LeOCLR]\nname: x #", "title", "expected one line of text", ""),
    ("title:", "name: ../x\ntitle:", "name", "a pipeline cannot be called `../x`", "lower-case"),
    ("data: {folder", "data: {foldr", "data.foldr", "no data set is called `foldr`", "did you mean `folder`?"),
    ("photos}", "~nobody-at-all/x}", "data.folder", "`~nobody-at-all/x`", ""),
    ("data:", "table: quikstrat\ndata:", "table", "no table is called `quikstrat`", ""),
    ("kind: linear", "kind: liner", "stages.probe.kind", "no stage kind is called `liner`", "did you mean `linear`?"),
    ("    kind: linear\n", "", "stages.probe", "no stage kind is called `probe`", "known: "),
    ("needs:", "need:", "stages.probe.need", "no key here is called `need`", "did you mean `needs`?"),
    ("[pretrain]", "[pretrian]", "stages.probe.needs", "no stage is called `pretrian`", "did you mean `pretrain`?"),
    ("[pretrain]", "pretrain", "stages.probe.needs", "expected a list of stages, got `pretrain`", "[pretrain]"),
    ("[pretrain]", "[]", "stages.probe.needs", "needs a stage of kind `pretrain`", "add `needs: [pretrain]`"),
    ("[pretrain]", "[pretrain, probe]", "stages", "wait for each other: probe -> probe", "drop"),
    (
        "    params: {dataset: mnist5k, epochs",
        "    needs: [probe]\n    params: {dataset: mnist5k, epochs",
        "stages",
        "wait for each other: pretrain -> probe -> pretrain",
        "drop",
    ),
    ("epochs: 12", "epohcs: 12", "stages.pretrain.params.epohcs", "no param here is called `epohcs`", "`epochs`?"),
    ("epochs: 12, ", "", "stages.pretrain.params", "`epochs` is missing", "add `epochs: ...`"),
    ("epochs: 12", "epochs: '12'", "stages.pretrain.params.epochs", "expected a whole number, got `12`", ""),
    ("epochs: 12", "epochs: true", "stages.pretrain.params.epochs", "expected a whole number, got `true`", ""),
    ("epochs: 12", "epochs: 1.5", "stages.pretrain.params.epochs", "expected a whole number, got `1.5`", ""),
    ("lr: 1e-2", "lr: fast", "stages.pretrain.params.lr", "expected a number, got `fast`", ""),
    ("lr: 1e-2", "lr: 1, flip: yes", "stages.pretrain.params.flip", "expected true or false, got `yes`", "`yes`"),
    ("[0.2, 1]", "[0.2, b]", "stages.pretrain.params.crop.1", "expected a number, got `b`", ""),
    ("[0.2, 1]", "[0.2]", "stages.pretrain.params.crop", "expected more than 1 values, got `[0.2]`", ""),
    ("[0.2, 1]", "[0.2, 1, 2]", "stages.pretrain.params.crop", "expected at most 2 values, got `[0.2, 1, 2]`", ""),
    (
        "cosine}",
        "cosine, protocol: mocco}",
        "stages.probe.params.protocol",
        "no linear protocol is called `mocco`",
        "`moco`?",
    ),
    ("cosine}", "cosin}", "stages.probe.params.schedule", "got `cosin`", "did you mean `cosine`?"),
    (
        "cosine}",
        "cosine, milestones: a}",
        "stages.probe.params.milestones",
        "expected a whole number or a list, got `a`",
        "",
    ),
    ("workers: 2", "workers: 0", "stages.pretrain.resources.workers", "expected at least 1, got `0`", ""),
    ("workers: 2", "workers: {min: 2}", "stages.pretrain.resources.workers", "`max` is missing", "add `max: ...`"),
    ("workers: 2", "workers: {min: 2, mx: 3}", "stages.pretrain.resources.workers.mx", "no resource here", "`max`?"),
    ("workers: 2", "workers: {min: 3, max: 2}", "stages.pretrain.resources.workers.min", "3 is more than max, 2", ""),
    ("workers: 2", "workers: {min: 0, max: 2}", "stages.pretrain.resources.workers.min", "at least 1, got `0`", ""),
    ("workers: 2", "gpus_per_worker: 1.5", "stages.pretrain.resources.gpus_per_worker", "a share of one GPU", ""),
    ("workers: 2", "wokers: 2", "stages.pretrain.resources.wokers", "no resource here is called", "`workers`?"),
    ("{workers: 2}", "2", "stages.pretrain.resources", "expected a mapping, got `2`", ""),
    ("mnist5k, e", "mnist, e", "stages.pretrain.params.dataset", "no data set is called `mnist`", "`mnist5k`?"),
    ("    random:", "    rnadom:", "matrix.method.rnadom", "no method is called `rnadom`", "did you mean `random`?"),
    (
        "temperature: 0.1",
        "temperature: -1",
        "matrix.method.leoclr.pretrain.params.settings.temperature",
        "must be above 0, got -1.0",
        "",
    ),
    (
        "pretrain.params.epochs: 0",
        "pretrain.params.epochs: none",
        "matrix.method.random.pretrain.params.epochs",
        "expected a whole number, got `none` (in arm `random seed=0`)",
        "",
    ),
    ("[0, 1]", "[0, a]", "matrix.seed", "expected a whole number, got `a` (in arm `leoclr seed=a`)", ""),
    ("  probe:", "  a.b:", "stages.a.b", "a stage cannot be called `a.b`", "lower-case"),
    ("  probe:", "  data:", "stages.data", "a stage cannot be called `data`", "lower-case"),
]


@pytest.mark.parametrize(("old", "new", "place", "fact", "hint"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_mistakes(tmp_path: Path, old: str, new: str, place: str, fact: str, hint: str) -> None:
    assert old in PIPELINE
    path = tmp_path / "small.yaml"
    path.write_text(PIPELINE.replace(old, new))
    with pytest.raises(SpecError) as caught:
        spec.load(str(path))
    assert caught.value.place == f"{path}: {place}"
    assert fact in caught.value.fact
    assert hint in caught.value.hint


def test_an_unknown_key_is_told_before_a_missing_one(file: Path) -> None:
    file.write_text(PIPELINE.replace("epochs: 12, lr: 1e-2", "epohcs: 12, lr: a"))
    with pytest.raises(SpecError, match="no param here is called `epohcs`"):
        spec.load(str(file))


@pytest.mark.parametrize(
    ("override", "fact"),
    [
        ("pretrain.params.epohcs=2", "no param here is called `epohcs`"),
        ("matrix.seed=[0, 0]", "`0` is listed twice"),
        ("data.foldr=x", "no data set is called `foldr`"),
        ("name=A B", "a pipeline cannot be called `A B`"),
    ],
)
def test_a_bad_override_is_blamed_itself(file: Path, override: str, fact: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec.load(str(file), [override])
    assert caught.value.place == f"--set {override}"
    assert fact in caught.value.fact


def test_references_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no pipeline is called `quickstrat`") as caught:
        spec.load("quickstrat")
    assert "did you mean `quickstart`?" in caught.value.hint
    with pytest.raises(NotFound, match="there is no file"):
        spec.load(str(tmp_path / "none.yaml"))
    with pytest.raises(NotFound):
        spec.load("a\0b")
    with pytest.raises(NotFound):
        spec.load("x" * 5000 + ".yaml")
    with pytest.raises(SpecError, match="Is a directory"):
        spec.load(f"{tmp_path}/")


def test_an_empty_file_says_what_it_lacks(file: Path) -> None:
    file.write_text("")
    with pytest.raises(SpecError, match="stages: a pipeline needs at least one stage"):
        spec.load(str(file))
    file.write_text("[1]")
    with pytest.raises(SpecError, match=r"expected a mapping, got `\[1\]`"):
        spec.load(str(file))


KEYS = ["name", "title", "table", "data", "matrix", "stages", "pretrain", "linear", "kind", "needs", "params"]
KEYS += ["resources", "method", "seed", "pretrain.params.lr", "dataset", "settings", "workers", "folder", "\x07"]
words = st.sampled_from([*KEYS, "mnist5k", "leoclr", "../x", "~x", "a b", ""]) | st.text(max_size=4)
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | words,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(words, below, max_size=4),
    max_leaves=12,
)
stage = st.fixed_dictionaries({}, optional=dict.fromkeys(("kind", "needs", "params", "resources"), trees))
stages = st.dictionaries(st.sampled_from(["pretrain", "linear"]), stage, max_size=2)
documents = trees | st.fixed_dictionaries({"stages": stages | trees}, optional=dict.fromkeys(KEYS[:5], trees))


@given(documents, st.lists(st.tuples(words, words, words), max_size=1))
@example({"stages": {"pretrain": {"params": {"method": ["a"]}}}}, [])
@settings(max_examples=150, deadline=None)
def test_junk_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, document: Any, sets: list[tuple[str, ...]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.yaml"
    path.write_text(dump(document), encoding="utf-8", errors="surrogatepass")
    message = ""
    try:
        spec.load(str(path), [f"{a}.{b}={c}" for a, b, c in sets])
    except (SpecError, NotFound) as error:
        message = str(error)
    assert message.isprintable()


def test_importing_spec_and_plan_imports_no_engine() -> None:
    code = """
        import sys
        import orchestration.spec, orchestration.plan
        print(sorted({"torch", "ray", "mlflow", "numpy"} & set(sys.modules)))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
