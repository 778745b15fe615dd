"""Record, edit, cut, attention: the one way anything touches activations.

    with record(mllm, "block.3") as seen: ...          # seen["block.3"]: (B, T, d) after decoder block 3
    with edit(mllm, {"embed": lambda x: ...}): ...      # replace what enters block 0
    with cut(mllm, queries, keys): ...                  # these queries cannot attend to these keys
    with attention(mllm) as weights: ...                # weights[3]: (B, H, T, T) attention of block 3
    with attention(mllm, queries=[-1]) as weights: ...  # (B, H, 1, T): of the last position alone, beside the fast kernel

Points: "vision.K" is what enters block K of the vision tower, (pictures, patches and class token, width); "embed" is the
residual stream before block 0 (picture and words already merged); "block.K" is the stream after block K. What leaves a vision
block is no point: some families hand the connector a copy that was taken before any hook, so an edit would do nothing.

Attention goes through one function registered with transformers' `AttentionInterface`: layers that nobody watches keep the
model's own fast kernel, so a hook that is off costs nothing and changes nothing.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .refusal import Refusal, nearest


@dataclass(eq=False)
class _Cut:
    """A cut in force: in these attention modules, and rows of the batch, `queries` are kept from `keys`; `reached` fills as it runs."""

    modules: set
    queries: torch.Tensor
    keys: torch.Tensor
    rows: torch.Tensor | None = None
    reached: set = field(default_factory=set)


ATTENTION = ("self_attn", "attention", "attn")      # what families call it in a block
_CUTS: list[_Cut] = []
_WATCHED: dict = {}                 # attention module -> function that gets its weights (B, H, Q, K) and returns those to use
_ROWS: dict = {}                    # attention module -> the queries whose weights are kept, and a function that gets them


def points(mllm) -> list[str]:
    """Names of all points of the residual stream."""
    return ["embed", *(f"block.{k}" for k in range(len(mllm.parts.blocks)))]


@contextmanager
def edit(mllm, edits: dict):
    """Replace activations while the context lasts.

    edits: point -> function that takes the tensor (B, T, d) and returns one of the same shape.
    Raises Refusal for an unknown point, or when the model ran and a point was never reached.
    """
    reached = set()
    with ExitStack() as stack:
        for point, function in edits.items():
            def apply(tensor, function=function, point=point):
                reached.add(point)
                return function(tensor)
            stack.callback(_attach(mllm, point, apply).remove)
        yield
        missed = set(edits) - reached
        if missed:
            raise Refusal(f"The model did not run, or never reached {', '.join(sorted(missed))}.")


@contextmanager
def record(mllm, *names: str):
    """Keep what passes the named points: yields a dict that fills as the model runs. Tensors are detached."""
    seen = {}

    def keeper(name):
        def keep(tensor):
            seen[name] = tensor.detach()
            return tensor
        return keep

    with edit(mllm, {name: keeper(name) for name in names}):
        yield seen


def _attach(mllm, point: str, function):
    known = [*(f"vision.{k}" for k in range(len(mllm.parts.vision))), *points(mllm)]
    if point not in known:
        raise Refusal(f"There is no point {point!r}{nearest(point, known)}")
    kind, _, number = point.partition(".")
    if kind != "block":
        def before(module, args, kwargs):
            if args:
                return (function(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": function(kwargs["hidden_states"])}
        layer = mllm.parts.blocks[0] if kind == "embed" else mllm.parts.vision[int(number)]
        return layer.register_forward_pre_hook(before, with_kwargs=True)

    def after(module, args, output):
        # Blocks return a tensor in current transformers and a tuple in older ones; `output[0]` of a tensor is a batch row.
        if isinstance(output, tuple):
            return (function(output[0]), *output[1:])
        return function(output)
    return mllm.parts.blocks[int(number)].register_forward_hook(after)


@contextmanager
def cut(mllm, queries, keys, layers=None, rows=None):
    """Attention knock-out: in the given layers (all by default), `queries` cannot attend to `keys`.

    queries, keys: positions in the sequence.  rows: which rows of the batch (all by default); with several cuts in force, each row
    can have its own.  The scores become minus infinity before the softmax, so the weight is
    exactly 0 and what the query still sees sums to 1.  Raises Refusal when a row would have nothing left to see, when
    rows of a batch are padded differently (positions would mean different tokens), or, at the end, when the model did
    not run or a layer does not use the registered attention function: its cut would have been a silent no-op.
    """
    layers = range(len(mllm.parts.blocks)) if layers is None else layers
    modules = {_attention_of(mllm.parts.blocks[k]) for k in layers}
    plan = _Cut(modules, *(torch.as_tensor(part).flatten().long() for part in (queries, keys)),
                None if rows is None else torch.as_tensor(rows).flatten().long())
    _CUTS.append(plan)
    try:
        yield
    finally:
        _CUTS.remove(plan)
    if plan.reached != modules:
        raise Refusal(f"The cut was in force for {len(plan.reached)} of {len(modules)} layers: the model did not run, or its "
                      "other layers do not use transformers' attention interface and cannot be cut.")


@contextmanager
def attention(mllm, layers=None, change=None, queries=None, reduce=None):
    """Keep attention weights: yields a dict, layer -> (B, H, T, T) float32, that fills as the model runs.

    layers: all by default.  change: a function of the weights of a layer; what it returns is kept and used in their place.
    queries: positions, from the end where negative; only their rows are kept, (B, H, queries, T), detached, and the model goes on
    with its own fast kernel, so that nothing of T x T is ever made.
    reduce: a function of the weights of a layer; what it returns is kept, and the weights are used as they are.
    Rows are queries and sum to 1.  Without `queries` and where gradients are on, the weights are part of the graph, so
    that `mllm.backward` can be asked for theirs.  Memory: H * T * T numbers a layer and row; for a large model name `queries`, or
    `reduce` the weights to what is asked about.
    Raises Refusal for `queries` together with `change`, as what is only looked at cannot be changed, and, at the end, when a
    layer never used the registered attention function.
    """
    if change is not None and queries is not None:
        raise Refusal("attention(queries=) only looks at some rows, so that `change` could not take effect; leave one of them out.")
    layers, weights = range(len(mllm.parts.blocks)) if layers is None else layers, {}
    modules = {_attention_of(mllm.parts.blocks[k]): k for k in layers}
    if any(module in _WATCHED or module in _ROWS for module in modules):
        raise Refusal("The attention of these layers is being kept already; end that context first.")

    def keep(k, given):
        used = change(given) if change else given
        weights[k] = reduce(used) if reduce else used
        return used

    if queries is None:
        _WATCHED.update({module: partial(keep, k) for module, k in modules.items()})
    else:
        _ROWS.update({module: (torch.as_tensor(queries).flatten().long(), partial(keep, k)) for module, k in modules.items()})
    try:
        yield weights
    finally:
        for module in modules:
            _WATCHED.pop(module, None)
            _ROWS.pop(module, None)
    if len(weights) != len(modules):
        raise Refusal(f"Attention was seen in {len(weights)} of {len(modules)} layers: the model did not run, or its other layers "
                      "do not use transformers' attention interface.")


@contextmanager
def closed(modules):
    """Modules of cross-attention that hand on nothing: their output is zero while the context lasts."""
    def nothing(module, args, output):
        return (torch.zeros_like(output[0]), *output[1:]) if isinstance(output, tuple) else torch.zeros_like(output)

    handles = [module.register_forward_hook(nothing) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def skipped(mllm, first: int):
    """The blocks before number `first` hand on what they get, at no cost: what an edit of "embed" puts in enters block `first`."""
    def hand_on(stream, *args, **kwargs):
        return stream

    blocks = list(mllm.parts.blocks)[:first]
    own = [vars(block).get("forward") for block in blocks]               # accelerate puts one of its own there
    for block in blocks:
        block.forward = hand_on
    try:
        yield
    finally:
        for block, before in zip(blocks, own):
            del block.forward
            if before is not None:
                block.forward = before


def causal(weights: dict) -> bool:
    """Whether in these weights, as `attention` keeps them, no position looks at a later one."""
    return all(not kept.detach().triu(1).any() for kept in weights.values())


def can_cut(block) -> bool:
    """Whether a block has self-attention; hybrid models have others (linear attention, convolutions) in between."""
    return any(hasattr(block, name) for name in ATTENTION)


def _attention_of(block):
    for name in ATTENTION:
        if hasattr(block, name):
            return getattr(block, name)
    raise Refusal(f"{type(block).__name__} has no self-attention that can be cut (linear or cross-attention layer).")


def install(model, text_config: str = "text_config") -> None:
    """Route the decoder's attention through ours, on top of the kernel that the model was loaded with."""
    base = getattr(model.config, text_config)._attn_implementation or "sdpa"
    name = f"mini_lib_{base}"
    if not base.startswith("mini_lib_"):
        AttentionInterface.register(name, _attention_over(base))
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
        model.set_attn_implementation({text_config: name})


