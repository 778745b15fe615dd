"""Does a map point at the right place? All functions take N maps (N, rows, columns) and truth of that shape (bool)."""

from __future__ import annotations

import numpy as np


def pointing(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The pointing game: 1 where a map's peak lies in the truth, else 0; (N,).

    Tie rule: where several patches share the maximum, the score is the share of them inside the truth, so a constant
    map scores exactly `chance(truth)` and not 1.
    Source: Zhang et al. 2016, arXiv:1608.00507, without their margin of pixels.
    """
    maps, truth = np.asarray(maps, float), np.asarray(truth, bool)
    top = maps == maps.max((1, 2), keepdims=True)
    return (top & truth).sum((1, 2)) / top.sum((1, 2))


def mass(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Share of the positive relevance that lies in the truth; (N,), 0 where nothing is positive."""
    positive = np.asarray(maps, float).clip(min=0)
    total = positive.sum((1, 2))
    return np.divide((positive * truth).sum((1, 2)), total, out=np.zeros(len(positive)), where=total > 0)


def chance(truth: np.ndarray) -> np.ndarray:
    """What a constant or random map scores on average: the truth's share of the patches; (N,)."""
    return np.asarray(truth, bool).mean((1, 2))
