"""The models that the battery runs a method on: `tiny` as it may be loaded, and a small untrained one that is unlike it.

What needs a model of another kind (half precision, another attention kernel, another grid) is a matter of the method's
code and not of the model, so it is tried on these and not on a changed copy of a user's model, which may fill the GPU.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from ..loading import load
from ..tiny.build import build_processor

SIDE, PATCH = 48, 8                 # the small model's picture and patch, in pixels: a grid of 6 x 6 where tiny's is 8 x 8
GREY = (127, 127, 127)              # what the small model's processor turns into zeros, nearly


def tiny(dtype: str = "float32", kernel: str = "sdpa"):
    """`tiny` on the CPU in this dtype and with this attention kernel ("sdpa", "eager"); loaded once, identities checked."""
    return _tiny(dtype, kernel)


@cache
def _tiny(dtype: str, kernel: str):
    return load("tiny", device="cpu", dtype=getattr(torch, dtype), attn_implementation=kernel)


def tinies() -> list:
    """All of them that the battery uses."""
    return [tiny(), tiny("bfloat16"), tiny(kernel="eager")]


@cache
def small():
    """An untrained LLaVA on the CPU that shares no size with `tiny`: 6 x 6 patches, three blocks, grouped heads.

    Every weight is noise, those of norms included: norm weights of one would hide a norm that is applied twice or left out,
    and equal numbers of heads would hide keys that go to the wrong group. It answers with one word.
    """
    processor = build_processor()
    pictures, words = processor.image_processor, processor.tokenizer
    pictures.size = pictures.crop_size = {"height": SIDE, "width": SIDE}
    processor.patch_size = PATCH
    ids = dict(bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, hidden_size=48, intermediate_size=64,
                                       num_hidden_layers=2, num_attention_heads=3),
        text_config=LlamaConfig(vocab_size=len(words), hidden_size=64, intermediate_size=96, num_hidden_layers=3,
                                num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False, **ids),
        image_token_index=words.convert_tokens_to_ids("<image>"), image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1, vision_feature_select_strategy="default", tie_word_embeddings=False, **ids)
    with torch.random.fork_rng(devices=[]):
        network = LlavaForConditionalGeneration(config)
    redraw(network, torch.Generator().manual_seed(0))
    # Any word ends the answer, so that one word is explained, and none of the marks is ever said.
    network.generation_config.update(max_new_tokens=1, do_sample=False, **ids, suppress_tokens=words.all_special_ids)
    network.generation_config.eos_token_id = list(range(len(words)))
    with tempfile.TemporaryDirectory() as folder:       # through a folder, so that it is loaded as any model is
        processor.save_pretrained(folder)
        network.save_pretrained(folder)
        mllm = load(Path(folder), device="cpu", attn_implementation="sdpa")
    mllm.name = "small untrained model"
    return mllm


@torch.no_grad()
def redraw(network, noise: torch.Generator) -> None:
    """Noise for every weight, so large that what comes in reaches what comes out: transformers' own start is too faint."""
    for name, weight in network.named_parameters():
        fresh = torch.randn(weight.shape, generator=noise)
        if name.endswith("position_embedding.weight"):
            # The same everywhere, so that patches of one colour become equal tokens and one that differs stands out; and
            # not nothing, because the norm behind it would then blow up the faintest tint.
            fresh = fresh[:1].expand_as(weight)
        elif weight.dim() > 1 and "embed_tokens" not in name:
            fresh *= weight[0].numel() ** -0.5
        elif weight.dim() == 1:
            fresh = 0.3 * fresh + (1 if "norm" in name and name.endswith("weight") else 0)
        weight.copy_(fresh)


def dotted(row: int | None = None, column: int = 0) -> Image.Image:
    """A grey picture for `small`, with the patch at this row and column white."""
    picture = Image.new("RGB", (SIDE, SIDE), GREY)
    if row is not None:
        picture.paste((255, 255, 255), (PATCH * column, PATCH * row, PATCH * column + PATCH, PATCH * row + PATCH))
    return picture
