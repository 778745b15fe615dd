"""What a comparison is, the register of them all, and what they run on."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO

import numpy as np
import torch

from mini_lib import load, world
from mini_lib.covers import filling


@dataclass(frozen=True)
class Pair:
    """One comparison. compare: `compare(subject)` -> our numbers and theirs, of one shape.

    limit: the most that any number may be off.  differs: where the library means something else, the least that it is off, and
    `limit` is inf.
    """

    library: str
    ours: str
    theirs: str
    compare: Callable
    limit: float
    differs: float = 0.0

    @property
    def installed(self) -> bool:
        return find_spec(self.library) is not None

    @property
    def says(self) -> str:
        return " ".join(self.compare.__doc__.split())

    def holds(self, difference: float) -> bool:
        return self.differs <= difference <= self.limit          # a NaN does not


PAIRS: list[Pair] = []


def pair(library: str, ours: str, theirs: str, limit: float = float("inf"), differs: float = 0.0):
    """Register the decorated function as a comparison; arguments as of `Pair`."""
    def register(function):
        PAIRS.append(Pair(library, ours, theirs, function, limit, differs))
        return function
    return register


def pairs() -> list[Pair]:
    """All comparisons, in the order of the libraries."""
    if not PAIRS:
        for library in ("captum", "quantus", "shapiq", "nnsight", "transformer_lens", "sklearn", "transformers"):
            importlib.import_module(f"tests.oracles.with_{library}")
    return PAIRS


@dataclass(frozen=True)
class Subject:
    """What everything is compared on: a model, a prompt and its answer; and the answer as plain functions of what is changed.

    The functions call the model of transformers itself, without the hooks and scores of mini_lib.
    """

    mllm: object
    prompt: object
    target: object

    def of_inputs(self, **inputs) -> torch.Tensor:
        """(N,) log-probability of the answer; with gradients where the inputs have them."""
        scored = torch.tensor(self.target.ids[self.target.first:])
        logits = self.mllm.model(**inputs, use_cache=False).logits[:, -len(scored):].float()
        return logits.log_softmax(-1).gather(-1, scored.expand(len(logits), -1)[..., None])[..., 0].sum(-1)

    def of_stream(self, stream: torch.Tensor) -> torch.Tensor:
        """Picture and words merged, (N, T, d) -> (N,)."""
        return self.of_inputs(inputs_embeds=stream)

    def of_patches(self, shown, gone=None) -> torch.Tensor:
        """(N, P) or (N, ..., rows, columns), 1 where the patch is seen, 0 where it shows the picture's mean colour -> (N,).

        gone: (N, W) bool, words of the question whose embeddings are zeros.
        """
        shown = torch.as_tensor(shown, dtype=torch.float32).reshape(-1, 1, *self.prompt.tokens.grid)
        seen, cover = self._pixels
        shown = torch.nn.functional.interpolate(shown, seen.shape[-2:], mode="nearest")
        stream = self.merged(seen * shown + cover * (1 - shown))
        for word, (_, at) in enumerate(self.prompt.tokens.words if gone is not None else ()):
            stream[:, at] *= torch.as_tensor(~gone[:, word])[:, None, None]
        return self.of_stream(stream)

    def merged(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, T, d) what transformers itself puts before block 0 for pictures (N, 3, H, W)."""
        model, ids = self.mllm.model, self._forced["input_ids"]
        with torch.no_grad():
            stream = model.get_input_embeddings()(ids).repeat(len(pixels), 1, 1)
            found = model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
        stream[:, self.prompt.tokens.image] = torch.stack(list(found))
        return stream

    @cached_property
    def stream(self) -> torch.Tensor:
        """(1, T, d) the same for the prompt's own picture."""
        return self.merged(self._pixels[0])

    @cached_property
    def _forced(self) -> dict:
        return self.mllm.forced(self.prompt, self.target)

    @cached_property
    def _pixels(self) -> list[torch.Tensor]:
        pictures = (self.prompt.picture, filling(self.prompt.picture, "mean", 1))
        return [self.mllm.processor.image_processor(images=[one], return_tensors="pt")["pixel_values"] for one in pictures]

    def tokens(self, result) -> np.ndarray:
        """Of a PatchMap: one number per patch, then one per word."""
        return np.array([*result.values.ravel(), *(value for _, value in result.words)])

    def gathered(self, values) -> np.ndarray:
        """Of one number per position (T,): the same order, words summed over their tokens."""
        values = np.asarray(values, float)
        return np.array([*values[self.prompt.tokens.image.numpy()], *(values[at].sum() for _, at in self.prompt.tokens.words)])


def subject(mllm=None) -> Subject:
    """`tiny`, and a word that it does not say: where the answer is sure, its gradients are nearly 0 and anything agrees.

    Pictures of `tiny` are 8 x 8 patches of 8 pixels, taken as they are.
    """
    mllm, sample = mllm or load(device="cpu"), world.sample(1, seed=0, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    return Subject(mllm, prompt, mllm.target(prompt, next(color for color in world.COLORS if color != sample.answer)))


def run(one: Pair, on: Subject) -> tuple[float, float]:
    """The largest absolute difference of one comparison, and our largest number, without what the library prints on the way.

    Raises ValueError for numbers of two shapes.
    """
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        ours, theirs = (np.asarray(numbers, float) for numbers in one.compare(on))
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {ours.shape} and {theirs.shape} cannot be compared")
    return float(np.abs(ours - theirs).max()), float(np.abs(ours).max())


def rows(on: Subject) -> Iterator[dict]:
    """A row of plain data for each comparison; difference is None where the library is not installed."""
    for one in pairs():
        difference, largest = run(one, on) if one.installed else (None, None)
        name = {"sklearn": "scikit-learn"}.get(one.library, one.library)
        yield {"ours": one.ours, "library": name, "version": version(name) if one.installed else None, "theirs": one.theirs,
               "difference": difference, "largest": largest, "limit": one.limit if one.limit < float("inf") else None, "differs": one.differs,
               "holds": None if difference is None else one.holds(difference), "says": one.says}
