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
    tokens) is summed into measured["elsewhere"], so that nothing is lost.
    """
    values, tokens = np.asarray(values, float), prompt.tokens
    image = values[tokens.image.numpy()]
    words = tuple((word, float(values[positions].sum())) for word, positions in tokens.words)
    rest = values.sum() - image.sum() - sum(value for _, value in words)
    return PatchMap(image.reshape(tokens.grid), unit, prompt.picture, tokens.boxes, prompt.question, target.text, method,
                    {**measured, "elsewhere": float(f"{rest:.4g}")}, words)


@dataclass(frozen=True)
class LensGrid:
    """What each image token says at each layer, read through the model's own unembedding.

    words: (layers, rows, columns) the likeliest word; chance: the same shape, its probability.
    word_chance: (layers, rows, columns) probability of `target`.  layers: their names, "embed" first.
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

    def __repr__(self) -> str:
        layer, row, column = np.unravel_index(self.word_chance.argmax(), self.word_chance.shape)
        return (f"LensGrid({self.method}, {len(self.layers)} layers of {self.words.shape[1]} x {self.words.shape[2]} patches; "
                f"the probability of {self.target!r} is highest at {self.layers[layer]}, row {row + 1}, column {column + 1}: "
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
        return {"method": self.method, "question": self.question, "target": self.target, "layers": self.layers,
                "words": self.words.tolist(), "probabilities": _short(self.chance),
                "target_probabilities": _short(self.word_chance),
                "boxes": np.round(self.boxes, 2).tolist(), "measured": self.measured}


def _short(values: np.ndarray) -> list:
    """Nested lists of four significant digits; a fixed number of decimals would turn a weak map into zeros."""
    return np.reshape([float(f"{value:.4g}") for value in np.ravel(values)], np.shape(values)).tolist()
