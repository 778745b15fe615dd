"""Evidence and prior of each word: would the model have said it without looking?

    e_t = log p(y_t | picture, question, y_<t) - log p(y_t | question, y_<t),      blind: all edges from image tokens to words cut

y: the answer, forced word by word.  e_t: nats that the picture adds to word t; 0 for a word that the words before it give away
already, less than 0 for one that the picture speaks against.  The sum over the answer is what the picture adds to all of it.

Source: the difference of the two log-probabilities is what Favero et al. 2024, arXiv:2403.14003, decode with (there the picture is
left out of the prompt); cutting the edges instead, which keeps every position where it was, is our choice.
Misleads when a word rests on the picture only through words before it: they are forced, and give away what they say. A model that
was never trained without a picture is in strange waters when blind, so its prior need not be the prior of its training texts.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ....hooks import cut
from ....registry import Identity, method
from ....results import Matrix
from ....roles import roles


def identity(mllm, prompt) -> list[Identity]:
    """The words' evidence sums to the answer's, and the blind half of it knows nothing of the picture."""
    target = mllm.target(prompt)
    result, gap = evidence_per_word(mllm, prompt, target), mllm.score(prompt, target)
    with cut(mllm, words(prompt, target), prompt.tokens.image):
        gap = float(gap - mllm.score(prompt, target))
    negative = mllm.prompt(Image.fromarray(255 - np.asarray(prompt.picture)), prompt.question)
    away = np.abs(result.values[1] - evidence_per_word(mllm, negative, target).values[1]).max()
    return [Identity("the evidence of the words sums to that of the answer", abs(float(result.values[2].sum()) - gap), mllm.slack),
            Identity("what the blind model says is the same for the negative of the picture", float(away), mllm.slack / 100)]


@method("evidence-per-word", node="model/token/visual-textual-token", paper="Favero et al. 2024, arXiv:2403.14003",
        cost="two forward passes, once the answer is known; no backward pass", identity=identity)
def evidence_per_word(mllm, prompt, token: str | None = None) -> Matrix:
    """What the picture adds to each word of the answer.

    token: explain this word alone instead of the whole answer.
    Returns a Matrix in nats: log-probability of each word with the picture, blind to it, and the evidence, their difference.
    measured["prior"] has the words that the blind model would have said in each place.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    inputs, wanted = mllm.forced(prompt, target), torch.tensor(target.ids[target.first:])
    seeing = mllm.logits(inputs, len(wanted))[0].log_softmax(-1).cpu()                  # (words, V)
    with cut(mllm, words(prompt, target), prompt.tokens.image):
        blind = mllm.logits(inputs, len(wanted))[0].log_softmax(-1).cpu()
    said, alone = (chance.gather(-1, wanted[:, None])[:, 0].numpy() for chance in (seeing, blind))
    names, prior = ([mllm.tokenizer.decode([i]).strip() for i in ids.tolist()] for ids in (wanted, blind.argmax(-1)))
    return Matrix(np.stack([said, alone, said - alone]), ["with the picture", "blind to it", "evidence"], names, ("", "word of the answer"),
                  "nats", "evidence per word", prompt.question, target.text, {**mllm.spent(before), "prior": prior})


def words(prompt, target) -> list[int]:
    """All positions but the image's."""
    return sorted(position for name, positions in roles(prompt, target).items() if name != "image" for position in positions)
