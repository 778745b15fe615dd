"""Grad-CAM: channels of a layer, weighted by how much the answer wants more of each.

    w_c = mean_p df/dA_pc          L_p = max(0, sum_c w_c A_pc)

A: (P, d) what a layer says of each patch: at the connector (what enters the language model at the image tokens) or before
the tower's last block.  f: log-probability of the answer, in nats.

Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2; there of a convolutional layer, whose channels are maps.
Misleads when channels are no maps of things, as in a transformer: their sign and scale differ from patch to patch, and one
weight for all patches forgets where the gradient came from.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .....hooks import edit
from .....refusal import Refusal, nearest
from .....registry import Identity, method
from .....results import PatchMap, patch_map
from .....streams import gradients, merged, score

PLACES = ("connector", "tower")
STEP = 1e-2


def identity(mllm, prompt) -> list[Identity]:
    """The weight of a channel, times the number of patches, is the slope of f when it grows at all patches alike."""
    target = mllm.target(prompt)
    stream, image = merged(mllm, prompt, target), prompt.tokens.image
    weights = gradients(mllm, prompt, target, stream)[1][0, image].mean(0)          # (d,)
    step = STEP * stream[0, image].float().std() * torch.nn.functional.normalize(weights, dim=0)
    moved = stream.repeat(2, 1, 1)
    moved[:, image] += torch.stack([step, -step])[:, None].to(stream)
    more, less = score(mllm, prompt, target, moved)
    error = abs(float(more - less) / 2 - float(weights @ step) * len(image))
    return [Identity("the weights say how f answers to more of a channel", error, mllm.slack)]


@method("grad-cam", node="model/architecture/analysis/feature-attribution", paper="Selvaraju et al. 2017, arXiv:1610.02391",
        cost="three forward passes and one backward pass, once the answer is known", identity=identity)
def grad_cam(mllm, prompt, token: str | None = None, *, at: str = "connector") -> PatchMap:
    """Grad-CAM over image tokens.

    token: explain this word instead of the whole answer.  at: "connector", or "tower" (what enters its last block).
    Returns a PatchMap of (rows, columns), never negative.  Raises Refusal for another place, and where the tower's patches are
    not those of the language model (merged or tiled patches).
    """
    if at not in PLACES:
        raise Refusal(f"There is no place {at!r} for Grad-CAM{nearest(at, PLACES)}")
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    if at == "tower":
        layer, gradient = _tower(mllm, prompt, target)
    else:
        stream = merged(mllm, prompt, target)
        gradient = gradients(mllm, prompt, target, stream)[1][0, prompt.tokens.image]
        layer = stream[0, prompt.tokens.image].float()
    cam = (layer @ gradient.mean(0)).relu()                                         # (P,)
    values = torch.zeros(len(prompt.tokens.text))
    values[prompt.tokens.image] = cam.cpu()
    found = patch_map(values.numpy(), prompt, target, "nats per channel", f"Grad-CAM at the {at}", mllm.spent(before))
    return replace(found, words=())                                                 # it says nothing of words


def _tower(mllm, prompt, target) -> tuple[torch.Tensor, torch.Tensor]:
    """What enters the tower's last block, and its gradient: (P, d) each, without class tokens."""
    leaf, patches = [], len(prompt.tokens.image)

    def watch(tensor):
        leaf.append(tensor.detach().clone().requires_grad_())
        return leaf[0]

    with edit(mllm, {f"vision.{len(mllm.parts.vision) - 1}": watch}):
        value = mllm.score_inputs(mllm.forced(prompt, target), target, gradient=True)
    gradient, = mllm.backward(value, leaf)
    if leaf[0].dim() != 3 or len(leaf[0]) != 1 or not 0 <= leaf[0].shape[1] - patches <= 8:
        raise Refusal(f"The tower of {mllm.name} has {tuple(leaf[0].shape)} where the language model sees {patches} image tokens, so "
                      "its patches cannot be told apart; use at=\"connector\".")
    return leaf[0][0, -patches:].detach().float(), gradient[0, -patches:].float()   # class and register tokens come first
