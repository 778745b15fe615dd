"""Does the model use what the map says it uses? Measured by covering, with no truth needed.

f(S): log-probability of the forced answer, in nats, when only the patches in S are shown; the others are covered.
x: all patches.  0: none.  Patches are taken in order of the map, most relevant first.

Insertion and deletion. The share a of patches shown (taken away) goes from 0 to 1, and

    v(S) = (f(S) - f(0)) / (f(x) - f(0))        1 for the whole picture, 0 for the empty one

is drawn over a. A good order has a large area under the insertion curve and a small one under the deletion curve.
Source: Petsiuk et al. 2018, RISE, arXiv:1806.07421 (the causal metrics), there with the probability of a class, not normalised.

Infidelity. I: a random covered region.  m: the map.

    INFD(m) = E_I ( sum_{i in I} m_i - (f(x) - f(x without I)) )^2

Source: Yeh et al. 2019, arXiv:1901.09392, definition 2.1, with covering as the change.

Misleads when a covered picture is unlike any that the model has seen: it then answers to the covers (try several, and for
scenes the picture rendered without the object). Occlusion is judged here by its own means and wins easily; masks that the
world knows are the fairer judge. Always print a constant map, a random one and the true mask beside the methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ..covers import score, showing
from ..refusal import Refusal


@dataclass(frozen=True)
class Curves:
    """Insertion and deletion curves of M maps of one picture.

    share: (S + 1,) share of the patches shown (insertion) or covered (deletion), from 0 to 1.
    insertion, deletion: (M, S + 1) nats, not normalised.  least: the smallest gap, in nats, at which areas are given.
    passes: forward passes they took.
    """

    share: np.ndarray
    insertion: np.ndarray
    deletion: np.ndarray
    least: float
    passes: int

    @property
    def gap(self) -> float:
        """f(x) - f(0), in nats: how much the picture, apart from its cover, adds to the answer."""
        return float(self.insertion[0, -1] - self.insertion[0, 0])

    @property
    def counted(self) -> bool:
        """Whether the gap is large enough to be divided by; a negative one, the picture speaking against the answer, is not."""
        return self.gap >= self.least

    @property
    def insertion_area(self) -> np.ndarray:
        """(M,) area under the normalised insertion curve; more is better; NaN where the gap is too small."""
        return self._area(self.insertion)

    @property
    def deletion_area(self) -> np.ndarray:
        """(M,) area under the normalised deletion curve; less is better; NaN where the gap is too small."""
        return self._area(self.deletion)

    def _area(self, nats: np.ndarray) -> np.ndarray:
        if not self.counted:
            return np.full(len(nats), np.nan)
        # Not clipped: a picture without its distractors can score above the whole one, and that counts.
        return np.trapezoid((nats - self.insertion[0, 0]) / self.gap, self.share, axis=1)


def curves(mllm, prompt, target, maps: np.ndarray, cover="mean", steps: int = 16, seed: int = 0,
           least: float = 1.0) -> Curves:
    """Insertion and deletion curves of M maps (M, rows, columns) of one prompt.

    target: what `mllm.target` gives.  cover: as in `covers.filling`.  steps: from the empty to the whole picture; with
    fewer patches than steps, a patch a step.  seed: patches of the same value are ordered at random, in another way on
    every picture, so that a constant map is a random one.
    least: where the whole picture does not make the answer more likely than the empty one by this many nats (1.0: a
    factor of e), the curves would be divided by next to nothing; their areas are NaN then, and `areas` counts them.
    Floor: a constant or random map, whose two areas are equal on average; the level is the model's own (0.5 for an
    additive one).  Ceiling: not known in general; print the true mask.
    Cost: 2 + 2 M (S - 1) forward passes, `batch_size` at a time, S the steps; 32 for one map and 16 steps.
    Raises Refusal for maps of another grid or that are not finite, and for fewer than 2 steps.
    """
    maps, before = on_grid(prompt, maps), mllm.passes
    if steps < 2:
        raise Refusal(f"{steps} steps give no curve; take 2 or more.")
    patches = maps.shape[1]
    counts = np.linspace(0, patches, min(steps, patches) + 1).round().astype(int)           # (S + 1,)
    top = places(maps, prompt, seed)[:, None] < counts[1:-1, None]                          # (M, S - 1, P) the top so many
    ends = np.stack([np.ones(patches, bool), np.zeros(patches, bool)])
    shown = np.concatenate([ends, top.reshape(-1, patches), ~top.reshape(-1, patches)])
    scores = score(mllm, prompt, target, showing(prompt, cover, shown))
    whole, empty = (np.full((len(maps), 1), value) for value in scores[:2])
    inserted, deleted = scores[2:].reshape(2, len(maps), -1)                                # (M, S - 1) each
    return Curves(counts / patches, np.hstack([empty, inserted, whole]), np.hstack([whole, deleted, empty]), least,
                  mllm.passes - before)


def areas(samples: Sequence[Curves]) -> tuple[np.ndarray, np.ndarray, int]:
    """Areas of many pictures: insertion (K, M) and deletion (K, M) of the K whose gap is large enough, and how many are not."""
    kept = [one for one in samples if one.counted]
    maps = len(samples[0].insertion) if samples else 0
    return (np.array([one.insertion_area for one in kept]).reshape(len(kept), maps),
            np.array([one.deletion_area for one in kept]).reshape(len(kept), maps), len(samples) - len(kept))


@dataclass(frozen=True)
class Infidelity:
    """How well M maps of one picture foretell what covers cost.

    foretold: (M, D) sum of the map over each of D covered regions, in the map's unit.  cost: (D,) nats that covering it
    really took.  slack: costs below this, in nats, are rounding.  passes: forward passes they took.
    """

    foretold: np.ndarray
    cost: np.ndarray
    slack: float
    passes: int

    @property
    def plain(self) -> np.ndarray:
        """(M,) INFD in nats squared; 0 is best. Only maps in nats can do well: to others, scale is held against them."""
        return ((self.foretold - self.cost) ** 2).mean(1)

    @property
    def scaled(self) -> np.ndarray:
        """(M,) INFD in nats squared after each map is multiplied by the number that suits it best, E[ab] / E[a^2].

        As in the authors' code and in captum's `normalize`. That number may be negative, so a map and its negative score
        the same: look at the order (`curves`) as well.
        """
        products, squares = (self.foretold * self.cost).mean(1), (self.foretold**2).mean(1)
        factor = np.divide(products, squares, out=np.zeros(len(squares)), where=squares > 0)
        return ((factor[:, None] * self.foretold - self.cost) ** 2).mean(1)

    @property
    def unexplained(self) -> np.ndarray:
        """(M,) `scaled` as a share of E[cost^2], from 0 (all foretold) to 1; NaN where no cover cost more than rounding.

        A map of zeros scores 1. A constant map scores less, because larger covers cost more: that is the floor to beat.
        """
        power = (self.cost**2).mean()
        return self.scaled / power if power > self.slack**2 else np.full(len(self.foretold), np.nan)


def infidelity(mllm, prompt, target, maps: np.ndarray, cover="mean", draws: int = 64, seed: int = 0) -> Infidelity:
    """Infidelity of M maps (M, rows, columns) of one prompt under `draws` random square covers, the same for all maps.

    Cost: 1 + draws forward passes, however many maps.  Other arguments, and what is raised, as in `curves`.
    """
    maps, before = on_grid(prompt, maps), mllm.passes
    regions = squares(*prompt.tokens.grid, draws, generator(prompt, seed))                  # (D, P)
    shown = np.concatenate([np.ones((1, maps.shape[1]), bool), ~regions])
    scores = score(mllm, prompt, target, showing(prompt, cover, shown))
    return Infidelity(maps @ regions.T.astype(float), scores[0] - scores[1:], mllm.slack, mllm.passes - before)


def squares(rows: int, columns: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, rows * columns) bool: random squares of patches, sides from 1 to half the grid, anywhere inside it."""
    sides = rng.integers(1, max(1, min(rows, columns) // 2) + 1, draws)
    tops, lefts = rng.integers(0, rows - sides + 1), rng.integers(0, columns - sides + 1)
    row, column = np.arange(rows)[:, None], np.arange(columns)
    inside = [(row >= top) & (row < top + side) & (column >= left) & (column < left + side)
              for side, top, left in zip(sides, tops, lefts)]
    return np.array(inside).reshape(draws, rows * columns)


def on_grid(prompt, maps) -> np.ndarray:
    """Maps (M, rows, columns) as (M, P) floats. Raises Refusal for another grid, or values that are not finite."""
    maps = np.asarray(maps, float)
    if maps.ndim != 3 or maps.shape[1:] != tuple(prompt.tokens.grid):
        raise Refusal(f"Maps of shape {maps.shape} do not fit this prompt; give (maps, {prompt.tokens.grid[0]}, "
                      f"{prompt.tokens.grid[1]}).")
    if not np.isfinite(maps).all():
        raise Refusal("A map holds values that are not finite, so its patches have no order.")
    return maps.reshape(len(maps), -1)


def places(values: np.ndarray, prompt, seed: int) -> np.ndarray:
    """(M, n) values -> (M, n) each one's place in its row, 0 for the highest; equal ones at random."""
    # All rows share the noise, so that a map's result does not depend on which others it is scored with.
    noise = np.broadcast_to(generator(prompt, seed).random(values.shape[1]), values.shape)
    return np.lexsort((noise, -values), axis=-1).argsort(-1)


def generator(prompt, seed: int) -> np.random.Generator:
    """Random numbers of their own for every picture: the same tie-break on all of them would be one order, not a random one."""
    return np.random.default_rng([seed, crc32(prompt.picture.tobytes())])
