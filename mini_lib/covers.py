"""Pictures with some patches covered, and questions with some words taken away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from PIL import Image, ImageFilter

from .batches import in_batches
from .hooks import edit
from .refusal import Refusal, nearest

COVERS = ("mean", "blur", "black")


def filling(picture: Image.Image, cover, radius: float | None = None) -> Image.Image:
    """The picture from which covered patches are taken.

    cover: "mean" colour of the picture, "blur" (Gaussian), "black", or a picture of the same size, such as the scene
    rendered without an object.  radius: of the blur, in pixels; by itself an eighth of the shorter side.
    Raises Refusal for any other cover, or a picture of another size.
    """
    if isinstance(cover, Image.Image):
        if cover.size != picture.size:
            raise Refusal(f"The cover is {cover.width} x {cover.height} pixels and the picture {picture.width} x "
                          f"{picture.height}; give one of the same size.")
        return cover.convert("RGB")
    if cover == "blur":
        return picture.filter(ImageFilter.GaussianBlur(min(picture.size) / 8 if radius is None else radius))
    if cover == "mean":
        return Image.new("RGB", picture.size, tuple(int(v) for v in np.asarray(picture).reshape(-1, 3).mean(0).round()))
    if cover == "black":
        return Image.new("RGB", picture.size)
    raise Refusal(f"There is no cover {cover!r}{nearest(cover, COVERS)}")


def tiles(prompt) -> np.ndarray:
    """(H, W) which patch each pixel of the picture belongs to; -1 where the model does not look (a cropped flank).

    Edges are rounded, so that no pixel belongs to two patches and covering all of them covers all that is seen.
    """
    owner = np.full((prompt.picture.height, prompt.picture.width), -1)
    for patch, (left, top, right, bottom) in enumerate(np.round(prompt.tokens.boxes).astype(int)):
        owner[top:bottom, left:right] = patch
    return owner


def showing(prompt, cover, shown: np.ndarray) -> Iterator[Image.Image]:
    """The prompt's picture once for each row of `shown` (K, P) bool: patches that are False are covered.

    A generator, so that only one batch of pictures is in memory.
    """
    picture, owner = np.asarray(prompt.picture.convert("RGB")), tiles(prompt)
    fill = np.asarray(filling(prompt.picture, cover))
    for row in shown:
        kept = np.append(row, True)[owner]                       # -1 picks the last: what no patch owns stays
        yield Image.fromarray(np.where(kept[..., None], picture, fill))


def seen(prompt, regions: Iterable[np.ndarray], sets: np.ndarray) -> np.ndarray:
    """(K, P) bool, the patches shown when only the regions in a set are; patches in none of them always are.

    regions: n arrays of patch indices.  sets: (K, n) bool.
    """
    shown = np.ones((len(sets), len(prompt.tokens.boxes)), bool)
    for region, there in zip(regions, sets.T):
        shown[:, region] = there[:, None]
    return shown


def score(mllm, prompt, target, pictures: Iterable[Image.Image], gone: np.ndarray | None = None) -> np.ndarray:
    """Log-probability of the target for each picture, in nats: (K,) float64. Cost: one forward pass a picture.

    gone: (K, W) bool, which of the question's words are taken away from the model in each row; none when left out.

    A word is taken away by replacing its embedding before block 0 by zeros, as padding tokens have it: that says that a
    word stood here, and nothing of which one. The mean of the question's embeddings is no such blank but a bag of its
    words: with every word replaced by it, `tiny` still tells questions apart (tests/core/test_covers.py). The mean of
    the vocabulary follows its longest rows: in `tiny`, the made-up words.
    """
    if gone is None or not gone.any():
        return mllm.score(prompt, target, pictures).numpy().astype(float)
    positions = [position for _, places in prompt.tokens.words for position in places]
    owner = [word for word, (_, places) in enumerate(prompt.tokens.words) for _ in places]
    rows, parts = zip(pictures, torch.from_numpy(gone[:, owner])), []       # (positions,) of each row: a word goes with all its tokens

    def run(part):
        shown, cut = zip(*part)

        def blank(stream):
            stream = stream.clone()
            stream[:, positions] = stream[:, positions].masked_fill(torch.stack(cut)[..., None].to(stream.device), 0)
            return stream

        with edit(mllm, {"embed": blank}):
            return mllm.score_inputs(mllm.showing(prompt, target, list(shown)), target)

    while chunk := list(islice(rows, mllm.batch_size)):
        parts += in_batches(mllm, chunk, run)
    return torch.cat(parts).numpy().astype(float)
