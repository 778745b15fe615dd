"""Ask a processor where it looks: pictures whose colours say where each pixel lies are sent through it.

    pictures = rulers([(640, 480)])                  # red grows to the right, green grows downwards
    views(pixel_values, image_processor, [(640, 480)])   # what came out: one View for each tile, thumbnail or crop

Nothing of how a processor resizes, pads, crops or cuts a picture has to be written down here, so nothing of it can go stale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .refusal import Refusal


@dataclass(frozen=True)
class View:
    """One of the images that the vision tower sees: picture `picture` of the prompt, from `box` of it, in the user's pixels.

    box reaches beyond the picture where the processor padded it.  size: (height, width) of the view itself.
    """

    picture: int
    box: tuple[float, float, float, float]
    size: tuple[int, int]


def rulers(sizes: list[tuple[int, int]]) -> list[Image.Image]:
    """A picture of each size whose red is 0 at the left and 255 at the right, and whose green is 0 at the top and 255 at the bottom.

    Blue says which picture it is. It is none of what processors pad with: black, white, and the mean of what they know.
    """
    pictures = []
    for (width, height), blue in zip(sizes, _blues(len(sizes))):
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[..., 0] = np.round(255 * np.arange(width) / max(width - 1, 1))
        pixels[..., 1] = np.round(255 * np.arange(height) / max(height - 1, 1))[:, None]
        pixels[..., 2] = blue
        pictures.append(Image.fromarray(pixels))
    return pictures


def views(pixels, processor, sizes: list[tuple[int, int]]) -> list[View]:
    """The views of the prompt's pictures, from what the processor made of their rulers.

    pixels: (…, 3, height, width), as the model takes them; views that only pad a batch are left out.
    """
    pixels = pixels.float().cpu().numpy()
    pixels = pixels.reshape(-1, *pixels.shape[-3:])
    if getattr(processor, "do_normalize", False):
        mean, std = (np.reshape(one, (-1, 1, 1)) for one in (processor.image_mean, processor.image_std))
        pixels = pixels * std + mean
    if getattr(processor, "do_rescale", True):
        pixels = pixels / getattr(processor, "rescale_factor", 1 / 255)
    blues, found = np.array(_blues(len(sizes))), []
    near = min([4.0, *(0.4 * abs(np.diff(blues)))])                   # further off lies what processors pad with
    for red, green, blue in pixels:
        counts = [(abs(blue - one) < near).sum() for one in blues]
        k = int(np.argmax(counts))
        if not counts[k]:
            continue
        inside = abs(blue - blues[k]) < near                          # not what was padded
        (left, right), (top, bottom) = (_ends(ramp, inside, axis, size) for ramp, axis, size in (
            (red, 0, sizes[k][0]), (green, 1, sizes[k][1])))
        found.append(View(k, (left, top, right, bottom), red.shape))
    return found


def _blues(count: int) -> list[float]:
    if count > 24:
        raise Refusal(f"{count} pictures in one prompt are too many to tell their tiles apart; give 24 or fewer.")
    return [round(145 + 96 * k / count) for k in range(count)]


def _ends(ramp: np.ndarray, inside: np.ndarray, axis: int, size: int) -> tuple[float, float]:
    """Where a view begins and ends along an axis, in the picture's pixels: the straight line through the ramp's values."""
    count = inside.sum(axis)
    at = np.flatnonzero(count > 0.5 * count.max())
    at = at[2:-2] if len(at) > 12 else at                             # resizing bends the ramp at a picture's edge
    value = (ramp * inside).sum(axis)[at] / count[at] * (size - 1) / 255 + 0.5
    slope, start = np.polyfit(at + 0.5, value, 1) if len(at) > 1 else (0, 0)
    if not slope > 0:
        return 0.0, float(size)
    ends = np.array([start, start + slope * ramp.shape[1 - axis]])
    close = max(0.005 * size, 0.51)                                   # the ramp has 256 steps
    return tuple(float(snapped) for snapped in np.where(abs(ends) < close, 0, np.where(abs(ends - size) < close, size, ends)))
