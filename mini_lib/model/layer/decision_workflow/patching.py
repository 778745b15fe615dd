"""Activation patching: put what one place held in the clean run into the corrupted run, and see how much of the answer comes back.

    R(P, l) = (m_patch - m_corr) / (m_clean - m_corr)           h_l[p] := h_l^clean[p] for p in P, in the corrupted run

h_l: (T, d) the stream that enters block l; the last one leaves the last block.  P: a set of positions: a word, the image, one place in the picture.
m: the logit difference between the clean answer and the corrupted one (`pairs`).  R = 1: all is recovered; 0: nothing.

The corrupted run is the same question about a picture that differs in one thing, so that what is patched is this difference and no
more. Turned around, corrupted put into clean, it asks what is needed instead of what is enough.

Sources: Vig et al. 2020, arXiv:2004.12265 (mediation); Meng et al. 2022, arXiv:2202.05262, section 2 (causal tracing, there with noise);
the change of meaning in pictures: Golovanevsky et al. 2024, arXiv:2406.16320. Advice: Heimersheim and Nanda 2024, arXiv:2404.15255.
Misleads when the same fact lies in two places (either patch is enough, neither is needed), when the corrupted run is one the model
never saw, as with noise, and when the gap between the two runs is small, so that rounding is divided by rounding.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from ....batches import in_batches, progress
from ....cells import squares
from ....hooks import attention, can_cut
from ....pairs import UNIT, Pair, groups_of, pair_of, run, table
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Matrix, PatchMap

PAPER = "Vig et al. 2020, arXiv:2004.12265"


def identity(mllm, prompt) -> list[Identity]:
    """Nothing patched is the corrupted run, everything patched the clean one, and what cannot know of the change does nothing."""
    pair = pair_of(mllm, prompt)
    everything, image, first = range(pair.states[0].shape[1]), prompt.tokens.image.tolist(), pair.first_change()
    others = [position for position in everything if position not in groups_of(prompt, pair.target)["answer"]]
    found = patched(mllm, pair, [[], everything, range(first), image, others])                              # (5, points) logits
    claims = [Identity("nothing patched is the corrupted run", float(np.abs(found[0] - pair.corrupted).max()), mllm.slack),
              Identity("every position patched, at any point, is the clean run", float(np.abs(found[1] - pair.clean).max()), mllm.slack),
              Identity("behind the last block only the position that answers counts", abs(float(found[4, -1]) - pair.corrupted), mllm.slack)]
    if not looks_ahead(mllm, pair):
        claims.append(Identity("what comes before the first token that differs has no effect", float(np.abs(found[2] - found[0]).max()),
                               mllm.slack / 10))
    if only_pictures(pair):
        claims.append(Identity("two pictures: all image tokens patched before block 0 are the clean run", abs(float(found[3, 0]) - pair.clean),
                               mllm.slack))
    return claims


@method("activation-patching", node="model/layer/decision-workflow", paper=PAPER,
        cost="one forward pass a group of positions and point, from that point on, and five more; no backward pass", identity=identity)
def activation_patching(mllm, prompt, token: str | None = None, *, other=None, rival: str | None = None, groups: dict | None = None,
                        placebo: int | None = None) -> Matrix:
    """How much of the clean answer comes back when a group of positions is patched at one point of the stream.

    token: explain this word instead of the whole answer.  other: the corrupted prompt, with as many tokens, or what `pair_of` made of
    the two; by itself the same question about the picture in turned colours.  rival: the word against the answer, by itself the corrupted prompt's.
    groups: name -> positions; by itself every word of the question and the other roles.
    placebo: a seed: take a random step of the same length at each position instead of the step to the clean run.
    Returns a Matrix of (groups, points), "embed" before block 0 and behind each block; 1: all recovered, measured["gap"] logits.
    """
    before = mllm.passes, mllm.backward_passes
    pair = pair_of(mllm, prompt, token, other, rival)
    groups = groups_of(prompt, pair.target) if groups is None else groups
    found = patched(mllm, pair, list(groups.values()), placebo=placebo)
    return table(mllm, pair, (found - pair.corrupted) / pair.gap, groups, "activation patching" + ", placebo" * (placebo is not None), before)


def map_identity(mllm, prompt) -> list[Identity]:
    """A square as large as the picture recovers what all tokens that show any of it do; of two pictures, before block 0, everything."""
    pair, late = pair_of(mllm, prompt), len(mllm.parts.blocks) - 1
    shown = squares(prompt.tokens.one, 10**4)[1][0]             # not those of a margin or a line's end
    whole = np.array([patching_map(mllm, prompt, other=pair, block=block, size=10**4).values for block in (0, late)])
    image = (patched(mllm, pair, [prompt.tokens.image.numpy()[shown]], [0, late])[0] - pair.corrupted) / pair.gap
    claims = [Identity("a square as large as the picture recovers what all tokens that show it do",
                       float(np.abs(whole - image[:, None, None]).max()) * abs(pair.gap), mllm.slack)]
    if only_pictures(pair) and shown.all():
        claims.append(Identity("two pictures: before block 0 it recovers all", float(np.abs(whole[0] - 1).max()) * abs(pair.gap), mllm.slack))
    return claims


@method("patching-map", node="model/layer/decision-workflow", paper=PAPER, identity=map_identity,
        cost="one forward pass a square, from its block on, and five more; no backward pass")
def patching_map(mllm, prompt, token: str | None = None, *, other=None, rival: str | None = None, block: int = 0,
                 size: int | None = None) -> PatchMap:
    """How much of the clean answer comes back when one place of the picture is patched at one block.

    token, other, rival: as for `activation_patching`.  block: what enters this block is patched.
    size: side of the square that is patched at once, in patches; by itself a quarter of the grid's side.
    Returns a PatchMap of (rows, columns): for each patch the mean over the squares that contain it.
    """
    before, blocks = (mllm.passes, mllm.backward_passes), len(mllm.parts.blocks)
    if block not in range(blocks):
        raise Refusal(f"There is no block {block!r}; {mllm.name} has 0 to {blocks - 1}.")
    pair, grid, image = pair_of(mllm, prompt, token, other, rival), prompt.tokens.one, prompt.tokens.image.numpy()
    cells, tokens = squares(grid, size or max(1, min(grid.shape) // 4))
    found = (patched(mllm, pair, [image[chosen] for chosen in tokens], [block])[:, 0] - pair.corrupted) / pair.gap
    return PatchMap((found @ cells / cells.sum(0)).reshape(grid.shape), UNIT, prompt.picture, prompt.tokens.boxes, prompt.question,
                    pair.target.text, f"patching at block {block}", {**mllm.spent(before), "gap": float(f"{pair.gap:.4g}")})


def patched(mllm, pair: Pair, sets: list, at=None, placebo: int | None = None) -> np.ndarray:
    """m of the corrupted run with each set of positions patched at each point: (sets, points), in logits.

    at: numbers of points, 0 for what enters block 0; all by default.
    """
    at = range(len(pair.states)) if at is None else at
    found = np.empty((len(sets), len(at)))

    def at_point(point, some):
        base, steps = pair.changed[point], pair.states[point] - pair.changed[point]              # (1, T, d) each
        if placebo is not None:
            noise = torch.randn(steps.shape, generator=torch.Generator().manual_seed(placebo)).to(steps)
            steps = noise / noise.norm(dim=-1, keepdim=True) * steps.norm(dim=-1, keepdim=True)
        streams = base.repeat(len(some), 1, 1)
        for row, positions in enumerate(some):
            positions = torch.as_tensor(positions, dtype=torch.long)
            streams[row, positions] = base[0, positions] + steps[0, positions] if placebo is not None else pair.states[point][0, positions]
        return run(mllm, pair, streams, point)

    with progress(len(sets) * len(at), "patching"):
        for column, point in enumerate(at):
            found[:, column] = torch.cat(in_batches(mllm, sets, partial(at_point, point))).numpy()
    return found


def only_pictures(pair: Pair) -> bool:
    """Whether the two prompts differ in image tokens alone."""
    differ = torch.nonzero((pair.states[0] != pair.changed[0]).any(-1)[0])[:, 0].tolist()
    return set(differ) <= set(pair.prompt.tokens.image.tolist())


def looks_ahead(mllm, pair: Pair) -> bool:
    """Whether a position attends to a later one, as prompts do in some families (PaliGemma)."""
    block = next(k for k, block in enumerate(mllm.parts.blocks) if can_cut(block))
    with attention(mllm, [block], reduce=lambda weights: weights.triu(1).any()) as ahead:
        mllm.logits(mllm.forced(pair.prompt, pair.target))
    return bool(ahead[block])
