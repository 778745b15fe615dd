"""Self-repair: when a part is gone, who steps in? Its direct effect, held against the total one.

Take part p out at the position that says the word, and split the difference of logits into all parts before and after. With s and s' the
sizes that the final norm divides by, and c_q = u . w_q / s what part q adds directly (direct logit attribution),

    D - D' = (c_p - c'_p)  +  sum over later heads (c_q - c'_q)  +  sum over later MLPs (c_q - c'_q)  +  (sum over all q of c'_q - D')
    total  = direct           heads                                 MLPs                                 norm

c': what a part adds once p is gone, still at the old size s.  D': the difference then, at the new size s'.  All are logits lost: a column
below 0 makes good what was lost, one above 0 adds to the loss. Where the total is smaller than the direct effect, the model repaired itself.

Sources: later layers that compensate: McGrath et al. 2023, arXiv:2307.15771; for single heads, and the final norm's share: Rushing and Nanda
2024, arXiv:2402.15390; backup heads: Wang et al. 2022, arXiv:2211.00593. One sum of all four is our own way to put it.
Misleads when a negative column is taken for a purpose: a later part that reads the same stream writes something else when the stream is
another, and a saturated one may do so without being a backup. What stands in matters, too: zero or a mean is no likely input.
"""

from __future__ import annotations

import numpy as np
import torch

from ....contrast import contrast
from ....heads import MLP, count, must_sum, split, stand_ins, watched, without, word_directions
from ....hooks import attention, points, record
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Matrix
from ....streams import entering

PAPER = "McGrath et al. 2023, arXiv:2307.15771"
COLUMNS = ["direct", "later heads", "later MLPs", "final norm", "total"]


def identity(mllm, prompt) -> list[Identity]:
    """The parts after an ablation sum to what the model then says; the total is the model's own; nothing replaced, nothing lost."""
    asked, last = contrast(mllm, prompt), len(mllm.parts.blocks) - 1
    own = stand_ins(mllm, prompt, asked.target, "resample", [prompt])
    same = self_repair(mllm, prompt, instead=own).values
    result = self_repair(mllm, prompt)
    limit = mllm.slack * max(1.0, abs(asked.value), float(np.abs(result.values).max()))
    middle, point = last // 2, points(mllm)[-1]
    sets = [[(middle, part) for part in (*range(count(mllm)), MLP)]]
    instead, states = stand_ins(mllm, prompt, asked.target), entering(mllm, prompt, asked.target)
    _, (after,), size = added(mllm, prompt, asked, sets, instead, states)
    with record(mllm, point) as seen:
        said = asked.of(mllm, without(mllm, prompt, asked.target, sets, instead, [-1], states=states)[:, 0])[0]
    smaller = float(size / seen[point][0, -1].double().cpu().square().mean().sqrt())
    start = float(states[0][0, -1].double().cpu() @ (asked.signs @ word_directions(mllm, asked.ids)) / size)
    zeroed = self_repair(mllm, prompt, sets={"one": [(middle, 0)]}, how="zero").values
    rows = [f"{last}.{head}" for head in range(count(mllm))]
    heads = result.values[[result.rows.index(row) for row in rows], COLUMNS.index("later heads")]
    return [Identity("after an ablation all parts, at the norm's new size, sum to what the model then says",
                     abs((start + float(after.sum())) * smaller - float(said)), limit),
            Identity("the total is what is lost when the head's attention is zero there, in a pass from the picture on",
                     abs(float(zeroed[0, -1]) - lost_unattended(mllm, prompt, asked, middle, 0)), limit),
            Identity("behind heads of the last block no later head can change", float(np.abs(heads).max()), limit / 10),
            Identity("a part whose own output stands in for it changes nothing", float(np.abs(same).max()), limit)]


def lost_unattended(mllm, prompt, asked, block: int, head: int) -> float:
    """Logits lost when one head's attention weights are zero at the last position, in an ordinary pass."""
    def zero(weights):
        weights = weights.clone()
        weights[:, head, -1] = 0
        return weights

    with attention(mllm, [block], zero):
        return asked.value - float(asked.of(mllm, mllm.logits(mllm.forced(prompt, asked.target))[:, -1])[0])


