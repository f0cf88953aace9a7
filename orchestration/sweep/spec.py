"""A sweep file becomes a checked `SweepSpec`. Mistakes are told as those of pipelines are: one error, with its place.

title       one line
base        the pipeline that trials are made of: a shipped name or a path
set         {path: value}, applied to the base for every trial
axes        what trials differ in: `sweep_space`
seeds       [0, 1, 2]; of a grid each is a trial of its own, of a search a trial has all of them and counts their mean
objectives  {title: {stage, metric, direction, unit}}; the first one is searched for and shown first
guards      {title: {stage, metric, floor}}: a trial that ends with no more than that diverged
search      {kind: grid | random | optuna, ...};  scheduler  {kind: none | asha | median | pbt, ...}
concurrency, budget {trials, hours}
anchors     [{at: {axis: label}, objective, value, source}]: published values, a number or `diverged`
with        {base: {any key above}}: what the file says instead for another `--base`; `set` is for its own base alone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestration import matrix, spec
from orchestration.document import Place, Tree, dump, mapping, only, read, read_file, show, text
from orchestration.errors import NotFound, SpecError, did_you_mean
from orchestration.sweep import options as sweep_options
from orchestration.sweep import space as sweep_space
from orchestration.sweep.options import Budget, Goal, Guard, Pbt, Scheduler, Search
from orchestration.sweep.space import Space

DIVERGED = "diverged"  # instead of a published value
MOST_AT_ONCE = 500  # trials; each has a light process of Ray Tune's
_FOLDER = Path(__file__).parents[1] / "sweeps"
_A_SWEEP = "a path to a sweep file, or a name that `leoclr-ops sweeps` lists"
_KEYS = (
    "name", "title", "base", "set", "axes", "seeds", "objectives", "guards", "search", "scheduler", "concurrency",
    "budget", "anchors", "with",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Published:
    """A value that others published, at some labels."""

    at: Mapping[str, str]  # label by axis
    objective: str
    value: float | None  # None: diverged
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """A sweep file, checked; its points are not."""

    name: str
    title: str
    base: str  # a shipped pipeline's name, or a path
    changes: tuple[matrix.Change, ...]  # to the base, for every trial
    space: Space
    seeds: tuple[int, ...]
    goals: Mapping[str, Goal]  # by title
    guards: Mapping[str, Guard]
    search: Search
    scheduler: Scheduler
    concurrency: int | None  # trials at once; None: as many as the cluster has room for
    budget: Budget
    anchors: tuple[Published, ...]
    file: Place
    yaml: str = field(repr=False)  # resolved: `--base` and `--set` applied

    @property
    def one_seed_a_trial(self) -> bool:
        """Whether a trial is one seed of a point; a search compares points, so there a trial has all seeds."""
        return self.search.kind == "grid"


def shipped() -> dict[str, Path]:
    """Return the sweeps that come with the package, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def load(reference: str, *, base: str | None = None, overrides: Sequence[str] = ()) -> SweepSpec:
    """Return the sweep at path `reference`, or the shipped one of that name.

    `base` replaces the pipeline that the file names; `overrides` are PATH=VALUE, of a key of the file or of a param.
    Raises: SpecError for what is wrong in the file; NotFound when there is no such file.
    """
    path = _find(reference)
    file = Place(reference if path.name == Path(reference).name else path.name)
    document = mapping(read_file(path, file.file), file)
    only(document, _KEYS, file)
    name = text(document.get("name", path.stem), file.at("name"))
    if base is not None:
        name = _rebase(document, base, name=name, file=file)
    params: list[matrix.Change] = []
    for change in map(matrix.parse, overrides):
        if change.path[0] in ("base", "with"):
            raise SpecError("`--set` does not change the base", place=str(change.place), hint="`--base PIPELINE` does")
        if change.path == ("name",):
            name = text(change.value, change.place)
        elif change.path[0] in _KEYS:
            _override(document, change, file)
        else:
            params.append(change)
    return _spec(document, params, name=name, folder=path.parent, file=file)


