"""Head-wise decomposition with names (TextSpan): what each attention head writes, and which words span it.

Decomposition. The stream that the model reads its next word from is a plain sum of what its parts wrote there:

    h = h_0 + sum over blocks l of [ sum over heads i of  W_O^(l,i) z^(l,i)  +  b^l  +  m^l ]

h, h_0: (d,) the stream behind the last block and before the first one, at one position.  z^(l,i): (d_head,) what head i of block
l gathered by attention; W_O^(l,i): (d, d_head) its columns of the block's output projection; b^l: that projection's bias, if it
has one; m^l: (d,) what the MLP wrote.  With the final norm's size s held fixed, the logit of word w is a sum over the same parts:

    logit(w) = u_w . h / s,    u_w = g * W_U[w]            g: (d,) weight of the final norm

Names (TextSpan). C: (K, d) what one head wrote over K prompts, less its mean; R: (words, d) the directions u_w, each of length 1,
as far as they lie in the span of C. Choose the word whose direction holds most of the head's variance, take this direction
out of C and of R, and go on:

    w* = argmax_w |C R_w|^2,     C <- C - C r r^T,   R <- R - R r r^T,    r = R_w* / |R_w*|

In CLIP the tower's output lies in one space with texts. In an MLLM the tower has no words; the decoder has, so the heads are the decoder's.

Source: Gandelsman, Efros and Steinhardt 2023, arXiv:2310.05916, sections 3 and 4; there of CLIP's vision tower.
Misleads when the pool of words lacks what a head writes (it is named all the same), when the share that the names explain is
small, and when a head's direct words are taken for all that it does: later parts read what it wrote, too.
"""

from __future__ import annotations

import numpy as np
import torch

from ....heads import Writes, parts_of, word_directions, writes
from ....hooks import attention
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Matrix
from ....trial import variants

PAPER = "Gandelsman et al. 2023, arXiv:2310.05916"
FAINT = 1e-6             # a head that varies by less than this share of what it writes may vary by rounding alone, and gets no name


def decomposition_identity(mllm, prompt) -> list[Identity]:
    """All parts sum to the stream and to logits; heads are the model's; naming loses no variance and finds a head's only word."""
    words = pool(mllm, prompt)
    parts, rows = writes(mllm, variants(mllm, prompt, 4)), word_directions(mllm, words)
    total, size = parts.embed + parts.heads.sum((1, 2)) + parts.rest.sum(1), float(parts.out.abs().max())
    final = parts.out[:1].to(mllm.device, mllm.model.dtype)
    with torch.no_grad():
        logits = mllm.parts.head(mllm.parts.norm(final))[0, [mllm.tokens(word)[0] for word in words]].double().cpu()
    cap, scale = mllm.parts.cap, parts.out[0].pow(2).mean().sqrt()
    logits = logits if cap is None else cap * (logits / cap).atanh()
    gone = projected(mllm, prompt) - projected(mllm, prompt, without_first)
    own = parts.heads[:, -1, 0].numpy()
    chosen, shares, left, spread = text_span(own, rows.numpy(), 3)
    planted = [text_span(np.outer([-2.0, -1.0, 1.0, 2.0], row), rows.numpy(), 1) for row in rows.numpy()]
    return [Identity("embedding, heads, biases and MLPs sum to the stream behind the last block",
                     float((total - parts.out).abs().max()) / size, mllm.slack / 10),
            Identity("the same parts, read as words, sum to the logits", float((total[0] @ rows.T / scale - logits).abs().max()),
                     mllm.slack * float(logits.abs().max().clamp(min=1))),
            Identity("a head whose attention is zero no longer writes what it wrote", float((gone - parts.heads[0, -1, 0]).abs().max()) / size,
                     mllm.slack / 10),
            Identity("the words' shares and what is left make all the variance",
                     abs(float(sum(shares) + np.square(left).sum() / max(spread, 1e-30)) - (spread > 0)), 1e-6),
            Identity("what is left of a head has nothing along its first word",
                     float(np.abs(left @ within(own, rows.numpy())[chosen[:1]].T).max(initial=0)) / max(spread, 1e-30) ** 0.5, 1e-6),
            Identity("a head that only writes one word is given its name, and the name explains it",
                     max(float(1 - one[1][0] + (one[0] != [k])) for k, one in enumerate(planted)), 1e-6)]


