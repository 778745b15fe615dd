"""Find a model's decoder blocks, norm and unembedding through transformers' own getters: no adapters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .refusal import Refusal

DEEPSTACK = ("deepstack_visual_indexes", "deepstack_layer_map")     # Qwen3-VL's and Granite's names for it
NORMS = ("norm", "embedding_norm", "final_layer_norm")          # LFM2 and OPT have names of their own


@dataclass(frozen=True)
class Parts:
    """A multimodal LLM by standard names.

    blocks: decoder layers in order.  norm: the final norm.  head: unembedding, W_U.  cap: the size that logits are bent to stay
    below (Gemma's soft cap), None where they are not; `head` bends them already.  later: by what pictures also come in behind block 0, such as DeepStack.
    vision: layers of the vision tower in order; empty where it has none of one width.
    """

    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Module
    vision: nn.ModuleList
    cap: float | None = None
    later: str = ""

    def __repr__(self) -> str:
        return (f"Parts({len(self.blocks)} blocks of {type(self.blocks[0]).__name__}, {type(self.norm).__name__}, "
                f"{len(self.vision)} vision blocks)")


def find_parts(model) -> Parts:
    """Locate the parts of a Hugging Face multimodal LLM.

    Raises Refusal when a part is missing, as for encoder-decoder models.
    """
    decoder = model.get_decoder()
    while not hasattr(decoder, "layers") and (inner := next((getattr(decoder, name) for name in ("model", "decoder")
                                                             if hasattr(decoder, name)), None)):
        decoder = inner                                             # BLIP-2 hands out its language model with its head
    parts = {
        "decoder blocks": getattr(decoder, "layers", None),
        "final norm": next((getattr(decoder, name) for name in NORMS if getattr(decoder, name, None) is not None), None),
        "unembedding": model.get_output_embeddings(),
    }
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        raise Refusal(f"{type(model).__name__}: could not find its {' and '.join(missing)}; "
                      "decoder-only multimodal models (LLaVA, Qwen-VL, Gemma 3 …) work.")
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if cap:
        parts["unembedding"] = Capped(parts["unembedding"], cap)
    return Parts(*parts.values(), _vision(model, decoder), cap, _later(model.config, parts["decoder blocks"]))


def _later(config, blocks) -> str:
    """By what pictures come in behind block 0; nothing in most families."""
    if any(hasattr(block, "cross_attn") for block in blocks):
        return "cross-attention"
    if getattr(config.get_text_config(), "hidden_size_per_layer_input", None):
        return "inputs of their own for each layer"          # Gemma 4 makes them of the merged stream, before block 0
    places = config, getattr(config, "vision_config", None)
    return "DeepStack" if any(getattr(place, name, None) for place in places for name in DEEPSTACK) else ""


class Capped(nn.Module):
    """An unembedding whose logits are bent as the model does it: cap * tanh(logit / cap)."""

    def __init__(self, head: nn.Module, cap: float):
        super().__init__()
        self.head, self.cap = head, cap

    def forward(self, hidden):
        """(…, d) -> (…, V) logits."""
        return bend(self.head(hidden), self.cap)


def bend(logits: torch.Tensor, cap: float | None) -> torch.Tensor:
    """The logits as the model gives them, from those of the bare unembedding."""
    return logits if cap is None else cap * (logits / cap).tanh()


def weight_of(module) -> torch.Tensor:
    """A module's weight, also one that accelerate has offloaded and brings in only while the module runs."""
    if isinstance(module, Capped):
        return weight_of(module.head)
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
