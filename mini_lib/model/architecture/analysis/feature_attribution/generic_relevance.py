"""Generic relevance: rollout in which each head counts as far as the answer wants what it attends to.

    C_l = mean over heads of max(0, dlogp/dW_l * W_l)          R <- R + C_l R,  from R = I

W_l: (H, T, T) attention weights of block l, rows are queries.  The row of R of the position that says a word holds the
relevance of every input position for that word.

Source: Chefer et al. 2021, arXiv:2103.15679, equations 5 and 6 (self-attention).
Misleads when what matters flows through values and MLPs, which it does not know, or speaks against the answer, which it throws
away; and it adds what flows along many ways, so that positions that all others read gain most.
"""

from __future__ import annotations

import torch

from .....hooks import attention
from .....registry import Identity, method
from .....results import PatchMap, patch_map


def identity(mllm, prompt) -> list[Identity]:
    """Relevance only flows forward; and in the last block only the rows that say the answer have a gradient at all."""
    rows, gradients, count = relevance(mllm, prompt, mllm.target(prompt))
    return [Identity("nothing is relevant to an earlier position", float(rows.triu(1).abs().max()), 0.0),
            Identity("in the last block only rows that say the answer have a gradient", float(gradients[-1][0, :, :-count].abs().max()), 0.0)]


@method("generic-relevance", node="model/architecture/analysis/feature-attribution", paper="Chefer et al. 2021, arXiv:2103.15679",
        cost="one forward and one backward pass, once the answer is known", identity=identity)
def generic_relevance(mllm, prompt, token: str | None = None) -> PatchMap:
    """Generic relevance of image tokens and words.

    token: explain this word instead of the whole answer.  Returns a PatchMap of (rows, columns), never negative, with words.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    rows, _, count = relevance(mllm, prompt, target)
    # A position is relevant to itself by definition (R starts from I); that is no finding.
    values = (rows - torch.eye(len(rows), device=rows.device))[-count:].sum(0)
    return patch_map(values.cpu().numpy(), prompt, target, "relevance", "generic relevance", mllm.spent(before))


def relevance(mllm, prompt, target) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], int]:
    """R (T, T), the gradients (1, H, T, T) of each block, and how many of the last rows say the answer."""
    # The stream is not asked for its gradient, so without a leaf no graph would be built: weights are made one.
    with attention(mllm, change=lambda weights: weights.detach().requires_grad_() if not weights.requires_grad else weights) as weights:
        value = mllm.score_inputs(mllm.forced(prompt, target), target, gradient=True)
    layers = sorted(weights)
    gradients = mllm.backward(value, [weights[layer] for layer in layers])
    rows = torch.eye(weights[0].shape[-1], device=weights[0].device)
    for layer, gradient in zip(layers, gradients):
        rows = rows + (gradient * weights[layer].detach())[0].clamp(min=0).mean(0) @ rows
    return rows, gradients, len(target.ids) - target.first
