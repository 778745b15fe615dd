"""Does a map point at the right place? All functions take N maps (N, rows, columns) and truth of that shape (bool).

Each has a floor, what a map that knows nothing scores, and the true mask as its ceiling, which scores 1:

    score          floor (constant map = random map on average)      looks at
    pointing       chance(truth)                                     the highest patch
    mass           chance(truth), for maps that are never negative   the height of every patch
    rank_accuracy  chance(truth)                                     the order of the highest patches
    iou            iou(a constant map, truth); below chance          the same, with misses counted twice

Ties are never broken by reading order: each score is its mean over all ways to break them.
"""

from __future__ import annotations

from math import comb

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
    """Share of the positive relevance that lies in the truth; (N,), 0 where nothing is positive.

    Floor: `chance(truth)` for a constant map above 0, and for random ones on average.
    Source: relevance mass accuracy, Arras et al. 2022, arXiv:2003.07258. Negative values are cut off: a sum over both
    signs can leave 0 to 1.
    """
    positive = np.asarray(maps, float).clip(min=0)
    total = positive.sum((1, 2))
    return np.divide((positive * truth).sum((1, 2)), total, out=np.zeros(len(positive)), where=total > 0)


def rank_accuracy(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Relevance rank accuracy: share of the k highest patches inside the truth, k = size of the truth; (N,).

    Ties at the k-th place count by their expected share.  Floor: `chance(truth)`, exactly so for a constant map.
    Source: Arras et al. 2022, arXiv:2003.07258.  Raises ValueError as `_top` does.
    """
    sure, tied, tied_right, places = _top(maps, truth)
    return (sure + places * tied_right / tied) / np.asarray(truth, bool).sum((1, 2))


def iou(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of the truth and the k highest patches, k = size of the truth; (N,).

    k is taken from the truth, so no threshold has to be chosen and maps on different scales compare.
    Ties at the k-th place: the mean over all ways to break them (the number of hits among them is hypergeometric).
    Floor: the IoU of a constant map, which is that of random maps on average; about c / (2 - c) where c is chance.
    Source: the Jaccard index (1912), on the top-k set of relevance rank accuracy.  Raises ValueError as `_top` does.
    """
    size, scores = np.asarray(truth, bool).sum((1, 2)), []
    for k, sure, tied, right, places in zip(size.tolist(), *(part.tolist() for part in _top(maps, truth))):
        ways = {hits: comb(right, hits) * comb(tied - right, places - hits) for hits in range(min(right, places) + 1)}
        scores.append(sum(n * (sure + hits) / (2 * k - sure - hits) for hits, n in ways.items()) / comb(tied, places))
    return np.array(scores)


def chance(truth: np.ndarray) -> np.ndarray:
    """What a constant or random map scores on average: the truth's share of the patches; (N,). For `iou` see there."""
    return np.asarray(truth, bool).mean((1, 2))


def _top(maps, truth) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the k highest patches hold, k = size of the truth; four arrays (N,) of whole numbers.

    sure: patches of the truth above the k-th value.  tied: patches that share the k-th value; tied_right: those of them
    in the truth.  places: how many of the k places the tied ones fill.
    Raises ValueError for an empty truth (there is no k), for other shapes, and for values that are not finite.
    """
    maps, truth = np.asarray(maps, float), np.asarray(truth, bool)
    if maps.shape != truth.shape or maps.ndim != 3:
        raise ValueError(f"maps {maps.shape} and truth {truth.shape} have to be (N, rows, columns), both the same")
    maps, truth = maps.reshape(len(maps), -1), truth.reshape(len(truth), -1)
    k = truth.sum(1)
    if not (k > 0).all():
        raise ValueError("a truth without a patch has no top k; leave such samples out")
    if not np.isfinite(maps).all():
        raise ValueError("a map holds values that are not finite")
    last = np.take_along_axis(-np.sort(-maps, 1), k[:, None] - 1, 1)                # (N, 1) the k-th highest value
    above, tied = maps > last, maps == last
    return (above & truth).sum(1), tied.sum(1), (tied & truth).sum(1), k - above.sum(1)
