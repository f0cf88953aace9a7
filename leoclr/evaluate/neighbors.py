"""Nearest neighbors by cosine, in bounded memory: the same neighbors from a quick search as from a slow one.

Where half precision is fast, a search in it of known error finds more candidates than are wanted, and these alone are
compared again. Where a row that is no candidate could be nearer than the last neighbor, that query is searched for
exactly. Of equal similarities the lower place in the bank comes first, in every search.

N queries, F feature values, K neighbors, J candidates, B rows of one block of the bank, G groups of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Search = Literal["half", "single", "exact"]
"""half: float16 rows, summed in float32, candidates compared in float64; single: all in float32; exact: in float64."""

SEARCHES: dict[str, Search] = {"cuda": "half", "cpu": "single"}
"""By kind of device. On a CPU without units for half precision it is slower than float32."""

SPARE: dict[Search, int] = {"half": 128, "single": 8, "exact": 0}  # candidates beyond K
BANK_BYTES = 256 << 20  # of the bank's rows that are held at once, in float32
SCORE_BYTES = {"cuda": 1 << 30, "cpu": 128 << 20}  # of the similarities that are held at once
ROW_BYTES = {"cuda": 1 << 29, "cpu": 1 << 20}  # of the candidates' rows that are held at once, in float64

_GROUP = 8  # similarities of which only the greatest is looked at first
_ROUNDING = 2.0**-24  # relative error of one rounding to float32
_LOW = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest rows of a bank, nearest first."""

    similarity_NK: Tensor  # float32, cosine
    index_NK: Tensor  # int64, places in the bank


def search(bank_MF: Tensor, queries_NF: Tensor, *, k: int, how: Search | None = None) -> Neighbors:
    """Return the `k` nearest rows of the bank for each query; as many as there are where the bank has fewer.

    Rows of any length; the cosine with a row of zeros is 0. `how` is the device's unless named: the neighbors are the
    same, and similarities differ by float32's rounding, which in "single" may also swap rows that are nearer each other
    than that.
    """
    k, how = min(k, len(bank_MF)), how or SEARCHES.get(bank_MF.device.type, "exact")
    keep = min(k + SPARE[how], len(bank_MF))
    score_NJ, index_NJ = _scan(bank_MF, queries_NF, keep, how)
    if how == "exact":
        return Neighbors(*_read(score_NJ))
    key_NJ = _compared(bank_MF, queries_NF, index_NJ) if how == "half" else _keys(score_NJ, index_NJ)
    key_NK = key_NJ.topk(k, dim=1).values
    if keep < len(bank_MF):
        # Whatever is no candidate was rated no higher than the last candidate: it is no nearer than that and the error.
        bound_N = score_NJ[:, -1].double() + (_error(bank_MF, queries_NF) if how == "half" else 0.0)
        unsure_N = ~(_read(key_NK)[0][:, -1].double() > bound_N)  # "not above": also where there is no number
        if unsure_N.any():
            key_NK[unsure_N] = _scan(bank_MF, queries_NF[unsure_N], k, "exact")[0]
    return Neighbors(*_read(key_NK))


