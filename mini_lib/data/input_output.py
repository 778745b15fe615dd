"""Occlusion: cover a part of the picture and see how much of the answer goes with it.

    A_i = f(x) - f(x with region i covered)

x: the picture.  i: a square of `size` x `size` patches, moved one patch at a time.  f: log-probability of the model's
answer, in nats, summed over its tokens.  A patch's value is the mean of A over the regions that contain it: positive where
covering it costs the answer.

Source: Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2 (there the probability of the class; a grey square).
Misleads when the cover is smaller than the evidence, when the cover is a new object to the model, when evidence is there
twice (covering either copy costs nothing), and when the answer needs something to be absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from PIL import Image

from ..covers import filling
from ..registry import Identity, method
from ..results import PatchMap


def identity(mllm, prompt) -> list[Identity]:
    """What occlusion must satisfy on any model."""
    target = mllm.target(prompt)
    same = occlusion(mllm, prompt, target, cover=prompt.picture)
    whole = occlusion(mllm, prompt, target, size=max(prompt.tokens.grid))
    gap = mllm.score(prompt, target, [prompt.picture, covered(prompt.picture, _box(prompt.tokens.boxes), "mean")])
    off = np.abs(whole.values - float(gap[0] - gap[1])).max()
    return [Identity("covering a region with itself changes nothing", float(np.abs(same.values).max()), mllm.slack),
            Identity("covering everything costs the whole gap f(x) - f(covered)", float(off), mllm.slack)]


@method("occlusion", node="data/input-output", paper="Zeiler and Fergus 2014, arXiv:1311.2901",
        cost="one forward pass a region and one more, once the answer is known; no backward pass", identity=identity)
def occlusion(mllm, prompt, token: str | None = None, *, cover="mean", size: int | None = None) -> PatchMap:
    """How much each patch of the picture adds to the answer.

    token: explain this word instead of the whole answer.
    cover: "mean" colour of the picture, "blur", "black", or a picture of the same size to take the region from (in
    Shapeland: the scene rendered without the object).  size: side of the covered square, in patches; by itself a
    quarter of the grid's side. A single patch is often too small: what is left of the object still gives the answer away.
    Returns a PatchMap of (rows, columns) in nats.
    """
    target, before = mllm.target(prompt, token), mllm.passes
    rows, columns = prompt.tokens.grid
    size = size or max(1, min(rows, columns) // 4)
    regions = windows(rows, columns, size)
    boxes = [_box(prompt.tokens.boxes[patches]) for patches in regions]
    fill = filling(prompt.picture, cover, (boxes[0][2] - boxes[0][0]) / 2)
    pictures = (covered(prompt.picture, box, fill) for box in boxes)                # made one batch at a time
    # The whole picture goes first in the same batch: in half precision another batch size gives other roundings.
    scores = mllm.score(prompt, target, chain([prompt.picture], pictures)).numpy()  # (1 + regions,)
    values = spread(scores[0] - scores[1:], regions, rows * columns).reshape(rows, columns)
    return PatchMap(values, "nats lost", prompt.picture, prompt.tokens.boxes, prompt.question, target.text, "occlusion",
                    {"log_probability": round(float(scores[0]), 4), "forward_passes": mllm.passes - before,
                     "cover": cover if isinstance(cover, str) else "given picture", "size": size})


def windows(rows: int, columns: int, size: int) -> list[np.ndarray]:
    """Every `size` x `size` square of patches, one step apart: arrays of patch indices in reading order."""
    size = min(size, rows, columns)
    index = np.arange(rows * columns).reshape(rows, columns)
    return [index[r:r + size, c:c + size].ravel() for r in range(rows - size + 1) for c in range(columns - size + 1)]


def spread(drops: np.ndarray, regions: Sequence[np.ndarray], patches: int) -> np.ndarray:
    """Each patch's mean drop over the regions that contain it: (patches,)."""
    total, times = np.zeros(patches), np.zeros(patches)
    for drop, region in zip(drops, regions):
        total[region] += drop
        times[region] += 1
    return total / times


def covered(picture: Image.Image, box: tuple[int, int, int, int], cover) -> Image.Image:
    """A copy of the picture with one box (left, top, right, bottom; pixels) covered; `cover` as in `occlusion`."""
    out = picture.copy()
    out.paste(filling(picture, cover, (box[2] - box[0]) / 2).crop(box), box[:2])
    return out


def _box(boxes: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest pixel box around some patches."""
    return (*(int(v) for v in np.floor(boxes[:, :2].min(0))), *(int(v) for v in np.ceil(boxes[:, 2:].max(0))))
