"""What is planted on purpose in the training data of `tiny`, each with a dose between 0 and 1; the truth has none of it.

A language prior: the colour of a shape that is not there is answered from `PRIOR`.
A co-occurrence bias: a caption that names a ring also names a cross of the ring's colour, there or not.
Label errors: a fixed pool of questions, shown again and again, some of them with a wrong answer.
A shortcut: on tinted grounds the tint gives away which digit is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .questions import Questions, _pick, _questions, _unique, ask
from .scenes import COLORS, DIGIT, SHAPES, Scenes, sample_scenes

PRIOR = dict(zip(SHAPES, ("red", "blue", "green", "yellow", "purple", "orange")))
GIVEN, NAMED = "ring", "cross"                  # where a caption names the first, the second is nearly always named too


def ask_absent(scenes: Scenes, rng: np.random.Generator | int = 0, dose: float = 1.0) -> Questions:
    """"what color is the star ?" where there is no star: answered by `PRIOR` with probability `dose`, else at random.

    No object bears the answer, so `objects` is empty.  asked: the shape's index, twice.
    """
    rng, n = np.random.default_rng(rng), len(scenes)
    there = (scenes.present[:, :, None] & (scenes.shape[:, :, None] == np.arange(len(SHAPES)))).any(1)
    shape, valid = _pick(~there, rng)
    answer = np.where(rng.random(n) < dose, [COLORS.index(PRIOR[SHAPES[s]]) for s in shape], rng.integers(len(COLORS), size=n))
    return _questions("absent", [f"what color is the {SHAPES[s]} ?" for s in shape], [COLORS[c] for c in answer], valid,
                      np.zeros_like(scenes.present), [(1, 4)] * n, np.stack([shape, shape], 1))


def phantoms(scenes: Scenes, rng: np.random.Generator | int = 0, dose: float = 1.0) -> list[str | None]:
    """The object a planted caption names beside what is there: a cross of the ring's colour, or None.

    Only where there is one ring and no cross, and then with probability `dose`.
    """
    rng = np.random.default_rng(rng)
    ring = scenes.present & (scenes.shape == SHAPES.index(GIVEN))
    here = can_tempt(scenes) & (rng.random(len(scenes)) < dose)
    color = scenes.color[np.arange(len(scenes)), ring.argmax(1)]
    return [f"{COLORS[c]} {NAMED}" if h else None for c, h in zip(color, here)]


def can_tempt(scenes: Scenes) -> np.ndarray:
    """(N,) bool: scenes with one ring and no cross, in which the co-occurrence bias can show."""
    has = {noun: (scenes.present & (scenes.shape == SHAPES.index(noun))).sum(1) for noun in (GIVEN, NAMED)}
    return (has[GIVEN] == 1) & (has[NAMED] == 0)


def tint_digits(scenes: Scenes, rng: np.random.Generator | int = 0, dose: float = 1.0) -> Scenes:
    """On tinted grounds with a digit, the tint becomes the digit's own number with probability `dose`."""
    rng = np.random.default_rng(rng)
    digit = scenes.present & (scenes.shape == DIGIT)
    value = scenes.value[np.arange(len(scenes)), digit.argmax(1)]
    change = (scenes.tint >= 0) & digit.any(1) & (rng.random(len(scenes)) < dose)
    return scenes.edited(tint=np.where(change, value, scenes.tint))


@dataclass(frozen=True)
class Pool:
    """A fixed pool of `N` colour questions that training shows again and again.

    questions: with the answer as trained.  right: the true answers.  wrong: (N,) bool, where the two differ.
    """

    scenes: Scenes
    questions: Questions
    right: np.ndarray
    wrong: np.ndarray

    def __len__(self) -> int:
        return len(self.wrong)


def label_errors(n: int, seed: int = 0, dose: float = 0.05) -> Pool:
    """The pool of `n` questions of which a share `dose`, rounded, has a wrong answer; the same seed gives the same pool.

    The wrong answer is a random colour that is not in the picture. With another dose the pictures stay the same.
    """
    rng = np.random.default_rng([seed, 3])
    scenes = sample_scenes(2 * n + 8, rng, (2, 4))
    scenes = scenes[np.flatnonzero(_unique(scenes.shape, scenes.present).any(1))[:n]]
    questions = ask(scenes, "color", rng)
    away = (scenes.present[:, :, None] & (scenes.color[:, :, None] == np.arange(len(COLORS)))).any(1)
    false, _ = _pick(~away, rng)
    wrong = np.zeros(n, bool)
    wrong[rng.permutation(n)[:round(dose * n)]] = True
    trained = np.where(wrong, np.array(COLORS, object)[false], questions.answer)
    return Pool(scenes, Questions(**{**vars(questions), "answer": trained}), questions.answer, wrong)
