"""Polar axes: place things on a line between two opposites.

    c(v) = 2 (v - (a + b) / 2) . (b - a) / |b - a|^2

v: (d,) vector to place.  a, b: (d,) the poles, each a word's row or the mean stream of the prompts about one end.  c is -1 at a,
+1 at b, 0 half-way, and has no bound: what lies beyond a pole is beyond -1 or +1.
Several axes at once (POLAR): with the pole differences as rows of B (axes, d), the coordinates e of v solve min |v - B^T e|, so
that what two axes have in common is not counted twice.  A circle needs a plane instead: the two directions in which things vary most.

Source: Mathew et al. 2020, arXiv:2001.09876 (POLAR), for rows of words; for words in context Engler et al. 2022,
arXiv:2301.04704.  Mean streams as poles, c with its zero half-way, and the test of the order on a circle are ours.
Misleads when things that have nothing to do with the poles land between them as well (most do, near 0), when only one
order of few things is possible, and when the poles differ in something else than in what they are named after.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np

from ....hooks import points
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Curves
from ....trial import variants
from ....vectors import states

NODE = "model/embedding/textual-embedding"


def identity(mllm, prompt) -> list[Identity]:
    """The poles are at -1 and +1 and half-way is 0, wherever the origin lies; with several axes each pair lies on its own."""
    prompts, ends = _ends(mllm, prompt, 5)
    found = states(mllm, prompts, ends)[:, -1].double().numpy()                     # (5, d) after the last block
    low, high, rng = found[0], found[-1], np.random.default_rng(0)
    shift, aside = rng.normal(size=(2, found.shape[1]))
    aside -= (aside @ (high - low)) / ((high - low) @ (high - low)) * (high - low)
    placed = coordinates(found, low, high)
    three = coordinates(np.stack([low, high, (low + high) / 2]), low, high)
    moved = coordinates(found + shift, low + shift, high + shift), coordinates(found + aside, low, high)
    pairs = np.stack([rng.normal(size=found.shape[1]), low]), np.stack([rng.normal(size=found.shape[1]), high])
    own = joint(pairs[1] - pairs[0], *pairs)
    return [Identity("the poles are at -1 and +1, half-way is 0", float(abs(three - [-1, 1, 0]).max()), 1e-5),
            Identity("another origin changes no place on the axis", float(abs(moved[0] - placed).max()), 1e-5),
            Identity("a move at right angles to the axis changes no place on it", float(abs(moved[1] - placed).max()), 1e-5),
            Identity("with several axes the way between two poles lies on their own axis", float(abs(own - np.eye(2)).max()), 1e-5)]


def trial(mllm, prompt, token=None) -> Curves:
    """Five pictures made from one, on the axis from the first to the last."""
    target = mllm.target(prompt, token)
    prompts, ends = _ends(mllm, prompt, 5)
    names = [f"picture {k}" for k in range(1, 6)]
    return replace(polar_axes(mllm, prompts, names, ends, names), question=prompt.question, target=target.text)


@method("polar-axes", node=NODE, paper="Mathew et al. 2020, arXiv:2001.09876", trial=trial, identity=identity,
        cost="one forward pass a prompt; none for rows of the weights; no backward pass")
def polar_axes(mllm, prompts, labels, positions, things) -> Curves:
    """Where the mean of each thing's prompts lies on the axis from the first thing to the last, at every layer.

    labels: for each prompt the thing it is about.  positions: for each prompt where to read it.  things: (K,) names, the first
    and the last of which are the poles.  At a layer where both poles are one vector there is no axis, and all are at 0.
    Returns Curves of (K, layers + 1).
    """
    before, labels = mllm.passes, np.asarray(labels, object)
    missing = [str(thing) for thing in things if not (labels == thing).any()]
    if missing or len(things) < 3:
        raise Refusal(f"No prompt is about {', '.join(missing)}; give at least one for each thing." if missing
                      else "Two poles and nothing between them: give at least three things.")
    found = states(mllm, prompts, positions).double().numpy()                       # (N, layers, d)
    mean = np.stack([found[labels == thing].mean(0) for thing in things])           # (K, layers, d)
    values = np.stack([coordinates(mean[:, k], mean[0, k], mean[-1, k]) for k in range(mean.shape[1])], 1)
    return Curves(values, list(map(str, things)), points(mllm), "layer", f"place from {things[0]} (-1) to {things[-1]} (+1)",
                  "polar axis", measured={"forward_passes": mllm.passes - before})


def coordinates(vectors, low, high) -> np.ndarray:
    """(…, d) -> (…): -1 at `low`, +1 at `high`. All 0 where the two are one vector, up to the rounding of float32."""
    vectors, low, high = (np.asarray(one, float) for one in (vectors, low, high))
    axis = high - low
    if np.linalg.norm(axis) <= 1e-6 * np.linalg.norm(low):
        return np.zeros(vectors.shape[:-1])
    return 2 * (vectors - (low + high) / 2) @ axis / (axis @ axis)


def joint(vectors, lows, highs) -> np.ndarray:
    """(N, d) on several axes at once, as POLAR has it: (N, axes), least squares over the pole differences.

    A whole way from pole to pole is 1.  Raises Refusal where an axis is a mixture of the others.
    """
    axes = np.asarray(highs, float) - np.asarray(lows, float)                       # (axes, d)
    if np.linalg.matrix_rank(axes) < len(axes):
        raise Refusal(f"One of these {len(axes)} axes is a mixture of the others; leave it out.")
    return np.linalg.lstsq(axes.T, np.asarray(vectors, float).T, rcond=None)[0].T


def plane(vectors) -> tuple[np.ndarray, float]:
    """(K, d) -> places in the plane in which they vary most (K, 2), and the share of the variance that it holds."""
    centred = np.asarray(vectors, float)
    centred = centred - centred.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * sizes[:2], float((sizes[:2] ** 2).sum() / (sizes ** 2).sum())


def tour(places) -> tuple[int, float]:
    """Going once round the plane by angle, how many steps of the true circle 0, 1, …, K - 1 does one walk? K is the least.

    places: (K, 2).  Returns (steps, p): p is the share of all K! orders with no more steps, for 4 to 8 things.
    """
    places = np.asarray(places)
    size = len(places)
    if not 4 <= size <= 8:
        raise Refusal(f"{size} things: all orders of 4 to 8 can be tried.")
    orders = np.array(list(permutations(range(size))))
    order = np.argsort(np.arctan2(places[:, 1], places[:, 0]))
    walked, others = (np.minimum(gap, size - gap).sum(-1) for gap in (abs(one - np.roll(one, 1, -1)) for one in (order, orders)))
    return int(walked), float((others <= walked).mean())


def _ends(mllm, prompt, count: int) -> tuple[list, list]:
    """A few prompts made from one, and the last position of each."""
    prompts = variants(mllm, prompt, count)
    return prompts, [[one.inputs["input_ids"].shape[1] - 1] for one in prompts]
