"""Attention knock-out: forbid some positions to look at others, and see what the answer loses.

    s_l(q, k) := -inf   for q in Q, k in K, l in a window of blocks               D(Q, K, window) = f - f with these edges cut

s_l: attention scores of block l, before the softmax; the weight becomes exactly 0 and the rest of the row still sums to 1.
Q, K: sets of positions, so K -> Q is the way that information would have taken.  f: log-probability of the answer, in nats.
With p = exp f of one token, the relative change of probability that the papers report is (p_cut - p) / p = exp(-D) - 1.

Three edge sets tell the usual story: image -> question, image -> answer (the position that says it), question -> answer.
Edges of one place in the picture, to everything that is not image, give a map.

Sources: Geva et al. 2023, arXiv:2304.14767, for facts in text; on image tokens Neo et al. 2024, arXiv:2410.07149, section 5; by layer
windows between picture and question Zhang et al. 2024, arXiv:2411.18620. The map is our own use of it.
Misleads when another way carries the same (cutting either costs nothing), when the window is too narrow for what happens over several
blocks, and when image tokens have already passed what they know to each other: then no edge of the object alone is needed.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from PIL import Image

from ....batches import in_batches, progress
from ....cells import squares
from ....hooks import attention, cut
from ....refusal import Refusal, nearest
from ....registry import Identity, method
from ....results import Curves, PatchMap
from ....roles import roles
from ....streams import at_once, entering

PAPER = "Neo et al. 2024, arXiv:2410.07149"
EDGES = {"image to question": ("question", "image"), "image to answer": ("answer", "image"), "question to answer": ("answer", "question")}


def identity(mllm, prompt) -> list[Identity]:
    """A cut is exact, an empty one is none, and words that see no image token are blind to the picture."""
    target, blocks = mllm.target(prompt), range(len(mllm.parts.blocks))
    found = roles(prompt, target)
    words, image, last = others(prompt, target), found["image"], max(found["answer"])
    with cut(mllm, words, image), attention(mllm, reduce=lambda w: w[0][:, words]) as weights:
        mllm.logits(mllm.forced(prompt, target))
    rows = torch.stack(list(weights.values()))                                          # (blocks, H, words, T)
    plain, empty, late, blind = scores(mllm, prompt, target, [([], [], []), (words, [], blocks), ([last], range(last + 1, 10**4), blocks),
                                                              (words, image, blocks)])
    negative = mllm.prompt(Image.fromarray(255 - np.asarray(prompt.picture)), prompt.question)
    still = scores(mllm, negative, target, [([], [], []), (words, [], blocks), (words, [], blocks), (words, image, blocks)])[3]
    return [Identity("what is cut gets no attention at all", float(rows[..., image].abs().max()), 0.0),
            Identity("what is left of each row sums to 1", float((rows.sum(-1) - 1).abs().max()), 1e-4),
            Identity("cutting no edge changes nothing", abs(float(empty - plain)), mllm.slack),
            Identity("cutting what lies ahead of the last position changes nothing", abs(float(late - plain)), mllm.slack),
            Identity("with all image edges cut the answer is the same for the negative of the picture", abs(float(still - blind)),
                     mllm.slack / 100)]


@method("attention-knockout", node="model/token/visual-textual-token", paper=PAPER,
        cost="one forward pass an edge set and window, from its first block on; one more an edge set and four more; no backward pass",
        identity=identity)
def attention_knockout(mllm, prompt, token: str | None = None, *, width: int | None = None, edges: dict | None = None) -> Curves:
    """What the answer loses when edges are cut in a window of blocks that slides from the first to the last.

    token: explain this word instead of the whole answer.  width: blocks in a window, by itself about a third of them.
    edges: name -> (queries, keys), positions; by itself `EDGES`.  A set without edges costs nothing.
    Returns Curves of (edge sets, windows) in nats; measured["all blocks"] has what each set costs when cut in all of them.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    blocks, found = len(mllm.parts.blocks), roles(prompt, target)
    edges = {name: (found[q], found[k]) for name, (q, k) in EDGES.items()} if edges is None else edges
    width = min(width or max(1, round(0.3 * blocks)), blocks)
    windows = [range(at, at + width) for at in range(blocks - width + 1)]
    drops = effects(mllm, prompt, target, [(q, k, window) for q, k in edges.values() for window in [*windows, range(blocks)]])
    drops = drops.reshape(len(edges), -1)
    whole = {name: float(f"{value:.4g}") for name, value in zip(edges, drops[:, -1])}
    names = [str(w[0]) if width == 1 else f"{w[0]}-{w[-1]}" for w in windows]
    return Curves(drops[:, :-1], list(edges), names, "blocks cut", "nats lost", "attention knock-out", question=prompt.question,
                  target=target.text, measured={**mllm.spent(before), "all blocks": whole})


