"""scikit-learn and scipy: fits, areas, overlaps, ranks and intervals."""

import numpy as np

from mini_lib import games
from mini_lib.evaluate import cosine_distance, curves, interval, iou, rank_correlation

from .pairs import pair


@pair("sklearn", "games.fitted", "LinearRegression, weighted", 1e-6)
def least_squares(on):
    """KernelSHAP of a random game of seven players. scikit-learn is given the constraint as two sets of overwhelming weight."""
    from math import comb

    from sklearn.linear_model import LinearRegression
    n, sets = 7, games.every_set(7)
    scores, sizes = np.random.default_rng(0).normal(size=len(sets)), sets.sum(1)
    weights = np.array([0.0 if s in (0, n) else (n - 1) / (comb(n, s) * s * (n - s)) for s in sizes])
    found = LinearRegression().fit(sets, scores, np.where(weights == 0, 1e8, weights))
    return games.fitted(sets, scores, weights), found.coef_


@pair("sklearn", "curves: area", "metrics.auc", 1e-9)
def area(on):
    """The trapezoid rule over the normalised deletion curve, of the answer that the model gives."""
    from sklearn.metrics import auc
    ours = curves(on.mllm, on.prompt, on.mllm.target(on.prompt), np.random.default_rng(0).random((1, *on.prompt.tokens.grid)))
    normed = (ours.deletion[0] - ours.deletion[0, -1]) / (ours.deletion[0, 0] - ours.deletion[0, -1])
    return ours.deletion_area[0], auc(ours.share, normed)


@pair("sklearn", "iou", "metrics.jaccard_score", 1e-12)
def overlap(on):
    """Of the truth and as many of the highest patches; maps without ties, which scikit-learn knows nothing of."""
    from sklearn.metrics import jaccard_score
    rng = np.random.default_rng(0)
    maps, truth = rng.random((20, 8, 8)), rng.random((20, 8, 8)) < 0.3
    top = [(-one).argsort(axis=None).argsort().reshape(8, 8) < there.sum() for one, there in zip(maps, truth)]
    return iou(maps, truth), [jaccard_score(there.ravel(), one.ravel()) for there, one in zip(truth, top)]


@pair("sklearn", "cosine_distance", "metrics.pairwise.paired_cosine_distances", 1e-9)
def cosine(on):
    """Maps that are not 0; a map of zeros and another are 0.5 apart to scikit-learn, and 1, unrelated, to us."""
    from sklearn.metrics.pairwise import paired_cosine_distances
    one, other = np.random.default_rng(0).normal(size=(2, 20, 64))
    return cosine_distance(one, other), paired_cosine_distances(one, other)


@pair("scipy", "rank_correlation", "stats.spearmanr", 1e-9)
def ranks(on):
    """Maps with many ties, but none constant: scipy gives NaN there, ours 0 or 1."""
    from scipy.stats import spearmanr
    one, other = np.random.default_rng(0).integers(0, 5, size=(2, 20, 64))
    return rank_correlation(one, other), [spearmanr(*both).statistic for both in zip(one, other)]


@pair("scipy", "interval of right and wrong", "stats.binomtest, Wilson", 1e-9)
def wilson(on):
    """0, 1, 7 and 20 right of 20."""
    from scipy.stats import binomtest
    ours = [interval(np.arange(20) < right)[1:] for right in (0, 1, 7, 20)]
    theirs = [binomtest(right, 20).proportion_ci(method="wilson") for right in (0, 1, 7, 20)]
    return ours, [(one.low, one.high) for one in theirs]
