"""Sufficiency and comprehensiveness: is the part that an explanation names enough, and is it needed? For patches and words.

    comprehensiveness = mean_k  p(x) - p(x without the top share k)        more is better: nothing else would do
    sufficiency       = mean_k  p(x) - p(the top share k alone)            less is better: 0 means that it is enough

p: probability of the forced answer.  x: picture and question.  k: shares 1, 5, 10, 20 and 50 %, at least one patch (word).
A patch goes by being covered, a word by being blanked (`covers.score`).

Source: DeYoung et al. 2020, ERASER, arXiv:1911.03429, there for text; the shares are those of the authors' code.
Misleads as all covering does, and when evidence is there twice: without one copy nothing is lost, with one nothing is missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..covers import score, showing
from ..refusal import Refusal
from .faithfulness import on_grid, places

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Erased:
    """What is left of an answer for M explanations of one prompt.

    shares: (K,).  full: probability of the answer with everything there.  without, alone: (M, K) probability without the
    top share, and from the top share alone.  passes: forward passes they took.
    """

    shares: np.ndarray
    full: float
    without: np.ndarray
    alone: np.ndarray
    passes: int

    @property
    def comprehensiveness(self) -> np.ndarray:
        """(M,) mean probability lost without the top share; at most `full`."""
        return (self.full - self.without).mean(1)

    @property
    def sufficiency(self) -> np.ndarray:
        """(M,) mean probability lost with the top share alone; at most `full`, and negative where less is clearer."""
        return (self.full - self.alone).mean(1)


def erase(mllm, prompt, target, patches: np.ndarray | None = None, words: np.ndarray | None = None, cover="mean",
            shares=SHARES, seed: int = 0) -> Erased:
    """Sufficiency and comprehensiveness of M explanations of one prompt.

    patches: (M, rows, columns), words: (M, W) one value for each word of `prompt.tokens.words`; at least one of the two.
    What is given is judged: the patches with the question whole, the words with the picture whole, or both at once, the
    top share of the patches together with the top share of the words.
    cover, seed: as in `faithfulness.curves`; ties are broken at random, so a constant explanation is a random one. That
    is the floor.
    Cost: 1 + 2 M K forward passes, `batch_size` at a time, K shares; 11 for one explanation.
    Raises Refusal for values that do not fit the prompt or are not finite, and for a share outside 0 to 1.
    """
    before, shares = mllm.passes, np.asarray(shares, float)
    if not shares.size or not ((shares > 0) & (shares < 1)).all():
        raise Refusal(f"Shares have to lie between 0 and 1; these are {shares.tolist()}.")
    if patches is None and words is None:
        raise Refusal("There is nothing to judge; give values for patches, for words, or for both.")
    gone_patches = None if patches is None else _rows(on_grid(prompt, patches), prompt, shares, seed)
    gone_words = None if words is None else _rows(_per_word(prompt, words), prompt, shares, seed)
    many = {len(gone) for gone in (gone_patches, gone_words) if gone is not None}
    if len(many) > 1:
        raise Refusal(f"{len(patches)} maps and {len(words)} rows of words; give one of each for every explanation.")
    shown = np.ones((many.pop(), len(prompt.tokens.boxes)), bool) if gone_patches is None else ~gone_patches
    chance = np.exp(score(mllm, prompt, target, showing(prompt, cover, shown), gone_words))
    without, alone = chance[1:].reshape(2, -1, len(shares))
    return Erased(shares, float(chance[0]), without, alone, mllm.passes - before)


def _rows(values: np.ndarray, prompt, shares: np.ndarray, seed: int) -> np.ndarray:
    """(M, n) -> (1 + 2 M K, n) bool, what goes in each run: nothing, then each top share, then all but each top share."""
    counts = (shares * values.shape[1]).round().clip(1)
    top = (places(values, prompt, seed)[:, None] < counts[:, None]).reshape(-1, values.shape[1])
    return np.concatenate([np.zeros((1, values.shape[1]), bool), top, ~top])


def _per_word(prompt, words) -> np.ndarray:
    words, count = np.asarray(words, float), len(prompt.tokens.words)
    if words.ndim != 2 or words.shape[1] != count:
        raise Refusal(f"Values of shape {words.shape} do not fit the question's {count} words; give (explanations, {count}).")
    if not np.isfinite(words).all():
        raise Refusal("A word's value is not finite, so the words have no order.")
    return words
