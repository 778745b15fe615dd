"""Negative controls: what an explanation must not score as well as.

Two questions that a map has to survive. Does it follow the model? (`cascade`: its weights are drawn anew, from the top
down.) Does it follow the picture? (`compare_pictures`: the same question about another one.) Both compare maps by rank
correlation: near 0 is what an explanation owes us, 1 says that it looked at neither.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..parts import find_parts
from ..refusal import Refusal
from .localisation import pointing
from .similarity import rank_correlation


def random_map(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A map of noise."""
    return rng.random(shape)


def redrawn(mllm, seed: int = 0):
    """The same architecture with every weight drawn anew: a model that has learnt nothing.

    Each tensor, norm weights and biases included, is replaced by normal noise of its own mean and spread, so sizes of
    activations stay sensible. A method whose maps look the same on it explains the architecture, not the model
    (Adebayo et al. 2018, arXiv:1810.03292). Returns a new MLLM; the given one is untouched.
    """
    control = _copied(mllm, "weights re-drawn")
    _redraw(control.model.parameters(), torch.Generator().manual_seed(seed))
    return control


@dataclass(frozen=True)
class Cascade:
    """What became of N maps as the model's weights were drawn anew, from the top down.

    stages: (S,) names; first "as trained", where nothing was drawn, then what was drawn last: each stage keeps the noise
    of those before it.
    correlation: (S, N) rank correlation with the first maps. "As trained" is the ceiling: 1 unless the method is random.
    floor: (N,) rank correlation of the first maps with random ones: 0 on average.
    pointing: (S, N) pointing score at each stage, None without truth; its floor is `chance(truth)`.
    maps: (S, N, rows, columns).  passes: forward passes on the copy.
    """

    stages: list[str]
    correlation: np.ndarray
    floor: np.ndarray
    pointing: np.ndarray | None
    maps: np.ndarray
    passes: int


def cascade(mllm, explain: Callable, prompts: Sequence, truth: np.ndarray | None = None, seed: int = 0) -> Cascade:
    """Cascading randomisation: explain the same answers while the weights are drawn anew, stage by stage.

    explain: `explain(mllm, prompt, target)`, as methods of the registry have it.  truth: (N, rows, columns) bool.
    Stages: the unembedding and final norm, each decoder block from the last to the first, the word embedding, and all that
    is left, connector and vision tower. Every tensor is drawn as in `redrawn`, norm weights and biases too; what two
    stages share (tied embeddings) is drawn in the first of them. At every stage the trained model's answer is explained.
    A map that stays at the ceiling does not depend on those weights. A middling value is no proof of dependence: maps
    that all lean to the middle of the picture correlate as well; compare with `compare_pictures`.
    Works on a copy, so the given model is not run and not touched, whatever happens; memory for one more model is needed.
    Cost: S + 1 explanations of each prompt, S = decoder blocks + 4, and one generation.
    Source: Adebayo et al. 2018, arXiv:1810.03292, cascading randomisation; there signed and absolute maps, here as given.
    Raises Refusal when there is no prompt, or the method gives no map.
    """
    if not prompts:
        raise Refusal("There is nothing to explain; give at least one prompt.")
    noise = torch.Generator().manual_seed(seed)
    model = _copied(mllm, "weights re-drawn from the top")
    before, targets = model.passes, [model.target(prompt) for prompt in prompts]

    def explained():
        return np.stack([values_of(explain(model, prompt, target)) for prompt, target in zip(prompts, targets)])

    first, names, maps = explained(), ["as trained"], [explained()]
    for name, weights in stages(model):
        _redraw(weights, noise)
        names, maps = [*names, name], [*maps, explained()]
    return Cascade(names, np.stack([rank_correlation(first, later) for later in maps]),
                   _floor(first, seed), None if truth is None else np.stack([pointing(later, truth) for later in maps]),
                   np.stack(maps), model.passes - before)


def stages(mllm) -> list[tuple[str, list[torch.Tensor]]]:
    """All weights of a model in the order in which `cascade` draws them, each once: name of the stage, its tensors."""
    blocks = mllm.parts.blocks
    groups = [("unembedding and norm", [*mllm.parts.head.parameters(), *mllm.parts.norm.parameters()]),
              *((f"block.{k}", list(blocks[k].parameters())) for k in reversed(range(len(blocks)))),
              ("word embedding", list(mllm.model.get_input_embeddings().parameters())),
              ("connector and vision tower", list(mllm.model.parameters()))]
    seen, out = set(), []
    for name, weights in groups:
        fresh = [weight for weight in weights if id(weight) not in seen]
        seen |= {id(weight) for weight in fresh}
        out.append((name, fresh))
    return out


