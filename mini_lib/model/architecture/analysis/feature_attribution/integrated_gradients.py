"""Integrated gradients: add up the gradient on the straight way from an empty prompt to the real one.

    A_t = (h_t - b_t) . integral_0^1 df/dh_t (b + a (h - b)) da

h: (T, d) what enters block 0.  b: the baseline, where the picture is one of its mean colour and every word of the question
the mean of all words, at the word's own length.  The values add up to f(h) - f(b) (completeness); how far they miss it is the
error of the integral.

Source: Sundararajan et al. 2017, arXiv:1703.01365, equation 1.
Misleads when the baseline carries meaning itself (what equals it gets nothing), when the straight way leads through
streams that no prompt has, and where a mixture of experts switches on the way: f jumps there, and "error" says by how much. A baseline of zeros is no choice here: RMSNorm divides by the length of the vector, so that f
jumps at zero and the integral never converges.
"""

from __future__ import annotations

import numpy as np
import torch

from .....batches import progress
from .....registry import Identity, method
from .....results import PatchMap, patch_map
from .....streams import blank, gradients, merged, score


def identity(mllm, prompt) -> list[Identity]:
    """Completeness, up to the error that the method itself reports; and no way at all has no attributions."""
    target = mllm.target(prompt)
    found = integrated_gradients(mllm, prompt, target, steps=200)
    total = found.values.sum() + sum(value for _, value in found.words) + found.measured["elsewhere"]
    claims = [Identity("the values add up to f(prompt) - f(baseline)", abs(total - found.measured["gap"]),
                       max(mllm.slack, 0.02 * abs(found.measured["gap"])))]
    # Image tokens of padding differ from the baseline, since the tower lets them see the picture; they lie elsewhere.
    if all(len(prompt.tokens.one.cells(token)) for token in range(len(prompt.tokens.image))):
        claims.append(Identity("what equals the baseline gets nothing", abs(found.measured["elsewhere"]), mllm.slack))
    return claims


@method("integrated-gradients", node="model/architecture/analysis/feature-attribution", paper="Sundararajan et al. 2017, arXiv:1703.01365",
        cost="a forward and a backward pass a step, 64 by itself, and five forward passes, once the answer is known", identity=identity)
def integrated_gradients(mllm, prompt, token: str | None = None, *, steps: int = 64) -> PatchMap:
    """Integrated gradients of image tokens and words.

    token: explain this word instead of the whole answer.  steps: points of the integral (Gauss-Legendre).
    Returns a PatchMap of (rows, columns) in nats, with words; measured["gap"] is f(prompt) - f(baseline), "error" by how much
    the values miss it.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    stream = merged(mllm, prompt, target)
    empty = blank(mllm, prompt, target, stream)
    points, weights = (torch.tensor(x, dtype=torch.float32, device=stream.device) for x in np.polynomial.legendre.leggauss(steps))
    total = 0
    with progress(steps, "integrated gradients"):
        for part, weight in zip(points.split(mllm.batch_size), weights.split(mllm.batch_size)):
            way = empty.float() + (part[:, None, None] + 1) / 2 * (stream.float() - empty.float())          # (B, T, d)
            total = total + (weight[:, None, None] / 2 * gradients(mllm, prompt, target, way.to(stream))[1]).sum(0)
    values = ((stream - empty)[0].float() * total).sum(-1).cpu().numpy()
    full, none = score(mllm, prompt, target, torch.cat([stream, empty])).tolist()
    return patch_map(values, prompt, target, "nats", "integrated gradients",
                     mllm.spent(before) | {"gap": full - none, "error": float(values.sum()) - (full - none), "steps": steps})
