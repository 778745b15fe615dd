"""Mutual nearest neighbours: are the pictures nearest to a picture those whose captions are nearest to its caption?

    m(X, Y) = mean_i |N_k(x_i) ∩ N_k(y_i)| / k

x_i: (d,) state of picture i, y_i: (d',) of its caption.  N_k(x_i): the k others whose states have the largest cosine with x_i.
For pairs in random order it is k / (N - 1) on average, exactly. CKA weighs large differences most; this sees only who is next to whom.
Where several tie for the last places, each gets its share of a place.

Source: Huh et al. 2024, arXiv:2405.07987, there between models of pictures and of text; here between the two sides of one model.
Misleads when k is near N, when the pictures fall into a few groups that any features would find, and when near copies fill every neighbourhood.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import torch

from ....hooks import points
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Matrix
from ....sides import of_pictures, of_words
from ....trial import variants


def identity(mllm, prompt) -> list[Identity]:
    """What must hold of the states of six pictures."""
    x = of_pictures(mllm, variants(mllm, prompt, 6))[-1].double()                                   # (6, d)
    noise = torch.Generator().manual_seed(0)
    y = torch.randn(6, 9, generator=noise, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(len(x[0]), len(x[0]), generator=noise, dtype=torch.float64))[0]
    orders = [shared(x, y[list(order)], 2).mean() for order in permutations(range(6))]
    return [Identity("a turned and scaled copy has the same neighbours", abs(float(shared(x, 3 * x @ turn, 2).mean()) - 1), 1e-6),
            Identity("the mean over all orders of the pairs is k / (N - 1)", abs(float(np.mean(orders)) - 2 / 5), 1e-6)]


def trial(mllm, prompt, token=None) -> Matrix:
    """Neighbours shared by a few pictures made from one and the words of its question, which see them."""
    target = mllm.target(prompt, token)
    return replace(mutual_neighbours(mllm, variants(mllm, prompt, 8), k=3), question=prompt.question, target=target.text)


@method("mutual-neighbours", node="model/embedding/cross-modal-embedding", paper="Huh et al. 2024, arXiv:2405.07987",
        cost="two forward passes a prompt; no backward pass", identity=identity, trial=trial)
def mutual_neighbours(mllm, prompts, texts=None, k: int = 10) -> Matrix:
    """Share of the k nearest neighbours that pictures at each layer (rows) and words at each layer (columns) have in common.

    texts: the caption of each picture; its words do not see the picture.  Left out: the words of the question, which do.
    """
    before = mllm.passes
    pictures, words = of_pictures(mllm, prompts), of_words(mllm, prompts, texts)
    values = np.array([[float(shared(x, y, k).mean()) for y in words] for x in pictures])
    return Matrix(values, points(mllm), points(mllm), ("layer of the pictures", "layer of the words"), "share of neighbours in common",
                  "mutual neighbours", measured={"forward_passes": mllm.passes - before, "prompts": len(prompts), "chance": k / (len(prompts) - 1)})


def shared(x, y, k: int) -> torch.Tensor:
    """(N, d) and (N, d') -> (N,) share of each one's k neighbours that both sides agree on. Raises Refusal unless k < N - 1."""
    return (neighbours(x, k) * neighbours(y, k)).sum(1) / k


def neighbours(x, k: int) -> torch.Tensor:
    """(N, d) -> (N, N), 1 where j is one of the k nearest of i, else 0; those that tie for the last places share them."""
    x = torch.nn.functional.normalize(torch.as_tensor(x, dtype=torch.float64), dim=1)
    if not 0 < k < len(x) - 1:
        raise Refusal(f"{k} neighbours of {len(x)} prompts: give a number above 0 and below {len(x) - 1}, or all are neighbours.")
    alike = (x @ x.T).fill_diagonal_(float("-inf"))                                                 # no one is a neighbour of itself
    last = alike.topk(k, 1).values[:, -1:]
    nearer, tied = (alike > last + 1e-9).double(), ((alike - last).abs() <= 1e-9).double()
    return nearer + tied * (k - nearer.sum(1, keepdim=True)) / tied.sum(1, keepdim=True)