def without_first(weights: torch.Tensor) -> torch.Tensor:
    """Attention weights (B, H, T, T) of which the first head's are zero."""
    return weights * (torch.arange(weights.shape[1], device=weights.device) > 0)[:, None, None]


def projected(mllm, prompt, change=None) -> torch.Tensor:
    """(d,) what attention of the last block writes at the last position, when its weights are changed."""
    block, kept = len(mllm.parts.blocks) - 1, []
    handle = parts_of(mllm.parts.blocks[block])[0].register_forward_hook(lambda module, args, output: kept.append(output.detach()[0, -1]))
    try:
        with attention(mllm, [block], change):
            mllm.logits(prompt.inputs)
    finally:
        handle.remove()
    return kept[0].double().cpu()


def trial(mllm, prompt, token=None) -> Matrix:
    """The heads' names over pictures made from one, out of a few words."""
    target, before = mllm.target(prompt, token), mllm.passes
    result = head_decomposition(mllm, variants(mllm, prompt, 8), pool(mllm, prompt))
    return Matrix(**{**vars(result), "question": prompt.question, "target": target.text,
                     "measured": {**result.measured, "forward_passes": mllm.passes - before}})


@method("head-decomposition", node="model/embedding/visual-embedding", paper=PAPER, trial=trial, identity=decomposition_identity,
        cost="one forward pass a prompt; no backward pass")
def head_decomposition(mllm, prompts, words, at=None, most: int = 3, found: Writes | None = None) -> Matrix:
    """Which words span what each attention head writes over many prompts.

    words: the pool of names, each one token of the model.  at: for each prompt the positions to look at; by itself the last one,
    from which the answer comes.  most: names for a head.  found: what `writes` gave for these prompts and positions.
    Returns a Matrix of (heads, words): the share of a head's variance that a word's direction took, 0 where it was not chosen;
    heads are named block.head, and measured["variance"] says how much each one writes.
    """
    before, found = mllm.passes, writes(mllm, prompts, at) if found is None else found
    rows, (layers, heads) = word_directions(mllm, words).numpy(), found.heads.shape[1:3]
    values, variance = np.zeros((layers * heads, len(words))), []
    for k in range(layers * heads):
        chosen, shares, _, spread = text_span(found.heads[:, k // heads, k % heads].numpy(), rows, most)
        values[k, chosen] = shares
        variance.append(float(f"{spread / len(found.out):.4g}"))
    return Matrix(values, [f"{k // heads}.{k % heads}" for k in range(layers * heads)], list(words), ("head", "word"),
                  "share of the head's variance", "head decomposition",
                  measured={"forward_passes": mllm.passes - before, "variance": variance})


def text_span(written: np.ndarray, words: np.ndarray, most: int) -> tuple[list[int], list[float], np.ndarray, float]:
    """TextSpan of one head: words chosen in order, the share of variance each took, what is left (K, d), the variance times K.

    written: (K, d).  words: (W, d), of which only the directions count: a long vector would be chosen for its length.
    """
    left, rows = written - written.mean(0), within(written, words)
    chosen, shares, spread = [], [], float(np.square(left).sum())
    while spread > FAINT * np.square(written).sum() and len(chosen) < most:
        along = np.square(left @ rows.T).sum(0)                                    # (W,)
        best = int(along.argmax())
        length = np.linalg.norm(rows[best])
        if length < 1e-9:
            break
        axis = rows[best] / length
        chosen, shares = [*chosen, best], [*shares, float(np.square(left @ axis).sum() / spread)]
        left, rows = left - np.outer(left @ axis, axis), rows - np.outer(rows @ axis, axis)
    return chosen, shares, left, spread


def within(written: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The words' directions (W, d) of length 1, as far as they lie in the span of what the head wrote: d_head directions at most."""
    _, sizes, axes = np.linalg.svd(written - written.mean(0), full_matrices=False)
    axes = axes[sizes > 1e-5 * max(sizes[0], 1e-30)]
    return words / np.linalg.norm(words, axis=1, keepdims=True) @ axes.T @ axes


def pool(mllm, prompt) -> list[str]:
    """A few words to try with: the likeliest next words of the prompt that are one token each."""
    found = []
    for token in mllm.logits(prompt.inputs)[0, -1].topk(40).indices.tolist():
        word = mllm.tokenizer.decode([token]).strip()
        try:
            if word and mllm.tokens(word)[0] == token:
                found.append(word)
        except Refusal:
            continue
    return found[:12]
