"""SmoothGrad: the mean of many gradients under noise, times the input.

    A_t = h_t . mean_k df/dh_t (h + e_k)        e_k ~ N(0, (s r)^2)

h: (T, d) what enters block 0.  Noise falls on image tokens and words alike; r is the spread of the vector it falls on, s the
share of it (`noise`).  One gradient of a network that bends often is hardly the slope of anything; the mean is that of
f smoothed over the noise.

Source: Smilkov et al. 2017, arXiv:1706.03825; there of pixels, and of the gradient alone.
Misleads when the noise is so strong that the model no longer answers, and inherits what misleads in gradient x input.
"""

from __future__ import annotations

import torch

from .....batches import progress, spans
from .....registry import Identity, method
from .....results import PatchMap, patch_map
from .....streams import gradients, merged


def identity(mllm, prompt) -> list[Identity]:
    """Without noise every gradient is the same, so that the mean of five is any one of them."""
    target = mllm.target(prompt)
    one, five = (smoothgrad(mllm, prompt, target, noise=0.0, samples=n).values for n in (1, 5))
    return [Identity("without noise the number of samples changes nothing", float(abs(one - five).max()), mllm.slack)]


@method("smoothgrad", node="model/architecture/analysis/feature-attribution", paper="Smilkov et al. 2017, arXiv:1706.03825",
        cost="a forward and a backward pass a sample, 32 by itself, and two forward passes, once the answer is known", identity=identity)
def smoothgrad(mllm, prompt, token: str | None = None, *, noise: float = 0.15, samples: int = 32, seed: int = 0) -> PatchMap:
    """SmoothGrad x input of image tokens and words.

    token: explain this word instead of the whole answer.  noise: its spread, as a share of each vector's own.
    samples: how many gradients.  Returns a PatchMap of (rows, columns) in nats, with words.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    stream = merged(mllm, prompt, target)
    spread = noise * stream.float().std(-1, keepdim=True)                           # (1, T, 1)
    draw, total = torch.Generator().manual_seed(seed), 0
    with progress(samples, "SmoothGrad"):
        for start, stop in spans(samples, mllm.batch_size):                         # one batch at a time, or memory grows
            shape = (stop - start, *stream.shape[1:])
            noisy = stream + (torch.randn(shape, generator=draw).to(stream.device) * spread).to(stream)
            total = total + gradients(mllm, prompt, target, noisy)[1].sum(0)
    values = (stream[0].float() * total / samples).sum(-1).cpu().numpy()
    return patch_map(values, prompt, target, "nats, to first order", "SmoothGrad x input",
                     mllm.spent(before) | {"noise": noise, "samples": samples, "seed": seed})
