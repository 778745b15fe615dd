"""Direct logit attribution: what each head and each MLP adds to the answer, by what it writes itself.

The stream behind the last block is a sum of what all parts wrote there, and with the final norm's size s held fixed so is

    D = logit(word) - logit(rival) = u . h / s = sum over parts p of  u . w_p / s,        u = g * (W_U[word] - W_U[rival])

h: (d,) the stream at the position that says the word; s: its root mean square.  g: (d,) weight of the final norm.  W_U: (V, d).
w_p: (d,) what part p wrote there: the embedding, head i of block l (w = W_O^(l,i) z^(l,i), z: (d_head,) what it gathered), or an MLP.

Sources: the stream as a sum that every head reads and writes, and what a head adds to the logits directly: Elhage et al. 2021, "A
Mathematical Framework for Transformer Circuits"; logit difference, and heads of a task ranked by it: Wang et al. 2022, arXiv:2211.00593.
Misleads when direct is taken for all: a part whose writing is read by later parts may matter greatly and add nothing itself, and one that
adds much may be made up for once it is gone. What is written for both words alike cancels, so that the rival matters.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ....contrast import contrast
from ....heads import MLP, parts_of, word_directions, writes
from ....hooks import attention, points, record
from ....inputs import repeat_all
from ....registry import Identity, method
from ....results import Matrix

PAPER = "Wang et al. 2022, arXiv:2211.00593"


def identity(mllm, prompt) -> list[Identity]:
    """All parts sum to the model's difference; a block's to what the stream gains there; a head's is what its zeroed attention takes away."""
    result, asked = direct_logit_attribution(mllm, prompt), contrast(mllm, prompt)
    blocks, limit = range(len(mllm.parts.blocks)), mllm.slack * max(1.0, float(np.abs(result.values).max()))
    inputs, row = mllm.forced(prompt, asked.target), direction(mllm, asked)
    with record(mllm, *points(mllm)) as seen:
        mllm.logits(inputs)
    stream = torch.stack([seen[name][0, -1].double().cpu() for name in points(mllm)])              # (L + 1, d)
    lens = (stream @ row / stream[-1].square().mean().sqrt()).numpy()
    heads = max(float(np.abs(silenced(mllm, inputs, k, row) / float(stream[-1].square().mean().sqrt()) - result.values[k, :-1]).max())
                for k in {0, blocks[-1]})
    whole = result.measured["embedding"] + float(result.values.sum())
    return [Identity("embedding, heads and MLPs sum to the model's difference of logits", abs(whole - asked.value), limit),
            Identity("a block's parts sum to what a lens of the same size gains there",
                     float(np.abs(np.diff(lens) - result.values.sum(1)).max()), limit),
            Identity("a head's part is what is lost there when its attention is zero", heads, limit)]


def silenced(mllm, inputs: dict, block: int, row: torch.Tensor) -> np.ndarray:
    """(H,) what the attention of a block writes along `row` at the last position, less what it writes when a head's weights are zero."""
    kept: list = []

    def zero(weights):
        one = torch.arange(weights.shape[1], device=weights.device)
        return weights * (torch.arange(len(weights), device=weights.device)[:, None] != one)[:, :, None, None]     # the last row keeps all

    count = mllm.model.config.get_text_config().num_attention_heads
    handle = parts_of(mllm.parts.blocks[block])[0].register_forward_hook(
        lambda module, args, output: kept.append(output.detach()[:, -1].double().cpu() @ row))
    try:
        with attention(mllm, [block], zero):
            mllm.logits(repeat_all(inputs, count + 1))
    finally:
        handle.remove()
    return (kept[0][-1] - kept[0][:-1]).numpy()


@method("direct-logit-attribution", node="model/layer/individual-components", paper=PAPER,
        cost="two forward passes, once the answer is known; no backward pass", identity=identity)
def direct_logit_attribution(mllm, prompt, token: str | None = None, *, rival: str | bool = True) -> Matrix:
    """What each head and each MLP writes towards the word, and away from its rival, where the word is said.

    token: the word; by itself the first one of the answer.  rival: the word it is held against; True for the likeliest other one, False
    for none, so that the word's own logit is split.
    Returns a Matrix of (blocks, heads and MLP) in logits; the column of the MLP also has the bias of the attention's output, where there
    is one. measured["embedding"] is what was there before block 0, and measured["whole"] the model's own difference: the sum of it all.
    Raises Refusal as `heads.writes` and `heads.word_directions` do.
    """
    before, asked = (mllm.passes, mllm.backward_passes), contrast(mllm, prompt, token, rival)
    found, row = writes(mllm, [replace(prompt, inputs=mllm.forced(prompt, asked.target))]), direction(mllm, asked)
    size = found.out[0].square().mean().sqrt()
    values = torch.cat([found.heads[0] @ row, (found.rest[0] @ row)[:, None]], 1) / size           # (L, H + 1)
    names = [*map(str, range(values.shape[1] - 1)), MLP]
    return Matrix(values.numpy(), [str(k) for k in range(len(values))], names, ("block", "head"), "logits", "direct logit attribution",
                  prompt.question, asked.target.text,
                  {**mllm.spent(before), "rival": asked.rival, "whole": asked.value, "embedding": float(found.embed[0] @ row / size)})


def direction(mllm, asked) -> torch.Tensor:
    """(d,) u: the difference of logits is u times the stream, over the stream's size."""
    return asked.signs @ word_directions(mllm, asked.ids)
