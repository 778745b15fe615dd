"""What methods return: plain numbers with what is needed to read them. Each can plot(), to_dict() and explore()."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class PatchMap:
    """One number per patch of a picture.

    values: (rows, columns).  unit: what the numbers are.  boxes: (rows * columns, 4) pixels of each patch.
    target: the word or answer explained.  measured: further numbers, such as the passes it took.
    words: the same for each word of the question, (word, value); empty where the method says nothing of words.
    """

    values: np.ndarray
    unit: str
    picture: Image.Image
    boxes: np.ndarray
    question: str
    target: str
    method: str
    measured: dict = field(default_factory=dict)
    words: tuple[tuple[str, float], ...] = ()

    def __repr__(self) -> str:
        row, column = self.peak
        return (f"PatchMap({self.method}, {self.target!r}: peak {self.values.max():.3g} {self.unit} "
                f"at row {row + 1}, column {column + 1} of {self.values.shape[0]} x {self.values.shape[1]})")

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the largest value, the first one in reading order if several tie."""
        return tuple(int(i) for i in np.unravel_index(self.values.argmax(), self.values.shape))

    def plot(self, truth: np.ndarray | None = None):
        """A figure: the picture, and the map over it; `truth` (H, W) bool is outlined."""
        from .show import static
        return static.patch_map(self, truth)

    def explore(self):
        """An interactive figure: a slider moves through the patches, strongest first."""
        from .show import interactive
        return interactive.patch_map(self)

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        return {"method": self.method, "question": self.question, "target": self.target, "unit": self.unit,
                "peak": list(self.peak), "values": _short(self.values),
                **({"words": [[word, float(f"{value:.4g}")] for word, value in self.words]} if self.words else {}),
                "boxes": np.round(self.boxes, 2).tolist(), "measured": self.measured}


def patch_map(values: np.ndarray, prompt, target, unit: str, method: str, measured: dict) -> PatchMap:
    """The PatchMap of a prompt from one number per position of its sequence.

    values: (T,) or longer. The words' values are summed over their tokens; what lies elsewhere (the chat form, forced
    tokens, newlines between rows of the picture) is summed into measured["elsewhere"], so that nothing is lost.
    """
    values, tokens = np.asarray(values, float), prompt.tokens
    image = tokens.on_grid(values[tokens.image.numpy()])
    words = tuple((word, float(values[positions].sum())) for word, positions in tokens.words)
    rest = values.sum() - image.sum() - sum(value for _, value in words)
    return PatchMap(image, unit, prompt.picture, tokens.boxes, prompt.question, target.text, method,
                    {**measured, "elsewhere": float(f"{rest:.4g}")}, words)


@dataclass(frozen=True)
class LensGrid:
    """What each image token says at each layer.

    words: (layers, rows, columns) the likeliest word; chance: the same shape, its probability.
    word_chance: (layers, rows, columns) probability of `target`.  layers: their names, "embed" first.
    unit: what `chance` and `word_chance` are, from 0 to 1, where they are no probabilities.
    """

    words: np.ndarray
    chance: np.ndarray
    word_chance: np.ndarray
    layers: list[str]
    picture: Image.Image
    boxes: np.ndarray
    question: str
    target: str
    method: str
    measured: dict = field(default_factory=dict)
    unit: str = "probability"

    def __repr__(self) -> str:
        layer, row, column = np.unravel_index(self.word_chance.argmax(), self.word_chance.shape)
        return (f"LensGrid({self.method}, {len(self.layers)} layers of {self.words.shape[1]} x {self.words.shape[2]} patches; "
                f"the {self.unit} of {self.target!r} is highest at {self.layers[layer]}, row {row + 1}, column {column + 1}: "
                f"{self.word_chance.max():.3g})")

    def plot(self, layer: int = -1):
        """A figure: the picture, and each patch's likeliest word at one layer."""
        from .show import static
        return static.lens_grid(self, layer)

    def explore(self):
        """An interactive figure: a slider moves through the layers."""
        from .show import interactive
        return interactive.lens_grid(self)

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        return {"method": self.method, "question": self.question, "target": self.target, "unit": self.unit, "layers": self.layers,
                "words": self.words.tolist(), "probabilities": _short(self.chance),
                "target_probabilities": _short(self.word_chance),
                "boxes": np.round(self.boxes, 2).tolist(), "measured": self.measured}


@dataclass(frozen=True)
class Curves:
    """Lines over the same points, such as layers, doses or shots: one number for each line and point.

    values: (lines, points).  lines, points: their names; axis: what the points are.  low, high: (lines, points) ends of the
    intervals, where there are any.  target, question: as of a map, where one prompt was explained.
    """

    values: np.ndarray
    lines: list[str]
    points: list[str]
    axis: str
    unit: str
    method: str
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    question: str = ""
    target: str = ""
    measured: dict = field(default_factory=dict)

    def __repr__(self) -> str:
        ends = "; ".join(f"{name} {row[0]:.3g} to {row[-1]:.3g}" for name, row in zip(self.lines, self.values))
        return f"Curves({self.method}, {self.unit} at {len(self.points)} points of {self.axis}: {ends})"

    def plot(self):
        """A figure: every line over the points, with its intervals."""
        from .show import static
        return static.curves(self)

    def explore(self):
        """An interactive figure: a slider moves through the points and shows each line's value there."""
        from .show import interactive
        return interactive.curves(self)

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        ends = {} if self.low is None else {"low": _short(self.low), "high": _short(self.high)}
        return {"method": self.method, "question": self.question, "target": self.target, "unit": self.unit, "axis": self.axis,
                "lines": self.lines, "points": self.points, "values": _short(self.values), **ends, "measured": self.measured}


@dataclass(frozen=True)
class Matrix:
    """One number for each pair of a row and a column: words against words, heads of each layer, layers against layers.

    values: (rows, columns).  rows, columns: their names; axes: what rows and columns are.
    target, question: as of a map, where one prompt was explained.
    """

    values: np.ndarray
    rows: list[str]
    columns: list[str]
    axes: tuple[str, str]
    unit: str
    method: str
    question: str = ""
    target: str = ""
    measured: dict = field(default_factory=dict)

    def __repr__(self) -> str:
        row, column = np.unravel_index(self.values.argmax(), self.values.shape)
        return (f"Matrix({self.method}, {len(self.rows)} {self.axes[0]} x {len(self.columns)} {self.axes[1]}: {self.unit} is largest at "
                f"{self.rows[row]}, {self.columns[column]}: {self.values.max():.3g})")

    def plot(self):
        """A figure: the values as colours, red above 0 and blue below."""
        from .show import static
        return static.matrix(self)

    def explore(self):
        """An interactive figure: a slider moves through the rows and shows each one's values."""
        from .show import interactive
        return interactive.matrix(self)

    def to_dict(self) -> dict:
        """Plain data for JSON."""
        return {"method": self.method, "question": self.question, "target": self.target, "unit": self.unit, "axes": list(self.axes),
                "rows": self.rows, "columns": self.columns, "values": _short(self.values), "measured": self.measured}


def _short(values: np.ndarray) -> list:
    """Nested lists of four significant digits; a fixed number of decimals would turn a weak map into zeros."""
    return np.reshape([float(f"{value:.4g}") for value in np.ravel(values)], np.shape(values)).tolist()
