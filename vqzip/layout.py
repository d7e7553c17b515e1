"""How a code map lies in memory while it goes through the prior, and the order of its positions.

A map is cut into tiles whose contexts do not cross.  All positions of a wavefront step (the same
`x + 2 y` within their tile) are independent of each other.  A *cell* holds one position: cells lie
step by step, in a step by tile, in a tile by row, under a margin of rows that stay zero.  So the
neighbours of a position are at the same distances everywhere, and what is outside of the tile or
not known yet is zero.

Nothing looks back farther than `REACH` steps: with a `window` of steps, cells are used anew in
turn, and memory does not grow with the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

MARGIN = 2  # rows above a tile
REACH = 6  # steps from two columns to the left, two rows up


def causal(radius: int, inclusive: bool) -> list[tuple[int, int]]:
    """Rows and columns from a position to the taps of its causal kernel, in the order of weights.

    Rows from the top, each from the left; to the right no farther than rows up, for the wavefront.
    """
    offsets = [
        (-up, across)
        for up in range(radius, 0, -1)
        for across in range(-radius, min(radius, up) + 1)
    ]
    return offsets + [(0, across) for across in range(-radius, 1 if inclusive else 0)]


@dataclass(frozen=True)
class Layout:
    """The cells of a map, and the order in which positions are coded."""

    height: int
    width: int
    tile: int
    window: int | None = None
    """Steps beyond `REACH` that are held at once; None for all."""

    @cached_property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.height // self.tile), -(-self.width // self.tile)

    @property
    def _rows(self) -> int:
        return min(self.tile, self.height) + MARGIN

    @property
    def _pace(self) -> int:
        """Steps from a row to the next; with one column there would be none at every other."""
        return 2 if min(self.tile, self.width) > 1 else 1

    @property
    def lines(self) -> int:
        """Cells of a step."""
        return self.tiles[0] * self.tiles[1] * self._rows

    @property
    def steps(self) -> int:
        """Steps of the wavefront."""
        return min(self.tile, self.width) + self._pace * (min(self.tile, self.height) - 1)

    @property
    def held(self) -> int:
        """Steps there are cells for."""
        return REACH + min(self.window or self.steps, self.steps)

    @property
    def cells(self) -> int:
        """Rows of an array that holds the laid-out map."""
        return self.lines * self.held

    @cached_property
    def order(self) -> tuple[Ints, Ints, Ints]:
        """Cells and indices into the plain map in coding order, and each step's start.

        Ordered by wavefront step, then by tile, then by row.
        """
        y, x = np.divmod(np.arange(self.height * self.width), self.width)
        tile_y, local_y = np.divmod(y, self.tile)
        tile_x, local_x = np.divmod(x, self.tile)
        line = (tile_y * self.tiles[1] + tile_x) * self._rows + local_y + MARGIN
        step = local_x + self._pace * local_y
        order = np.argsort(step * self.lines + line)
        line, step = line[order], step[order]
        starts = np.searchsorted(step, np.arange(self.steps + 1))
        return (step + REACH) % self.held * self.lines + line, order, starts

    def runs(self, most: int, first: int = 0, last: int | None = None) -> Iterator[tuple[int, int]]:
        """Runs of steps, first and end: about so many positions, and no more than are held.

        Of all steps, or of those from `first` on that come before `last`.
        """
        starts, begin = self.order[2], first
        last = self.steps if last is None else last
        for end in range(first + 1, last + 1):
            full = end == last or starts[end + 1] - starts[begin] > most
            if full or end - begin == self.held - REACH:
                yield begin, end
                begin = end

    def reused(self, begin: int, end: int) -> Ints:
        """Of the cells by step, those that these steps take over from others (steps,)."""
        return (np.arange(max(begin, self.held - REACH), end) + REACH) % self.held

    def taps(self, radius: int, inclusive: bool) -> Ints:
        """Distances to the cells of a causal kernel's taps, as `causal` orders them.

        Beyond the first cell they go on from the last.
        """
        return np.array(
            [(x + self._pace * y) * self.lines + y for y, x in causal(radius, inclusive)]
        )