def _attention_over(base: str):
    def ours(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
        """query (B, H, Q, d), key and value (B, H', K, d) -> (B, Q, H, d) and no weights."""
        plans = [cut for cut in _CUTS if module in cut.modules]
        keep, rows = _WATCHED.get(module), _ROWS.get(module)
        groups = query.shape[1] // key.shape[1]
        if plans or keep is not None or base == "eager":
            weights = _weights(base, query, key.repeat_interleave(groups, 1), attention_mask, scaling, plans, kwargs.get("softcap"))
            for cut in plans:
                cut.reached.add(module)
            if keep is not None:
                weights = keep(weights)
            out = (weights.to(query.dtype) @ value.repeat_interleave(groups, 1)).transpose(1, 2).contiguous(), None
        else:
            weights = None
            out = ALL_ATTENTION_FUNCTIONS[base](module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
        if rows is not None:
            positions, look = rows
            at, mask = _rows(positions, query.shape[2], key.shape[2], attention_mask)
            look((_weights(base, query[:, :, at], key.repeat_interleave(groups, 1), mask, scaling, [], kwargs.get("softcap"))
                  if weights is None else weights[:, :, at]).detach())
        return out
    return ours


def _rows(positions, q_len: int, k_len: int, mask):
    """Which rows of this pass are asked for, and the mask of these alone."""
    first = k_len - q_len
    at = torch.where(positions < 0, positions + k_len, positions) - first
    at = at[(at >= 0) & (at < q_len)]
    if mask is None:
        return at, (torch.arange(k_len) <= (at + first)[:, None])[None, None]
    return at, mask[:, :, at.to(mask.device)] if mask.dim() == 4 else mask


def _weights(base, query, key, mask, scaling, plans, softcap) -> torch.Tensor:
    """(B, H, Q, K) float32 attention weights, after the cuts."""
    scores = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    if base != "sdpa" and softcap:                                    # Gemma 2; transformers' sdpa leaves it out too
        scores = softcap * (scores / softcap).tanh()
    if mask is not None and mask.dtype != torch.bool:
        scores = scores + mask[..., :scores.shape[-1]]
    allowed = _allowed(mask, scores, plans)
    scores = scores.masked_fill(~allowed, float("-inf"))
    # A row of padding may see nothing: its weights are 0, not 0 / 0.
    return scores.softmax(-1, dtype=torch.float32).masked_fill(~allowed.any(-1, keepdim=True), 0)


def _allowed(mask, scores, plans) -> torch.Tensor:
    """(B or 1, 1, Q, K) True where a query may look, after the cuts."""
    q_len, k_len = scores.shape[-2:]
    first = k_len - q_len                                       # with a cache, row 0 is position `first`
    if mask is None:                                            # the fast kernel was going to be causal by itself
        allowed = torch.ones(1, 1, q_len, k_len, dtype=torch.bool, device=scores.device).tril(first)
    elif mask.dim() != 4:
        raise Refusal("Cuts need sdpa or eager attention; load the model with attn_implementation=\"sdpa\".")
    else:
        mask = mask.to(scores.device)
        allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        allowed = allowed[..., :k_len].clone()
    uneven = bool(plans) and bool((allowed != allowed[:1]).any())
    for cut in plans:
        queries = (cut.queries[(cut.queries >= first) & (cut.queries < k_len)] - first).to(scores.device)
        keys = cut.keys[cut.keys < k_len].to(scores.device)
        if len(queries) and len(keys) and uneven:
            raise Refusal("A cut names positions, and the rows of this batch are padded differently; run prompts of one length.")
        if cut.rows is not None and len(allowed) < len(scores):
            allowed = allowed.repeat(len(scores), 1, 1, 1)
        rows = torch.arange(len(allowed)) if cut.rows is None else cut.rows
        rows = rows.to(scores.device)[:, None]
        before = allowed[rows, :, queries].any(-1)
        allowed[rows[..., None], :, queries[:, None], keys] = False
        if (before & ~allowed[rows, :, queries].any(-1)).any():
            raise Refusal("A cut would leave a position with nothing to attend to; spare its own position or the first token.")
    return allowed
