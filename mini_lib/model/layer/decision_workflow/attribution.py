"""Attribution patching: all patches at once, to first order, in two forward passes and one backward pass.

    A(P, l) = sum over p in P of (h_l^clean[p] - h_l^corr[p]) . dm/dh_l[p]  /  (m_clean - m_corr)          gradient at the corrupted run

It is the first term of the Taylor series of activation patching's R(P, l) in the step from the corrupted to the clean run. So it is
exact for small steps, and for large ones only as far as m is straight along them.

With steps > 1 the gradient is the mean over points on the line from the corrupted to the clean stream before block 0: there the
values of all positions then sum to 1 as the steps become many (integrated gradients), later only about so.

Sources: Nanda 2023 (neelnanda.io, attribution patching); Syed et al. 2023, arXiv:2310.10348; where it fails: Kramar et al. 2024,
arXiv:2403.00745; the mean along a line of inputs: Hanna et al. 2024, arXiv:2403.17806.
Misleads when the step is large, which a whole residual stream's is: a softmax that is sure has no slope, and a norm divides what is put in.
Then real effects read as none, and small ones as large. Patch exactly what it ranks first.
"""

from __future__ import annotations

import numpy as np
import torch

from ....hooks import edit, points
from ....pairs import Pair, groups_of, pair_of, run, table
from ....registry import Identity, method
from ....results import Matrix
from ....streams import inputs

SMALL = 0.02                    # of the step, in the identity: so small that a third-order term is nothing, so large that rounding is nothing


def identity(mllm, prompt) -> list[Identity]:
    """To first order it is the exact effect, at every point; and what cannot know of the change gets nothing."""
    pair = pair_of(mllm, prompt)
    found = attributed(mllm, pair)                                                            # (points, T) logits
    groups, off = groups_of(prompt, pair.target), []
    for point in range(len(pair.states)):
        steps = pair.states[point] - pair.changed[point]
        for name in ("image", "answer"):
            part = torch.zeros_like(steps)
            part[:, groups[name]] = SMALL * steps[:, groups[name]]
            up, down = run(mllm, pair, pair.changed[point] + torch.cat([part, -part]), point).tolist()
            off.append((up - down) / (2 * SMALL) - found[point, groups[name]].sum())
    size = max(1.0, float(np.abs(found).sum(1).max()))
    return [Identity("a small step has the effect that it says, at every point", float(np.abs(off).max()) / size, 20 * mllm.slack),
            Identity("what comes before the first token that differs gets nothing before block 0",
                     float(np.abs(found[0, :pair.first_change()]).max(initial=0)), 0.0)]


@method("attribution-patching", node="model/layer/decision-workflow", paper="Syed et al. 2023, arXiv:2310.10348",
        cost="one forward and one backward pass a step, and five forward passes more", identity=identity)
def attribution_patching(mllm, prompt, token: str | None = None, *, other=None, rival: str | None = None, groups: dict | None = None,
                         steps: int = 1) -> Matrix:
    """What activation patching would find, estimated for every group and point from gradients of the corrupted run.

    token, other, rival, groups: as for `activation_patching`.  steps: gradients along the line to the clean run; 1 is the plain method.
    Returns a Matrix of (groups, points), the same shares of the answer recovered, as estimated.
    """
    before = mllm.passes, mllm.backward_passes
    pair = pair_of(mllm, prompt, token, other, rival)
    groups, found = groups_of(prompt, pair.target) if groups is None else groups, attributed(mllm, pair, steps) / pair.gap
    values = np.stack([found[:, list(positions)].sum(1) for positions in groups.values()])
    return table(mllm, pair, values, groups, "attribution patching" + f", {steps} steps" * (steps > 1), before)


def attributed(mllm, pair: Pair, steps: int = 1) -> np.ndarray:
    """The estimate for each position at each point: (points, T), in logits."""
    total = np.zeros((len(pair.states), pair.states[0].shape[1]))
    for k in range(steps):
        share = k / steps if steps == 1 else (k + 0.5) / steps           # the plain method takes the corrupted run itself
        for point, slope in enumerate(slopes(mllm, pair, pair.changed[0] + share * (pair.states[0] - pair.changed[0]))):
            step = (pair.states[point] - pair.changed[point]).float()
            total[point] += (step * slope).sum(-1)[0].cpu().numpy() / steps
    return total


def slopes(mllm, pair: Pair, stream: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of m with respect to the stream at every point, (1, T, d) float32 each, in a run from this one before block 0."""
    start, kept = stream.detach().clone().requires_grad_(), []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with edit(mllm, {"embed": lambda x: keep(start.to(x)), **dict.fromkeys(points(mllm)[1:], keep)}):
        logits = mllm.logits(inputs(mllm, pair.other, pair.target, 1), len(pair.rivals), gradient=True)
    return [slope.float() for slope in mllm.backward(pair.read(logits), kept)]
