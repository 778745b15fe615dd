"""Neurons: the hidden units of MLPs, what they hold, what each writes, and what happens when they hold something else.

    with watched(mllm, ["block.3", "vision.2"]) as seen: ...      # seen["block.3"]: (N, T, m) what the MLP's units hold
    rows = written(mllm, "block.3")                               # (m, d) what each unit writes into the stream, per unit held
    with held(mllm, {("block.3", 17): 0.0}): ...                  # this unit holds 0, everywhere
    logits = holding(mllm, prompt, target, [{("block.3", 17): 0.0}, …])       # a row for each set of units

An MLP ends in a projection: MLP(x) = sum over units j of a_j(x) w_j + b, a: (m,) what the units hold (behind the gate, in gated MLPs), w_j: (d,).
A unit is a pair (layer, number); a layer is "block.K" in the decoder or "vision.K" in the vision tower.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn

from .batches import in_batches, progress
from .heads import MLPS
from .hooks import edit, skipped
from .parts import weight_of
from .refusal import Refusal, nearest
from .streams import entering, inputs

PROJECTIONS = ("down_proj", "fc2", "w2", "c_proj", "linear_fc2", "dense_4h_to_h")     # what families call the end of an MLP


def layers(mllm) -> list[str]:
    """All layers that have units, the tower's first."""
    return [*(f"vision.{k}" for k in range(len(mllm.parts.vision))), *(f"block.{k}" for k in range(len(mllm.parts.blocks)))]


def projection(mllm, layer: str) -> nn.Linear:
    """The module that turns what a layer's units hold into what the MLP writes.

    Raises Refusal for an unknown layer, and where the MLP has another form, such as a mixture of experts.
    """
    known = layers(mllm)
    if layer not in known:
        raise Refusal(f"There is no layer {layer!r}{nearest(layer, known)}")
    kind, _, number = layer.partition(".")
    block = (mllm.parts.blocks if kind == "block" else mllm.parts.vision)[int(number)]
    mlp = next((getattr(block, name) for name in MLPS if hasattr(block, name)), None)
    found = next((getattr(mlp, name) for name in PROJECTIONS if hasattr(mlp, name)), None)
    if not hasattr(found, "weight"):
        raise Refusal(f"{type(block).__name__} of {mllm.name} has no MLP with one projection at its end, so that its units are not found.")
    return found


def written(mllm, layer: str) -> torch.Tensor:
    """(m, d) float64 on the CPU: what each unit of a layer writes into the stream for each 1 that it holds."""
    return weight_of(projection(mllm, layer)).detach().double().cpu().T


@contextmanager
def on_neurons(mllm, changes: dict):
    """Functions on what units hold, while the context lasts: layer -> function of (N, T, m), which returns what is used in its place."""
    with ExitStack() as stack:
        for layer, change in changes.items():
            def before(module, args, change=change):
                return (change(args[0]), *args[1:])
            stack.callback(projection(mllm, layer).register_forward_pre_hook(before).remove)
        yield


@contextmanager
def watched(mllm, names=None, where=slice(None)):
    """Yields a dict that fills as the model runs: layer -> (N, P, m), detached, at the given positions.

    names: layers; by itself all of the decoder.  In a tower, N and T are as its MLPs see them: pictures and patches.
    """
    seen: dict = {}

    def keep(held, layer):
        seen[layer] = held.detach()[..., where, :]
        return held

    names = [one for one in layers(mllm) if one.startswith("block")] if names is None else names
    with on_neurons(mllm, {layer: partial(keep, layer=layer) for layer in names}):
        yield seen


@contextmanager
def held(mllm, units: dict, at=None):
    """While the context lasts these units hold these values, in every row.

    units: (layer, unit) -> value.  at: positions; all by default.
    """
    where = slice(None) if at is None else torch.as_tensor(at)

    def put(own, chosen, values):
        changed = own.clone()
        part = own[..., where, :].clone()
        part[..., chosen] = values.to(part)
        changed[..., where, :] = part
        return changed

    changes = {}
    for layer in {layer for layer, _ in units}:
        chosen = [unit for one, unit in units if one == layer]
        changes[layer] = partial(put, chosen=chosen, values=torch.tensor([float(units[layer, unit]) for unit in chosen]))
    with on_neurons(mllm, changes):
        yield


def holding(mllm, prompt, target, sets: list, at=None, states=None) -> torch.Tensor:
    """Logits from which the target's scored tokens are predicted, (N, words, V) on the CPU, when each set of units holds other values.

    sets: N dicts of (layer, unit) -> value, of the decoder's layers; an empty one is the plain run.  at: positions; all by default.
    states: as `streams.entering` gives them, where the caller has them already.
    Each row of a batch has its own set, and runs start at the first block where something changes. Cost: one forward pass a set.
    """
    states = entering(mllm, prompt, target) if states is None else states
    where = slice(None) if at is None else torch.as_tensor(at)
    starts = [min([len(states) - 1, *(int(layer.partition(".")[2]) for layer, _ in one)]) for one in sets]
    out: list = [None] * len(sets)

    def put(own, chosen, values):
        changed = own.clone()
        changed[:, where] = torch.where(chosen[:, None].to(own.device), values[:, None].to(own), own[:, where])
        return changed

    def run(first, rows):
        changes = {}
        for layer in {layer for row in rows for layer, _ in sets[row]}:
            chosen = torch.zeros(len(rows), projection(mllm, layer).weight.shape[1], dtype=torch.bool)
            values = torch.zeros(chosen.shape)
            for k, row in enumerate(rows):
                for (one, unit), value in sets[row].items():
                    if one == layer:
                        chosen[k, unit], values[k, unit] = True, float(value)
            changes[layer] = partial(put, chosen=chosen, values=values)
        with skipped(mllm, first), edit(mllm, {"embed": states[first].repeat(len(rows), 1, 1).to}), on_neurons(mllm, changes):
            logits = mllm.logits(inputs(mllm, prompt, target, len(rows)), len(target.ids) - target.first).cpu()
        for row, one in zip(rows, logits):
            out[row] = one

    with progress(len(sets), "units"):
        for first in sorted(set(starts)):
            in_batches(mllm, [row for row, start in enumerate(starts) if start == first], partial(run, first))
    return torch.stack(out)
