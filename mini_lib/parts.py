"""Find a model's decoder blocks, norm and unembedding through transformers' own getters: no adapters."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .refusal import Refusal


@dataclass(frozen=True)
class Parts:
    """The language half of a multimodal LLM by standard names.

    blocks: decoder layers in order.  norm: the final norm.  head: unembedding, W_U.
    """

    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Module

    def __repr__(self) -> str:
        return f"Parts({len(self.blocks)} blocks of {type(self.blocks[0]).__name__}, {type(self.norm).__name__})"


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
    return Parts(*parts.values())
