"""Intervals for means over samples."""

from __future__ import annotations

import numpy as np


def interval(values, draws: int = 4000, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and percentile bootstrap interval over samples: (mean, low, high).

    values: (N,) one number per independent sample.  Raises ValueError when there is none.
    """
    values = np.asarray(values, float)
    if values.size == 0:
        raise ValueError("an interval needs at least one value")
    rng = np.random.default_rng(seed)
    means = np.concatenate([values[rng.integers(len(values), size=(draws // 20, len(values)))].mean(1) for _ in range(20)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)
