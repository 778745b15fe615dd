"""Watch a method at work: what it sends, what it leaves behind, what it does when a pass breaks, what its result says.

Nothing here changes what a model computes.
"""

from __future__ import annotations

import hashlib
import random
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.modules import module as torch_modules
from transformers import PreTrainedModel

from .. import hooks

DIMENSIONS = {"input_ids": 2, "inputs_embeds": 3, "hidden_states": 3, "pixel_values": 4}    # those whose first one is rows


@dataclass
class Traffic:
    """largest: rows in the largest batch that reached the model, its tower or its first block.  rows: rows that entered the
    model itself, in passes that do not generate.  modules: calls of any of its modules."""

    largest: int = 0
    rows: int = 0
    modules: int = 0


@contextmanager
def watched(mllm):
    """Yields a Traffic that fills as the model runs."""
    seen, inside = Traffic(), set(mllm.model.modules())

    def count(module, args, kwargs):
        named = kwargs if not args else {**kwargs, getattr(module, "main_input_name", "hidden_states"): args[0]}
        rows = [len(value) for name, value in named.items() if isinstance(value, torch.Tensor)
                and value.dim() == DIMENSIONS.get(name)]
        seen.largest = max([seen.largest, *rows])
        if module is mllm.model and not kwargs.get("use_cache"):
            seen.rows += max(rows, default=0)

    def call(module, args, output):
        seen.modules += module in inside

    entrances = [part for part in mllm.model.modules() if isinstance(part, PreTrainedModel)] + [mllm.parts.blocks[0]]
    handles = [part.register_forward_pre_hook(count, with_kwargs=True) for part in entrances]
    handles.append(torch_modules.register_module_forward_hook(call))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def breaking(mllm, at: int, error: BaseException):
    """Raise `error` inside the model, when one of its modules is called for the `at`-th time, counted from 1."""
    inside, calls = set(mllm.model.modules()), 0

    def call(module, args, output):
        nonlocal calls
        calls += module in inside
        if module in inside and calls == at:
            raise error

    handle = torch_modules.register_module_forward_hook(call)
    try:
        yield
    finally:
        handle.remove()


def state(mllm, prompt) -> dict:
    """Everything that a method may touch and has to leave as it was, by name; to be compared with ==.

    Cost: the weights are read once and hashed.
    """
    network = mllm.model
    modules, weights = dict(network.named_modules()), dict(network.named_parameters())
    return {
        "weights": digest([*weights.values(), *network.buffers()]),
        "hooks": {(name, kind): list(held) for name, module in modules.items() for kind, held in vars(module).items()
                  if kind.endswith("hooks") and held},
        "hooks of all modules": {kind: list(held) for kind, held in vars(torch_modules).items()
                                 if kind.startswith("_global") and kind.endswith("hooks") and held},
        "hooks of weights": [name for name, weight in weights.items()
                             if weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None)],
        "`requires_grad`": [name for name, weight in weights.items() if weight.requires_grad],
        "`.grad`": [name for name, weight in weights.items() if weight.grad is not None],
        "train mode": [name for name, module in modules.items() if module.training],
        "parts": {name: (id(module), vars(module).get("forward")) for name, module in modules.items()},
        "attention implementation": {name: module.config._attn_implementation for name, module in modules.items()
                                     if isinstance(module, PreTrainedModel)},
        "config": (network.config.to_dict(), network.generation_config.to_dict()),
        "cuts and recordings in force": [len(held) for held in (*_in_force(list), *_in_force(dict))],
        "the handle": (mllm.batch_size, mllm.name, id(mllm.model), id(mllm.parts)),
        "the prompt": digest([value for _, value in sorted(prompt.inputs.items())]) + digest([prompt.tokens.image])
                      + hashlib.sha256(prompt.picture.tobytes() + prompt.tokens.boxes.tobytes()).hexdigest(),
        "torch's modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype(),
                          torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()),
    }


