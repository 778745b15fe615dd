"""Cells of a picture and which of them its image tokens cover: what the rules of `mini_lib.grids` are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .refusal import Refusal
from .views import View


@dataclass(frozen=True)
class Grid:
    """The cells of one picture, and which of them each of its image tokens covers.

    shape: (rows, columns).  boxes: (rows * columns, 4) left, top, right, bottom of each cell in the user's own pixels.
    tokens: how many image tokens the picture has.  cover: three arrays (N,), a token, a cell of it, and the share of the token
    that lies there; a token's shares sum to 1, and one that covers no cell is not there; None where token k is cell k.  why: where tokens stand for no place, the reason; otherwise "".
    """

    shape: tuple[int, int]
    boxes: np.ndarray
    tokens: int
    cover: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    why: str = ""

    def spread(self, values: np.ndarray) -> np.ndarray:
        """One value per image token (..., tokens) -> (..., rows, columns); a token's is shared among its cells by area.

        Sums are kept, but for tokens that cover no cell.  Raises Refusal where tokens stand for no place.
        """
        self.placed()
        values = np.asarray(values)
        if self.cover is not None:
            tokens, cells, shares = self.cover
            spread = np.zeros((*values.shape[:-1], len(self.boxes)))
            np.add.at(spread, (..., cells), values[..., tokens] * shares)
            values = spread
        return values.reshape(*values.shape[:-1], *self.shape)

    def finest(self) -> np.ndarray:
        """(rows, columns) for each cell, the image token of which most lies there: a tile's own, not that of a thumbnail."""
        self.placed()
        found = np.arange(len(self.boxes))
        if self.cover is not None:
            tokens, cells, shares = (one[np.argsort(self.cover[2], kind="stable")] for one in self.cover)
            found[cells] = tokens                                    # the largest share comes last, and stays
        return found.reshape(self.shape)

    def cells(self, token: int) -> np.ndarray:
        """Indices of the cells that an image token covers; none for a newline."""
        self.placed()
        return np.array([token]) if self.cover is None else self.cover[1][self.cover[0] == token]

    def placed(self) -> None:
        """Raises Refusal where tokens stand for no place."""
        if self.why:
            raise Refusal(f"The image tokens of this model cannot be laid on the picture: {self.why}. Methods that cover parts of the "
                          "picture (occlusion, rise, shapley, modality-shares) work.")


def lattice(box, rows: int, columns: int) -> np.ndarray:
    """(rows * columns, 4) boxes of equal cells in a box (left, top, right, bottom), in reading order."""
    left, top, right, bottom = box
    xs, ys = left + (right - left) * np.arange(columns + 1) / columns, top + (bottom - top) * np.arange(rows + 1) / rows
    return np.array([[xs[c], ys[r], xs[c + 1], ys[r + 1]] for r in range(rows) for c in range(columns)])


def trimmed(box, side: int, size: tuple[int, int]) -> Grid:
    """The grid of a view of side x side tokens at `box`, without rows and columns that show next to nothing but padding."""
    kept = []
    for axis in (0, 1):
        edges = np.linspace(box[axis], box[axis + 2], side + 1)
        inside = np.clip(edges, 0, size[axis])
        kept.append(np.flatnonzero(np.diff(inside) > 0.1 * np.diff(edges)))
    columns, rows = kept
    boxes = clipped(lattice(box, side, side), size)
    if len(rows) == len(columns) == side:
        return Grid((side, side), boxes, side * side)
    tokens = (rows[:, None] * side + columns).ravel()
    cells = np.full(side * side, -1)
    cells[tokens] = np.arange(len(tokens))
    return Grid((len(rows), len(columns)), boxes[tokens], side * side, joined([ones(cells)]))


def edges(boxes: list[tuple], axis: int, size: tuple[int, int]) -> np.ndarray:
    """Where tiles begin and end along an axis, each place once: measured edges of neighbours differ by a hair."""
    ends = np.sort([end for box in boxes for end in (box[axis], box[axis + 2])])
    groups = np.split(ends, np.flatnonzero(np.diff(ends) > 0.02 * size[axis]) + 1)
    return np.array([group.mean() for group in groups])


