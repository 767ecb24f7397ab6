"""Rectangles of a frame, in pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """Rows ``y0`` up to but not including ``y1``, columns ``x0`` up to but not including ``x1``; from 0."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def area(self) -> int:
        return max(0, self.y1 - self.y0) * max(0, self.x1 - self.x0)

    def clipped(self, rows: int, columns: int) -> Box:
        """The part of it that lies in a frame; an empty box where there is none."""
        y0, x0 = min(max(self.y0, 0), rows), min(max(self.x0, 0), columns)
        return Box(y0, x0, max(y0, min(self.y1, rows)), max(x0, min(self.x1, columns)))

    def grown(self, by: int) -> Box:
        """Wider by ``by`` pixels on each side; may leave the frame."""
        return Box(self.y0 - by, self.x0 - by, self.y1 + by, self.x1 + by)

    def touches(self, other: Box) -> bool:
        """Whether they share a pixel."""
        return self.y0 < other.y1 and other.y0 < self.y1 and self.x0 < other.x1 and other.x0 < self.x1


def merged(boxes: Iterable[Box]) -> list[Box]:
    """Boxes that cover at least the same pixels, none of them touching another; sorted."""
    done: list[Box] = []
    for box in boxes:
        if not box.area:
            continue
        current = box
        while hits := [one for one in done if one.touches(current)]:
            done = [one for one in done if one not in hits]
            group = [current, *hits]
            current = Box(
                min(one.y0 for one in group),
                min(one.x0 for one in group),
                max(one.y1 for one in group),
                max(one.x1 for one in group),
            )
        done.append(current)
    return sorted(done)


def outside(keep: Sequence[Box], rows: int, columns: int) -> list[Box]:
    """Boxes that cover exactly the pixels of a frame that lie in none of ``keep``, without overlap; sorted.

    At most (2n + 1)² boxes for n kept ones.
    """
    inside = [box for box in (one.clipped(rows, columns) for one in keep) if box.area]
    edges_y = sorted({0, rows, *(edge for box in inside for edge in (box.y0, box.y1))})
    found: list[Box] = []
    for y0, y1 in itertools.pairwise(edges_y):
        # Within a band between two edges, what is kept does not change from row to row.
        x = 0
        for left, right in sorted((box.x0, box.x1) for box in inside if box.y0 <= y0 and box.y1 >= y1):
            if left > x:
                found.append(Box(y0, x, y1, left))
            x = max(x, right)
        if x < columns:
            found.append(Box(y0, x, y1, columns))
    return found
