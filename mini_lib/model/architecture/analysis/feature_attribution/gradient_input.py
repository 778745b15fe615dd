"""Gradient x input: how the answer would change if a token's vector grew a little, times what the vector is.

    A_t = h_t . df/dh_t                                       (sum over the d numbers of the vector)

h_t: (d,) what enters block 0 at position t, an image token or a word.  f: log-probability of the answer, in nats.  It is the
first-order estimate of f(h) - f(h without h_t).

Source: Shrikumar et al. 2016, arXiv:1605.01713; before it, of pixels, Simonyan et al. 2013, arXiv:1312.6034.
Misleads when the answer is certain (the gradient is then near zero whatever matters), where the model bends within the
step from h to nothing, and in that noise of single gradients looks like structure.
"""

from __future__ import annotations

from .....registry import Identity, method
from .....results import PatchMap, patch_map
from .....streams import gradients, merged, score

STEP = 1e-3         # of the finite difference, as a share of the stream


def identity(mllm, prompt) -> list[Identity]:
    """All values together are the change of f per share by which the whole stream grows."""
    target = mllm.target(prompt)
    stream = merged(mllm, prompt, target)
    found = gradient_input(mllm, prompt, target)
    total = found.values.sum() + sum(value for _, value in found.words) + found.measured["elsewhere"]
    more, less = score(mllm, prompt, target, stream * stream.new_tensor([1 + STEP, 1 - STEP])[:, None, None].to(stream))
    slope = float(more - less) / (2 * STEP)
    return [Identity("the values add up to the slope of f along the stream", abs(total - slope), mllm.slack / STEP / 10)]


@method("gradient-input", node="model/architecture/analysis/feature-attribution", paper="Shrikumar et al. 2016, arXiv:1605.01713",
        cost="three forward passes and one backward pass, once the answer is known", identity=identity)
def gradient_input(mllm, prompt, token: str | None = None) -> PatchMap:
    """Gradient x input of image tokens and words.

    token: explain this word instead of the whole answer.  Returns a PatchMap of (rows, columns) in nats, with words.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    stream = merged(mllm, prompt, target)
    _, gradient = gradients(mllm, prompt, target, stream)
    values = (stream.float() * gradient).sum(-1)[0].cpu().numpy()
    return patch_map(values, prompt, target, "nats, to first order", "gradient x input", mllm.spent(before))
