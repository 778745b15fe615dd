"""Interactive figures that need no kernel: every frame is in the page, and a native slider shows one of them."""

from __future__ import annotations

import base64
import hashlib
import html
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import static


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
        """The figure as one piece of HTML that asks for nothing from outside; all text is escaped."""
        key = "s" + hashlib.sha256(b"".join(png for _, png, _ in self.frames) + self.title.encode()).hexdigest()[:10]
        frames = "".join(
            f'<div class="frame" data-frame="{i}" data-label="{html.escape(label)}"{"" if i == self.start else " hidden"}>'
            f'<img alt="{html.escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></div>'
            for i, (label, png, text) in enumerate(self.frames))
        return (
            f'<figure class="scrubber" id="{key}">{frames}'
            f'<div class="scrub"><label for="{key}-in">{html.escape(self.title)}</label> '
            f'<input id="{key}-in" type="range" min="0" max="{len(self.frames) - 1}" step="1" value="{self.start}" '
            f'aria-describedby="{key}-cap"> '
            f'<output for="{key}-in" aria-live="polite">{html.escape(self.frames[self.start][0])}</output></div>'
            f'<figcaption id="{key}-cap">{html.escape(self.caption)}</figcaption>'
            f'<script>{_SCRIPT.replace("KEY", key)}</script></figure>')

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

_SCRIPT = """(function () {
  var root = document.getElementById("KEY"), slider = root.querySelector("input"), say = root.querySelector("output");
  var frames = root.querySelectorAll(".frame");
  function show() {
    frames.forEach(function (frame, i) { frame.hidden = i !== +slider.value; });
    say.textContent = frames[+slider.value].dataset.label;
    slider.setAttribute("aria-valuetext", say.textContent);
  }
  slider.addEventListener("input", show);
  show();
})();"""


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
        left.set_title(f"the {k} strongest of {len(order)} patches", fontsize=10, color=static.INK)
        static.draw_map(right, result)
        right.set_title(f"{result.method}: {result.target}", fontsize=10, color=static.INK)
        frames.append((f"{k} patches", static.png(fig), f"The {k} patches that matter most for the answer {result.target}."))
    return Scrubber(frames, "Patches shown", f"{result.question} {result.target}. Move the slider to uncover the picture, "
                    "the patches that matter most first.", start=min(5, len(frames) - 1))


def lens_grid(result) -> Scrubber:
    """A slider through the layers: each patch's likeliest word."""
    frames = []
    for k, layer in enumerate(result.layers):
        said = sorted({str(w) for w in result.words[k].ravel()})
        frames.append((f"{layer}", static.png(static.lens_grid(result, k)),
                       f"Likeliest word of each patch at {layer}; words that occur: {', '.join(said[:12])}."))
    return Scrubber(frames, "Layer", "Move the slider from the first layer to the last and watch the words appear.",
                    start=len(frames) - 1)
