"""Find a model's decoder blocks, norm and unembedding through transformers' own getters: no adapters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .refusal import Refusal


@dataclass(frozen=True)
class Parts:
    """A multimodal LLM by standard names.

    blocks: decoder layers in order.  norm: the final norm.  head: unembedding, W_U.
    vision: layers of the vision tower in order; empty where it has none of one width.
    """

    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Module
    vision: nn.ModuleList

    def __repr__(self) -> str:
        return (f"Parts({len(self.blocks)} blocks of {type(self.blocks[0]).__name__}, {type(self.norm).__name__}, "
                f"{len(self.vision)} vision blocks)")


def find_parts(model) -> Parts:
    """Locate the parts of a Hugging Face multimodal LLM.

    Raises Refusal when a part is missing, as for encoder-decoder models.
    """
    decoder = model.get_decoder()
    parts = {
        "decoder blocks": getattr(decoder, "layers", None),
        "final norm": getattr(decoder, "norm", None) or getattr(decoder, "embedding_norm", None),   # LFM2's name
        "unembedding": model.get_output_embeddings(),
    }
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        raise Refusal(f"{type(model).__name__}: could not find its {' and '.join(missing)}; "
                      "decoder-only multimodal models (LLaVA, Qwen-VL, Gemma 3 …) work.")
    return Parts(*parts.values(), _vision(model, decoder))


def weight_of(module) -> torch.Tensor:
    """A module's weight, also one that accelerate has offloaded and brings in only while the module runs."""
    if not module.weight.is_meta:
        return module.weight
    from accelerate.utils import align_module_device
    with align_module_device(module):
        return module.weight.detach().clone()


def device_of(module) -> torch.device:
    """Where a module runs, which is not where its weight rests when accelerate has offloaded it."""
    runs_on = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    return module.weight.device if runs_on is None else torch.device(runs_on)


def _vision(model, decoder) -> nn.ModuleList:
    """The longest list of like layers outside the decoder: all that families have in common is that the tower has one."""
    inside = set(decoder.modules())
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and module not in inside
             and len({type(layer) for layer in module}) == 1]
    return max(lists, key=len, default=nn.ModuleList())
