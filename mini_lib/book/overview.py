"""The picture on the front page and in the README: one question, and two ways to explain its answer.

`python -m mini_lib.book.overview` draws it again.
"""

from __future__ import annotations

from . import root


def draw():
    """Question and answer, occlusion map with the truth outlined, and the words of the image tokens."""
    from .. import load, world
    from ..registry import find
    from ..show.static import INK, draw_map, draw_words, figure

    mllm = load(device="cpu")
    sample = world.sample(40, 7, kinds=("color",), objects=(4, 4))[26]
    prompt = mllm.prompt(sample.picture, sample.question)
    fig, (left, middle, right) = figure(3, 3.7)
    left.imshow(sample.picture)
    left.set_title(f"{sample.question}\n{mllm.answer(prompt)}", fontsize=11, color=INK)
    draw_map(middle, find("occlusion").explain(mllm, prompt), sample.mask)
    middle.set_title("occlusion: where the answer\ncomes from (outline: the truth)", fontsize=11, color=INK)
    draw_words(right, find("logit-lens").explain(mllm, prompt), -1)
    right.set_title("logit lens: what each\nimage token would say", fontsize=11, color=INK)
    return fig


if __name__ == "__main__":
    from ..show.static import png
    path = root() / "chapters" / "images" / "overview.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(png(draw(), dpi=120, colors=128))
    print(f"wrote {path}")