def recorded(content: str, name: str) -> SweepSpec:
    """Return a sweep from what its run recorded, `SweepSpec.yaml`. Raises: SpecError."""
    file = Place("sweep.yaml")
    document = mapping(read(content, file), file)
    only(document, _KEYS, file)
    return _spec(document, [], name=name, folder=Path(), file=file)


def _find(reference: str) -> Path:
    known = shipped()
    is_path = "/" in reference or reference.endswith((".yaml", ".yml"))
    if not is_path and reference in known:
        return known[reference]
    try:
        if is_path and (path := Path(reference).expanduser()).is_file():
            return path
    except (OSError, RuntimeError) as error:  # too long a name, an unknown ~user
        raise NotFound(_no_path(reference, error), place="sweep", hint=_A_SWEEP) from None
    fact = f"there is no file {show(reference)}" if is_path else f"no sweep is called {show(reference)}"
    raise NotFound(fact, hint=did_you_mean(Path(reference).stem, known))


def _no_path(text: str, error: OSError | RuntimeError) -> str:
    return f"{show(text)} is not a path: {getattr(error, 'strerror', None) or error}"


def _rebase(document: dict[str, Tree], base: str, *, name: str, file: Place) -> str:
    """Put what the file says of another base in place; return the name of that sweep, which is another one."""
    if base == document.get("base"):
        return name
    stem = Path(base).stem
    others = mapping(document.get("with"), file.at("with"))
    instead = mapping(others.get(stem), file.at("with", stem))
    only(instead, [key for key in _KEYS if key not in ("name", "base", "with")], file.at("with", stem))
    document |= {"base": base, "set": {}, **instead}
    return f"{name}-{stem}"


def _override(document: dict[str, Tree], change: matrix.Change, file: Place) -> None:
    """Put a `--set` of a key of the file in place; an axis of named points may be cut to some of its names."""
    head, *steps = change.path
    if not steps:
        document[head] = change.value
        return
    node = document[head] = mapping(document.get(head), file.at(head))
    rest = ".".join(steps)
    if head == "axes":
        node[rest] = matrix.select(node.get(rest), change)
    elif head in ("objectives", "guards") and len(steps) > 1:
        below = node[".".join(steps[:-1])] = mapping(node.get(".".join(steps[:-1])), file.at(head))
        below[steps[-1]] = change.value
    else:
        node[rest] = change.value


def _spec(document: dict[str, Tree], params: list[matrix.Change], *, name: str, folder: Path, file: Place) -> SweepSpec:
    space = sweep_space.parse(document.get("axes"), file.at("axes"))
    changes = [_change(path, value, file.at("set", path)) for path, value in _items(document, "set", file)]
    search = sweep_options.search(document.get("search"), file.at("search"))
    scheduler = sweep_options.scheduler(document.get("scheduler"), file.at("scheduler"))
    goals = sweep_options.goals(document.get("objectives"), file.at("objectives"))
    if search.kind == "grid":
        sweep_space.grid(space, file.at("axes"))
    if isinstance(scheduler, Pbt):
        _refuse_no_population(search, scheduler, space, file)
    return SweepSpec(
        name=_name(name, file.at("name")),
        title=text(document.get("title", name), file.at("title")),
        base=_base(document.get("base"), folder, file.at("base")),
        changes=(*changes, *params),
        space=space,
        seeds=_seeds(document.get("seeds", [0]), file.at("seeds")),
        goals=goals,
        guards=sweep_options.guards(document.get("guards"), file.at("guards")),
        search=search,
        scheduler=scheduler,
        concurrency=_concurrency(document.get("concurrency"), file.at("concurrency")),
        budget=sweep_options.budget(document.get("budget"), search, scheduler, file.at("budget")),
        anchors=_anchors(document.get("anchors"), goals=goals, space=space, place=file.at("anchors")),
        file=file,
        yaml=dump({**{k: v for k, v in document.items() if k != "with"}, "axes": sweep_space.render(space)}),
    )


