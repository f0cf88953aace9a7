"""The matrix and `--set` become drafts of arms; each value knows who asked for it."""

import pytest

from orchestration.document import Place, Tree, read
from orchestration.errors import SpecError
from orchestration.matrix import MAX_ARMS, Draft, expand, override_head, parse

FILE = Place("p.yaml")
KINDS = {"warm": "pretrain", "linear": "linear"}


def drafts(matrix: str, *overrides: str) -> list[Draft]:
    axes = read(matrix, FILE)
    assert isinstance(axes, dict)
    stages: dict[str, dict[str, Tree]] = {
        "warm": {"params": {"epochs": 12, "settings": {"temperature": 0.2}}, "resources": {}},
        "linear": {"params": {"epochs": 50}, "resources": {}},
    }
    return expand(axes, stages, kinds=KINDS, overrides=[parse(o) for o in overrides], file=FILE)


def test_arms_are_the_product_in_file_order_last_axis_fastest() -> None:
    arms = drafts("{method: [leoclr, random], seed: [0, 1], warm.params.settings.temperature: [1e-1]}")
    assert [list(arm.labels.values()) for arm in arms] == [
        ["leoclr", "0", "0.1"],
        ["leoclr", "1", "0.1"],
        ["random", "0", "0.1"],
        ["random", "1", "0.1"],
    ]
    assert list(arms[0].labels) == ["method", "seed", "warm.params.settings.temperature"]


def test_seed_reaches_every_stage_and_method_every_pretraining() -> None:
    (arm,) = drafts("{method: [leoclr], seed: [3]}")
    assert arm.stages["warm"]["params"] == {
        "epochs": 12,
        "settings": {"temperature": 0.2},
        "method": "leoclr",
        "seed": 3,
    }
    assert arm.stages["linear"]["params"] == {"epochs": 50, "seed": 3}


def test_named_values_override_and_may_name_another_method() -> None:
    first, second = drafts("""
        method:
          leoclr: {warm.params.epochs: 0, warm.params.settings: {}, linear.resources.workers: 2}
          ablated: {warm.params.method: leoclr}
        """)
    assert first.stages["warm"]["params"] == {"epochs": 0, "settings": {}, "method": "leoclr"}
    assert first.stages["linear"]["resources"] == {"workers": 2}
    assert second.stages["warm"]["params"] == {"epochs": 12, "settings": {"temperature": 0.2}, "method": "leoclr"}
    assert second.labels == {"method": "ablated"}


def test_set_wins_over_the_matrix_and_each_value_knows_its_place() -> None:
    (arm,) = drafts("{method: {leoclr: {warm.params.epochs: 8}}, seed: [5]}", "stages.warm.params.seed=7")
    assert arm.stages["warm"]["params"] == {
        "epochs": 8,
        "settings": {"temperature": 0.2},
        "method": "leoclr",
        "seed": 7,
    }
    assert str(arm.place(("warm", "params", "seed"), FILE)) == "--set stages.warm.params.seed=7"
    assert str(arm.place(("linear", "params", "seed"), FILE)) == "p.yaml: matrix.seed"
    assert str(arm.place(("warm", "params", "epochs"), FILE)) == "p.yaml: matrix.method.leoclr.warm.params.epochs"
    assert str(arm.place(("linear", "params", "epochs"), FILE)) == "p.yaml: stages.linear.params.epochs"


def test_arms_share_nothing() -> None:
    one, two = drafts("{recipe: {a: {warm.params.settings.head: mlp}, b: {}}}")
    assert one.stages["warm"]["params"] == {"epochs": 12, "settings": {"temperature": 0.2, "head": "mlp"}}
    assert two.stages["warm"]["params"] == {"epochs": 12, "settings": {"temperature": 0.2}}


