"""Visual heads: which heads look at the picture, and which at the asked object?

    v^(l,i) = mean over q in Q of  sum over p in P of  A^(l,i)[q, p]

A^(l,i): (T, T) attention weights of head i of block l; each row sums to 1.  Q: the position that says the word, or the question's words.
P: the image tokens that show the object; all image tokens, where no object is named.

Source: heads scored by the weight that they give to image tokens: Bi et al. 2024, arXiv:2412.18108, who also ask how concentrated it is.
The object's own patches, which are known here, take the place of their measure of concentration.
Misleads when looking is taken for mattering: what a head carries, and whether anything after it listens, the weight does not say; and
by the area, as a head that looks nowhere in particular gives a large object much.
"""

from __future__ import annotations

import numpy as np
import torch

from ....contrast import contrast
from ....hooks import attention, cut
from ....refusal import Refusal, nearest
from ....registry import Identity, method
from ....results import Matrix
from ....roles import roles

PAPER = "Bi et al. 2024, arXiv:2412.18108"
SOURCES = ("answer", "question")


def identity(mllm, prompt) -> list[Identity]:
    """A mask and its complement make the whole; what is cut gets nothing; the rows are those of the weights as the model uses them."""
    mask = np.zeros(prompt.tokens.one.shape, bool)
    mask[: max(1, len(mask) // 2), : max(1, mask.shape[1] // 3)] = True
    asked, whole = contrast(mllm, prompt), visual_heads(mllm, prompt).values
    part = visual_heads(mllm, prompt, mask=mask).values
    twice = covering(prompt, mask) & covering(prompt, ~mask)                                       # a thumbnail's tokens show both sides
    inputs, queries = mllm.forced(prompt, asked.target), sources(prompt, asked.target, "answer")
    image = prompt.tokens.image.numpy()
    shown = image[covering(prompt, np.ones_like(mask))]                                            # not the tokens of a margin or a line's end
    with attention(mllm, reduce=lambda weights: weights[0, :, queries].mean(1)) as used:
        mllm.logits(inputs)
    rows = np.stack([used[k].cpu().numpy() for k in sorted(used)])                                 # (L, H, T)
    with cut(mllm, queries, image[covering(prompt, mask)]):
        hidden = weights_on(mllm, inputs, queries, image[covering(prompt, mask)])
        left = weights_on(mllm, inputs, queries, torch.arange(rows.shape[-1]))
    return [Identity("a mask and its complement get what the whole picture gets",
                     float(np.abs(part + visual_heads(mllm, prompt, mask=~mask).values - whole
                                  - rows[..., image[twice]].sum(-1)).max()), 1e-4),
            Identity("beside the model's own kernel the weights are those that are used", float(np.abs(rows[..., shown].sum(-1) - whole).max()),
                     1e-4 if mllm.exact else 1e-2),
            Identity("a head that is kept from the object gives it nothing", float(np.abs(hidden).max()), 0.0),
            Identity("what is left of each head's attention sums to 1", float(np.abs(left - 1).max()), 1e-4)]


@method("visual-heads", node="model/layer/individual-components", paper=PAPER,
        cost="two forward passes, once the answer is known; no backward pass", identity=identity)
def visual_heads(mllm, prompt, token: str | None = None, *, mask=None, source: str = "answer") -> Matrix:
    """How much of its attention each head gives to the picture, or to an object in it.

    token: the word; by itself the first one of the answer.  mask: (rows, columns) bool, the object's patches; the whole picture by itself.
    source: who looks, "answer" (the position that says the word) or "question" (the mean of its words).
    Returns a Matrix of (blocks, heads), from 0 to 1; measured["area"] is the mask's share of the image tokens.
    Raises Refusal for a mask of another shape than the grid, and an unknown source.
    """
    before, asked = (mllm.passes, mllm.backward_passes), contrast(mllm, prompt, token)
    chosen = covering(prompt, np.ones(prompt.tokens.one.shape, bool) if mask is None else np.asarray(mask, bool))
    queries = sources(prompt, asked.target, source)
    values = weights_on(mllm, mllm.forced(prompt, asked.target), queries, prompt.tokens.image.numpy()[chosen])
    return Matrix(values, [str(k) for k in range(len(values))], [str(k) for k in range(values.shape[1])], ("block", "head"),
                  "share of attention", "visual heads", prompt.question, asked.target.text,
                  {**mllm.spent(before), "area": float(chosen.mean())})


def weights_on(mllm, inputs: dict, queries: list[int], keys) -> np.ndarray:
    """(L, H) the weight that each head gives to the keys, mean over the queries. Only the queries' rows are ever kept."""
    with attention(mllm, queries=queries, reduce=lambda weights: weights[0][..., keys].sum(-1).mean(-1)) as kept:
        mllm.logits(inputs)
    return np.stack([kept[k].cpu().numpy() for k in sorted(kept)])


def sources(prompt, target, source: str) -> list[int]:
    """Positions whose attention is asked about."""
    if source not in SOURCES:
        raise Refusal(f"There is no source {source!r}{nearest(source, SOURCES)}")
    found = roles(prompt, target)[source]
    if not found:
        raise Refusal("This question is one token, which says the answer itself: there is no other word of it to ask about.")
    return found


def covering(prompt, mask: np.ndarray) -> np.ndarray:
    """(P,) bool: the image tokens that show any cell of the mask."""
    grid = prompt.tokens.one
    if mask.shape != tuple(grid.shape):
        raise Refusal(f"A mask of {mask.shape} for a grid of {tuple(grid.shape)} patches; give one value for each patch.")
    return np.array([bool(mask.ravel()[grid.cells(token)].any()) for token in range(grid.tokens)])
