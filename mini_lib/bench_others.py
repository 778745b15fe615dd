"""Other libraries at the work of a method, for `mini-lib bench`: captum, nnsight and TransformerLens, as far as they are installed.

    theirs = others(mllm, prompt, target)["token-ablation"]           # the name of each that does the same, and a function
    work = theirs["captum's FeatureAblation"]()                       # the same numbers as ours, and the passes that they took

Each is written as its own users would: all rows that fit into a batch at once, nothing computed that is not asked for. Of attention
knock-out, one of our three edge sets; the ratio to plain passes is what can be compared there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.util import find_spec
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import torch

from .batches import spans
from .hooks import edit
from .inputs import repeat_all, repeat_text
from .roles import roles
from .streams import blank, merged

STEPS = 64
WIDTH = 2                       # blocks of a knock-out's window


class Work(NamedTuple):
    """What a library came to, in the form of our method's values; and its passes, in rows."""

    values: np.ndarray
    forward: int
    backward: int = 0


def others(mllm, prompt, target) -> dict[str, dict[str, Callable[[], Work]]]:
    """slug -> the name of what does the same -> a function of no arguments."""
    found: dict = {}
    for library, works in {"captum": captum, "nnsight": nnsight, "transformer_lens": transformer_lens}.items():
        if find_spec(library):
            for (slug, name), function in works(mllm, prompt, target).items():
                found.setdefault(slug, {})[name] = function
    return found


def captum(mllm, prompt, target) -> dict:
    """Gradients along a path, and tokens replaced, of the merged stream."""
    from captum.attr import FeatureAblation, IntegratedGradients
    inputs, image = mllm.forced(prompt, target), prompt.tokens.image

    def answer(streams):
        with edit(mllm, {"embed": lambda x: streams.to(x)}):
            return mllm.score_inputs(repeat_text(inputs, len(streams)), target, gradient=torch.is_grad_enabled())

    def counted(values, before, backward=0):
        return Work(values.detach().float().cpu().numpy(), mllm.passes - before, backward)

    def integrated():
        before, stream = mllm.passes, merged(mllm, prompt, target)
        values, _ = IntegratedGradients(answer).attribute(stream, blank(mllm, prompt, target, stream), n_steps=STEPS,
                                                          internal_batch_size=mllm.batch_size, return_convergence_delta=True)
        return counted(values[0, image].sum(-1), before, STEPS)

    @torch.no_grad()
    def ablated():
        before, stream = mllm.passes, merged(mllm, prompt, target)
        mask = torch.full(stream.shape[:2], len(image), device=stream.device)
        mask[:, image] = torch.arange(len(image), device=stream.device)
        values = FeatureAblation(answer).attribute(
            stream, stream[:, image].mean(1, keepdim=True).expand_as(stream), feature_mask=mask[..., None],
            perturbations_per_eval=mllm.batch_size)
        return counted(values[0, image, 0], before)

    return {("integrated-gradients", "captum's IntegratedGradients"): integrated, ("token-ablation", "captum's FeatureAblation"): ablated}


def nnsight(mllm, prompt, target) -> dict:
    """A trace that reads every block, and one that writes into what enters the first."""
    from nnsight import NNsight
    inside = partial(_inside, mllm)
    model, image, inputs = NNsight(mllm.model), prompt.tokens.image, mllm.forced(prompt, target)

    def lens():
        with torch.no_grad(), model.trace(**prompt.inputs):
            kept = [inside(model, "blocks")[0].input.save()]
            for block in inside(model, "blocks"):
                kept.append(block.output.save())
            kept = kept.save()
        return Work(_chances(mllm, prompt, target, [stream[0, image] for stream in kept]), 1)

    def ablated():
        def rows(tokens):
            with torch.no_grad(), model.trace(**repeat_all(inputs, len(tokens))):
                stream = inside(model, "blocks")[0].input.clone()
                stream[torch.arange(len(tokens)), tokens] = stream[:, image].mean(1)
                inside(model, "blocks")[0].input = stream
                logits = inside(model, "head").output.save()
            return _score(logits, target)
        return _lost(mllm, prompt, rows, plain=float(mllm.score(prompt, target)[0]))

    return {("logit-lens", "nnsight's trace"): lens, ("token-ablation", "nnsight's trace of a batch"): ablated}