@method("self-repair", node="model/layer/individual-components", paper=PAPER,
        cost="one forward pass a head and MLP, from its block on, and a few more; no backward pass", identity=identity)
def self_repair(mllm, prompt, token: str | None = None, *, sets: dict | None = None, how: str = "mean", others=None, instead=None,
                rival: str | bool = True) -> Matrix:
    """Direct and total effect of taking parts out where the word is said, and what later parts and the norm do about it.

    token: the word; by itself the first one of the answer.  rival: the word it is held against; True for the likeliest other one, False
    for none.  sets: name -> parts that are taken out together, each (block, head) or (block, "MLP"); by itself each part alone.
    how, others, instead: what stands in, as for `head_ablation`; a resample takes one other prompt.
    Returns a Matrix of (sets, COLUMNS) in logits lost.  Raises Refusal for a set without parts, and as `heads.stand_ins` and `heads.must_sum` do.
    """
    before, asked = (mllm.passes, mllm.backward_passes), contrast(mllm, prompt, token, rival)
    if sets is None:
        sets = {f"{block}.{part}": [(block, part)] for block in range(len(mllm.parts.blocks)) for part in (*range(count(mllm)), MLP)}
    if not sets or not all(len(parts) for parts in sets.values()):
        raise Refusal("There is a set without parts; name at least one (block, head) or (block, \"MLP\") in each.")
    states = entering(mllm, prompt, asked.target)
    instead = stand_ins(mllm, prompt, asked.target, how, others) if instead is None else instead
    clean, after, _, said = _both(mllm, prompt, asked, list(sets.values()), instead, states)
    lost = clean - after                                                                       # (N, L, H + 1)
    gone = torch.zeros(lost.shape, dtype=torch.bool)
    for row, parts in zip(gone, sets.values()):
        for block, part in parts:
            row[block, -1 if part == MLP else part] = True
    direct, later, total = (lost * gone).sum((1, 2)), (lost * ~gone).sum(1), asked.value - said
    heads, mlps = later[:, :-1].sum(1), later[:, -1]
    values = torch.stack([direct, heads, mlps, total - direct - heads - mlps, total], 1)
    return Matrix(values.numpy(), list(sets), COLUMNS, ("part taken out", "effect"), "logits lost", "self-repair", prompt.question,
                  asked.target.text, {**mllm.spent(before), "rival": asked.rival, "whole": asked.value})


def added(mllm, prompt, asked, sets, instead, states) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What each part adds to the difference: before, (L, H + 1), and once each set is gone, (N, L, H + 1); and the size s."""
    clean, after, size, _ = _both(mllm, prompt, asked, sets, instead, states)
    return clean, after, size


def _both(mllm, prompt, asked, sets, instead, states) -> tuple[torch.Tensor, ...]:
    """The same, and the difference of logits after each set is gone, (N,)."""
    row, end = asked.signs @ word_directions(mllm, asked.ids), points(mllm)[-1]

    def writes(z, written, block):                                 # (N, H, d_head), (N, d) -> (N, H + 1, d)
        heads, bias = split(mllm, block, z)
        return torch.cat([heads, (written.double().cpu() + bias)[:, None]], 1)

    with record(mllm, end) as seen, watched(mllm, [-1]) as parts:
        mllm.logits(mllm.forced(prompt, asked.target))
    stream = seen[end][0, -1].double().cpu()
    own = torch.cat([writes(parts[k][0][:, 0], parts[k][1][:, 0], k) for k in sorted(parts)])      # (L, H + 1, d)
    must_sum(mllm, states[0][0, -1].double().cpu() + own.sum((0, 1)), stream)
    clean, size = own @ row, stream.square().mean().sqrt()
    after = clean.repeat(len(sets), 1, 1)

    def look(rows, first, seen):
        for block in range(first, len(clean)):
            after[rows, block] = writes(seen[block][0][:, 0], seen[block][1][:, 0], block) @ row

    logits = without(mllm, prompt, asked.target, sets, instead, [-1], look, states)[:, 0]
    return clean / size, after / size, size, asked.of(mllm, logits)
