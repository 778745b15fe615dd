"""Ablation of parts: what is lost when a head, or an MLP, hands on something else than it would?

    E_p = D - D[w_p := w'_p]             D = logit(word) - logit(rival)

w_p: what part p writes, at all positions (or at some).  D: of the model as it is, at the position that says the word; the rival stays the
one of the model as it is.  E_p: logits lost; below 0 where the part was in the way.  What stands in for it, w'_p:

    zero        nothing
    mean        its mean, over the positions of this prompt, or at each position over other prompts
    resample    what it writes for another prompt, which takes away what the two do not share, and brings in what only the other has

Unlike direct logit attribution E_p counts all that later parts make of what was written, and what they do in its absence.

Sources: heads ablated one at a time: Voita et al. 2019, arXiv:1905.09418, who prune them; mean ablation: Wang et al. 2022,
arXiv:2211.00593. That the way of corrupting changes what is found: Zhang and Nanda 2023, arXiv:2309.16042, for patching.
Misleads when a backup steps in (a small effect does not prove that a part is not used), and when what stands in is nothing that the part
ever writes: zero and a mean can break what comes after, which then tells of the breaking, not of the part.
"""

from __future__ import annotations

import numpy as np
import torch

from ....contrast import contrast
from ....heads import MLP, count, parts_of, stand_ins, without
from ....hooks import attention, points, record
from ....registry import Identity, method
from ....results import Matrix
from ....streams import entering

PAPER = "Wang et al. 2022, arXiv:2211.00593"


def identity(mllm, prompt) -> list[Identity]:
    """A part's own output changes nothing; a zeroed head is one without attention; a block without parts is the block before it."""
    asked, last, heads = contrast(mllm, prompt), len(mllm.parts.blocks) - 1, range(count(mllm))
    own = stand_ins(mllm, prompt, asked.target, "resample", [prompt])
    nothing = stand_ins(mllm, prompt, asked.target, "zero")
    same = head_ablation(mllm, prompt, instead=own).values
    zeroed = head_ablation(mllm, prompt, instead=nothing).values
    limit = mllm.slack * max(1.0, abs(asked.value), float(np.abs(zeroed).max()))
    gone = asked.of(mllm, without(mllm, prompt, asked.target, [[(last, part) for part in (*heads, MLP)]], nothing)[:, 0])
    inputs, point = mllm.forced(prompt, asked.target), points(mllm)[-2]
    with record(mllm, point) as seen:
        mllm.logits(inputs)
    projection = parts_of(mllm.parts.blocks[last])[0]
    with torch.no_grad():
        bias = projection(seen[point].new_zeros(1, projection.in_features))[0] if getattr(projection, "bias", None) is not None else 0
        lens = mllm.parts.head(mllm.parts.norm(seen[point][:, -1] + bias)).float()
    away = max(abs(float(asked.value - unattended(mllm, inputs, asked, k, head)) - zeroed[k, head])
               for k, head in {(0, 0), (last // 2, heads[-1]), (last, heads[-1])})
    claims = [Identity("a part whose own output stands in for it loses nothing", float(np.abs(same).max()), limit),
              Identity("a head that hands on zero is a head whose attention is zero", away, limit)]
    if not mllm.parts.later:                                    # else a block may add more than its heads and its MLP write
        claims.append(Identity("with all parts of the last block at zero the model is the lens before that block",
                               abs(float(gone[0] - asked.of(mllm, lens)[0])), limit))
    return claims


def unattended(mllm, inputs: dict, asked, block: int, head: int) -> torch.Tensor:
    """D when the attention weights of one head are zero, in a pass of the whole model from the picture on."""
    def zero(weights):
        return weights * (torch.arange(weights.shape[1], device=weights.device) != head)[:, None, None]

    with attention(mllm, [block], zero):
        return asked.of(mllm, mllm.logits(inputs)[:, -1])[0]


@method("head-ablation", node="model/layer/individual-components", paper=PAPER,
        cost="one forward pass a head and MLP, from its block on, and a few more; no backward pass", identity=identity)
def head_ablation(mllm, prompt, token: str | None = None, *, how: str = "mean", others=None, instead=None, at=None,
                  rival: str | bool = True) -> Matrix:
    """What the word loses against its rival when one head, or one MLP, hands on something else.

    token: the word; by itself the first one of the answer.  rival: the word it is held against; True for the likeliest other one, False
    for none.  how: "zero", "mean" or "resample", see above.  others: prompts of the same form, for the mean over prompts; for a resample
    from several, the effects' mean is given.  instead: what `heads.stand_ins` gave, in place of `how` and `others`.
    at: the positions at which parts are taken out; all by default.
    Returns a Matrix of (blocks, heads and MLP) in logits lost.  Raises Refusal as `heads.stand_ins` does.
    """
    before, asked = (mllm.passes, mllm.backward_passes), contrast(mllm, prompt, token, rival)
    parts = [(block, part) for block in range(len(mllm.parts.blocks)) for part in (*range(count(mllm)), MLP)]
    states, sets = entering(mllm, prompt, asked.target), [[part] for part in parts]
    groups = [[one] for one in others] if how == "resample" and others else [others]
    each = [instead] if instead is not None else [stand_ins(mllm, prompt, asked.target, how, group) for group in groups]
    lost = [asked.value - asked.of(mllm, without(mllm, prompt, asked.target, sets, one, at, states=states)[:, 0]) for one in each]
    values = torch.stack(lost).mean(0).view(len(mllm.parts.blocks), -1).numpy()
    said = {"rival": asked.rival, "whole": asked.value}
    return Matrix(values, [str(k) for k in range(len(values))], [*map(str, range(count(mllm))), MLP], ("block", "head"), "logits lost",
                  "ablation" if instead is not None else f"{how} ablation", prompt.question, asked.target.text, {**mllm.spent(before), **said})