def transformer_lens(mllm, prompt, target) -> dict:
    """A cache of every block, and hooks on the stream and on attention's scores; nothing where it does not know the family.

    It reads a model's config from where the model was loaded, so that there is nothing for one that was made in memory either.
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    if type(mllm.model).__name__ not in SUPPORTED_ARCHITECTURES or not mllm.model.config._name_or_path:
        return {}
    bridge = _bridge(mllm.model)
    image, inputs, last = prompt.tokens.image, mllm.forced(prompt, target), len(mllm.parts.blocks) - 1
    names = ["blocks.0.hook_resid_pre", *(f"blocks.{k}.hook_resid_post" for k in range(last + 1))]

    def run(some, hooks):
        some = dict(some)
        with torch.no_grad():
            return bridge.run_with_hooks(some.pop("input_ids"), **some, fwd_hooks=hooks)

    def lens():
        some = dict(prompt.inputs)
        with torch.no_grad():
            _, kept = bridge.run_with_cache(some.pop("input_ids"), **some, names_filter=names)
        return Work(_chances(mllm, prompt, target, [kept[name][0, image] for name in names]), 1)

    def ablated():
        def rows(tokens):
            def replace(stream, hook):
                stream[torch.arange(len(tokens)), tokens] = stream[:, image].mean(1)
                return stream
            return _score(run(repeat_all(inputs, len(tokens)), [(names[0], replace)]), target)
        return _lost(mllm, prompt, rows, plain=float(mllm.score(prompt, target)[0]))

    def cut():
        found, drops = roles(prompt, target), []
        plain = float(_score(run(inputs, []), target)[0])
        windows = [range(at, at + WIDTH) for at in range(last + 2 - WIDTH)]
        queries, keys = torch.tensor(found["question"])[:, None], image[None]
        for start, stop in spans(len(windows), mllm.batch_size):
            rows = windows[start:stop]

            def mask(scores, hook, rows=rows):
                for row, window in enumerate(rows):
                    if hook.layer() in window:
                        scores[row, :, queries, keys] = float("-inf")
                return scores
            drops.append(plain - _score(run(repeat_all(inputs, len(rows)), [(f"blocks.{k}.attn.hook_attn_scores", mask)
                                                                            for k in range(last + 1)]), target))
        return Work(torch.cat(drops).numpy(), 1 + len(windows))

    return {("logit-lens", "TransformerLens' cache"): lens, ("token-ablation", "TransformerLens' hooks"): ablated,
            ("attention-knockout", "TransformerLens' hooks, one edge set"): cut}


@lru_cache(1)
def _bridge(model):
    """TransformerLens rebuilds the model that it is given, so that it gets a copy."""
    from transformer_lens.model_bridge import TransformerBridge
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    return TransformerBridge.boot_transformers(model.config._name_or_path, hf_model=twin, device=model.device)


def _inside(mllm, model, part: str):
    """A part of the model, found in nnsight's copy of its tree."""
    path = next(name for name, module in mllm.model.named_modules() if module is getattr(mllm.parts, part))
    return attrgetter(path)(model)


def _chances(mllm, prompt, target, streams) -> np.ndarray:
    """(points, rows, columns) probability of the target's first scored word, read off streams (P, d) of the image tokens."""
    with torch.no_grad():
        chance = [mllm.parts.head(mllm.parts.norm(stream)).float().softmax(-1)[:, target.ids[target.first]] for stream in streams]
    return torch.stack(chance).cpu().numpy().reshape(len(chance), *prompt.tokens.one.shape)


def _score(logits: torch.Tensor, target) -> torch.Tensor:
    """(B, T, V) -> (B,) log-probability of the target, as `MLLM.score_inputs` has it."""
    wanted = torch.tensor(target.ids[target.first:], device=logits.device)
    chosen = logits[:, -len(wanted):].float().log_softmax(-1).gather(-1, wanted.expand(len(logits), -1)[..., None])
    return chosen[..., 0].sum(-1).detach().cpu()


def _lost(mllm, prompt, rows: Callable, plain: float) -> Work:
    """What is lost when each image token in turn is replaced, a batch at a time. `plain` took a pass, too."""
    image = prompt.tokens.image
    parts = [rows(image[start:stop]) for start, stop in spans(len(image), mllm.batch_size)]
    return Work(plain - torch.cat(parts).numpy(), 1 + len(image))