def _refuse_no_population(search: Search, scheduler: Pbt, space: Space, file: Place) -> None:
    """Refuse what no population can have: its first values are drawn, and then all of them move as it trains."""
    if search.kind != "random":
        hint = "`search: {kind: random, seed: 0}`"
        raise SpecError("a population begins with points by chance", place=str(file.at("search", "kind")), hint=hint)
    start = f"{scheduler.stage}.params."
    for axis in space:
        if axis.when or not axis.name.startswith(start):
            fact = f"a population moves params of {show(scheduler.stage)} alone, all of them in every member"
            raise SpecError(
                fact, place=str(file.at("axes", axis.name)), hint=f"axes such as `{start}lr`, without `when`"
            )


def _items(document: Mapping[str, Tree], key: str, file: Place) -> list[tuple[str, Tree]]:
    return list(mapping(document.get(key), file.at(key)).items())


def _change(path: str, value: Tree, place: Place) -> matrix.Change:
    return matrix.Change(tuple(path.split(".")), value, place)


def _name(name: str, place: Place) -> str:
    if not spec.NAME.fullmatch(name):
        hint = "lower-case letters, digits and . _ -, up to 64"
        raise SpecError(f"a sweep cannot be called {show(name)}", place=str(place), hint=hint)
    return name


def _base(value: Tree, folder: Path, place: Place) -> str:
    if value is None:
        raise SpecError("`base` is missing", place=str(place), hint="such as `base: quickstart`")
    name = text(value, place)
    if not name.endswith((".yaml", ".yml")):
        return name
    try:
        path = Path(name).expanduser()
        return str(path if path.is_absolute() or path.is_file() else folder / path)
    except (OSError, RuntimeError) as error:
        hint = "a path to a pipeline, or a name that `leoclr-ops pipelines` lists"
        raise SpecError(_no_path(name, error), place=str(place), hint=hint) from None


def _seeds(value: Tree, place: Place) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else [value]
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise SpecError(f"expected whole numbers from 0, got {show(value)}", place=str(place), hint="[0, 1, 2]")
    if not seeds or len(set(map(str, seeds))) < len(seeds):
        raise SpecError("expected at least one seed, each once", place=str(place))
    return tuple(int(str(seed)) for seed in seeds)


def _concurrency(value: Tree, place: Place) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_AT_ONCE):
        raise SpecError(f"expected a whole number from 1 to {MOST_AT_ONCE}, got {show(value)}", place=str(place))
    return value


def _anchors(value: Tree, *, goals: Mapping[str, Goal], space: Space, place: Place) -> tuple[Published, ...]:
    if value is not None and not isinstance(value, list):
        raise SpecError(f"expected a list, got {show(value)}", place=str(place))
    names = {axis.name for axis in space} | {"method"}
    found: list[Published] = []
    for index, raw in enumerate(value or []):
        where = place.at(str(index))
        entry = mapping(raw, where)
        only(entry, ("at", "objective", "value", "source"), where)
        objective = entry.get("objective", next(iter(goals)))
        if objective not in goals:
            hint = did_you_mean(str(objective), goals)
            raise SpecError(f"no objective is called {show(objective)}", place=str(where.at("objective")), hint=hint)
        number = _published(entry.get("value"), where.at("value"))
        at = mapping(entry.get("at"), where.at("at"))
        only(at, names, where.at("at"))
        labels = {name: sweep_space.label(each) for name, each in at.items()}
        found.append(Published(labels, str(objective), number, text(entry.get("source"), where.at("source"))))
    return tuple(found)


def _published(value: Tree, place: Place) -> float | None:
    if value == DIVERGED:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"expected a number or `{DIVERGED}`, got {show(value)}", place=str(place))
    return value