@dataclass(frozen=True)
class Comparison:
    """The same N questions about two pictures each.

    correlation: (N,) rank correlation of the two maps. A map that ignores the picture has 1.
    floor: (N,) the first map's correlation with a random one: 0 on average.
    followed, stayed: (N,) pointing score of the second picture's map, against the truth of its own picture and against that
    of the first one; None without truth. A map that follows the picture has a high `followed`, and `stayed` near chance.
    """

    correlation: np.ndarray
    floor: np.ndarray
    followed: np.ndarray | None
    stayed: np.ndarray | None


def compare_pictures(mllm, explain: Callable, prompts: Sequence, others: Sequence, truth: np.ndarray | None = None,
                     other_truth: np.ndarray | None = None, seed: int = 0) -> Comparison:
    """Does the map follow the picture? Explain the same questions about other pictures and compare.

    prompts, others: N each, pairwise with one question (`same_question` finds pairs).  truth, other_truth:
    (N, rows, columns) bool, of the first and of the second pictures.  Each time the model's own answer is explained.
    Cost: two explanations and two generations a pair.
    Raises Refusal for pairs of different questions, for one truth without the other, and when the method gives no map.
    """
    if not prompts or len(prompts) != len(others):
        raise Refusal(f"{len(prompts)} prompts and {len(others)} others; give pairs, at least one.")
    for one, other in zip(prompts, others):
        if one.question != other.question:
            raise Refusal(f"{one.question!r} and {other.question!r} are two questions; the pictures alone may differ.")
    if (truth is None) != (other_truth is None):
        raise Refusal("Only one of the two truths was given; give both or none.")
    first, second = (np.stack([values_of(explain(mllm, prompt, mllm.target(prompt))) for prompt in side])
                     for side in (prompts, others))
    return Comparison(rank_correlation(first, second), _floor(first, seed),
                      None if truth is None else pointing(second, other_truth),
                      None if truth is None else pointing(second, truth))


def same_question(questions: Sequence[str]) -> np.ndarray:
    """(K, 2) pairs of indices with the same question: each with the next one that asks it, the last with the first.

    Questions that are asked once are in no pair.
    """
    groups: dict[str, list[int]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(question, []).append(index)
    return np.array([pair for group in groups.values() if len(group) > 1
                     for pair in zip(group, [*group[1:], group[0]])], int).reshape(-1, 2)


def values_of(result) -> np.ndarray:
    """(rows, columns) of what a method returned, a PatchMap or a plain array. Raises Refusal for anything else."""
    values = np.asarray(getattr(result, "values", result))
    if values.ndim != 2 or values.dtype == object:
        raise Refusal(f"The method gives {type(result).__name__} and no patch map, so there is nothing to compare; try occlusion.")
    return values.astype(float)


def _floor(maps: np.ndarray, seed: int) -> np.ndarray:
    """(N,) rank correlation of maps with random ones."""
    # Not plain `default_rng(seed)`: a random map judged under the same seed would meet itself and correlate by 1.
    rng = np.random.default_rng([seed, 1])
    return rank_correlation(maps, np.stack([random_map(one.shape, rng) for one in maps]))


def _copied(mllm, how: str):
    """A handle of its own on a copy of the model.

    Raises Refusal for weights that cannot be drawn anew: those that are offloaded or quantised.
    """
    if any(weight.is_meta or not weight.is_floating_point() for weight in mllm.model.parameters()):
        raise Refusal(f"The control needs {mllm.name} with its {how}, and some of its weights are offloaded or quantised; load it "
                      "whole and unquantised, or leave the control out.")
    network = copy.deepcopy(mllm.model)
    return replace(mllm, name=f"{mllm.name}, {how}", model=network, parts=find_parts(network), checks={})


def _redraw(weights, noise: torch.Generator) -> None:
    """Replace each tensor by normal noise of its own mean and spread; a single number keeps its value."""
    with torch.no_grad():
        for weight in weights:
            fresh = torch.randn(weight.shape, generator=noise) * (weight.std().cpu() if weight.numel() > 1 else 0)
            weight.copy_(weight.mean().cpu() + fresh)
