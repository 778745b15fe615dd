"""RISE: cover random parts of the picture many times, and average the covers that the answer survives.

    A_p = sum_k f(x seen through M_k) (M_k(p) - q) / (N q (1 - q))

M_k: a random grid of seen and covered cells, enlarged and shifted, between 0 (covered) and 1; q: the share seen.
f: log-probability of the answer, in nats, less its mean over the covers.

Source: Petsiuk et al. 2018, arXiv:1806.07421. There f is a probability and the covers are not centred;
centring both changes no expectation but for a constant, and takes most of the noise away.
Misleads when covers are few, as its noise falls only with the root of their number, and when what matters is smaller than its
cells.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .....batches import progress, spans
from .....registry import Identity, method
from .....results import PatchMap


def identity(mllm, prompt) -> list[Identity]:
    """Covers that hide nothing change nothing; and the values of one model on one picture depend on the seed alone."""
    target = mllm.target(prompt)
    open_ = through(prompt.picture, np.ones((1, prompt.picture.height, prompt.picture.width)))
    error = (mllm.score(prompt, target, [prompt.picture]) - mllm.score(prompt, target, open_)).abs().max()
    one, two = (rise(mllm, prompt, target, covers=16, seed=3).values for _ in range(2))
    return [Identity("a cover that hides nothing changes nothing", float(error), 0.0),
            Identity("the same seed gives the same values", float(np.abs(one - two).max()), 0.0)]


@method("rise", node="model/architecture/analysis/feature-attribution", paper="Petsiuk et al. 2018, arXiv:1806.07421",
        cost="one forward pass a cover, 500 by itself, once the answer is known; no backward pass", identity=identity, pixels=True)
def rise(mllm, prompt, token: str | None = None, *, covers: int = 500, cells: int = 5, seen: float = 0.5, seed: int = 0) -> PatchMap:
    """RISE over the patches of the picture.

    token: explain this word instead of the whole answer.  covers: how many.  cells: of a cover, along each side.
    seen: the share of cells left open; the others show the picture's mean colour.
    Returns a PatchMap of (rows, columns) in nats: how much more likely the answer is where the patch is seen.
    """
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    rng, scores, shares = np.random.default_rng(seed), [], []
    boxes = np.round(prompt.tokens.boxes).astype(int)
    with progress(covers, "RISE"):
        for start, stop in spans(covers, mllm.batch_size):                          # one batch at a time, or memory grows
            masks = random_masks(stop - start, prompt.picture.size, cells, seen, rng)
            scores += mllm.score(prompt, target, through(prompt.picture, masks)).tolist()
            shares.append(np.stack([masks[:, top:bottom, left:right].mean((1, 2)) for left, top, right, bottom in boxes], 1))   # (B, P)
    shares, scores = np.concatenate(shares), np.array(scores)
    values = (scores - scores.mean()) @ (shares - seen) / (covers * seen * (1 - seen))
    return PatchMap(values.reshape(prompt.tokens.grid), "nats gained when seen", prompt.picture, prompt.tokens.boxes, prompt.question,
                    target.text, "RISE", mllm.spent(before) | {"covers": covers, "seed": seed})


def random_masks(n: int, size: tuple[int, int], cells: int, seen: float, rng: np.random.Generator) -> np.ndarray:
    """(n, height, width) between 0 and 1: random grids, one cell larger than the picture, enlarged smoothly and shifted."""
    width, height = size
    step = -(-width // cells), -(-height // cells)
    masks = np.empty((n, height, width))
    for mask in masks:
        grid = Image.fromarray((rng.random((cells + 1, cells + 1)) < seen).astype(np.float32))
        large = np.asarray(grid.resize((step[0] * (cells + 1), step[1] * (cells + 1)), Image.Resampling.BILINEAR))
        left, top = rng.integers(step[0]), rng.integers(step[1])
        mask[:] = large[top:top + height, left:left + width]
    return masks


def through(picture: Image.Image, masks: np.ndarray) -> list[Image.Image]:
    """The picture seen through each mask, and its mean colour where it is covered."""
    pixels = np.asarray(picture, float)
    mean = pixels.reshape(-1, 3).mean(0)
    return [Image.fromarray((mean + (pixels - mean) * mask[..., None]).round().astype(np.uint8)) for mask in masks]