def covering(parts: list[View], boxes: list[tuple], side: int, size: tuple[int, int]) -> Grid:
    """The grid of tiles (`parts`) of side x side tokens, for the tokens of all views at `boxes`."""
    xs, ys = (edges([view.box for view in parts], axis, size) for axis in (0, 1))
    if (len(xs) - 1) * (len(ys) - 1) != len(parts):
        raise Refusal(f"The {len(parts)} tiles of the picture do not stand in rows and columns, so they cannot be laid on one grid.")
    rows, columns = side * (len(ys) - 1), side * (len(xs) - 1)
    across, down = (np.concatenate([np.linspace(a, b, side, endpoint=False) for a, b in zip(ends[:-1], ends[1:])] + [ends[-1:]])
                    for ends in (xs, ys))
    cells = np.array([[across[c], down[r], across[c + 1], down[r + 1]] for r in range(rows) for c in range(columns)])
    own, blocks = np.arange(rows * columns).reshape(rows, columns), []
    for box in boxes:
        column, row = (int(abs(ends[:-1] - box[axis]).argmin()) for axis, ends in ((0, xs), (1, ys)))
        tile = xs[column], ys[row], xs[column + 1], ys[row + 1]
        if np.allclose(tile, box, atol=0.02 * max(size)):             # a tile's own cells, exactly
            blocks.append(ones(own[row * side:(row + 1) * side, column * side:(column + 1) * side].ravel()))
        else:
            blocks.append(shares(lattice(box, side, side), cells))
    cover, tokens = joined(blocks), side * side * len(boxes)
    same = tokens == rows * columns and np.array_equal(cover[0], cover[1])
    return Grid((rows, columns), clipped(cells, size), tokens, None if same else cover)


def ones(cells: np.ndarray) -> tuple:
    """The cover of tokens that have one cell each, or -1 for none; and how many tokens these are."""
    placed = np.flatnonzero(cells >= 0)
    return placed, cells[placed], np.ones(len(placed)), len(cells)


def shares(tokens: np.ndarray, cells: np.ndarray) -> tuple:
    """The same for tokens and cells at boxes (…, 4): the share of a token's area on the picture that lies in each cell."""
    over = [np.clip(np.minimum(tokens[:, None, k + 2], cells[None, :, k + 2]) - np.maximum(tokens[:, None, k], cells[None, :, k]), 0, None)
            for k in (0, 1)]
    area = over[0] * over[1]                                          # (tokens, cells)
    total = area.sum(1, keepdims=True)
    shares = np.divide(area, total, out=np.zeros_like(area), where=total > 1e-9)
    return *np.nonzero(shares), shares[shares > 0], len(tokens)


def joined(blocks: list[tuple]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covers of tokens that follow one another as one."""
    starts = np.cumsum([0, *(block[3] for block in blocks)])
    return (np.concatenate([block[0] + start for block, start in zip(blocks, starts)]),
            *(np.concatenate([block[k] for block in blocks]) for k in (1, 2)))


def padding(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    """How many rows at the top and at the bottom, and columns on each side, of a padded grid show no picture."""
    width, height = size
    if width / height > columns / rows:
        return (rows - int(round(height * columns / width, 7))) // 2, 0
    return 0, (columns - int(round(width * rows / height, 7))) // 2


def clipped(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The boxes, cut off where they reach beyond the picture."""
    return np.clip(boxes, 0, [*size, *size])


def squares(grid: Grid, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All squares of `size` x `size` cells, one step apart: their cells (N, cells) and the tokens that cover any of them (N, P), bool."""
    high, wide = (min(size, side) for side in grid.shape)
    index = np.arange(len(grid.boxes)).reshape(grid.shape)
    chosen = [index[r:r + high, c:c + wide].ravel() for r in range(grid.shape[0] - high + 1) for c in range(grid.shape[1] - wide + 1)]
    cells = np.array([np.isin(index.ravel(), one) for one in chosen])
    covering = np.zeros((grid.tokens, len(grid.boxes)), bool)                            # a thumbnail's tokens show the place too
    for token in range(grid.tokens):
        covering[token, grid.cells(token)] = True
    return cells, cells @ covering.T
