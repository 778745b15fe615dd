"""Modality gap: how far the states of pictures lie from those of words, at every layer.

    Δ_l = mean_i x̂_i - mean_j ŷ_j,      x̂ = x / |x|

x_i: (d,) state of an image token at layer l, y_j: (d,) of a word; unit vectors, so that the length of Δ lies between 0 and 2 and
does not grow with the stream.  Every prompt counts alike, however many tokens it has.
Two controls. Halves: the same Δ between two random halves of one side; they differ by chance alone. Told apart: how often
the nearer of the two means is the right one, for tokens of prompts that the means were not taken from; 0.5 is chance.

Source: Liang et al. 2022, arXiv:2203.02053, on the two towers of CLIP; between the tokens of one decoder it is the same formula.
Misleads when taken for a measure of understanding: an untrained model has a gap too, a gap says nothing of what the two sides have in
common, and one constant vector, which no one reads, can make or close it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ....hooks import points
from ....registry import Identity, method
from ....results import Curves
from ....sides import of_pictures, of_words
from ....trial import variants

LINES = ["pictures to words", "two halves of the pictures", "two halves of the words"]
FEW = 4                                                     # tokens a prompt that are told apart


def identity(mllm, prompt) -> list[Identity]:
    """No gap between vectors and longer ones of the same directions; a mirror image lies where the mirror puts it."""
    with torch.no_grad():
        states = of_pictures(mllm, [prompt], lambda tokens, k: tokens)[:, 0].double()               # (points, P, d)
    noise = torch.Generator().manual_seed(0)
    longer = states * (0.5 + torch.rand(states.shape[1], 1, generator=noise, dtype=torch.float64))
    normal = unit(torch.randn(states.shape[-1], generator=noise, dtype=torch.float64))
    mirrored = states - 2 * (states @ normal)[..., None] * normal
    wanted = 2 * (unit(states).mean(1) @ normal)[:, None] * normal                                  # (points, d)
    return [Identity("a set has no gap to itself, however long its vectors are", float(gap(unit(states), unit(longer)).norm(dim=-1).max()), 1e-6),
            Identity("the gap to a mirror image is twice the way to the mirror", float((gap(unit(states), unit(mirrored)) - wanted).abs().max()), 1e-6)]


def trial(mllm, prompt, token=None) -> Curves:
    """The gap between a few pictures made from one and the words of its question."""
    target = mllm.target(prompt, token)
    return replace(modality_gap(mllm, variants(mllm, prompt, 4)), question=prompt.question, target=target.text)


@method("modality-gap", node="model/embedding/cross-modal-embedding", paper="Liang et al. 2022, arXiv:2203.02053",
        cost="two forward passes a prompt; no backward pass", identity=identity, trial=trial)
def modality_gap(mllm, prompts, texts=None, splits: int = 20) -> Curves:
    """Length of Δ at every point of the stream, with what chance gives.

    texts: what to compare each picture with; its words do not see the picture.  Left out: the words of the question, which do.
    splits: how many times each side is halved.  measured["told_apart"]: share of tokens whose side the nearer mean gives, by layer.
    """
    before = mllm.passes
    pictures, words = of_pictures(mllm, prompts, few), of_words(mllm, prompts, texts, few)          # (points, N, 1 + FEW, d)
    sides = pictures[:, :, 0], words[:, :, 0]                                                       # (points, N, d) means of unit vectors
    rng = np.random.default_rng(0)
    halves = [np.mean([gap(side[:, order[::2]], side[:, order[1::2]]).norm(dim=-1).numpy()
                       for order in (rng.permutation(len(prompts)) for _ in range(splits))], 0) for side in sides]
    values = np.stack([gap(*sides).norm(dim=-1).numpy(), *halves])
    return Curves(values, LINES, points(mllm), "layer", "length of the gap", "modality gap",
                  measured={"forward_passes": mllm.passes - before, "told_apart": told_apart(pictures, words)})


def gap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(…, N, d) and (…, M, d) unit vectors, or means of them -> (…, d)."""
    return x.mean(-2) - y.mean(-2)


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def few(tokens: torch.Tensor, k: int) -> torch.Tensor:
    """(n, d) -> (1 + FEW, d): the mean of the unit vectors, and a few of them."""
    tokens = unit(tokens)
    at = torch.linspace(0, len(tokens) - 1, FEW).round().long().to(tokens.device)
    return torch.cat([tokens.mean(0, keepdim=True), tokens[at]])


def told_apart(pictures: torch.Tensor, words: torch.Tensor) -> list[float]:
    """Share of the odd prompts' tokens that are nearer to the mean of their own side, over the even prompts, by layer.

    pictures, words: (points, N, 1 + FEW, d).
    """
    x, y = (side[:, ::2, 0].mean(1)[:, None, None] for side in (pictures, words))                   # (points, 1, 1, d)
    rest = [side[:, 1::2, 1:] for side in (pictures, words)]
    right = [((one - own).norm(dim=-1) < (one - other).norm(dim=-1)).float().mean((1, 2)) for one, own, other in ((rest[0], x, y), (rest[1], y, x))]
    return [float(f"{share:.4g}") for share in (right[0] + right[1]) / 2]