def test_without_a_matrix_there_is_one_arm() -> None:
    (arm,) = drafts("{}")
    assert arm.labels == {}


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("{seed: []}", "p.yaml: matrix.seed: this axis has no values, so there is nothing to run"),
        ("{seed: 3}", "p.yaml: matrix.seed: expected a list of values, got `3`"),
        ("{seed: [1, 1]}", "p.yaml: matrix.seed: `1` is listed twice"),
        ("{seed: [[1]]}", "p.yaml: matrix.seed: the values of a list are numbers, booleans or words, got `[1]`"),
        ("{seed: {a: {}}}", "p.yaml: matrix.seed: this axis takes a list of values, not named ones"),
        ("{sed: [1]}", "p.yaml: matrix.sed: no axis of plain values is called `sed`"),
        ("{method: [a b]}", "p.yaml: matrix.method: `a b` cannot be the name of an arm"),
        ("{method: {leoclr: 3}}", "p.yaml: matrix.method.leoclr: expected a mapping, got `3`"),
        ("{wram.params.lr: [1]}", "p.yaml: matrix.wram.params.lr: no stage is called `wram`"),
        ("{warm.parms.lr: [1]}", "p.yaml: matrix.warm.parms.lr: no part of a stage that can be set is called `parms`"),
        ("{warm.resources.workers: [1]}", "p.yaml: matrix.warm.resources.workers: an axis changes a param: "),
        ("{warm.params..lr: [1]}", "p.yaml: matrix.warm.params..lr: a step of this path is empty"),
        (
            "{method: {leoclr: {linaer.params.lr: 1}}}",
            "p.yaml: matrix.method.leoclr.linaer.params.lr: no stage is called `linaer`",
        ),
        ("{warm.params.epochs.x: [1]}", "p.yaml: matrix.warm.params.epochs.x: `warm.params.epochs` is `12`, not a map"),
    ],
)
def test_bad_axes(matrix: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        drafts(matrix)
    assert str(caught.value).startswith(message)


def test_a_matrix_cannot_explode() -> None:
    values = ", ".join(map(str, range(100)))
    axes = ", ".join(f"warm.params.p{index}: [{values}]" for index in range(9))
    with pytest.raises(SpecError, match=rf"asks for {100**9} arms, more than {MAX_ARMS}"):
        drafts("{" + axes + "}")


@pytest.mark.parametrize(
    ("override", "fact", "hint"),
    [
        ("warm.params.epochs", "expected PATH=VALUE", "such as --set"),
        ("=3", "expected PATH=VALUE", "such as --set"),
        ("warm.params.epochs=[1", "expected ',' or ']'", ""),
        ("warn.params.epochs=1", "no stage is called `warn`", "did you mean `warm`?"),
        ("warm.param.epochs=1", "called `param`", "did you mean `params`?"),
        ("warm=1", "names no param", "such as warm.params.seed"),
    ],
)
def test_bad_overrides(override: str, fact: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        drafts("{}", override)
    assert caught.value.place.startswith(f"--set {override}")
    assert fact in caught.value.fact
    assert hint in caught.value.hint


def test_set_picks_among_named_values_and_keeps_their_meaning() -> None:
    named: Tree = {"leoclr": {"warm.params.epochs": 8}, "random": {}}
    document: dict[str, Tree] = {"matrix": {"method": named}}
    override_head(document, parse("matrix.method=[leoclr]"), FILE)
    override_head(document, parse("matrix.seed=[4]"), FILE)
    override_head(document, parse("title=Hello"), FILE)
    assert document == {
        "matrix": {"method": {"leoclr": {"warm.params.epochs": 8}}, "seed": [4]},
        "title": "Hello",
    }
    with pytest.raises(SpecError, match="no value called `leocl`") as caught:
        override_head(document, parse("matrix.method=[leocl]"), FILE)
    assert caught.value.hint == "did you mean `leoclr`?"
    with pytest.raises(SpecError, match="has nothing below it"):
        override_head(document, parse("title.x=1"), FILE)
    with pytest.raises(SpecError, match="names no key"):
        override_head(document, parse("data=1"), FILE)


def test_a_long_override_is_shortened_in_its_message() -> None:
    with pytest.raises(SpecError) as caught:
        parse("x" * 5000)
    assert len(str(caught.value)) < 400
