"""One word against its rival, at the place where it is said: D = logit(word) - logit(rival).

    asked = contrast(mllm, prompt, "red")                # the likeliest other word is the rival
    differences = asked.of(mllm, logits)                 # (N, V) -> (N,)

The log-probability of an answer that is nearly sure hardly moves, whatever is done to the model; this difference does. It is linear in
what the unembedding gets, as a log-probability is not, and can be split into what each part adds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from .mllm import Target
from .refusal import Refusal


@dataclass(frozen=True)
class Contrast:
    """target: one scored token, the words before it forced.  ids: the word and its rival, or the word alone.  rival: its text, or "".

    value: D as the model has it.
    """

    target: Target
    ids: tuple[int, ...]
    rival: str
    value: float

    @property
    def signs(self) -> torch.Tensor:
        """(1,) or (2,): 1 for the word, -1 for its rival."""
        return torch.tensor([1.0, -1.0][:len(self.ids)], dtype=torch.float64)

    def of(self, mllm, logits: torch.Tensor) -> torch.Tensor:
        """D from logits (N, V): (N,) float64, before the model bends its logits, where it does."""
        chosen = logits[:, list(self.ids)].double().cpu()
        cap = mllm.parts.cap
        return (chosen if cap is None else cap * (chosen / cap).clamp(-1 + 1e-7, 1 - 1e-7).atanh()) @ self.signs


def contrast(mllm, prompt, token=None, rival: str | bool = True) -> Contrast:
    """The word that is explained, and the one that it is held against.

    token: this word; by itself the first of the answer.  rival: a word; True for the likeliest other one; False for none, so that D is
    the word's logit.  Cost: one forward pass.  Raises Refusal for a word that is its own rival, and as `mllm.target` does.
    """
    whole = mllm.target(prompt, token)
    target = Target(whole.ids[:whole.first + 1], whole.first, whole.text)
    word = target.ids[-1]
    if len(whole.ids) > len(target.ids):
        target = Target(target.ids, target.first, mllm.tokenizer.decode([word]).strip())
    logits = mllm.logits(mllm.forced(prompt, target))[:, -1]
    if rival is True:
        other = next(k for k in logits[0].topk(2).indices.tolist() if k != word)
    elif rival:
        forms = mllm.tokens(rival)
        other = max(forms, key=lambda k: float(logits[0, k]))
    ids = (word, other) if rival else (word,)
    if len(set(ids)) < len(ids):
        raise Refusal(f"{rival!r} is the word that is explained; a rival has to be another one.")
    found = Contrast(target, ids, mllm.tokenizer.decode([other]).strip() if rival else "", 0.0)
    return replace(found, value=float(found.of(mllm, logits)[0]))
