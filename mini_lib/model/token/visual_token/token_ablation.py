"""Token ablation: replace image tokens by the picture's mean token, and ask again; at one layer, or at each in turn.

    E_l(S) = f(x) - f(x with h_l(p) := mean_q h_l(q) for p in S)

h_l(p): (d,) residual stream at image token p after l blocks; l = 0 is before the first one ("embed").  S: a set of image tokens.
f: log-probability of the answer, in nats.  mean_q: over all image tokens of the picture, at that layer.

Unlike occlusion the vision tower has already seen everything, so this asks where the language model reads the evidence, not where it
lies in the picture. And by layer it asks when: after the last block at which E_l(S) is not nothing, later positions hold what they need.

Source: Neo et al. 2024, arXiv:2410.07149, section 3, before the first block. Going through the layers is our extension.
Misleads when several tokens say the same (ablating one then costs nothing), when a mean token is itself out of distribution, when early
blocks have already copied to other image tokens what S held, and where a family adds the picture again in later blocks (DeepStack).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from ....batches import in_batches
from ....hooks import edit, points, record
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Curves, PatchMap
from ....streams import at_once, entering, merged, score

PAPER = "Neo et al. 2024, arXiv:2410.07149"


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
    values = prompt.tokens.on_grid(effects(mllm, prompt, target, np.eye(len(prompt.tokens.image), dtype=bool)))
    return PatchMap(values, "nats lost", prompt.picture, prompt.tokens.boxes, prompt.question, target.text,
                    "token ablation", {"forward_passes": mllm.passes - before})


def layers_identity(mllm, prompt) -> list[Identity]:
    """The chosen tokens, and only they, become the mean of their layer; after the last block nothing reads them any more."""
    target, layers, image = mllm.target(prompt), points(mllm), prompt.tokens.image
    states, chosen = entering(mllm, prompt, target), torch.arange(len(image)) % 2 == 0
    off = []
    for layer in layers[1:]:
        with record(mllm, layer) as clean:
            plain = score(mllm, prompt, target, states[0])
        with edit(mllm, {layer: partial(averaged, image=image, chosen=chosen[None])}), record(mllm, layer) as seen:
            score(mllm, prompt, target, states[0])
        wanted = clean[layer][0].clone()
        wanted[image[chosen]] = clean[layer][0, image].mean(0)
        off.append(float((seen[layer][0] - wanted).abs().max() / wanted.abs().max()))
    everything = np.ones((1, len(image)), bool)
    late = replaced(mllm, prompt, target, states, everything, layers[-1]) - plain.numpy()
    begun, whole_run = (replaced(mllm, prompt, target, some, everything, layers[-2]) for some in (states, states[:1]))
    whole = float((plain - mllm.score(prompt, target)).abs().max())
    return [Identity("the chosen tokens become the mean of their layer, and all else stays", max(off), mllm.slack / 100),
            Identity("replacing all image tokens after the last block changes nothing", float(np.abs(late).max()), mllm.slack),
            Identity("a run that starts at the changed layer gives what a whole one gives", float(np.abs(begun - whole_run).max()), mllm.slack),
            Identity("with nothing replaced the score is the model's own", whole, mllm.slack)]


@method("token-ablation-by-layer", node="model/token/visual-token", paper=PAPER, identity=layers_identity,
        cost="one forward pass a layer and set of tokens, from that layer on, and four more; no backward pass")
def token_ablation_by_layer(mllm, prompt, token: str | None = None, sets: dict[str, np.ndarray] | None = None) -> Curves:
    """How much of the answer goes when image tokens are replaced before the first block, or after a later one.

    token: explain this word instead of the whole answer.
    sets: name -> which image tokens are replaced together, (P,) or (rows, columns) bool; by itself all of them.
    Returns Curves of nats lost, a line for each set and a point for each layer.
    """
    target, before = mllm.target(prompt, token), mllm.passes
    count, layers = len(prompt.tokens.image), points(mllm)
    sets = {"all image tokens": np.ones(count, bool)} if sets is None else sets
    chosen = np.stack([np.asarray(one, bool).ravel() for one in sets.values()])
    if chosen.shape[1] != count:
        raise Refusal(f"The picture has {count} image tokens, and the sets name {chosen.shape[1]}; give one bool for each.")
    states = entering(mllm, prompt, target)
    whole = float(score(mllm, prompt, target, states[0])[0])
    lost = whole - np.stack([replaced(mllm, prompt, target, states, chosen, layer) for layer in layers], 1)     # (sets, layers)
    return Curves(lost, list(sets), layers, "replaced after", "nats lost", "token ablation by layer", question=prompt.question,
                  target=target.text, measured={"forward_passes": mllm.passes - before})


def effects(mllm, prompt, target, sets: np.ndarray) -> np.ndarray:
    """E_0(S) for many sets of image tokens at once.

    sets: (N, P) bool, which tokens each run replaces.  Returns (N,) nats.
    """
    sets = np.concatenate([np.zeros((1, sets.shape[1]), bool), sets])               # none replaced: what is left of
    scores = replaced(mllm, prompt, target, [merged(mllm, prompt, target)], sets)
    return scores[0] - scores[1:]


def replaced(mllm, prompt, target, states: list[torch.Tensor], sets: np.ndarray, layer: str = "embed") -> np.ndarray:
    """Log-probability of the target with each of `sets` (N, P) replaced at a point of the residual stream: (N,), in nats.

    states: (1, T, d) what enters block 0, and where runs can start later, the blocks after it.
    """
    block = points(mllm).index(layer)                                               # the one that the point leads into

    def run(some):
        start, change = min(block, len(states) - 1), partial(averaged, image=prompt.tokens.image, chosen=torch.from_numpy(some))
        batch = states[start].repeat(len(some), 1, 1)
        if start == block:
            return at_once(mllm, prompt, target, change(batch), start)
        with edit(mllm, {layer: change}):
            return at_once(mllm, prompt, target, batch, start)

    return torch.cat(in_batches(mllm, sets, run)).numpy()


def averaged(stream: torch.Tensor, image: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """The stream (B, T, d) with each row's chosen image tokens replaced by its mean image token; chosen: (B, P) bool."""
    image, chosen, stream = image.to(stream.device), chosen.to(stream.device), stream.clone()
    tokens = stream[:, image]                                                       # (B, P, d)
    stream[:, image] = torch.where(chosen[..., None], tokens.mean(1, keepdim=True), tokens)
    return stream
