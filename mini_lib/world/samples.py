"""Samples: a picture, a question, and everything that is true about them; in memory or as files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from .questions import KINDS, Questions, ask, truth_masks, truth_patches, twin
from .scenes import COLORS, MOST, NOUNS, Scenes, concatenate, object_masks, render, sample_scenes


@dataclass(frozen=True)
class Sample:
    """One question about one picture, with its truth.

    picture, twin_picture: PIL images.  question, answer, twin_answer, kind: strings.
    mask: (SIDE, SIDE) bool, pixels of the objects the answer rests on; patches: (GRID, GRID) bool, the same in patches.
    words: indices of the question's words that matter.  objects: how many objects the scene has.
    """

    picture: Image.Image
    question: str
    answer: str
    kind: str
    mask: np.ndarray
    patches: np.ndarray
    words: tuple[int, ...]
    objects: int
    twin_picture: Image.Image
    twin_answer: str


@dataclass(frozen=True)
class Samples:
    """`N` samples as arrays: `scenes`, `questions`, and the twins. Index with an int for one `Sample`."""

    scenes: Scenes
    questions: Questions
    twins: Scenes
    twin_answers: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{np.sum(self.questions.kind == kind)} {kind}" for kind in dict.fromkeys(self.questions.kind))
        return f"Samples({len(self)}: {kinds})"

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Sample:
        """Sample number `i`, from 0; raises IndexError past the end."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        questions = self.questions
        return Sample(Image.fromarray(self.pictures[i]), questions.text[i], questions.answer[i], questions.kind[i],
                      self.masks[i], self.patches[i], questions.words[i], int(self.scenes.count[i]),
                      Image.fromarray(self.twin_pictures[i]), self.twin_answers[i])

    @cached_property
    def pictures(self) -> np.ndarray:
        """(N, SIDE, SIDE, 3) uint8."""
        return render(self.scenes)

    @cached_property
    def twin_pictures(self) -> np.ndarray:
        """(N, SIDE, SIDE, 3) uint8: the counterfactual twins."""
        return render(self.twins)

    @cached_property
    def masks(self) -> np.ndarray:
        """(N, SIDE, SIDE) bool."""
        return truth_masks(self.scenes, self.questions)

    @cached_property
    def patches(self) -> np.ndarray:
        """(N, GRID, GRID) bool."""
        return truth_patches(self.scenes, self.questions)


def sample(n: int, seed: int = 0, kinds: tuple[str, ...] = KINDS, objects: tuple[int, int] = (1, MOST),
           unseen: bool = False) -> Samples:
    """Draw `n` samples, the kinds taking turns; the same seed gives the same samples.

    kinds: any of `KINDS` and `MORE_KINDS`; one named twice counts once.  objects: fewest and most objects in a scene.
    unseen: handwritten digits come from those that training never shows.
    Raises KeyError for an unknown kind, ValueError for a question that no such scene allows.
    """
    rng, kinds = np.random.default_rng(seed), tuple(dict.fromkeys(kinds))
    want = {kind: len(range(i, n, len(kinds))) for i, kind in enumerate(kinds)}
    drawn = {kind: _valid(kind, count, rng, objects, unseen) for kind, count in want.items()}
    turn = np.argsort(np.concatenate([np.arange(i, n, len(kinds)) for i in range(len(kinds))]))   # back into turns
    scenes = concatenate([scenes for scenes, _ in drawn.values()])[turn]
    questions = _stack([questions for _, questions in drawn.values()])[turn]
    twins, answers = twin(scenes, questions, rng)
    return Samples(scenes, questions, twins, answers)


def _valid(kind: str, n: int, rng, objects, unseen) -> tuple[Scenes, Questions]:
    """`n` scenes that allow a question of this kind, and the questions."""
    parts, missing = [], n
    for _ in range(1000):
        scenes = sample_scenes(2 * missing + 8, rng, objects, digits=float(kind == "digit"), unseen=unseen)
        questions = ask(scenes, kind, rng)
        rows = np.flatnonzero(questions.valid)[:missing]
        parts.append((scenes[rows], questions[rows]))
        missing -= len(rows)
        if missing == 0:
            return concatenate([s for s, _ in parts]), _stack([q for _, q in parts])
    raise ValueError(f"no scene with {objects[0]} to {objects[1]} objects allows a question of kind {kind!r}")


def _stack(parts: list[Questions]) -> Questions:
    joined = {name: np.concatenate([getattr(p, name) for p in parts])
              for name in ("text", "answer", "kind", "valid", "objects", "asked")}
    return Questions(**joined, words=[words for p in parts for words in p.words])


def write(samples: Samples, out: str | Path) -> Path:
    """Write samples as files that any tool can read; returns the folder.

    `0000.png` is the picture, `0000-twin.png` its counterfactual twin, `0000-mask.png` the pixels the answer rests
    on (white), `0000-object-K.png` each object's mask; `truth.jsonl` holds one JSON object per sample.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    masks, scenes, questions = object_masks(samples.scenes), samples.scenes, samples.questions
    with open(out / "truth.jsonl", "w", encoding="utf-8") as file:
        for i, one in enumerate(samples):
            name = f"{i:04d}"
            one.picture.save(out / f"{name}.png")
            one.twin_picture.save(out / f"{name}-twin.png")
            _save_mask(one.mask, out / f"{name}-mask.png")
            slots = np.flatnonzero(scenes.present[i])
            for k in slots:
                _save_mask(masks[i, k], out / f"{name}-object-{k}.png")
            record = {
                "picture": f"{name}.png", "twin": f"{name}-twin.png", "mask": f"{name}-mask.png", "kind": one.kind,
                "question": one.question, "answer": one.answer, "twin_answer": one.twin_answer,
                "words": list(one.words), "patches": np.argwhere(one.patches).tolist(),
                "objects": [{"color": COLORS[scenes.color[i, k]], "shape": NOUNS[scenes.shape[i, k]],
                             "x": round(float(scenes.x[i, k]), 2), "y": round(float(scenes.y[i, k]), 2),
                             "radius": float(scenes.radius[i, k]), "mask": f"{name}-object-{k}.png",
                             "matters": bool(questions.objects[i, k])} for k in slots]}
            file.write(json.dumps(record) + "\n")
    return out


def _save_mask(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
