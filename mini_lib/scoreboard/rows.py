"""The rows of the scoreboard: methods, and beside them maps that know nothing (floors) and maps that know it all (ceilings)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_type_hints

import numpy as np

from ..evaluate import random_map
from ..evaluate.sanity import values_of
from ..refusal import Refusal
from ..registry import Method, find, methods
from ..results import PatchMap


@dataclass(frozen=True)
class Row:
    """One row. `values(mllm, prompt, target, case, rng)` gives a map (rows, columns).

    kind: "method", "floor" or "ceiling".  rng: the only random numbers that a floor may use.
    node, paper: of a method; what a floor or ceiling is stands in `paper`'s place.
    """

    name: str
    kind: str
    values: Callable
    node: str = ""
    paper: str = ""


def all_rows(names: Sequence[str] = ()) -> list[Row]:
    """The chosen methods (slugs or nodes), by itself every one that returns a PatchMap; then floors and ceilings.

    Raises Refusal for a name that is not known, and for a method whose result is no map over the picture.
    """
    chosen = {method.slug: method for method in map(find, names)}
    if not names:
        chosen = {slug: method for slug, method in methods().items() if _maps(method)}
    for method in chosen.values():
        if not _maps(method):
            raise Refusal(f"{method.slug} does not return one number a patch, so it cannot be scored here; known: "
                          + ", ".join(slug for slug, other in methods().items() if _maps(other)) + ".")
    return [*map(of_method, chosen.values()), *REFERENCES]


def of_method(method: Method) -> Row:
    """The row of a registered method."""
    return Row(method.slug, "method", lambda mllm, prompt, target, case, rng: values_of(method.explain(mllm, prompt, target)),
               method.node, method.paper)


def _maps(method: Method) -> bool:
    return get_type_hints(method.explain).get("return") is PatchMap


def _removed(mllm, prompt, target, case, rng) -> np.ndarray:
    change = np.abs(np.asarray(case.picture, float) - np.asarray(case.without)).mean(2)
    boxes = np.round(prompt.tokens.boxes).astype(int)
    shares = [change[top:bottom, left:right].mean() if right > left and bottom > top else 0.0 for left, top, right, bottom in boxes]
    return np.reshape(shares, prompt.tokens.grid)


REFERENCES = (
    Row("constant-map", "floor", lambda mllm, prompt, target, case, rng: np.ones(prompt.tokens.grid), paper="the same number everywhere"),
    Row("random-map", "floor", lambda mllm, prompt, target, case, rng: random_map(prompt.tokens.grid, rng), paper="noise"),
    Row("true-mask", "ceiling", lambda mllm, prompt, target, case, rng: case.truth.astype(float),
        paper="1 on the objects that decide, 0 elsewhere"),
    Row("object-removed", "ceiling", _removed, paper="how far pixels change when the scene is rendered without those objects"),
)