def _scan(bank_MF: Tensor, queries_NF: Tensor, keep: int, how: Search) -> tuple[Tensor, Tensor]:
    """Return the `keep` highest scores [N, J] and their places [N, J].

    Scores are similarities, falling; those of the exact search are keys.
    """
    block = max(1, BANK_BYTES // (4 * bank_MF.shape[1]))
    width = min(block, len(bank_MF))
    step = max(1, _bytes(SCORE_BYTES, bank_MF) // ((32 if how == "exact" else 4) * width))
    parts = [_unit(part_QF, how) for part_QF in queries_NF.split(step)]
    memory = bank_MF.new_empty(min(step, len(queries_NF)) * width, dtype=torch.float32) if how == "single" else None
    best: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(bank_MF), block):
        rows_BF = _unit(bank_MF[start : start + block], how)
        found = [_highest(_scores(part_QF, rows_BF, start, memory), keep) for part_QF in parts]
        found = [(score_QJ, index_QJ + start) for score_QJ, index_QJ in found]
        best = [_better(*both, keep) for both in zip(best, found, strict=True)] if best else found
    return torch.cat([score_QJ for score_QJ, _ in best]), torch.cat([index_QJ for _, index_QJ in best])


def _bytes(of_device: Mapping[str, int], rows: Tensor) -> int:
    return of_device.get(rows.device.type, of_device["cpu"])


def _unit(rows_NF: Tensor, how: Search) -> Tensor:
    """Return rows of unit length in the type that a search multiplies."""
    unit_NF = functional.normalize(rows_NF.double() if how == "exact" else rows_NF.float(), dim=1)
    return unit_NF.half() if how == "half" else unit_NF


def _scores(queries_NF: Tensor, rows_BF: Tensor, start: int, memory: Tensor | None) -> Tensor:
    """Return the scores [N, B] of the rows from place `start` of the bank on, in `memory` where there is some."""
    if rows_BF.dtype == torch.float64:
        places_B = torch.arange(start, start + len(rows_BF), device=rows_BF.device)
        return _keys((queries_NF @ rows_BF.T).float(), places_B)
    if memory is not None:  # to ask the system for it anew costs a quarter of the product
        out_NB = memory[: len(queries_NF) * len(rows_BF)].view(len(queries_NF), len(rows_BF))
        return torch.mm(queries_NF, rows_BF.T, out=out_NB)
    if rows_BF.device.type != "cuda":  # the same products and the same kind of sum, where no unit is made for them
        return queries_NF.float() @ rows_BF.float().T
    backend = torch.backends.cuda.matmul
    before = backend.allow_fp16_reduced_precision_reduction
    backend.allow_fp16_reduced_precision_reduction = False  # `_error` counts on sums in float32
    try:
        return torch.mm(queries_NF, rows_BF.T, out_dtype=torch.float32)
    finally:
        backend.allow_fp16_reduced_precision_reduction = before


def _highest(score_NB: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Return the `keep` highest of each row, falling, and where they are; all where there are fewer.

    The highest are in the groups with the highest maxima: one look at all, then only those groups are sorted.
    """
    rows, width = score_NB.shape
    groups = width // _GROUP
    if groups < 4 * keep or width % _GROUP:
        top = score_NB.topk(min(keep, width), dim=1)
        return top.values, top.indices
    maximum_NG = score_NB.view(rows, _GROUP, groups).amax(dim=1)
    first_NJ = maximum_NG.topk(keep, dim=1, sorted=False).indices
    offset_G1 = groups * torch.arange(_GROUP, device=score_NB.device)[:, None]
    index_NJ = (first_NJ[:, None, :] + offset_G1).view(rows, -1)
    top = score_NB.gather(1, index_NJ).topk(keep, dim=1)
    return top.values, index_NJ.gather(1, top.indices)


def _better(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], keep: int) -> tuple[Tensor, Tensor]:
    score_NJ, index_NJ = (torch.cat(both, dim=1) for both in zip(one, other, strict=True))
    top = score_NJ.topk(min(keep, score_NJ.shape[1]), dim=1)
    return top.values, index_NJ.gather(1, top.indices)


def _compared(bank_MF: Tensor, queries_NF: Tensor, index_NJ: Tensor) -> Tensor:
    """Return the keys [N, J] of candidates, compared in float64."""
    step = max(1, _bytes(ROW_BYTES, bank_MF) // (8 * index_NJ.shape[1] * bank_MF.shape[1]))
    parts = []
    for queries_QF, index_QJ in zip(queries_NF.split(step), index_NJ.split(step), strict=True):
        rows_QJF = functional.normalize(bank_MF[index_QJ].double(), dim=2)
        parts.append(torch.bmm(rows_QJF, _unit(queries_QF, "exact")[:, :, None])[:, :, 0].float())
    return _keys(torch.cat(parts), index_NJ)


def _error(bank_MF: Tensor, queries_NF: Tensor) -> Tensor:
    """Return how far the scores of the search in half precision may be from the cosines, float64 [N].

    Rounding moves a query q and a row b to q' and b': |q'.b' - q.b| <= |q' - q| |b'| + |q| |b' - b|, and how far each
    moved is measured. A float32 sum of F products of unit rows, in any order, is off by at most F roundings (Higham,
    "Accuracy and Stability of Numerical Algorithms", section 3.1, with Cauchy and Schwarz).
    """
    queries_N, bank = _moved(queries_NF), 0.0
    for rows_BF in bank_MF.split(max(1, BANK_BYTES // (4 * bank_MF.shape[1]))):
        bank = max(bank, _moved(rows_BF).nan_to_num().max().item())  # a row without numbers is near nothing
    return queries_N * (1 + bank) + bank + 1.01 * (bank_MF.shape[1] + 2) * _ROUNDING


def _moved(rows_NF: Tensor) -> Tensor:
    """Return how far half precision moves each row of unit length, float64 [N]."""
    halves_NF, unit_NF = _unit(rows_NF, "half").double(), _unit(rows_NF, "exact")
    moved_N: Tensor = torch.linalg.vector_norm(halves_NF - unit_NF, dim=1)
    return moved_N


def _keys(similarity_NK: Tensor, index_NK: Tensor) -> Tensor:
    """Return integers in the order of the float32 similarities, of equal ones the lower place higher; all differ."""
    bits_NK = (similarity_NK + 0.0).view(torch.int32).long()  # -0 becomes 0: they are equal
    rising_NK = torch.where(bits_NK < 0, bits_NK ^ 0x7FFFFFFF, bits_NK)
    return (rising_NK << 32) | (_LOW - index_NK)


def _read(key_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the similarities and the places that keys were made of."""
    rising_NK = key_NK >> 32
    bits_NK = torch.where(rising_NK < 0, rising_NK ^ 0x7FFFFFFF, rising_NK)
    return bits_NK.int().view(torch.float32), _LOW - (key_NK & _LOW)
