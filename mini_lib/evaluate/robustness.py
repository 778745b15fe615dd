"""Same answer, slightly different picture: does the map stay?

A map that changes with a noise that changes neither the answer nor anything to be seen explains the noise.
A steady map need not be right: a constant one never changes. Read this beside a score of localisation or faithfulness.

Source: Alvarez-Melis and Jaakkola 2018, arXiv:1806.08049 (robustness as a wish for explanations); Yeh et al. 2019,
arXiv:1901.09392, section 3, sensitivity. There the largest change in a small neighbourhood, here the change under one
stated change, because a maximum over random draws grows with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..refusal import Refusal
from .sanity import values_of
from .similarity import cosine_distance, rank_correlation


@dataclass(frozen=True)
class Stability:
    """How far maps changed on the K pictures whose answer stayed.

    correlation: (K,) rank correlation before and after; 1 where nothing changed, about 0 for unrelated maps.
    distance: (K,) 1 - cosine; 0 where nothing changed.  kept: (K,) which of the prompts these are.
    left_out: how many prompts got another answer.
    """

    correlation: np.ndarray
    distance: np.ndarray
    kept: np.ndarray
    left_out: int


def stability(mllm, explain: Callable, prompts: Sequence, change: Callable, seed: int = 0) -> Stability:
    """Change each prompt's picture a little and compare the maps of the same answer.

    explain: `explain(mllm, prompt, target)`, as methods of the registry have it.
    change: `change(picture, rng)`, an array (H, W, 3) uint8 to another of that shape; see `noise` and `shift`.
    Only prompts whose answer stays word for word are counted: where it changes, the map should change too.
    Floor: random maps have correlation 0.  Ceiling: a change that changes nothing, and any constant map, has 1.
    Cost: two generations a prompt, `batch_size` at a time, and two explanations and one more generation for each that is
    counted.  Raises Refusal for a prompt of several pictures, and when the method gives no map.
    """
    if any(len(getattr(prompt, "pictures", ())) > 1 for prompt in prompts):
        raise Refusal("A prompt holds several pictures; the change is defined for one.")
    rng, questions = np.random.default_rng(seed), [prompt.question for prompt in prompts]
    pictures = [np.asarray(prompt.picture) for prompt in prompts]
    changed = [change(picture, rng) for picture in pictures]
    answers = [mllm.answers(shown, questions) for shown in (pictures, changed)]
    kept = [i for i, (one, other) in enumerate(zip(*answers)) if one == other]
    before, after = [], []
    for i in kept:
        target = mllm.target(prompts[i])
        before.append(values_of(explain(mllm, prompts[i], target)))
        after.append(values_of(explain(mllm, mllm.prompt(changed[i], questions[i]), target)))
    none = np.zeros((0, 1))
    return Stability(rank_correlation(before or none, after or none), cosine_distance(before or none, after or none),
                     np.array(kept, int), len(prompts) - len(kept))


def noise(size: float) -> Callable:
    """A change: normal noise with a spread of `size` grey levels (of 255) on every pixel and colour, cut off at 0 and 255."""
    def change(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (picture + rng.normal(0, size, picture.shape)).round().clip(0, 255).astype(np.uint8)
    return change


def shift(right: int = 1, down: int = 0) -> Callable:
    """A change: the picture moved by whole pixels; the edge that comes free repeats its neighbours.

    The right map moves along, by a pixel: a fraction of a patch that a map cannot show. So a shift may cost a little.
    """
    def change(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = picture.shape[:2]
        rows, columns = (np.arange(height) - down).clip(0, height - 1), (np.arange(width) - right).clip(0, width - 1)
        return picture[rows][:, columns]
    return change
