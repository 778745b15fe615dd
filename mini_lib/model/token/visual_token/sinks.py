"""Sinks: do some image tokens stand out by their length, or by the attention that the words pay them?

    n_l(p) = |h_l(p)| / mean_q |h_l(q)|            a_l(p) = A_l(p) / mean_q A_l(q)

h_l(p): (d,) residual stream at image token p as block l finds it.  A_l(p): the attention that p gets in block l, mean over heads and over
all positions after the picture.  mean_q: over the picture's image tokens. A token stands out where a number is above 5, a rule of ours:
5 times what it would be if all were alike. One that stands out in both, wherever the question points, is a sink.

Sources: Darcet et al. 2024, arXiv:2309.16588 (tokens of large vision transformers with outlying norms, on plain ground); Kang et al. 2025,
arXiv:2503.03321 (image tokens that draw attention in the language model whatever is asked, and can go without harm).
Misleads when attention is high because the token is what was asked about, when norms grow for all tokens alike (hence the mean), and when
few tokens share the attention, so that none can get 5 times the mean. Whether a token matters only ablation says.
"""

from __future__ import annotations

import numpy as np
import torch

from ....hooks import attention, cut, edit, points, record
from ....registry import Identity, method
from ....results import Curves

OUTLYING = 5.0


def identity(mllm, prompt) -> list[Identity]:
    """All attention is accounted for; a token that no word may look at gets none; one made longer is measured so."""
    target, image = mllm.target(prompt), prompt.tokens.image
    lengths, received, total = measure(mllm, prompt, target)
    after = words_after(mllm, prompt, target)
    with cut(mllm, after, image[:1]):
        unseen = measure(mllm, prompt, target)[1][:, 0]

    def longer(x):
        x = x.clone()
        x[:, image[-1]] *= 50
        return x
    with edit(mllm, {"embed": longer}):
        grown = measure(mllm, prompt, target)[0][0] / lengths[0]
    wanted = np.where(np.arange(len(image)) == len(image) - 1, 50.0, 1.0)
    return [Identity("the attention of a word adds up to 1", float(np.abs(total - 1).max()), 1e-3),
            Identity("an image token that no word may look at gets no attention", float(np.abs(unseen).max()), 0.0),
            Identity("a token made 50 times longer is measured as that, and all others as before", float(np.abs(grown / wanted - 1).max()), mllm.slack / 10)]


@method("sinks", node="model/token/visual-token", paper="Kang et al. 2025, arXiv:2503.03321; Darcet et al. 2024, arXiv:2309.16588",
        cost="one forward pass, once the answer is known; no backward pass", identity=identity)
def sinks(mllm, prompt, token: str | None = None) -> Curves:
    """How far the most outlying image token stands out, block by block, in length and in attention.

    token: the word said while attention is paid; by itself the whole answer.
    Returns Curves in times the mean image token. Its `measured` lists who stands out: [block, number of the image token].
    """
    target, before = mllm.target(prompt, token), mllm.passes
    lengths, received, _ = measure(mllm, prompt, target)
    ratios = np.stack([outlying(lengths), outlying(received)])                      # (2, L, P)
    long, watched = ratios > OUTLYING
    listed = {"long": long, "watched": watched, "sinks": long & watched}
    return Curves(ratios.max(-1), ["longest image token", "most attended image token"], [f"block {k}" for k in range(len(lengths))],
                  "as it enters", "times the mean image token", "sinks", question=prompt.question, target=target.text,
                  measured={"forward_passes": mllm.passes - before, "attention on the picture": np.round(received.sum(1), 4).tolist(),
                            **{name: np.argwhere(which).tolist() for name, which in listed.items()}})


def outlying(values: np.ndarray) -> np.ndarray:
    """(L, P) values in times their mean over the picture's image tokens; 0 where all are 0."""
    mean = values.mean(-1, keepdims=True)
    return np.divide(values, mean, out=np.zeros_like(values), where=mean > 0)


def measure(mllm, prompt, target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length of each image token as a block finds it (L, P), attention that it gets there (L, P), and the attention of the
    positions after the picture on everything (L,), which is 1."""
    layers, image, after, received, total = points(mllm)[:-1], prompt.tokens.image, words_after(mllm, prompt, target), [], []

    def note(weights):                                              # (1, H, T, T)
        for k in kept:                                              # what is noted need not be kept: T * T numbers a head
            kept[k] = None
        rows = weights[0, :, after].mean((0, 1)).detach().cpu()     # (T,)
        received.append(rows[image])
        total.append(rows.sum())
        return weights
    with record(mllm, *layers) as seen, attention(mllm, change=note) as kept:
        mllm.logits(mllm.forced(prompt, target))
    lengths = torch.stack([seen[layer][0, image].float().norm(dim=-1).cpu() for layer in layers])
    return tuple(torch.stack(list(one)).double().numpy() for one in (lengths, received, total))


def words_after(mllm, prompt, target) -> torch.Tensor:
    """Positions after the picture's last token: the question, the chat form, and the answer but for its last word."""
    return torch.arange(int(prompt.tokens.image[-1]) + 1, mllm.forced(prompt, target)["input_ids"].shape[1])
