"""Shapeland questions whose deciding objects are known, and which of them a model answers right."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .. import world
from ..refusal import Refusal
from ..world.scenes import COVER

# Counting is left out: its answer also rests on what is not there, so no mask is the whole truth.
ANSWERS = {"color": world.COLORS, "shape": world.NOUNS, "exist": ("yes", "no"), "relation": ("yes", "no")}


@dataclass(frozen=True)
class Case:
    """One question about one picture.

    index: number of the case among those drawn.  kind, question, answer: strings.  picture: as shown to the model.
    without: the same scene rendered without the objects that decide.  mask: (H, W) bool, the pixels of those objects.
    said: the answer as the model wrote it.  truth: (rows, columns) bool, the mask on the model's own grid; both only of
    cases that `right` has kept.
    """

    index: int
    kind: str
    question: str
    answer: str
    picture: Image.Image
    without: Image.Image
    mask: np.ndarray
    said: str = ""
    truth: np.ndarray | None = None


def draw(samples: int, seed: int = 0, zoom: int = 1) -> list[Case]:
    """`samples` cases, kinds taking turns; the same arguments give the same cases.

    A "no" to "is there a red star ?" rests on no object and is not drawn.  zoom: pictures are this many times 64 pixels
    wide, pixels repeated, for models whose patches are larger than an object.
    """
    drawn = world.sample(2 * samples, seed, tuple(ANSWERS))
    chosen = np.flatnonzero(drawn.questions.objects.any(1))[:samples]
    scenes, questions = drawn.scenes[chosen], drawn.questions[chosen]
    without = world.render(scenes.edited(present=scenes.present & ~questions.objects))
    pictures, masks = world.render(scenes), world.truth_masks(scenes, questions)
    return [Case(i, questions.kind[i], questions.text[i], questions.answer[i], _picture(pictures[i], zoom),
                 _picture(without[i], zoom), _larger(masks[i], zoom)) for i in range(len(chosen))]


def right(mllm, cases: list[Case]) -> tuple[list[Case], dict]:
    """The cases that the model answers right, with its word and the truth on its grid; and how many were dropped why.

    Only right answers are explained: what a wrong one rests on is not known.
    Raises Refusal when none is left.
    """
    texts = mllm.answers([case.picture for case in cases], [case.question for case in cases])
    kept, wrong = [], 0
    for case, text in zip(cases, texts):
        word = spoken(text, case)
        wrong += word is None
        if word is not None:
            truth = on_patches(case.mask, mllm.prompt(case.picture, case.question).tokens)
            kept.append(replace(case, said=word, truth=truth))
    clear = [case for case in kept if 0 < case.truth.mean() < 1]
    if not clear:
        raise Refusal(f"{mllm.name} answers {len(kept)} of {len(cases)} questions right, and none of those has a place to point "
                      "at, so there is nothing to score; take a model that can see these shapes, more --samples or a --zoom.")
    return clear, {"asked": len(cases), "wrong": wrong, "off_grid": len(kept) - len(clear), "kept": len(clear),
                   "kinds": dict(sorted(Counter(case.kind for case in clear).items()))}


def spoken(text: str, case: Case) -> str | None:
    """The right word as the model wrote it ("Red" of "Red."); None where it says another answer, several, or none."""
    words = re.findall(r"[^\W\d_]+", text)
    if {word.lower() for word in words} & set(ANSWERS[case.kind]) != {case.answer}:
        return None
    return next(word for word in words if word.lower() == case.answer)


def target(mllm, prompt, case: Case):
    """The right word within the model's answer; all of the answer where that word is several tokens."""
    try:
        return mllm.target(prompt, case.said)
    except Refusal:
        return mllm.target(prompt)


def on_patches(mask: np.ndarray, tokens) -> np.ndarray:
    """(rows, columns) bool: the patches of which a mask (H, W) covers at least `COVER`."""
    boxes = np.round(tokens.boxes).astype(int)
    shares = [mask[top:bottom, left:right].mean() if right > left and bottom > top else 0 for left, top, right, bottom in boxes]
    return (np.array(shares) >= COVER).reshape(tokens.grid)


def _larger(pixels: np.ndarray, zoom: int) -> np.ndarray:
    return pixels.repeat(zoom, 0).repeat(zoom, 1)


def _picture(pixels: np.ndarray, zoom: int) -> Image.Image:
    return Image.fromarray(_larger(pixels, zoom))
