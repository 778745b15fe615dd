"""How alike are two maps? Both functions take N pairs of any one shape (N, ...) and give (N,)."""

from __future__ import annotations

import numpy as np


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each pair, ties by their mean rank: 1 the same order, -1 the reverse.

    Floor: two independent random orders of P patches have mean 0 and spread 1 / sqrt(P - 1).
    A constant map has no order, so the usual formula says 0 / 0. Here a constant map and another constant map count as
    the same (1), and a constant map and one that varies as unrelated (0): a method that always gives a constant map must
    not pass as one whose map changed.  Raises ValueError as `_pairs` does.
    """
    maps, others = (np.array([_ranks(row) for row in part]).reshape(part.shape) for part in _pairs(maps, others))
    maps, others = maps - maps.mean(1, keepdims=True), others - others.mean(1, keepdims=True)
    sizes, other_sizes = np.sqrt((maps**2).sum(1)), np.sqrt((others**2).sum(1))
    same = ((sizes == 0) & (other_sizes == 0)).astype(float)
    return np.divide((maps * others).sum(1), sizes * other_sizes, out=same, where=(sizes > 0) & (other_sizes > 0))


def cosine_distance(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """1 - cosine of each pair: 0 the same up to scale, 1 at right angles, 2 opposite.

    Unlike the rank correlation it looks at heights: a change among patches near 0 hardly counts.
    Two maps of zeros are the same (0); one of zeros and another are unrelated (1).  Raises ValueError as `_pairs` does.
    """
    maps, others = _pairs(maps, others)
    sizes, other_sizes = np.sqrt((maps**2).sum(1)), np.sqrt((others**2).sum(1))
    same = ((sizes == 0) & (other_sizes == 0)).astype(float)
    return 1 - np.divide((maps * others).sum(1), sizes * other_sizes, out=same, where=(sizes > 0) & (other_sizes > 0))


def _ranks(row: np.ndarray) -> np.ndarray:
    """(P,) places from 1 on, lowest value first; equal values share their mean place."""
    _, where, times = np.unique(row, return_inverse=True, return_counts=True)
    return (times.cumsum() - (times - 1) / 2)[where]


def _pairs(maps, others) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N, P) floats. Raises ValueError for two shapes, or values that are not finite."""
    maps, others = np.asarray(maps, float), np.asarray(others, float)
    if maps.shape != others.shape:
        raise ValueError(f"maps of two shapes, {maps.shape} and {others.shape}, cannot be compared")
    if not (np.isfinite(maps).all() and np.isfinite(others).all()):
        raise ValueError("a map holds values that are not finite")
    shape = len(maps), int(np.prod(maps.shape[1:]))              # no -1: there may be no pair at all
    return maps.reshape(shape), others.reshape(shape)
