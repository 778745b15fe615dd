"""Concept arithmetic: is red minus blue the same direction in pictures as in words, and does adding it turn blue into red?

    v_ab = m_a - m_b,    u_ab = e_a - e_b;        s = mean over pairs of names a, b of cos(v_ab, u_ab)

m_a: (d,) mean state of all image tokens that show a.  e_a: (d,) state of the word a, which sees no picture.  s = 1: words and pictures
differ along the same directions; over all orders of the names its mean is 0 exactly.

The causal test adds a direction to the tokens of one object, at one layer, and asks again:

    h_l(p) := h_l(p) + v_ab for p on the object,      then argmax of the next word

Between the two stands `rotation` (orthogonal Procrustes): the orthogonal R with the smallest Σ_i |R y_i - x_i|² for pictures x_i and captions y_i. CKA does not
see a rotation and s does: if R makes of the words' directions what works in pictures, the two sides share a shape and not a place.

Sources: differences of word vectors go back to Mikolov et al. 2013, arXiv:1301.3781; the gap on both sides of one decoder, the rotation and
the causal test across modalities are our extension.
Misleads when a mean difference carries more than its name (the tokens of red things differ in more than colour), and when a direction is long
enough to break whatever is there: hold it against a random one of the same length.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import torch

from ....batches import in_batches
from ....hooks import edit, points
from ....inputs import alike, joined
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Curves
from ....sides import of_classes, of_pictures, of_words
from ....trial import variants


def identity(mllm, prompt) -> list[Identity]:
    """Directions agree with themselves and with nothing by chance; moving all tokens onto another picture's is that picture."""
    one, other = variants(mllm, prompt, 2)
    x = of_pictures(mllm, [one, other], lambda tokens, k: tokens)[0]                                # (2, P, d)
    noise = torch.Generator().manual_seed(0)
    few = torch.randn(4, x.shape[1], generator=noise, dtype=torch.float64) @ x[0].double()          # mixtures of tokens: no two are equal
    rest = torch.randn(4, few.shape[1], generator=noise, dtype=torch.float64)
    orders = [agreement(few, rest[list(order)]) for order in permutations(range(4))]
    turn = torch.linalg.qr(torch.randn(6, 6, generator=noise, dtype=torch.float64))[0]
    cloud = torch.randn(20, 6, generator=noise, dtype=torch.float64)
    everywhere = np.ones((1, len(one.tokens.image)), bool)
    plain = ask(mllm, [one, other], np.repeat(everywhere, 2, 0), torch.zeros(2, x.shape[-1]))
    claims = [Identity("scaled and shifted directions agree with themselves", abs(agreement(few, 3 * few + 1) - 1), 1e-6),
              Identity("over all orders of the names the mean agreement is 0", abs(float(np.mean(orders))), 1e-6),
              Identity("a rotation that was planted is found", float((rotation(cloud, cloud @ turn) - turn).abs().max()), 1e-6),
              Identity("adding nothing changes nothing", float((plain[0] - mllm.logits(one.inputs)[0, -1].cpu()).abs().max()), mllm.slack)]
    if mllm.parts.later:                                     # pictures come in behind block 0 as well, and these are not moved
        return claims
    moved = ask(mllm, [one], everywhere, (x[1] - x[0])[None])
    return [*claims, Identity("moving every token onto another picture's is asking about that picture", float((moved[0] - plain[1]).abs().max()), mllm.slack)]


def trial(mllm, prompt, token=None) -> Curves:
    """The words of a question for the names, and for each a picture made from the prompt's."""
    target = mllm.target(prompt, token)
    names = sorted({word for word, _ in prompt.tokens.words})[:4]
    prompts = variants(mllm, prompt, len(names))
    labels = np.repeat(np.arange(len(names))[:, None], len(prompt.tokens.image), 1)
    return replace(concept_arithmetic(mllm, prompts, labels, names), question=prompt.question, target=target.text)


@method("concept-arithmetic", node="model/embedding/cross-modal-embedding", paper="Mikolov et al. 2013, arXiv:1301.3781",
        cost="one forward pass a prompt and one a name; no backward pass", identity=identity, trial=trial)
def concept_arithmetic(mllm, prompts, labels, names, orders: int = 200) -> Curves:
    """How well differences of names agree between image tokens and words, at every layer, with 95 % of what shuffled names give.

    labels: (N, P) int, which name each image token shows; below 0 for none.  orders: how many times the names are shuffled.
    """
    before, rng = mllm.passes, np.random.default_rng(0)
    pictures, words = of_classes(mllm, prompts, labels, len(names)), of_words(mllm, [prompts[0]] * len(names), names)
    shuffles = [rng.permutation(len(names)) for _ in range(orders)]
    values, low, high = [], [], []
    for m, e in zip(pictures, words):
        null = [agreement(m, e[order]) for order in shuffles]
        values.append((agreement(m, e), np.mean(null)))
        low.append((values[-1][0], np.quantile(null, 0.025)))
        high.append((values[-1][0], np.quantile(null, 0.975)))
    return Curves(np.transpose(values), ["the same names", "shuffled names"], points(mllm), "layer", "cosine", "concept arithmetic",
                  np.transpose(low), np.transpose(high), measured={"forward_passes": mllm.passes - before, "names": list(names)})


def agreement(m, e) -> float:
    """(C, d) and (C, d) -> the mean cosine of m_a - m_b with e_a - e_b over all pairs; one that is 0 counts as 0."""
    a, b = np.transpose(list(combinations(range(len(m)), 2)))
    return float(torch.cosine_similarity(m[a].double() - m[b].double(), e[a].double() - e[b].double(), dim=1).mean())


def rotation(words, pictures) -> torch.Tensor:
    """(N, d) and (N, d), the same N things -> (d, d): `words @ R` is as near to `pictures` as turning can bring it, both centred."""
    u, _, v = torch.linalg.svd((words - words.mean(0)).T @ (pictures - pictures.mean(0)))
    return u @ v


def ask(mllm, prompts, where, shifts, point: str = "embed") -> torch.Tensor:
    """Logits of the next word, (N, V), when each prompt's shift is added to some of its image tokens at one point.

    where: (N, P) bool.  shifts: (N, d), or (N, P, d) for one a token.  Cost: one forward pass a prompt.
    Raises Refusal when there is not one of each for every prompt.
    """
    shifts = torch.as_tensor(shifts, dtype=torch.float32)
    if not len(prompts) == len(where) == len(shifts):
        raise Refusal(f"{len(prompts)} prompts, {len(where)} places and {len(shifts)} shifts; give one of each.")
    shifts = shifts[:, None] if shifts.dim() == 2 else shifts
    added = torch.as_tensor(np.asarray(where).reshape(len(prompts), -1))[..., None] * shifts         # (N, P, d)
    out = [None] * len(prompts)

    def run(some):
        def add(stream):
            stream = stream.clone()
            for row, k in enumerate(some):
                stream[row, prompts[k].tokens.image.to(stream.device)] += added[k].to(stream)
            return stream
        with edit(mllm, {point: add}):
            logits = mllm.logits(joined([prompts[k].inputs for k in some]))[:, -1].cpu()
        for row, k in enumerate(some):
            out[k] = logits[row]

    for group in alike([prompt.inputs for prompt in prompts]):
        in_batches(mllm, group, run)
    return torch.stack(out)