def map_identity(mllm, prompt) -> list[Identity]:
    """A square as large as the picture costs what cutting all of its tokens costs, one row at a time and in a batch."""
    target = mllm.target(prompt)
    whole = knockout_map(mllm, prompt, target, size=max(prompt.tokens.one.shape)).values
    tokens, words = prompt.tokens.image[torch.from_numpy(squares(prompt.tokens.one, 10**4)[1][0])], others(prompt, target)
    plain = mllm.score(prompt, target)
    with cut(mllm, words, tokens):
        gap = float(plain - mllm.score(prompt, target))
    blocks = range(len(mllm.parts.blocks))
    _, beside = effects(mllm, prompt, target, [(words, tokens[:1], blocks), (words, tokens, blocks)])
    away = effects(mllm, prompt, target, [([], tokens, blocks)])
    return [Identity("cutting the whole picture costs what it costs by itself", float(np.abs([*(whole - gap).ravel(), beside - gap]).max()),
                     mllm.slack),
            Identity("kept from nobody, nothing is lost", float(np.abs(away).max()), mllm.slack)]


@method("knockout-map", node="model/token/visual-textual-token", paper=PAPER,
        cost="one forward pass a square and four more, once the answer is known; no backward pass", identity=map_identity)
def knockout_map(mllm, prompt, token: str | None = None, *, to: str = "words", size: int | None = None, layers=None) -> PatchMap:
    """What the answer loses when words cannot look at one place of the picture.

    token: explain this word instead of the whole answer.
    to: who cannot look: "words" (all positions but the image's), "answer" (those that say it) or "question".
    size: side of the square that is cut at once, in patches; by itself a quarter of the grid's side.  layers: all by default.
    Returns a PatchMap of (rows, columns) in nats: for each patch the mean over the squares that contain it.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    grid, found = prompt.tokens.one, roles(prompt, target)
    queries = {"words": others(prompt, target), "answer": found["answer"], "question": found["question"]}
    if to not in queries:
        raise Refusal(f"Nobody is called {to!r}{nearest(to, list(queries))}")
    cells, tokens = squares(grid, size or max(1, min(grid.shape) // 4))
    layers, image = range(len(mllm.parts.blocks)) if layers is None else layers, prompt.tokens.image.numpy()
    drops = effects(mllm, prompt, target, [(queries[to], image[chosen], layers) for chosen in tokens])
    values = (drops @ cells / cells.sum(0)).reshape(grid.shape)
    return PatchMap(values, "nats lost", prompt.picture, prompt.tokens.boxes, prompt.question, target.text,
                    f"knock-out of edges to {'the ' * (to != 'words')}{to}", mllm.spent(before))


def others(prompt, target) -> list[int]:
    """All positions but the image's."""
    return sorted(position for name, positions in roles(prompt, target).items() if name != "image" for position in positions)


def effects(mllm, prompt, target, cuts: list[tuple]) -> np.ndarray:
    """D of each (queries, keys, blocks): (N,) nats lost."""
    found = scores(mllm, prompt, target, [([], [], []), *cuts])
    return found[0] - found[1:]


def scores(mllm, prompt, target, cuts: list[tuple]) -> np.ndarray:
    """f under each cut, `batch_size` of them in one pass: every row of the batch has a cut of its own. Runs start at the first cut."""
    states = entering(mllm, prompt, target)
    starts = np.array([min([*blocks, len(states) - 1]) for _, _, blocks in cuts])        # nothing is cut in the blocks before
    found = np.empty(len(cuts))

    def run(first, some):
        with ExitStack() as stack:
            for row, k in enumerate(some):
                queries, keys, blocks = cuts[k]
                if len(queries) and len(keys) and len(blocks):
                    stack.enter_context(cut(mllm, queries, torch.as_tensor(keys), blocks, [row]))
            return at_once(mllm, prompt, target, states[first].repeat(len(some), 1, 1), first)

    with progress(len(cuts), "knock-out"):
        for first in np.unique(starts):
            rows = np.flatnonzero(starts == first)
            found[rows] = torch.cat(in_batches(mllm, rows, partial(run, first)))
    return found
