"""Interactive figures that need no kernel: every frame is in the page, and a native slider shows one of them."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import static

MOST_ROWS = 16              # of a matrix, each a frame of some 25 kB


@dataclass(frozen=True)
class Scrubber:
    """Frames behind one slider. Works in Jupyter, in Colab, on the built page and from the keyboard.

    frames: (label, PNG bytes, description in words) each.  title: names the slider.  caption: what to try.
    start: the frame shown first, also without JavaScript and in print.
    """

    frames: list[tuple[str, bytes, str]]
    title: str
    caption: str
    start: int = 0

    def __repr__(self) -> str:
        return f"Scrubber({self.title}: " + " | ".join(label for label, _, _ in self.frames) + ")"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self.to_html(), "text/plain": repr(self)}

    def to_html(self) -> str:
        """The figure as one piece of HTML that asks for nothing from outside; all text is escaped.

        It has no ids, since the same figure may stand on a page twice: the label holds its slider.
        """
        frames = "".join(
            f'<div class="frame" data-frame="{i}" data-label="{html.escape(label)}"{"" if i == self.start else " hidden"}>'
            f'<img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></div>'
            for i, (label, png, text) in enumerate(self.frames))
        return (
            f'<figure class="scrubber">{frames}'
            f'<div class="scrub"><label>{html.escape(self.title)} '
            f'<input type="range" min="0" max="{len(self.frames) - 1}" step="1" value="{self.start}"></label> '
            f'<output aria-live="polite">{html.escape(self.frames[self.start][0])}</output></div>'
            f'<figcaption>{html.escape(self.caption)}</figcaption>'
            f'<script>{_SCRIPT}</script></figure>')

    def save(self, path: str | Path) -> Path:
        """Write the figure as a page of its own."""
        path = Path(path)
        path.write_text('<!doctype html><html lang="en"><meta charset="utf-8">'
                        '<meta name="viewport" content="width=device-width">'
                        f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style>"
                        f"<main>{self.to_html()}</main></html>\n", encoding="utf-8")
        return path


_STYLE = ("body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
          "figure{margin:0}img{max-width:100%;height:auto}input{width:min(24rem,60%);vertical-align:middle}")

# It wires every figure that is not wired yet, not only its own: where a notebook runs scripts detached from their place,
# `document.currentScript` is null or elsewhere. The mark is a property, so a saved page does not keep it.
_SCRIPT = """document.querySelectorAll("figure.scrubber").forEach(function (root) {
  if (root.wired) return;
  root.wired = true;
  var slider = root.querySelector("input"), say = root.querySelector("output");
  var frames = root.querySelectorAll(".frame");
  function show() {
    frames.forEach(function (frame, i) { frame.hidden = i !== +slider.value; });
    say.textContent = frames[+slider.value].dataset.label;
    slider.setAttribute("aria-valuetext", say.textContent);
  }
  slider.addEventListener("input", show);
  show();
});"""


def patch_map(result) -> Scrubber:
    """A slider through the patches, strongest first: only those reached so far are shown."""
    order = np.argsort(-result.values.ravel(), kind="stable")
    steps = sorted({0, *(k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48) if k < len(order)), len(order)})
    frames = []
    for k in steps:
        fig, (left, right) = static.figure(2)
        kept = np.zeros(np.asarray(result.picture).shape[:2], bool)
        for x0, y0, x1, y1 in np.round(result.boxes[order[:k]]).astype(int):
            kept[y0:y1, x0:x1] = True
        left.imshow(np.where(kept[..., None], np.asarray(result.picture), 205))
        static.title(left, f"the {k} strongest of {len(order)} patches")
        static.draw_map(right, result)
        static.title(right, f"{result.method}: {result.target}")
        frames.append((f"{k} patches", static.png(fig), f"The {k} patches that matter most for the answer {result.target}."))
    return Scrubber(frames, "Patches shown", f"{result.question} {result.target}. Move the slider to uncover the picture, "
                    "the patches that matter most first.", start=min(5, len(frames) - 1))


def compare(results, truth: np.ndarray | None = None) -> Scrubber:
    """A slider through methods: the map that each makes of the same prompt; `truth` (H, W) bool is outlined."""
    frames = []
    for result in results:
        row, column = result.peak
        hit = "" if truth is None else ", in the outline" if _at_peak(result, truth) else ", outside the outline"
        frames.append((result.method, static.png(static.side_by_side([result], truth)),
                       f"Map of {result.method} for the answer {result.target}: its peak lies in row {row + 1}, column {column + 1}{hit}."))
    return Scrubber(frames, "Method", "Move the slider through the methods: the picture and the answer stay, the map changes.")


def _at_peak(result, truth: np.ndarray) -> bool:
    """Whether the middle of the highest patch lies in the truth."""
    left, top, right, bottom = result.boxes[result.values.argmax()]
    return bool(truth[int((top + bottom) / 2), int((left + right) / 2)])


def lens_grid(result) -> Scrubber:
    """A slider through the layers: each patch's likeliest word."""
    frames = []
    for k, layer in enumerate(result.layers):
        said = sorted({str(w) for w in result.words[k].ravel()})
        frames.append((f"{layer}", static.png(static.lens_grid(result, k)),
                       f"Likeliest word of each patch at {layer}; words that occur: {', '.join(said[:12])}."))
    return Scrubber(frames, "Layer", "Move the slider through the layers, from before the first block to after the last, and watch the words appear.",
                    start=len(frames) - 1)


def curves(result) -> Scrubber:
    """A slider through the points: the lines, and beside them each one's value at that point."""
    frames = []
    for k, point in enumerate(result.points):
        values = ", ".join(f"{name} {value:.3g}" for name, value in zip(result.lines, result.values[:, k]))
        frames.append((point, static.png(static.curves(result, k)), f"{result.unit} at {result.axis} {point}: {values}."))
    return Scrubber(frames, result.axis, f"Move the slider to read off the {result.unit} of each line.", start=len(frames) - 1)


def matrix(result) -> Scrubber:
    """A slider through the rows: the matrix, and beside it the values of that row.

    Of many rows, such as all heads of a large model, those with the largest values: each frame is a picture.
    """
    shown = np.sort(np.argsort(-np.abs(result.values).max(1), kind="stable")[:MOST_ROWS])
    frames = []
    for k in shown.tolist():
        row, most = result.rows[k], np.argsort(-result.values[k], kind="stable")[:5]
        values = ", ".join(f"{result.columns[c]} {result.values[k, c]:.3g}" for c in most)
        frames.append((row, static.png(static.matrix(result, k)), f"{result.unit} of {row}, the largest: {values}."))
    start = int(result.values[shown].max(1).argmax())
    some = "rows" if len(shown) == len(result.rows) else f"{len(shown)} of the {len(result.rows)} rows, those with the largest values,"
    return Scrubber(frames, result.axes[0], f"Move the slider through the {some} to read off their {result.unit}.", start=start)
