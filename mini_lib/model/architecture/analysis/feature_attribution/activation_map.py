"""Token activation map: what each image token would itself say of the word, less what it says of all other words.

    a_t(p) = max(0, w_t . norm(h_p))                      how strongly position p says token t, after the last block
    I(p)   = sum_j u_j a_tj(p),   u_j ~ a_t(j)            what the words t_j before it say there, weighted by how much they say t
    M(p)   = max(0, a_t(p) - s I(p)),   s = argmin |a_t - s I|^2,   then filtered over 3 x 3 patches

w_t: (d,) the unembedding of token t.  The filter is a mean of each 3 x 3 window by rank: Gaussian weights around the
median, as wide as the window's spread over its mean, so that lone peaks fall away.

Source: Li et al. 2025, arXiv:2506.23270; constants as in the authors' code (window of 3, weights by rank).
Misleads when image tokens do not say what they show (in small models, and where the answer is only made at the last position),
and in that the filter moves relevance to neighbours.
"""

from __future__ import annotations

import numpy as np
import torch

from .....hooks import points, record
from .....parts import bend, weight_of
from .....registry import Identity, method
from .....results import PatchMap

WINDOW = 3


def identity(mllm, prompt) -> list[Identity]:
    """The activations are read through the model's own unembedding."""
    target = mllm.target(prompt)
    said, logits = activations(mllm, prompt, target, target.ids)
    error = (said[:, -1] - logits[-1, list(target.ids)].clamp(min=0)).abs().max()
    return [Identity("at the last position activations are the model's logits", float(error), mllm.slack)]


@method("activation-map", node="model/architecture/analysis/feature-attribution", paper="Li et al. 2025, arXiv:2506.23270",
        cost="one forward pass, once the answer is known; no backward pass", identity=identity,
        excuses={"check_points_at_the_patch_that_differs": "its filter takes a lone peak away and gives it to the neighbours"})
def activation_map(mllm, prompt, token: str | None = None, *, smooth: bool = True) -> PatchMap:
    """Token activation map over image tokens; of an answer of several tokens, the sum of their maps.

    token: explain this word instead of the whole answer.  smooth: whether to filter.
    Returns a PatchMap of (rows, columns) in logits, never negative.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    ids, image = mllm.forced(prompt, target)["input_ids"][0], prompt.tokens.image.numpy()
    words = [*prompt.tokens.question, *range(len(prompt.tokens.text), len(ids))]    # the question, and the answer so far
    asked = list(target.ids[target.first:])
    said = activations(mllm, prompt, target, [*asked, *ids[words].tolist()])[0].numpy()     # (asked + words, T)
    total = np.zeros(prompt.tokens.grid)
    for k, wanted in enumerate(asked):
        seen = len(words) - (len(asked) - 1 - k)                                    # words before this one
        others = [j for j in range(seen) if ids[words[j]] != wanted]
        found = without(said[k, image], said[len(asked):][others][:, image], said[k, [words[j] for j in others]])
        found = prompt.tokens.on_grid(found)
        total += ranked(found) if smooth else found
    return PatchMap(total, "logits", prompt.picture, prompt.tokens.boxes, prompt.question, target.text, "token activation map",
                    mllm.spent(before) | {"elsewhere": 0.0})                                         # it says nothing of words


def activations(mllm, prompt, target, tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """How strongly each position says each token, (tokens, T), never negative; and the model's own logits (answer, V)."""
    last = points(mllm)[-1]
    with record(mllm, last) as seen:
        logits = mllm.logits(mllm.forced(prompt, target), len(target.ids) - target.first)[0]
    with torch.no_grad():
        said = torch.nn.functional.linear(mllm.parts.norm(seen[last][0]), weight_of(mllm.parts.head)[list(tokens)])     # (T, tokens)
        said = bend(said, mllm.parts.cap)
    return said.float().clamp(min=0).T.cpu(), logits.cpu()


def without(own: np.ndarray, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """M before the filter.  own: (P,); others: (words, P); weights: (words,), how much each word's position says the token."""
    if not weights.sum() > 0:
        return own
    shared = weights / weights.sum() @ others
    scale = own @ shared / (shared @ shared) if shared.any() else 0.0
    return (own - scale * shared).clip(min=0)


def ranked(values: np.ndarray) -> np.ndarray:
    """The rank-Gaussian filter over 3 x 3 windows; (rows, columns) -> (rows, columns)."""
    padded = np.pad(values, WINDOW // 2, mode="reflect")
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW)).reshape(*values.shape, -1), -1)
    mean = windows.mean(-1, keepdims=True)
    wide = np.divide(windows.std(-1, keepdims=True), mean, out=np.zeros_like(mean), where=mean > 0)
    steps = np.arange(WINDOW ** 2) - WINDOW ** 2 // 2
    weights = np.exp(-steps ** 2 / (2 * wide ** 2 + 1e-12))
    return (windows * weights).sum(-1) / weights.sum(-1) * (mean[..., 0] > 0)
