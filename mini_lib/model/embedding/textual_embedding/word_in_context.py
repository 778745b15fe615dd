"""Word in context: how far a picture moves the vector of a word, and what the moved word then knows.

    M_l(w) = | h_l(w | picture) - h_l(w | plain) | / | h_l(w | plain) |

h_l(w): (d,) stream at word w of the question after l blocks.  plain: the same question about a picture of one colour.  M is 0
before block 0: there a word is a row of a table, whatever the picture.  How far is not what for.  So read something out:

    the class whose mean h_l over other pictures is nearest

such as the colour of the object that the question names, at the word that names it.

Sources: vectors of a word that depend on context: Ethayarajh 2019, arXiv:1909.00512; there sentences. Pictures in their place,
and the plain picture, are ours.
Misleads when a movement is taken for understanding (an untrained model moves its words too), and when what is read out is only
what the whole picture is like: ask for another object of the same picture as a control.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ....hooks import cut, points, record
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Curves

NODE = "model/embedding/textual-embedding"


def identity(mllm, prompt) -> list[Identity]:
    """No picture moves a word before block 0, the same picture moves none, and none moves that cannot look at image tokens."""
    target = mllm.target(prompt)
    moved = word_in_context(mllm, prompt, target).values
    same = word_in_context(mllm, prompt, target, other=prompt.picture).values
    image = set(prompt.tokens.image.tolist())
    rest = [position for position in range(prompt.inputs["input_ids"].shape[1]) if position not in image]
    with cut(mllm, rest, prompt.tokens.image):
        blind = word_in_context(mllm, prompt, target).values
    return [Identity("before block 0 no word knows of the picture", float(moved[:, 0].max()), 1e-5),
            Identity("the same picture again moves no word", float(same.max()), 1e-5),
            Identity("a word that cannot look at image tokens stays where it is", float(blind.max()), mllm.slack)]


@method("word-in-context", node=NODE, paper="Ethayarajh 2019, arXiv:1909.00512",
        cost="two forward passes, once the answer is known; no backward pass", identity=identity)
def word_in_context(mllm, prompt, token: str | None = None, *, other=None) -> Curves:
    """How far each word of the question is moved by the picture, layer by layer, as a share of its length without it.

    token: only named in the result; words move as they do, whatever is answered.  other: the picture to compare with, by
    itself one of the mean colour.  Returns Curves of (words, layers + 1); measured holds the cosine between both states.
    """
    target, before = mllm.target(prompt, token), mllm.passes
    without = mllm.prompt(plain(prompt.picture) if other is None else other, prompt.question)
    if without.tokens.words != prompt.tokens.words:
        raise Refusal("The other picture gives other positions, so that words cannot be compared; resize it to the prompt's own.")
    seen, bare = (words(mllm, one) for one in (prompt, without))                    # (words, layers + 1, d)
    lengths = np.linalg.norm(bare, axis=-1)
    values = np.linalg.norm(seen - bare, axis=-1) / lengths
    cosine = (seen * bare).sum(-1) / (lengths * np.linalg.norm(seen, axis=-1))
    return Curves(values, _unique([word for word, _ in prompt.tokens.words]), points(mllm), "layer", "share of the word's length",
                  "word in context", question=prompt.question, target=target.text,
                  measured={"forward_passes": mllm.passes - before, "cosine": np.round(cosine, 4).tolist()})


def words(mllm, prompt) -> np.ndarray:
    """(words, layers + 1, d) the stream at each word of the question, the mean over its tokens, before block 0 and after each block."""
    layers = points(mllm)
    with record(mllm, *layers) as seen:
        mllm.logits(prompt.inputs)
    return np.stack([[seen[layer][0, positions].double().mean(0).cpu().numpy() for layer in layers]
                     for _, positions in prompt.tokens.words])


def plain(picture: Image.Image) -> Image.Image:
    """A picture of the same size in the mean colour."""
    return Image.new("RGB", picture.size, tuple(int(round(c)) for c in np.asarray(picture.convert("RGB"), float).mean((0, 1))))


def read_out(vectors, labels, folds: int = 5) -> np.ndarray:
    """Which pictures' labels can be read from their states: (N, layers) bool.

    vectors: (N, layers, d).  Each picture gets the label whose mean over the pictures of the other folds is nearest; folds
    take turns over the pictures.  Nothing is tuned.  Raises Refusal where a label would have no other picture to learn from.
    """
    vectors, labels = torch.as_tensor(vectors).double().numpy(), np.asarray(labels)
    known, fold = np.unique(labels), np.arange(len(labels)) % folds
    right = np.zeros(vectors.shape[:2], bool)
    for held in range(folds):
        train, ask = fold != held, fold == held
        if any(not (labels[train] == label).any() for label in known):
            raise Refusal(f"A label is in one of {folds} folds only; give more pictures or fewer labels.")
        mean = np.stack([vectors[train & (labels == label)].mean(0) for label in known])          # (labels, layers, d)
        # |v - m|^2 without |v|^2, which is the same for every label
        score = (mean ** 2).sum(-1).T - 2 * np.einsum("nld,kld->nlk", vectors[ask], mean)
        right[ask] = known[score.argmin(-1)] == labels[ask, None]
    return right


def _unique(words: list[str]) -> list[str]:
    """The words, the second of a kind with a number."""
    return [f"{word} {words[:k].count(word) + 1}" if word in words[:k] else word for k, word in enumerate(words)]
