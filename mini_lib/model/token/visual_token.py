"""Visual tokens: read them as words (logit lens), and take them away (token ablation).

Logit lens. What would the model say at image token p if it had to stop after l blocks?

    L_l(p) = softmax( W_U norm( h_l(p) ) )

h_l(p): (d,) residual stream at position p after l blocks; h_0 enters the first one ("embed").  norm: the model's final norm.  W_U: (V, d) unembedding.
At the last layer, at the last position, this is the model's own answer.

Token ablation. Replace a set S of image tokens by the picture's mean token before the first block, and ask again:

    E(S) = f(x) - f(x with h_0(p) := mean_q h_0(q) for p in S)

f: log-probability of the answer, in nats. Unlike occlusion the vision tower has already seen everything, so this asks
where the language model reads the evidence, not where it lies in the picture.

Sources: nostalgebraist 2020, "interpreting GPT: the logit lens"; both on image tokens: Neo et al. 2024,
arXiv:2410.07149, sections 3 and 4.
Misleads when a token's words are a side effect that nothing reads, when several tokens say the same (ablating one then
costs nothing), and when a mean token is itself out of distribution.
"""

from __future__ import annotations

import numpy as np
import torch

from ...hooks import edit, points, record
from ...registry import Identity, method
from ...results import LensGrid, PatchMap
from ...streams import merged, score

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
def logit_lens(mllm, prompt, token: str | None = None) -> LensGrid:
    """The words that each image token would say, layer by layer.

    token: the word to follow; by itself the first word of the model's answer.
    Returns a LensGrid of (layers + 1, rows, columns): the stream before block 0, then after each block.
    """
    target, before = mllm.target(prompt, token), mllm.passes
    wanted, layers = target.ids[target.first], points(mllm)
    with record(mllm, *layers) as seen:
        mllm.logits(prompt.inputs)
    best, index, chance = [], [], []
    for layer in layers:                                        # a layer at a time: (patches, V) is large on large models
        probabilities = read(mllm, seen[layer][0, prompt.tokens.image])             # (patches, V)
        top = probabilities.max(-1)
        best, index, chance = [*best, top.values], [*index, top.indices], [*chance, probabilities[:, wanted]]
    names = [mllm.tokenizer.decode([i]).strip() for i in torch.cat(index).tolist()]
    shape = (len(layers), *prompt.tokens.grid)
    return LensGrid(np.array(names, object).reshape(shape), torch.cat(best).reshape(shape).numpy(),
                    torch.cat(chance).reshape(shape).numpy(), layers, prompt.picture, prompt.tokens.boxes, prompt.question,
                    mllm.tokenizer.decode([wanted]).strip(), "logit lens", {"forward_passes": mllm.passes - before})


def read(mllm, hidden: torch.Tensor) -> torch.Tensor:
    """(N, d) residual stream -> (N, V) probabilities, on the CPU."""
    # The recorded stream is not normed yet. transformers' own `hidden_states[-1]` already is: norming that one again
    # is a known silent error (tests/model/token/test_visual_token.py brings it back and must fail).
    with torch.no_grad():
        return mllm.parts.head(mllm.parts.norm(hidden)).float().softmax(-1).cpu()


def ablation_identity(mllm, prompt) -> list[Identity]:
    """Replacing tokens by themselves changes nothing; replacing none changes nothing."""
    target = mllm.target(prompt)
    with edit(mllm, {"embed": lambda x: x.clone()}):
        copied = mllm.score(prompt, target)
    plain = mllm.score(prompt, target)
    none = effects(mllm, prompt, target, np.zeros((1, len(prompt.tokens.image)), bool))[0]
    return [Identity("replacing each token by itself changes nothing", float((copied - plain).abs().max()), mllm.slack),
            Identity("ablating no token changes nothing", abs(float(none)), mllm.slack)]


@method("token-ablation", node="model/token/visual-token", paper=PAPER,
        cost="one forward pass an image token and three more, once the answer is known; no backward pass", identity=ablation_identity)
def token_ablation(mllm, prompt, token: str | None = None) -> PatchMap:
    """How much of the answer goes when one image token is replaced by the mean token.

    token: explain this word instead of the whole answer.  Returns a PatchMap of (rows, columns) in nats.
    """
    target, before = mllm.target(prompt, token), mllm.passes
    values = effects(mllm, prompt, target, np.eye(len(prompt.tokens.image), dtype=bool)).reshape(prompt.tokens.grid)
    return PatchMap(values, "nats lost", prompt.picture, prompt.tokens.boxes, prompt.question, target.text,
                    "token ablation", {"forward_passes": mllm.passes - before})


def effects(mllm, prompt, target, sets: np.ndarray) -> np.ndarray:
    """E(S) for many sets of image tokens at once.

    sets: (N, P) bool, which tokens each run replaces.  Returns (N,) nats.
    """
    stream = merged(mllm, prompt, target)
    image = prompt.tokens.image.to(stream.device)
    mean = stream[:, image].mean(1, keepdim=True)                                   # (1, 1, d)
    sets = np.concatenate([np.zeros((1, len(image)), bool), sets])                  # none replaced: what is left of
    out = []
    for at in range(0, len(sets), mllm.batch_size):                                 # one batch at a time, or memory grows
        chosen = torch.from_numpy(sets[at:at + mllm.batch_size]).to(stream.device)  # (B, P)
        batch = stream.repeat(len(chosen), 1, 1)
        batch[:, image] = torch.where(chosen[..., None], mean, batch[:, image])
        out.append(score(mllm, prompt, target, batch))
    scores = torch.cat(out).numpy()
    return scores[0] - scores[1:]
