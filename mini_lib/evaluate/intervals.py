"""Means over samples with their intervals, as numbers and as text."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np


def interval(values, draws: int = 4000, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """Mean over samples and its interval: (mean, low, high).

    values: (N,) one number per independent sample.  Raises ValueError when there is none.
    Right-or-wrong values (all 0 or 1) get Wilson's interval (1927), which stays honest at 0 % and 100 %; any others a
    percentile bootstrap, with `draws` draws under a fixed seed.
    """
    values = np.asarray(values, float)
    if values.size == 0:
        raise ValueError("an interval needs at least one value")
    if np.isin(values, (0, 1)).all():
        n, mean, z = len(values), values.mean(), NormalDist().inv_cdf((1 + level) / 2)
        centre, spread = mean + z * z / (2 * n), z * np.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
        low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
        return float(mean), float(max(0.0, low)), float(min(1.0, high))
    rng = np.random.default_rng(seed)
    means = np.concatenate([values[rng.integers(len(values), size=(draws // 20, len(values)))].mean(1) for _ in range(20)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)


def say(values, form: str = ".0%") -> str:
    """The mean, its 95 % interval and n as text: "83% (72% to 91%, n = 60)". form: how each number is written."""
    texts = [format(number, form) for number in interval(values)]
    # "-0.0" is a rounding error with a sign, and the sign differs between processors.
    mean, low, high = (text if text.strip("+-0.%") else text.lstrip("-") for text in texts)
    return f"{mean} ({low} to {high}, n = {len(values)})"
