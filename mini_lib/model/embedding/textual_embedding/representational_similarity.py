"""Representational similarity analysis (RSA): are things that are alike in the world alike inside the model?

    D_ij = | v_i - v_j |            A = rank correlation of D_ij and T_ij over all pairs i < j

v_i: (d,) vector of thing i, of K things: a row of the word embedding, or the mean stream of all prompts about it.  D: (K, K)
distances inside the model.  T: (K, K) distances in the world, such as steps on the colour circle.  A: 1 the same order of
distances, 0 none in common.  The lengths of vectors do not matter, their spaces need not be the same, and nothing is fitted.
p: share of all K! ways to hand out the labels, the true one among them, that agree at least as well (above 8 things, of many
random ways).

Sources: Kriegeskorte et al. 2008, doi:10.3389/neuro.06.004.2008, with 1 - correlation for D; words for colours against a
space of colours: Abdou et al. 2021, arXiv:2109.06129. The length of the difference is our choice: it is the same in every basis.
Misleads when a control without any training agrees as well (pixels reach every state that looks at them), when few things
leave few orders (K things on a line cannot have p below 2 / K!), and when of many layers only the best is told.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import permutations

import numpy as np
import torch
from scipy.stats import rankdata

from ....evaluate import rank_correlation
from ....hooks import points
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Curves, Matrix
from ....trial import variants
from ....vectors import states

NODE = "model/embedding/textual-embedding"
PAPER = "Kriegeskorte et al. 2008, doi:10.3389/neuro.06.004.2008; on words for colours Abdou et al. 2021, arXiv:2109.06129"
EXACT, DRAWS = 8, 20000                       # so many things are permuted in every way; of more, so many random ways


def identity(mllm, prompt) -> list[Identity]:
    """What holds of any set of vectors, tried on six states of the model."""
    prompts, ends = _ends(mllm, prompt, 6)
    found = states(mllm, prompts, ends)[:, -1].double().numpy()                     # (6, d) after the last block
    alone = np.stack([states(mllm, [one], [end])[0, -1].double().numpy() for one, end in zip(prompts, ends)])
    rng, inside = np.random.default_rng(0), distances(found)
    turned, _ = np.linalg.qr(rng.normal(size=(found.shape[1],) * 2))
    moved = distances(3 * found @ turned + rng.normal(size=found.shape[1])) / 3
    world = distances(rng.normal(size=(6, 2)))
    scores = permuted(inside, world)
    return [Identity("a geometry agrees with itself", abs(agreement(inside, inside) - 1), 1e-5),
            Identity("turning, scaling and shifting the space changes no distance", float(abs(moved - inside).max() / inside.max()), 1e-5),
            Identity("over all ways to hand out the labels the mean agreement is 0", abs(float(scores.mean())), 1e-5),
            Identity("the first way is the true one", abs(float(scores[0]) - agreement(inside, world)), 1e-5),
            Identity("many prompts at once give what each gives alone", float(abs(alone - found).max() / abs(found).max()), mllm.slack)]


def trial(mllm, prompt, token=None) -> Matrix:
    """Six pictures made from one, each its own thing, against the distances of their mean colours."""
    target = mllm.target(prompt, token)
    prompts, ends = _ends(mllm, prompt, 6)
    colors = np.stack([np.asarray(one.picture, float).mean((0, 1)) for one in prompts])
    names = [f"picture {k}" for k in range(1, 7)]
    result = representational_similarity(mllm, prompts, names, ends, names, distances(colors))
    return replace(result, question=prompt.question, target=target.text)


@method("representational-similarity", node=NODE, paper=PAPER, trial=trial, identity=identity,
        cost="one forward pass a prompt; none for rows of the weights; no backward pass")
def representational_similarity(mllm, prompts, labels, positions, things, world, layer: int = -1) -> Matrix:
    """Distances between things inside the model at one layer, and how well they agree with the world's.

    labels: for each prompt the thing it is about.  positions: for each prompt where to read it.  things: (K,) names, in the
    order of `world`, (K, K).  layer: 0 before block 0, then after each block; by itself the last.
    Returns a Matrix of (K, K); measured holds agreement and p.
    """
    before, layers = mllm.passes, points(mllm)
    inside = distances(means(states(mllm, prompts, positions), labels, things)[layer])
    return matrix(inside, things, world, f"RSA, {layers[layer]}", {"forward_passes": mllm.passes - before})


def by_layer(mllm, groups: dict, things, world) -> Curves:
    """The agreement at every layer: one line for each group.

    groups: name -> (prompts, labels, positions), as above.  measured holds p of each line and layer.
    """
    before, lines, sure = mllm.passes, [], []
    for prompts, labels, positions in groups.values():
        found = [test(distances(one), world) for one in means(states(mllm, prompts, positions), labels, things)]
        lines, sure = [*lines, [score for score, _ in found]], [*sure, [p for _, p in found]]
    return Curves(np.array(lines), list(groups), points(mllm), "layer", "rank correlation with the world", "RSA",
                  measured={"forward_passes": mllm.passes - before, "p": sure})


def matrix(inside: np.ndarray, things, world, name: str, measured: dict) -> Matrix:
    """The Matrix of some distances with their agreement, as the method gives it; also for rows of the weights."""
    score, p = test(inside, world)
    return Matrix(inside, list(things), list(things), ("thing", "thing"), "distance", name, measured={
        **measured, "agreement": float(f"{score:.4g}"), "p": float(f"{p:.4g}"), "things": len(inside)})


def means(vectors, labels, things) -> np.ndarray:
    """(N, layers, d) of prompts -> (layers, K, d) of things, the mean over the prompts about each.

    Raises Refusal for a thing that no prompt is about.
    """
    vectors, labels = torch.as_tensor(vectors).double().numpy(), np.asarray(labels, object)
    missing = [str(thing) for thing in things if not (labels == thing).any()]
    if missing:
        raise Refusal(f"No prompt is about {', '.join(missing)}; give at least one for each thing.")
    return np.stack([vectors[labels == thing].mean(0) for thing in things], 1)


def distances(vectors) -> np.ndarray:
    """(K, d) -> (K, K), the length of each difference; what is below the rounding of float32 is 0."""
    vectors = np.asarray(vectors, float)
    lengths = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    return np.where(lengths > 1e-6 * np.linalg.norm(vectors, axis=-1).max(), lengths, 0)


def agreement(inside: np.ndarray, world: np.ndarray) -> float:
    """Rank correlation of two (K, K) tables of distances over pairs; the diagonal is 0 in both and would count as agreement."""
    pairs = np.triu_indices(len(inside), 1)
    return float(rank_correlation(inside[pairs][None], np.asarray(world)[pairs][None])[0])


def permuted(inside: np.ndarray, world: np.ndarray, seed: int = 0) -> np.ndarray:
    """The agreement under each way to hand out the labels; the first is the true one. All 0 where all distances are alike."""
    inside, world = np.asarray(inside, float), np.asarray(world, float)
    if inside.shape != world.shape or len(inside) < 3:
        raise Refusal(f"Distances of shape {inside.shape} and {world.shape} cannot be compared; give two square tables of 3 or more things.")
    first, second = np.triu_indices(len(inside), 1)
    here, there = (rankdata(one[first, second]) - (len(first) + 1) / 2 for one in (inside, world))
    size = np.linalg.norm(here) * np.linalg.norm(there)
    table = np.zeros_like(inside)
    table[first, second] = table[second, first] = here           # ranks go along with their pair
    return table[ways(len(inside), seed)[:, first], ways(len(inside), seed)[:, second]] @ there / (size or 1)


@cache
def ways(size: int, seed: int = 0) -> np.ndarray:
    """(ways, K) orders of K labels: all of them up to 8, of more many random ones; the first is 0, 1, 2, …"""
    if size <= EXACT:
        return np.array(list(permutations(range(size))))
    rng = np.random.default_rng(seed)
    return np.array([np.arange(size), *(rng.permutation(size) for _ in range(DRAWS))])


def test(inside: np.ndarray, world: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """(agreement, p): p is the share of ways to hand out the labels that agree as well, the true one counted."""
    scores = permuted(inside, world, seed)
    return float(scores[0]), float((scores >= scores[0] - 1e-9).mean())


def _ends(mllm, prompt, count: int) -> tuple[list, list]:
    """A few prompts made from one, and the last position of each."""
    prompts = variants(mllm, prompt, count)
    return prompts, [[one.inputs["input_ids"].shape[1] - 1] for one in prompts]
