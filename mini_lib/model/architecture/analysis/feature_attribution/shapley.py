"""Shapley values: what each region of the picture brings, on average over all orders in which regions could be shown.

    phi_i = sum over S without i of  |S|! (n - |S| - 1)! / n!  (v(S + i) - v(S))

v(S): log-probability of the answer, in nats, when only the regions in S are seen and the rest shows the cover.  The only
shares that add up to v(all) - v(none), give nothing to a region that never matters, and the same to two that always
matter alike.  Up to `EXACT` regions all 2^n sets are asked; for more, KernelSHAP's fit to some of them (both in
`mini_lib.games`).

Sources: Shapley 1953; KernelSHAP: Lundberg and Lee 2017, arXiv:1705.07874, theorem 2.
Misleads when regions split an object (its value is shared among pieces that each say it), and asks for many pictures that no
one ever saw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .....covers import score, seen, showing
from .....games import blocks, shared
from .....refusal import Refusal
from .....registry import Identity, method
from .....results import PatchMap

EXACT = 9


def identity(mllm, prompt) -> list[Identity]:
    """Efficiency, and the least-squares fit on all sets is the exact value."""
    target = mllm.target(prompt)
    regions = blocks(prompt.tokens.grid, -(-max(prompt.tokens.grid) // 2))
    exact, fitted = (shapley(mllm, prompt, target, regions=regions, exact=way) for way in (True, False))
    gap = exact.measured["gap"]
    return [Identity("the values add up to f(all seen) - f(none seen)", abs(exact.values.sum() - gap), mllm.slack),
            Identity("fitted on all sets, KernelSHAP gives the exact values", float(np.abs(exact.values - fitted.values).max()), mllm.slack),
            Identity("all regions seen are the picture itself", abs(exact.measured["full"] - float(mllm.score(prompt, target)[0])), mllm.slack)]


@method("shapley", node="model/architecture/analysis/feature-attribution", paper="Lundberg and Lee 2017, arXiv:1705.07874",
        cost="one forward pass a set of regions, 512 by itself, once the answer is known; no backward pass", identity=identity)
def shapley(mllm, prompt, token: str | None = None, *, regions: Sequence[np.ndarray] | None = None, samples: int = 512,
            exact: bool | None = None, cover: str | Image.Image = "mean", seed: int = 0) -> PatchMap:
    """Shapley values of regions of the picture; a region's value is shared equally among its patches.

    token: explain this word instead of the whole answer.  regions: arrays of patch indices, for instance one an object; by
    itself blocks of 2 x 2 patches. Patches in none of them are always seen.  samples: sets that KernelSHAP asks, when there
    are more than `EXACT` regions.  exact: overrides that choice.  cover: what covered regions show, as in `covers.filling`.
    Returns a PatchMap of (rows, columns) in nats; measured["regions"] holds each region's value.
    """
    regions = blocks(prompt.tokens.grid, 2) if regions is None else regions
    target, before, n = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes), len(regions)
    if n < 2:
        raise Refusal(f"Shapley values share something among regions, and there {'is 1' if n == 1 else 'are none'}; give two or more.")
    exact = n <= EXACT if exact is None else exact

    def value(sets):
        return score(mllm, prompt, target, showing(prompt, cover, seen(prompt, regions, sets)))

    shares, _, scores = shared(value, n, samples, exact, seed)
    values = np.zeros(prompt.tokens.grid).ravel()
    for region, share in zip(regions, shares):
        values[region] += share / len(region)
    return PatchMap(values.reshape(prompt.tokens.grid), "nats", prompt.picture, prompt.tokens.boxes, prompt.question, target.text,
                    "Shapley values" if exact else "KernelSHAP",
                    mllm.spent(before) | {"full": float(scores[-1]), "gap": float(scores[-1] - scores[0]), "regions": [float(f"{v:.4g}") for v in shares]})
