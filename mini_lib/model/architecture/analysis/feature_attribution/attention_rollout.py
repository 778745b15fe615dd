"""Attention rollout: follow attention, and the stream that passes by it, from the answer back to the input.

    A_l = (mean over heads of W_l + I) / 2          R = A_L ... A_2 A_1

W_l: (H, T, T) attention weights of block l, rows are queries.  A row of R says what share of each input position is mixed into
that position at the end; rows sum to 1.

Source: Abnar and Zuidema 2020, arXiv:2005.00928.
Misleads when taken for an explanation of an answer: it knows neither values nor MLPs nor the sign of anything, gives every head
and the stream the same say, and is the same for every word that could be said at that position. First tokens draw attention
for reasons of their own.
"""

from __future__ import annotations

import torch

from .....hooks import attention
from .....registry import Identity, method
from .....results import PatchMap, patch_map


def identity(mllm, prompt) -> list[Identity]:
    """Every row is a mixture of what lies before it."""
    rows, _ = rolled(mllm, prompt, mllm.target(prompt))
    return [Identity("rows sum to 1", float((rows.sum(-1) - 1).abs().max()), 1e-3),
            Identity("nothing comes from a later position", float(rows.triu(1).abs().max()), 0.0)]


@method("attention-rollout", node="model/architecture/analysis/feature-attribution", paper="Abnar and Zuidema 2020, arXiv:2005.00928",
        cost="one forward pass, once the answer is known; no backward pass", identity=identity)
def attention_rollout(mllm, prompt, token: str | None = None) -> PatchMap:
    """Attention rollout over image tokens and words, from the positions that say the answer.

    token: explain this word instead of the whole answer.  Returns a PatchMap of (rows, columns), shares, with words.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    rows, count = rolled(mllm, prompt, target)
    return patch_map(rows[-count:].mean(0).cpu().numpy(), prompt, target, "share of the mixture", "attention rollout",
                     mllm.spent(before))


def rolled(mllm, prompt, target) -> tuple[torch.Tensor, int]:
    """R (T, T), and how many of its last rows say the answer."""
    count = len(target.ids) - target.first
    with attention(mllm) as weights:
        mllm.logits(mllm.forced(prompt, target), count)
    length = weights[0].shape[-1]
    rows = torch.eye(length, device=weights[0].device)
    for layer in sorted(weights):
        rows = (weights[layer][0].mean(0) + torch.eye(length, device=rows.device)) / 2 @ rows
    return rows, count
