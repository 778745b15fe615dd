"""Cooperative games: what each player brings, from the value of sets of players.

    phi_i = sum over S without i of  |S|! (n - |S| - 1)! / n!  (v(S + i) - v(S))

v(S): the value of a set, for instance the log-probability of an answer when only these parts of the prompt are there.  n: players.
`shared` asks all 2^n sets where they are few, and otherwise as many as it is given, for KernelSHAP's least-squares fit

    min over phi of  sum over sampled S  (v(S) - v(none) - sum of phi_i in S)^2,   with all phi adding up to the gap,

sizes of S drawn by (n - 1) / (|S| (n - |S|)), each S together with its complement.

Sources: Shapley 1953; KernelSHAP: Lundberg and Lee 2017, arXiv:1705.07874, theorem 2.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np


def shared(value: Callable, n: int, samples: int, exact: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values phi (n,) of a game, the sets (K, n) bool that were asked, none first and all last, and their scores (K,).

    value: takes sets (K, n) bool and gives (K,).  samples: sets to ask, where these are not all.  exact: ask all 2^n, in any case.
    """
    if exact or 2 ** n - 2 <= samples:
        sets = every_set(n)
        scores = value(sets)
        weights = np.array([0.0, *((n - 1) / (comb(n, s) * s * (n - s)) for s in range(1, n)), 0.0])[sets.sum(1)]
    else:
        sets = sampled(n, samples, np.random.default_rng(seed))
        scores, weights = value(sets), np.r_[0.0, np.ones(len(sets) - 2), 0.0]
    return by_definition(sets, scores) if exact else fitted(sets, scores, weights), sets, scores


def every_set(n: int) -> np.ndarray:
    """(2^n, n) bool: all sets in the order of their binary numbers, none first and all last."""
    return (np.arange(2 ** n)[:, None] >> np.arange(n) & 1).astype(bool)


def by_definition(sets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """phi (n,) from the scores of all 2^n sets, in the order of their binary numbers."""
    n, sizes, numbers = sets.shape[1], sets.sum(1), np.arange(len(sets))
    share = np.array([1 / (n * comb(n - 1, s)) for s in range(n)])
    return np.array([(share[sizes[without]] * (scores[without | 1 << i] - scores[without])).sum()
                     for i in range(n) for without in [numbers[~sets[:, i]]]])


def fitted(sets: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """phi (n,) by weighted least squares under the constraint that they add up to the gap; none comes first, all last."""
    gap = scores[-1] - scores[0]
    # The last share is the gap less the others: that turns the constraint into a plain fit.
    design, wanted = sets[:, :-1].astype(float) - sets[:, -1:], scores - scores[0] - sets[:, -1] * gap
    root = np.sqrt(weights)
    most = np.linalg.lstsq(design * root[:, None], wanted * root, rcond=None)[0]
    return np.r_[most, gap - most.sum()]


def sampled(n: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """(about samples, n) bool: none, then random sets with their complements, then all."""
    sizes = np.arange(1, n)
    chances = (n - 1) / (sizes * (n - sizes))
    size = rng.choice(sizes, (samples - 2) // 2, p=chances / chances.sum())
    half = np.argsort(rng.random((len(size), n)), 1).argsort(1) < size[:, None]
    return np.concatenate([np.zeros((1, n), bool), half, ~half, np.ones((1, n), bool)])


def redrawn(sets: np.ndarray, scores: np.ndarray, draws: int, seed: int = 0) -> np.ndarray:
    """(draws, n) phi of sampled sets whose pairs were drawn anew, with replacement: how far the sample of sets moves them."""
    rng, pairs = np.random.default_rng(seed), len(sets) // 2 - 1
    picks = 1 + rng.integers(pairs, size=(draws, pairs))
    rows = np.concatenate([np.zeros((draws, 1), int), picks, picks + pairs, np.full((draws, 1), len(sets) - 1)], 1)
    return np.array([fitted(sets[row], scores[row], np.r_[0.0, np.ones(len(row) - 2), 0.0]) for row in rows])


def blocks(grid: tuple[int, int], size: int) -> list[np.ndarray]:
    """The grid cut into squares of `size` x `size` patches: arrays of patch indices."""
    rows, columns = grid
    owner = np.arange(rows)[:, None] // size * -(-columns // size) + np.arange(columns) // size
    return [np.flatnonzero(owner.ravel() == k) for k in range(owner.max() + 1)]
