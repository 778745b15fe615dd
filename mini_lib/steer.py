"""A vector added to the stream: directions between two groups of states, controls as long, and the next word after it is added.

    r = direction(vectors, kinds)                                  # (d,) mean of kind 1 less mean of kind 0
    aside = orthogonal(r, 5)                                       # (5, d) random, at right angles, as long
    logprobs = after(mllm, prompts, places, "block.2", r)          # (N, V) of the next word, with r added at each prompt's places
"""

from __future__ import annotations

import numpy as np
import torch

from .batches import in_batches
from .hooks import edit
from .inputs import alike, joined
from .refusal import Refusal


def direction(vectors: torch.Tensor, kinds) -> torch.Tensor:
    """(N, …, d) states and for each 0 or 1 -> (…, d), mean of kind 1 less mean of kind 0."""
    kinds = torch.as_tensor(np.asarray(kinds), dtype=torch.long)
    if set(kinds.tolist()) != {0, 1}:
        raise Refusal("A direction needs states of two kinds, 0 and 1; give some of both.")
    return vectors[kinds == 1].mean(0) - vectors[kinds == 0].mean(0)


def orthogonal(r: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    """(count, d) random directions at right angles to r, each as long as r."""
    noise = torch.randn((count, len(r)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit = r.double() / r.double().norm().clamp(min=1e-12)
    noise -= (noise @ unit)[:, None] * unit
    return (noise / noise.norm(dim=-1, keepdim=True) * r.double().norm()).to(r.dtype)


def after(mllm, prompts, places, point: str, added: torch.Tensor) -> torch.Tensor:
    """(N, V) log-probabilities of the next word, with `added` on top of the stream at each prompt's places, on the CPU.

    places: for each prompt a position or several.  added: (d,), or (N, d) with one for each prompt.
    Prompts of one form share a batch. Cost: one forward pass a prompt.
    """
    added = added.expand(len(prompts), -1)
    found: list = [None] * len(prompts)

    def run(rows):
        def add(stream):
            stream = stream.clone()
            for k, row in enumerate(rows):
                stream[k, torch.as_tensor(places[row]).reshape(-1)] += added[row].to(stream)
            return stream
        with edit(mllm, {point: add}):
            return mllm.logits(joined([prompts[row].inputs for row in rows]))[:, -1].log_softmax(-1).cpu()

    for group in alike([one.inputs for one in prompts]):
        for row, one in zip(group, torch.cat(in_batches(mllm, group, run))):
            found[row] = one
    return torch.stack(found)
