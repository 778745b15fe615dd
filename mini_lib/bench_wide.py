"""A model of LLaVA-1.5's full width, untrained, for timing: `mini-lib bench --wide`.

CLIP ViT-L/14 at 336 pixels, 576 image tokens, blocks of Llama 7B (width 4,096) and its 32,064 words; 32 layers are the whole of it.
Weights are noise, which changes nothing of what a pass costs.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoProcessor

from .families.build import untrained, write_processor
from .families.table import FAMILIES
from .loading import wrap
from .mllm import MLLM

QUICK = ("logit-lens", "gradient-input", "grad-cam", "activation-map")         # few passes: a CPU takes seconds for one
SPARE = 0.5                 # of the memory, for what passes need


def wide(layers: int | None = None, device: str | None = None, batch_size: int = 8) -> MLLM:
    """The handle, bfloat16 on a GPU and float32 on a CPU; by itself with as many layers as half of the memory holds, on a CPU 2."""
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if layers is None:
        layers = min(32, _room(device)) if device.type == "cuda" else 2
    family = next(one for one in FAMILIES if one.name == "LLaVA-1.5")
    text = dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=layers, num_attention_heads=32, num_key_value_heads=32,
                head_dim=128, vocab_size=32064)
    tower = dict(model_type="clip_vision_model", image_size=336, patch_size=14, hidden_size=1024, intermediate_size=4096,
                 num_hidden_layers=24, num_attention_heads=16)
    side = {"height": 336, "width": 336}
    family = replace(family, config={**family.config, "vision_config": tower, "text_config": {**family.config["text_config"], **text},
                                     "image_seq_length": 576},
                     processor=(family.processor[0], {**family.processor[1], "patch_size": 14}),
                     pictures=(family.pictures[0], dict(size={"shortest_edge": 336}, crop_size=side)))
    with tempfile.TemporaryDirectory() as folder:
        words = write_processor(family, Path(folder) / "shape")
        processor = AutoProcessor.from_pretrained(Path(folder) / "shape")
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.device(device), torch.random.fork_rng(devices=[]):
            network = untrained(family, words)
    finally:
        torch.set_default_dtype(before)
    mllm = wrap(network, processor, f"LLaVA-1.5 of full width, {layers} layers", check=False)
    mllm.batch_size = batch_size
    return mllm


def _room(device) -> int:
    """How many blocks fit into a part of the GPU's memory, beside tower and words."""
    free, _ = torch.cuda.mem_get_info(device)
    block = 2 * (4 * 4096 ** 2 + 3 * 4096 * 11008)
    return max(1, int((SPARE * free - 1.2e9) / block))
