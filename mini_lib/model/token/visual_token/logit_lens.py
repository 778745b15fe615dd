"""The logit lens on image tokens: what would the model say at image token p if it had to stop after l blocks?

    L_l(p) = softmax( W_U norm( h_l(p) ) )

h_l(p): (d,) residual stream at position p after l blocks; h_0 enters the first one ("embed").  norm: the model's final norm.  W_U: (V, d) unembedding.
At the last layer, at the last position, this is the model's own answer.

A word stands first against the whole vocabulary, or only against a few rivals, a set of words C (our addition; the same numbers, renormalised):

    L_l(p | C) = L_l(p)[C] / sum_(c in C) L_l(p)[c]

Sources: nostalgebraist 2020, "interpreting GPT: the logit lens"; on image tokens: Neo et al. 2024, arXiv:2410.07149, section 4.
Misleads when a token's words are a side effect that nothing reads, when words that mean nothing there crowd out one that does (then
`among` shows it), when a set of rivals forces a word on a token that has none, and in early layers, which may write in other directions.
"""

from __future__ import annotations

import numpy as np
import torch

from ....hooks import points, record
from ....registry import Identity, method
from ....results import LensGrid

PAPER = "Neo et al. 2024, arXiv:2410.07149"


def lens_identity(mllm, prompt) -> list[Identity]:
    """The lens at the last layer and position is the model's own next-word distribution."""
    last = points(mllm)[-1]
    with record(mllm, last) as seen:
        logits = mllm.logits(prompt.inputs)
    error = (read(mllm, seen[last][0, -1:]) - logits[0].softmax(-1).cpu()).abs().max()
    return [Identity("the lens at the last layer is the model's answer", float(error), mllm.slack / 10)]


@method("logit-lens", node="model/token/visual-token", paper=PAPER,
        cost="one forward pass, once the answer is known; no backward pass", identity=lens_identity)
def logit_lens(mllm, prompt, token: str | None = None, among: list[str] | None = None) -> LensGrid:
    """The words that each image token would say, layer by layer.

    token: the word to follow; by itself the first word of the model's answer.
    among: the only words that compete, such as all colours; by itself the whole vocabulary.
    Returns a LensGrid of (layers + 1, rows, columns): the stream before block 0, then after each block. Where several image tokens
    cover a cell, its own is shown and not that of a thumbnail.  Raises Refusal for a word of `among` that is not one token.
    """
    target, before = mllm.target(prompt, token), mllm.passes
    rivals = None if among is None else sorted({i for word in among for i in mllm.tokens(word)})
    wanted, layers, own = target.ids[target.first], points(mllm), prompt.tokens.one.finest()    # (rows, columns) of image tokens
    with record(mllm, *layers) as seen:
        mllm.logits(prompt.inputs)
    best, index, chance = [], [], []
    for layer in layers:                                        # a layer at a time: (patches, V) is large on large models
        probabilities = read(mllm, seen[layer][0, prompt.tokens.image])             # (image tokens, V)
        if rivals is not None:
            left = torch.zeros_like(probabilities).index_copy_(1, torch.tensor(rivals), probabilities[:, rivals])
            probabilities = left / left.sum(-1, keepdim=True).clamp(min=1e-38)      # (image tokens, V), 0 for all others
        top = probabilities.max(-1)
        best, index, chance = [*best, top.values], [*index, top.indices], [*chance, probabilities[:, wanted]]
    names = [mllm.tokenizer.decode([i]).strip() for i in torch.cat(index).tolist()]
    shape = (len(layers), len(prompt.tokens.image))
    named, sure, said = (np.reshape(one, shape)[:, own] for one in (np.array(names, object), torch.cat(best).numpy(),
                                                                     torch.cat(chance).numpy()))
    return LensGrid(named, sure, said, layers, prompt.picture, prompt.tokens.boxes, prompt.question,
                    mllm.tokenizer.decode([wanted]).strip(), "logit lens", {"forward_passes": mllm.passes - before})


def read(mllm, hidden: torch.Tensor) -> torch.Tensor:
    """(N, d) residual stream -> (N, V) probabilities, on the CPU."""
    # The recorded stream is not normed yet. transformers' own `hidden_states[-1]` already is: norming that one again
    # is a known silent error (tests/model/token/visual_token brings it back and must fail).
    with torch.no_grad():
        return mllm.parts.head(mllm.parts.norm(hidden)).float().softmax(-1).cpu()
