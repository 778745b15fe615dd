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
COLORS = ("#b2182b", "#2166ac", "#8a6d00", "#5aae61", "#762a83", "#878787", "#1b1f24")     # of lines, told apart also by markers
MARKERS = "osD^vxP"
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


def curves(result, point: int | None = None) -> Figure:
    """Every line of a Curves over its points, with intervals; `point` is marked and its values stand beside it as bars."""
    fig = Figure(figsize=(6.4 if point is None else 8.4, 3.2), facecolor=CARD, layout="constrained")
    left, right = (fig.subplots(), None) if point is None else fig.subplots(1, 2, width_ratios=(3, 2))
    at = np.arange(len(result.points))
    for k, (name, row) in enumerate(zip(result.lines, result.values)):
        left.plot(at, row, marker=MARKERS[k % len(MARKERS)], markersize=4, color=COLORS[k % len(COLORS)], label=name)
        if result.low is not None:
            left.fill_between(at, result.low[k], result.high[k], color=COLORS[k % len(COLORS)], alpha=0.15, linewidth=0)
    some = at[::max(1, -(-len(at) // 12))]
    left.set_xticks(some, [result.points[k] for k in some], parse_math=False, rotation=30 if max(map(len, result.points)) > 5 else 0)
    left.set_xlabel(result.axis, parse_math=False)
    left.set_ylabel(result.unit, parse_math=False)
    for label in left.legend(frameon=False, fontsize=8).get_texts():
        label.set_parse_math(False)
    title(left, _heading(result))
    if right is not None:
        left.axvline(point, color=INK, linewidth=0.8, linestyle=":")
        _bars(right, result.lines, result.values[:, point], [COLORS[k % len(COLORS)] for k in range(len(result.lines))],
              (min(0, result.values.min()), result.values.max()))
        title(right, f"{result.axis}: {result.points[point]}")
    return fig


def matrix(result, row: int | None = None) -> Figure:
    """A Matrix as colours, red above 0 and blue below; `row` is framed and its values stand beside it as bars."""
    rows, columns = result.values.shape
    high = float(np.clip(0.25 * rows + 1.2, 2.6, 7))
    fig = Figure(figsize=(5.6 if row is None else 8.8, high), facecolor=CARD, layout="constrained")
    left, right = (fig.subplots(), None) if row is None else fig.subplots(1, 2, width_ratios=(3, 2))
    signed, most = result.values.min() < 0, float(np.abs(result.values).max()) or 1.0
    image = left.imshow(result.values, cmap="RdBu_r" if signed else "Reds", vmin=-most if signed else 0, vmax=most, aspect="auto")
    for set_ticks, names in ((left.set_xticks, result.columns), (left.set_yticks, result.rows)):
        some = np.arange(len(names))[::max(1, -(-len(names) // 24))]
        turned = {"rotation": 60, "ha": "right"} if names is result.columns and max(map(len, names)) > 2 else {}
        set_ticks(some, [names[k] for k in some], fontsize=8, parse_math=False, **turned)
    left.set_ylabel(result.axes[0], parse_math=False)
    left.set_xlabel(result.axes[1], parse_math=False)
    fig.colorbar(image, ax=left, fraction=0.05).set_label(result.unit, parse_math=False)
    title(left, _heading(result))
    if right is not None:
        left.add_patch(Rectangle((-0.5, row - 0.5), columns, 1, fill=False, edgecolor=INK, linewidth=1.5))
        tones = matplotlib.colormaps["RdBu_r"](Normalize(-most, most)(result.values[row]))
        _bars(right, result.columns, result.values[row], tones, (min(0, result.values.min()), result.values.max()))
        title(right, f"{result.rows[row]}")
    return fig


def _heading(result) -> str:
    """The method, and below it the question with the answer that was explained, where there is one."""
    return "\n".join(text for text in (result.method, f"{result.question} {result.target}".strip()) if text)


def _bars(ax, names, values, colors, limits) -> None:
    ax.barh(range(len(names)), values, color=colors)
    ax.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    if limits[0] < limits[1]:
        ax.set_xlim(*limits)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.invert_yaxis()


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
