"""Attention flow: where do the words look? Read off, not tested.

    A_l(q, p) = mean over heads of W_l[h, q, p]              a_l(p) = mean over q in Q of A_l(q, p)

W_l: (H, T, T) attention weights of block l; each row sums to 1.  Q: the positions that say the answer, or those of the question.
a_l: (T,) what each position receives from Q in block l; it sums to 1.

Some image tokens receive much whatever is asked (sinks). Two ways to take that out, with n_l(p) the same for a neutral question:

    relative   a(p) / n(p)                    excess   max(0, a(p) - n(p))             a, n: means over the blocks asked for

Sources: relative attention: Zhang et al. 2025, arXiv:2502.17422, there at one block that was chosen on held-out data; image tokens
that draw attention without being needed: Kang et al. 2025, arXiv:2503.03321. The excess is our own plain variant.
Misleads when taken for use: weights say nothing of what is carried, nor of whether anything after it listens; a head may look at
an object and hand on nothing. A relative map blows up where the neutral question looks hardly at all.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ....hooks import attention, points
from ....mllm import Target
from ....refusal import Refusal, nearest
from ....registry import Identity, method
from ....results import Curves, PatchMap, patch_map
from ....roles import roles

NEUTRAL = "describe the picture ."
PAPER = "Zhang et al. 2025, arXiv:2502.17422"
COST = "one forward pass, once the answer is known (and one of the neutral question for a corrected map); no backward pass"
SORTS = {"image": "image", "question": "question", "first": "first token", "form": "chat form", "said": "answer so far",
         "answer": "answer so far"}
UNITS = {None: "share of attention", "relative": "times what a neutral question gives", "excess": "share above a neutral question's"}


def identity(mllm, prompt) -> list[Identity]:
    """Rows are distributions, nothing comes from the future, and watching changes nothing."""
    target = first_word(mllm.target(prompt))
    rows, logits = received(mllm, prompt, target, "answer")
    same = flow(mllm, prompt, target, "answer", None, "relative", prompt.question)
    claims = [Identity("every sort of token counted once, the shares of attention sum to 1",
                       float(np.abs(attention_shares(mllm, prompt, target).values.sum(0) - 1).max()), 1e-4),
              Identity("relative to its own question, attention is 1 everywhere", float(np.abs(same - 1).max()), 1e-3),
              Identity("watching attention changes no logit", float((logits - mllm.logits(mllm.forced(prompt, target))).abs().max()),
                       mllm.slack)]
    words = roles(prompt, target)["question"]
    if words and not looks_ahead(mllm, prompt):
        later = received(mllm, prompt, target, "question")[0][:, max(words) + 1:]
        claims.append(Identity("no word of the question looks at what comes after it", float(np.abs(later).max(initial=0)), 0.0))
    return claims


@method("attention-flow", node="model/token/visual-textual-token", paper=PAPER, cost=COST, identity=identity)
def attention_flow(mllm, prompt, token: str | None = None, *, source: str = "answer", layers=None, correct: str | None = None,
                   neutral: str = NEUTRAL) -> PatchMap:
    """How much attention each image token receives, from the positions that say the answer.

    token: explain this word instead of the whole answer.  source: whose attention, "answer" or "question" (the mean of its words).
    layers: blocks to average over, all by default.  correct: None, "relative" or "excess", against the question `neutral`.
    Returns a PatchMap of (rows, columns); uncorrected also the words' shares, and what lies elsewhere.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    values = flow(mllm, prompt, target, source, layers, correct, neutral)
    name = "attention flow" if correct is None else f"attention flow, {correct}"
    if correct is None:
        return patch_map(values, prompt, target, UNITS[None], name, mllm.spent(before))
    return PatchMap(prompt.tokens.on_grid(values), UNITS[correct], prompt.picture, prompt.tokens.boxes,
                    prompt.question, target.text, name, mllm.spent(before))


@method("attention-shares", node="model/token/visual-textual-token", paper=PAPER,
        cost="one forward pass, once the answer is known; no backward pass", identity=identity)
def attention_shares(mllm, prompt, token: str | None = None, *, source: str = "answer") -> Curves:
    """Which sort of token the attention goes to, block by block: image, question, first token, chat form, answer so far.

    token, source: as for `attention_flow`.  Returns Curves of (sorts, blocks); the shares of a block sum to 1.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    rows, _ = received(mllm, prompt, target, source)                                    # (blocks, T)
    lines: dict[str, np.ndarray] = {}
    for sort, positions in roles(prompt, target).items():
        if positions:
            lines[SORTS[sort]] = lines.get(SORTS[sort], 0) + rows[:, positions].sum(1)
    return Curves(np.stack(list(lines.values())), list(lines), [str(k) for k in range(len(rows))], "block", "share of attention",
                  "attention shares", question=prompt.question, target=target.text, measured=mllm.spent(before))


def flow(mllm, prompt, target, source, layers, correct, neutral) -> np.ndarray:
    """Mean over blocks of what is received: (T,) by each position, or corrected, (P,) by each image token."""
    if correct not in UNITS:
        raise Refusal(f"There is no correction {correct!r}{nearest(str(correct), ['relative', 'excess'])}")
    layers = list(range(len(points(mllm)) - 1)) if layers is None else list(layers)
    own = received(mllm, prompt, target, source)[0][layers].mean(0)
    if correct is None:
        return own
    plain = mllm.prompt(prompt.picture, neutral)
    other = received(mllm, plain, first_word(target), source)[0][layers].mean(0)
    own, other = own[prompt.tokens.image.numpy()], other[plain.tokens.image.numpy()]
    if correct == "excess":
        return (own - other).clip(min=0)
    return np.divide(own, other, out=np.ones_like(own), where=other > 0)        # what no word may look at (a window) has no ratio: 1


def received(mllm, prompt, target, source: str) -> tuple[np.ndarray, object]:
    """(blocks, T) what each position receives from the source's positions, mean over these and heads; and the last logits."""
    if source not in ("answer", "question"):
        raise Refusal(f"There is no source {source!r}{nearest(source, ['answer', 'question'])}")
    queries = roles(prompt, target)[source]
    if not queries:
        raise Refusal("This question is one token, which says the answer itself: there is no other word of it to ask about.")
    # Reduced block by block: all maps of a large model would not fit.
    with attention(mllm, reduce=partial(_mean, queries=queries)) as weights:
        logits = mllm.logits(mllm.forced(prompt, target))
    return np.stack([weights[layer].detach().cpu().numpy() for layer in sorted(weights)]), logits


def _mean(weights, queries):
    return weights[0][:, queries].mean((0, 1))


def looks_ahead(mllm, prompt) -> bool:
    """Whether a position attends to a later one, as prompts do in some families (PaliGemma)."""
    with attention(mllm, [0], reduce=lambda weights: weights.triu(1).any()) as ahead:
        mllm.logits(prompt.inputs)
    return bool(ahead[0])


def first_word(target: Target) -> Target:
    """A target of one token, nothing forced before it: the position that says it is the prompt's last."""
    return Target(target.ids[:1], 0, target.text)