@contextmanager
def kept(*mllms):
    """Put back what a method may have left on these models when the context ends, so that the next check starts clean.

    Hooks, flags, gradients, modes and attention kernels; cuts and recordings; the global random numbers. Not the weights,
    which would need a copy of them.
    """
    parts = [part for mllm in mllms for part in mllm.model.modules()]
    weights = [weight for mllm in mllms for weight in mllm.model.parameters()]
    held = [store for part in parts for kind, store in vars(part).items() if kind.endswith("hooks") and isinstance(store, dict)]
    held += [store for kind, store in vars(torch_modules).items() if kind.startswith("_global") and isinstance(store, dict)]
    dicts, lists = [(store, dict(store)) for store in (*held, *_in_force(dict))], [(store, list(store)) for store in _in_force(list)]
    flags, modes = [weight.requires_grad for weight in weights], [part.training for part in parts]
    kernels = [(part.config, part.config._attn_implementation) for part in parts if isinstance(part, PreTrainedModel)]
    grad = torch.is_grad_enabled()
    with seeded(0):
        try:
            yield
        finally:
            torch.set_grad_enabled(grad)
            for store, before in dicts:
                store.clear()
                store.update(before)
            for store, before in lists:
                store[:] = before
            for weight, flag in zip(weights, flags):
                weight.requires_grad_(flag).grad = None
            for part, mode in zip(parts, modes):
                part.training = mode
            for config, kernel in kernels:
                config._attn_implementation = kernel


def _in_force(kind: type) -> list:
    """Where `hooks` keeps the cuts and recordings in force: its private lists or dicts in capitals."""
    return [held for name, held in vars(hooks).items() if name.startswith("_") and name.isupper() and type(held) is kind]


def digest(tensors) -> str:
    """SHA-256 of the bytes of some tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def random_state() -> tuple:
    """Where the global generators of random, numpy and torch stand; to be compared with ==."""
    own, gpu = np.random.get_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return random.getstate(), (own[1].tobytes(), *own[2:]), *(bytes(one.numpy()) for one in (torch.get_rng_state(), *gpu))


@contextmanager
def seeded(seed: int):
    """Global generators of random, numpy and torch at this seed; put back where they stood when the context ends."""
    plain, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(array)


def numbers(result) -> dict[str, np.ndarray]:
    """What a result says in numbers, by field: float arrays. Picture, boxes and `measured` are left out."""
    out = {}
    for name, value in vars(result).items():
        if name in ("picture", "boxes", "measured") or isinstance(value, str):
            continue
        if isinstance(value, (np.ndarray, torch.Tensor)):
            value = np.asarray(value)
            leaves = value if value.dtype.kind in "fiub" else []
        else:
            leaves = list(_leaves(value))
        if len(np.atleast_1d(leaves)):
            out[name] = np.asarray(leaves, float)
    return out


def _leaves(value):
    """All numbers in nested lists, tuples and dicts, in order."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, (int, float, np.number)):
        yield float(value)
    elif not isinstance(value, (str, bytes)) and hasattr(value, "__iter__"):
        for part in value:
            yield from _leaves(part)


def differ(one, other) -> bool:
    """Whether two results differ in anything: a number by its last bit, or a word."""
    here, there = numbers(one), numbers(other)
    return here.keys() != there.keys() or any(not np.array_equal(here[name], there[name], equal_nan=True) for name in here) \
        or one.to_dict() != other.to_dict()


def apart(one, other, slack: float) -> tuple[float, float]:
    """How far two results are apart, and how far they may be: (error, limit), of the field where it is worst.

    slack: what rounding may do to a log-probability, in nats. A map whose largest value is below 1 is held to that share of
    its largest value, or a map of small numbers could say anything; and none to less than 1e-5, where rounding begins.
    """
    here, there, worst = numbers(one), numbers(other), (0.0, slack)
    if here.keys() != there.keys() or any(here[name].shape != there[name].shape for name in here):
        return float("inf"), slack
    for name in here:
        gap = np.abs(here[name] - there[name])
        error = float(gap.max()) if np.isfinite(gap).all() else float("inf")
        limit = max(slack * min(1.0, float(np.abs(here[name]).max())), 1e-5)
        if error / limit > worst[0] / worst[1]:
            worst = error, limit
    return worst


def discord(one, other) -> float:
    """1 - Lin's concordance of two results, of the field where it is worst: 0 for the same map, 1 for an unrelated one.

    Source: Lin 1989, Biometrics 45(1): 2 cov(a, b) / (var(a) + var(b) + (mean(a) - mean(b))^2), the correlation that also falls
    when one map is larger than the other or shifted. Large values decide; the many patches that do nothing hardly count.
    """
    here, there, worst = numbers(one), numbers(other), 0.0
    if here.keys() != there.keys() or any(here[name].shape != there[name].shape for name in here):
        return float("inf")
    for name in here:
        a, b = here[name].ravel(), there[name].ravel()
        if not np.isfinite([a, b]).all():
            return float("inf")
        spread = a.var() + b.var() + (a.mean() - b.mean()) ** 2
        if spread > 1e-12 * max(1e-12, np.square(a).mean()):
            worst = max(worst, 1 - 2 * float(((a - a.mean()) * (b - b.mean())).mean() / spread))
    return worst
