"""Static figures of results, in matplotlib. Each returns a Figure that is not registered with pyplot."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

INK = "#1b1f24"
FAINT = 0.05                # nats: see `draw_map`
CARD = "#ffffff"            # figures keep a white card, so that they read the same on a dark page


def figure(columns: int, width: float = 3.2):
    """A Figure with `columns` square picture axes in one row, with room for titles of two lines; width in inches."""
    fig = Figure(figsize=(width * columns, width + 0.65), facecolor=CARD, layout="constrained")
    axes = fig.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        ax.set_axis_off()
    return fig, axes


def title(ax, text: str) -> None:
    """Head an axis with text as it is: in a question or an answer, "$" and "_" are no mathematics."""
    ax.set_title(text, fontsize=10, color=INK, parse_math=False)


def patch_map(result, truth: np.ndarray | None = None) -> Figure:
    """The picture, and beside it the map laid over the greyed picture; `truth` (H, W) bool is outlined."""
    fig, (left, right) = figure(2)
    left.imshow(result.picture)
    title(left, f"{result.question}\n{result.target}")
    draw_map(right, result, truth)
    title(right, f"{result.method}\n{result.unit}, peak {result.values.max():.3g}")
    return fig


def side_by_side(results, truth: np.ndarray | None = None) -> Figure:
    """The picture, and beside it one map for each result of the same prompt; each in full colour at its own largest value."""
    results = list(results)
    fig, (left, *axes) = figure(1 + len(results), 2.4)
    left.imshow(results[0].picture)
    title(left, f"{results[0].question}\n{results[0].target}")
    for ax, result in zip(axes, results):
        draw_map(ax, result, truth, float(np.abs(result.values).max()))
        title(ax, f"{result.method}\npeak {result.values.max():.2g}")
    return fig


def draw_map(ax, result, truth: np.ndarray | None = None, largest: float | None = None) -> None:
    """Draw a PatchMap on an axis: red where the patch adds to the answer, blue where it takes away.

    largest: the value drawn in full colour; by itself the map's own largest, in nats at least `FAINT`.
    """
    ax.imshow(_grey(result.picture))
    if not largest:      # the floor keeps a map of nothing but rounding noise pale; at full colour it would look like a finding
        largest = max(float(np.abs(result.values).max()), FAINT if "nats" in result.unit else 1e-9)
    heat = Normalize(-largest, largest)
    colors = matplotlib.colormaps["RdBu_r"](heat(result.values.ravel()))
    for (x0, y0, x1, y1), color, value in zip(result.boxes, colors, result.values.ravel()):
        ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, facecolor=color, linewidth=0,
                               alpha=0.85 * min(1.0, abs(float(value)) / largest) ** 0.5))
    if truth is not None and truth.any():
        ax.contour(truth, [0.5], colors=INK, linewidths=1.3)


def lens_grid(result, layer: int = -1) -> Figure:
    """The picture, and beside it each patch's likeliest word at one layer, darker where it is surer."""
    layer %= len(result.layers)
    fig, (left, right) = figure(2, 4.2)
    left.imshow(result.picture)
    title(left, f"{result.question}\n{result.target}")
    draw_words(right, result, layer)
    title(right, f"{result.method}, {result.layers[layer]}\nlikeliest word of each patch")
    return fig


def draw_words(ax, result, layer: int) -> None:
    """Draw one layer of a LensGrid on an axis; words equal to the target are boxed."""
    ax.imshow(_grey(result.picture, 0.75))
    words, chance = result.words[layer].ravel(), result.chance[layer].ravel()
    for (x0, y0, x1, y1), word, sure in zip(result.boxes, words, chance):
        box = dict(boxstyle="round,pad=0.12", facecolor="#fff3c4", edgecolor="#8a6d00", linewidth=0.8)
        ax.text((x0 + x1) / 2 - 0.5, (y0 + y1) / 2 - 0.5, word, ha="center", va="center", color=INK, parse_math=False,
                fontsize=8 if len(word) < 7 else 6.5, alpha=0.6 + 0.4 * float(sure),
                bbox=box if word == result.target else None)


def png(fig: Figure, dpi: int = 110, colors: int = 96) -> bytes:
    """A figure as a small PNG: a palette of `colors` keeps a page of frames light."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(colors, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def _grey(picture: Image.Image, light: float = 0.45) -> np.ndarray:
    """The picture in light grey, so that what is drawn on top stands out."""
    grey = np.asarray(picture.convert("L"), np.float32)[..., None].repeat(3, -1)
    return (255 - (255 - grey) * (1 - light)).astype(np.uint8)
