"""Nodes of the graph: the heads and the MLP of each block, recorded and replaced.

    with recorded(mllm) as seen: ...                       # seen[block] = (z (B, T, H * d_head), mlp (B, T, d))
    with replaced(mllm, other, outside): ...               # row b runs with `other` in every node where outside[b] is True

A head's activation is z, what it hands to its block's output projection; an MLP's is what it writes. Both at all positions.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import torch

from .hooks import ATTENTION
from .refusal import Refusal

MLPS = ("mlp", "feed_forward", "block_sparse_moe")       # what families call it in a block


def names(mllm) -> list[str]:
    """All nodes in the order of the columns of `outside`: "block.head" for each head of a block, then "block.mlp"."""
    return [f"{block}.{part}" for block in range(len(mllm.parts.blocks)) for part in (*range(heads(mllm)), "mlp")]


def heads(mllm) -> int:
    """Heads in each block."""
    return mllm.model.config.get_text_config().num_attention_heads


def parts_of(block) -> tuple:
    """The output projection of a block's attention, and its MLP. Raises Refusal where either has another name or is missing."""
    attention = next((getattr(block, name) for name in ATTENTION if hasattr(block, name)), None)
    projection = getattr(attention, "o_proj", None)
    mlp = next((getattr(block, name) for name in MLPS if hasattr(block, name)), None)
    if projection is None or mlp is None:
        raise Refusal(f"{type(block).__name__} has no attention with an `o_proj` beside an MLP, so that its heads are not found.")
    return projection, mlp


@contextmanager
def recorded(mllm, gradient: bool = False):
    """Keep every node's activation: yields a dict, block -> [z, mlp], that fills as the model runs; with `gradient`, part of the graph."""
    seen: dict[int, list] = {}
    with ExitStack() as stack:
        for k, (projection, mlp) in enumerate(map(parts_of, mllm.parts.blocks)):
            def before(module, args, k=k):
                seen.setdefault(k, [None, None])[0] = args[0] if gradient else args[0].detach()

            def after(module, args, output, k=k):
                written = output[0] if isinstance(output, tuple) else output       # experts return their routing beside it
                seen.setdefault(k, [None, None])[1] = written if gradient else written.detach()
            stack.callback(projection.register_forward_pre_hook(before).remove)
            stack.callback(mlp.register_forward_hook(after).remove)
        yield seen


@contextmanager
def replaced(mllm, other: dict, outside: torch.Tensor):
    """Put in another run's activations, as `recorded` kept them of one row: outside (B, nodes) bool says in which nodes of which row."""
    outside, count = outside.view(len(outside), len(mllm.parts.blocks), -1), heads(mllm)                    # (B, L, H + 1)
    with ExitStack() as stack:
        for k, (projection, mlp) in enumerate(map(parts_of, mllm.parts.blocks)):
            if not outside[:, k].any():
                continue
            z, written = other[k]

            def before(module, args, z=z, gone=outside[:, k, :count]):
                mask = gone.repeat_interleave(z.shape[-1] // count, 1)[:, None].to(z.device)                # (B, 1, H * d_head)
                return (torch.where(mask, z, args[0]), *args[1:])

            def after(module, args, output, new=written, gone=outside[:, k, count]):
                old = output[0] if isinstance(output, tuple) else output
                shape = (len(gone), -1, old.shape[-1])                                                      # experts may lay rows end to end
                mixed = torch.where(gone[:, None, None].to(old.device), new.reshape(1, -1, old.shape[-1]), old.view(shape)).view_as(old)
                return (mixed, *output[1:]) if isinstance(output, tuple) else mixed
            stack.callback(projection.register_forward_pre_hook(before).remove)
            stack.callback(mlp.register_forward_hook(after).remove)
        yield
