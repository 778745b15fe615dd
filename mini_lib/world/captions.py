"""Texts about a whole scene: the caption that a reader asks for, and two denser ones that help `tiny` to learn."""

from __future__ import annotations

import numpy as np

from .questions import MARGIN, NUMBERS, _unique
from .scenes import COLORS, GRID, MOST, NOUNS, PATCH, RADII, SIZES, Scenes

CAPTION = "describe the picture ."
LIST = "list the objects ."
COMPARE = "compare the objects ."


def captions(scenes: Scenes, rng: np.random.Generator | int = 0, phantoms: list[str | None] | None = None,
             left_to_right: bool = False) -> list[str]:
    """Describe every scene: objects in random order, each as "a red star" or "a star red".

    phantoms: for each scene one more object to name ("red cross") that need not be there, or None.
    left_to_right: in this order, each as "a red star".

    Both orders on purpose, and nothing between the two words: the second word can only be said by looking the object up
    by the first. In reading order from the start, or with filler words between, training stalls; later on it does no harm.
    """
    rng = np.random.default_rng(rng)
    order, flip = np.argsort(rng.random(scenes.shape.shape), 1), rng.random(scenes.shape.shape) < 0.5
    if left_to_right:
        order, flip = np.argsort(scenes.x, 1), np.zeros_like(flip)
    turn, place = rng.random((2, len(scenes))) if phantoms else (None, None)
    texts = []
    for i in range(len(scenes)):
        parts = []
        for k in order[i]:
            if scenes.present[i, k]:
                color, shape = COLORS[scenes.color[i, k]], NOUNS[scenes.shape[i, k]]
                parts.append(f"a {shape} {color}" if flip[i, k] else f"a {color} {shape}")
        if phantoms and phantoms[i]:
            named = phantoms[i].split()[::-1 if turn[i] < 0.5 else 1]
            parts.insert(int(place[i] * (len(parts) + 1)), " ".join(["a", *named]))
        texts.append(" , ".join(parts) + " .")
    return texts


def lists(scenes: Scenes, rng: np.random.Generator | int = 0) -> list[str]:
    """List all that is true of every object, in random order: "star red small 3 5 , digit blue large 7 2 nine .".

    After each noun follow its colour, size, column and row, and after a handwritten digit the number it shows. A
    stepping stone: a question asks for one of them of one object, a list for all of them of all objects at once.
    """
    order = np.argsort(np.random.default_rng(rng).random(scenes.shape.shape), 1)
    column, row = ((at // PATCH).clip(0, GRID - 1).astype(int) + 1 for at in (scenes.x, scenes.y))
    size, value, texts = (scenes.radius == RADII[1]).astype(int), scenes.value, []
    for i in range(len(scenes)):
        said = [[NOUNS[scenes.shape[i, k]], COLORS[scenes.color[i, k]], SIZES[size[i, k]], str(column[i, k]), str(row[i, k]),
                 *([NUMBERS[value[i, k]]] if value[i, k] >= 0 else [])] for k in order[i] if scenes.present[i, k]]
        texts.append(" , ".join(map(" ".join, said)) + " .")
    return texts


def comparisons(scenes: Scenes, rng: np.random.Generator | int = 0, most: int = 3) -> list[str]:
    """Say of up to `most` pairs of objects where the first lies seen from the second: "star ring left above , … .".

    Only of nouns that name one object, and only directions in which the two are `MARGIN` apart. The stepping stone to
    relations: both nouns come first, so each direction is one comparison. "." where there is nothing to compare.
    """
    rng, unique = np.random.default_rng(rng), _unique(scenes.shape, scenes.present)
    order = np.argsort(rng.random((len(scenes), MOST * MOST)), 1)
    texts = []
    for i in range(len(scenes)):
        said = []
        for a, b in (divmod(pair, MOST) for pair in order[i]):
            dx, dy = scenes.x[i, a] - scenes.x[i, b], scenes.y[i, a] - scenes.y[i, b]
            words = [("left", "right")[int(dx > 0)]] * int(abs(dx) >= MARGIN) + [("above", "below")[int(dy > 0)]] * int(abs(dy) >= MARGIN)
            if a != b and unique[i, a] and unique[i, b] and words and len(said) < most:
                said.append(" ".join([NOUNS[scenes.shape[i, a]], NOUNS[scenes.shape[i, b]], *words]))
        texts.append(" , ".join(said) + " .")
    return texts
