"""Handwritten digits, the one part of Shapeland that people drew: scikit-learn's copy of 1,797 digits by 13 writers.

The data do not say who wrote which digit, so "unseen" means digits that training never shows, perhaps by a hand that it
does. Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49 (CC BY 4.0); 8 x 8 pixels, 17 levels of ink.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SEEN = 1400          # digits that training may show; the other 397 are kept for measuring


@lru_cache(maxsize=1)
def writings() -> tuple[np.ndarray, np.ndarray]:
    """All digits in one fixed order: ink (1797, 8, 8) float32 from 0 to 1, and value (1797,) from 0 to 9.

    The first `SEEN` are the training split, whatever the seed of a run.
    """
    from sklearn.datasets import (
        load_digits,  # here, so that scenes without digits do not wait a second for the import
    )
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return (data.images[order] / 16).astype(np.float32), data.target[order]


def draw(n: int, rng: np.random.Generator, unseen: bool = False) -> np.ndarray:
    """Draw `n` digits: their indices into `writings()`, from the training split or from the unseen rest."""
    low, high = (SEEN, len(writings()[1])) if unseen else (0, SEEN)
    return rng.integers(low, high, n)


def coverage(writing: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Ink at the given places of each digit, 0 to 1, bilinear between its pixels.

    writing: (D,) indices.  u, v: (D, H, W) offsets from the digit's centre; it fills -1 to 1.
    """
    ink = np.pad(writings()[0][writing], ((0, 0), (1, 2), (1, 2)))          # an empty frame, so that nothing wraps round
    x, y = (np.clip((w + 1) * 4 + 0.5, 0, 8.999) for w in (u, v))           # place in the framed 8 x 8 pixels
    left, top = x.astype(int), y.astype(int)
    x, y, d = x - left, y - top, np.arange(len(writing))[:, None, None]
    return ((ink[d, top, left] * (1 - x) + ink[d, top, left + 1] * x) * (1 - y)
            + (ink[d, top + 1, left] * (1 - x) + ink[d, top + 1, left + 1] * x) * y).astype(np.float32)
