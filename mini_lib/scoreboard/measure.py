"""All scores of one row on one case."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import torch

from ..evaluate import curves, erase, infidelity, iou, mass, noise, pointing, rank_accuracy, rank_correlation
from ..evaluate.faithfulness import on_grid
from ..refusal import Refusal
from .cases import Case, spoken, target

STEPS, DRAWS, NOISE = 16, 64, 4.0     # of the curves; random covers; grey levels of 255
LEAST = 2.0                           # nats: areas over a smaller gap are large numbers that say little


@dataclass(frozen=True)
class Metric:
    """One column.  group: where it stands.  more: whether more is better.  form: how a number is written.
    what: one sentence.  floored: whether it has floors to beat, those of the floor rows.  rate: whether a case is right or wrong."""

    title: str
    group: str
    more: bool
    form: str
    what: str
    floored: bool = True
    rate: bool = False


METRICS = {
    "pointing": Metric("pointing", "localised", True, ".0%", "Does the highest patch lie on an object that decides? "
                       "Where several patches tie, the share of them that do, so a constant map scores chance.", rate=True),
    "mass": Metric("relevance mass", "localised", True, ".0%", "Share of the positive relevance on those objects."),
    "rank_accuracy": Metric("rank accuracy", "localised", True, ".0%", "Share of the k highest patches on those objects, "
                            "k being their number of patches; ties count by their expected share."),
    "iou": Metric("IoU", "localised", True, ".0%", "Intersection over union of those k patches and the objects."),
    "insertion": Metric("insertion", "faithful", True, ".2f", "Area under the answer's log-probability as patches are shown, "
                        f"most relevant first; 0 is the covered picture, 1 the whole one. Left out where they differ by less than {LEAST:.0f} nats."),
    "deletion": Metric("deletion", "faithful", False, ".2f", "The same as patches are covered, most relevant first."),
    "comprehensiveness": Metric("comprehensiveness", "faithful", True, ".2f", "Probability lost without the top patches."),
    "sufficiency": Metric("sufficiency", "faithful", False, ".2f", "Probability lost with the top patches alone."),
    "infidelity": Metric("infidelity", "faithful", False, ".2f", "Share of what random covers cost that the map, scaled at best, "
                         "does not foretell."),
    "redrawn": Metric("re-drawn model", "controls", False, ".2f", "Rank correlation with the map of a model whose weights were "
                      "drawn anew: near 0 is owed, 1 says that the map does not depend on what was learnt.", floored=False),
    "stability": Metric("stability", "controls", True, ".2f", "Rank correlation with the map after a faint noise that leaves "
                        "the answer as it was. A constant map has 1, so this alone says little.", floored=False),
    "forward": Metric("forward passes", "cost", False, ".0f", "Forward passes for one map, once the answer is known.", floored=False),
    "backward": Metric("backward passes", "cost", False, ".0f", "Backward passes for one map.", floored=False),
    "seconds": Metric("seconds", "cost", False, ".3f", "Wall-clock time for one map, with whatever else the machine was doing.", floored=False),
    "memory": Metric("peak memory, MB", "cost", False, ".0f", "GPU memory for one map at its highest, beyond what the model holds; "
                     "not measured on a CPU.", floored=False),
}


@dataclass(frozen=True)
class Ready:
    """What all rows share on one case.

    foretell: infidelity of the maps that are 1 on one patch; every other map is a sum of those.
    again: the prompt with a faintly changed picture and its target; None where the answer changes or it is not asked for.
    control: the model with re-drawn weights; None where it is not asked for.
    """

    case: Case
    prompt: object
    target: object
    foretell: object
    again: tuple | None
    control: object | None


def prepare(mllm, case: Case, cover: str, seed: int, control=None) -> Ready:
    """Everything about a case that does not depend on the row.

    control: the re-drawn model; with it, `measure` also takes the two controls.
    Cost: about 70 forward passes and one or two generations.
    """
    prompt = mllm.prompt(case.picture, case.question)
    aim, patches = target(mllm, prompt, case), case.truth.size
    ones = np.eye(patches).reshape(patches, *case.truth.shape)
    return Ready(case, prompt, aim, infidelity(mllm, prompt, aim, ones, cover, DRAWS, seed),
                 None if control is None else _again(mllm, case, seed), control)


def measure(mllm, row, ready: Ready, cover: str, seed: int) -> dict[str, float | None]:
    """Every metric of one row on one case; None where a metric is not defined there.

    What is random is drawn from the seed, the row's name and the case's index, so no score depends on what was measured
    before it; the process's own generators of torch and numpy are seeded too, for methods that use them.
    Cost: the map, 43 forward passes, and with controls two more maps.
    Raises Refusal when the method refuses, or its map does not fit the prompt or is not finite.
    """
    case, prompt, aim = ready.case, ready.prompt, ready.target
    mixed = [seed, crc32(row.name.encode()), case.index]
    rng = np.random.default_rng(mixed)
    torch.manual_seed(int(np.random.default_rng(mixed).integers(2**31)))
    np.random.seed(int(np.random.default_rng(mixed).integers(2**31)))

    def values(model, prompt, aim):
        maps = np.asarray(row.values(model, prompt, aim, case, rng))[None]
        return on_grid(prompt, maps).reshape(maps.shape)                    # refuses what does not fit

    maps, cost = spent(mllm, lambda: values(mllm, prompt, aim))
    truth = case.truth[None]
    drawn = curves(mllm, prompt, aim, maps, cover, STEPS, seed, LEAST)
    erased = erase(mllm, prompt, aim, maps, cover=cover, seed=seed)
    foretold = replace(ready.foretell, foretold=maps.reshape(1, -1) @ ready.foretell.foretold)
    found = {"pointing": pointing(maps, truth), "mass": mass(maps, truth), "rank_accuracy": rank_accuracy(maps, truth),
             "iou": iou(maps, truth), "insertion": drawn.insertion_area, "deletion": drawn.deletion_area,
             "comprehensiveness": erased.comprehensiveness, "sufficiency": erased.sufficiency, "infidelity": foretold.unexplained,
             "redrawn": _alike(maps, ready.control and (lambda: values(ready.control, prompt, aim))),
             "stability": _alike(maps, ready.again and (lambda: values(mllm, *ready.again)))}
    return {name: _short(value) for name, value in {**found, **cost}.items()}


def spent(mllm, explain: Callable) -> tuple[np.ndarray, dict[str, float | None]]:
    """What `explain()` gives, and its cost: passes, seconds, and on GPUs the peak memory in MB beyond what was held before."""
    cards = sorted({weight.device for weight in mllm.model.parameters() if weight.is_cuda}, key=str)
    for card in cards:
        torch.cuda.synchronize(card)
        torch.cuda.reset_peak_memory_stats(card)
    held = sum(map(torch.cuda.memory_allocated, cards))
    before, start = (mllm.passes, mllm.backward_passes), time.perf_counter()
    out = explain()
    for card in cards:
        torch.cuda.synchronize(card)
    seconds, peak = time.perf_counter() - start, sum(map(torch.cuda.max_memory_allocated, cards))
    return out, {"forward": mllm.passes - before[0], "backward": mllm.backward_passes - before[1], "seconds": seconds,
                 "memory": (peak - held) / 1e6 if cards else None}


def _again(mllm, case: Case, seed: int) -> tuple | None:
    rng = np.random.default_rng([seed, crc32(b"noise"), case.index])
    picture = noise(NOISE)(np.asarray(case.picture), rng)
    if spoken(mllm.answers([picture], [case.question])[0], case) is None:
        return None
    prompt = mllm.prompt(picture, case.question)
    return prompt, target(mllm, prompt, case)


def _alike(maps: np.ndarray, again: Callable | None) -> np.ndarray | None:
    """Rank correlation with another map; None without one, or where the method refuses there."""
    if again is None:
        return None
    try:
        return rank_correlation(maps, again())
    except Refusal:
        return None


def _short(value) -> float | None:
    """A plain number of six digits, so that files stay small; None for one that is not defined."""
    number = np.nan if value is None else float(np.squeeze(value))
    return float(f"{number:.6g}") if np.isfinite(number) else None
