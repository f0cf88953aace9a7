"""Work on images in several processes: the same results in the same order as without them.

The processes stay from one pass to the next, so only the first pass waits for their start. What they make comes back
through shared memory, in parts of a batch: a whole one of several processes would fill the memory that containers give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leoclr.augment.groups import Indices
from leoclr.data.contract import DataError

PART = 64
"""Images that one process works on at once; it moves no number."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Tensors = tuple[Tensor, ...]
_DIED = "DataLoader worker"  # how torch's message about it begins; torch/utils/data/dataloader.py, _try_get_data


def parts(indices: Indices) -> list[Indices]:
    """Return the images of a batch cut into parts of `PART`, at least one; its results are the parts' one by one."""
    return [indices[start : start + PART] for start in range(0, max(len(indices), 1), PART)]


class Readers(Generic[Item]):
    """Makes tensors of items by a function, in `workers` processes or, where that is 0, in this one.

    With `pin` the tensors of processes lie in pinned memory, from where a GPU fetches them while this one goes on.
    """

    def __init__(self, work: Callable[[Item], Tensors], workers: int, *, pin: bool = False) -> None:
        self._work, self._workers = work, workers
        self._items: list[Item] = []
        self._pass = 0
        self._loader: DataLoader[Tensors | DataError] | None = None
        if workers:
            self._loader = DataLoader(
                _Guarded(work),
                batch_size=None,
                sampler=self._items,
                num_workers=workers,
                pin_memory=pin,
                persistent_workers=True,
                # Its own generator: without one it draws from torch's global one, which is not ours to move.
                generator=torch.Generator(),
            )

    def results(self, items: Iterable[Item]) -> Iterator[Tensors]:
        """Yield what the function makes of each item, in order. A new pass ends the one before.

        Raises: DataError, as the function does, or when a process died; RuntimeError when a later pass was begun.
        """
        loader = self._loader
        if loader is None:
            yield from map(self._work, items)
            return
        self._pass += 1
        own = self._pass
        self._items[:] = items
        made = _guard(lambda: iter(loader))
        for _ in range(len(self._items)):
            if self._pass != own:
                raise RuntimeError("a later pass over the same images has begun")
            result = _guard(lambda: next(made))
            if isinstance(result, DataError):
                raise result
            yield result


@dataclass(frozen=True, slots=True)
class _Guarded(Dataset["Tensors | DataError"], Generic[Item]):
    """The function, in a loading process: errors of the user's come back as they are, not as a process's traceback."""

    work: Callable[[Item], Tensors]

    def __getitem__(self, item: Item) -> Tensors | DataError:
        try:
            return self.work(item)
        except DataError as error:
            return error


def _guard(act: Callable[[], Result]) -> Result:
    try:
        return act()
    except RuntimeError as error:
        if not str(error).startswith(_DIED):
            raise
        hint = "was it killed for want of memory? less of it is needed with fewer loading processes"
        raise DataError(f"a process that loads images died: {error}", hint=hint) from error
