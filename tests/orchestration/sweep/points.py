"""Whether a point lies in a space, told from the space alone."""

from __future__ import annotations

from collections.abc import Mapping

from orchestration.document import Tree
from orchestration.sweep.space import Point, Space


def contains(space: Space, point: Mapping[str, Tree]) -> bool:
    """Return whether `point` lies in `space`: every axis that applies has a value of its own, and no other is named."""
    known: Point = {}
    for axis in space:
        if axis.applies(known) != (axis.name in point):
            return False
        if axis.name in point:
            if not axis.holds(point[axis.name]):
                return False
            known[axis.name] = point[axis.name]
    return known.keys() == point.keys()
