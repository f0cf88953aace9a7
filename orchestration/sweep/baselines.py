"""Which cell an ablation compares each one with. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.sweep.cells import Cell, is_method, labels, varied
from orchestration.sweep.result import Axis, SweepResult


def compared(axes: Sequence[Axis]) -> tuple[list[Axis], list[Axis]]:
    """Return, of axes that vary, those in which a cell differs from its baseline, and those that both share.

    A baseline has the first label of each category axis, and the method and the numbers of the cell that it is compared
    with. Where only methods and numbers vary, the first method is the baseline. Numbers alone have none.
    """
    methods = [axis for axis in axes if is_method(axis)]
    chosen = [axis for axis in axes if axis.scale == "category" and axis not in methods] or methods
    return chosen, [axis for axis in axes if axis not in chosen]


@dataclass(frozen=True, slots=True)
class Baselines:
    """Which cell of a sweep an ablation compares each one with."""

    first: Mapping[str, str]  # label of a baseline by axis, of those in which a cell differs from its own
    conditional: frozenset[str]  # of these the axes that some cells do not have
    cells: Mapping[frozenset[tuple[str, str]], Cell]  # by their labels

    def of(self, cell: Cell) -> Cell | None:
        """Return the cell that `cell` is compared with; None for a baseline itself, or where there is none."""
        found = self._of(cell)
        return None if found is None or found.labels == cell.labels else found

    def has(self, cell: Cell) -> bool:
        """Return whether `cell` is a baseline itself."""
        found = self._of(cell)
        return found is not None and found.labels == cell.labels

    def _of(self, cell: Cell) -> Cell | None:
        """A baseline may lack an axis that its cell has: where there is augmentation, how strong it is."""
        wanted = {name: self.first.get(name, label) for name, label in cell.labels.items()}
        less = {name: label for name, label in wanted.items() if name not in self.conditional}
        return self.cells.get(frozenset(wanted.items())) or self.cells.get(frozenset(less.items()))


def baselines(result: SweepResult, found: Sequence[Cell]) -> Baselines:
    """Return the baselines of `found`, the cells of a result."""
    chosen, _ = compared(varied(result))
    by_labels = {frozenset(cell.labels.items()): cell for cell in reversed(found)}  # of several the first
    names = [axis.name for axis in chosen]
    conditional = frozenset(name for name in names if any(name not in cell.labels for cell in found))
    return Baselines({axis.name: labels(result, axis)[0] for axis in chosen}, conditional, by_labels)
