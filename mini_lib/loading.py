"""Load a model and verify it.

`load()` gives `tiny`; `load("llava-hf/llava-1.5-7b-hf")` or a local folder gives that model. Before a handle is
returned it has to pass four identities; a model that fails one is refused, because every explanation would be wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from . import hooks
from .mllm import MLLM
from .parts import find_parts
from .refusal import Refusal
from .tiny import WEIGHTS


def load(model: str | Path | None = None, *, device: str | None = None, dtype=None, device_map=None,
         check: bool = True, **kwargs) -> MLLM:
    """Load a multimodal LLM: `tiny` by itself, a local folder, or a Hugging Face id.

    device: "cuda", "cpu", …; by itself the GPU when there is one.  dtype, device_map and further keywords go to
    transformers' `from_pretrained`.  check: run the identities below; costs six forward passes.
    Raises Refusal for a folder that is no model, a model that takes no pictures, or one that fails an identity.
    """
    source = str(model or WEIGHTS)
    name = "tiny" if model is None else Path(source).name if Path(source).is_dir() else source
    if Path(source).exists() and not (Path(source) / "config.json").exists():
        raise Refusal(f"{source!r} is not a model: it holds no config.json; give a folder written by save_pretrained.")
    if not Path(source).exists() and (source.count("/") != 1 or source.startswith((".", "/", "~"))):
        raise Refusal(f"There is no model folder {source!r}; give a folder or a Hugging Face id such as org/name.")
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise Refusal(f"{source!r} cannot be loaded as a model: {_first_line(error)}") from None
    if not hasattr(config, "vision_config"):
        raise Refusal(f"{name} is a {config.model_type!r} model, which takes no pictures; give a multimodal one.")
    try:
        processor = AutoProcessor.from_pretrained(source)
        network = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype or "auto", device_map=device_map, **kwargs)
    except (OSError, ValueError, ImportError) as error:
        raise Refusal(f"{source!r} cannot be loaded: {_first_line(error)}") from None
    if device_map is None and not getattr(network, "is_quantized", False):      # quantised weights are where they must be
        try:
            network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (AssertionError, RuntimeError) as error:
            raise Refusal(f"{name} cannot go to {device!r}: {_first_line(error)}") from None
    processor.tokenizer.padding_side = "left"               # or a batch would go on generating after its padding
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    network = network.eval().requires_grad_(False)
    parts = find_parts(network)
    mllm = MLLM(name, network, processor, parts)
    if check:
        _verify(mllm)
    else:
        hooks.install(network)
    return mllm


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _verify(mllm: MLLM) -> None:
    """The identities every explanation rests on; the errors are kept in `mllm.checks`.

    Hooks off = hooks on: routing attention through our function changes no logit.
    The lens at the last layer = the model's logits: norm and unembedding are the right ones.
    An empty cut changes nothing: our attention agrees with the model's own kernel.
    Cutting every image key = blind: with no text position attending to the picture, two pictures give equal logits.
    """
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(2)]
    one, two = (mllm.prompt(picture, "is the star red ?") for picture in noise)
    plain, other = mllm.logits(one.inputs), mllm.logits(two.inputs)
    if torch.equal(plain, other):
        raise Refusal(f"{mllm.name} gives the same logits for two different pictures: its pixels are not reaching it.")
    hooks.install(mllm.model)
    last = f"block.{len(mllm.parts.blocks) - 1}"
    with hooks.record(mllm, last) as seen:
        hooked = mllm.logits(one.inputs)
    lens = mllm.parts.head(mllm.parts.norm(seen[last][:, -1:])).float()
    image, after = one.tokens.image, torch.arange(int(one.tokens.image[-1]) + 1, len(one.tokens.text))
    with hooks.cut(mllm, [], []):
        uncut = mllm.logits(one.inputs)
    with hooks.cut(mllm, after, image):
        blind = mllm.logits(one.inputs) - mllm.logits(two.inputs)
    scale, sight = plain.abs().max().item(), (plain - other).abs().max().item()
    near = scale * (1e-4 if mllm.model.dtype == torch.float32 else 3e-2)
    mllm.checks = {
        "hooks off = hooks on": (plain - hooked).abs().max().item(),
        "lens at the last layer = logits": (lens - hooked).abs().max().item(),
        "an empty cut changes nothing": (plain - uncut).abs().max().item(),
        "all image keys cut = blind to the picture": blind.abs().max().item(),
    }
    limits = dict.fromkeys(mllm.checks, near) | {"all image keys cut = blind to the picture": 1e-3 * sight}
    for name, error in mllm.checks.items():
        if not error <= limits[name]:
            raise Refusal(f"{mllm.name} fails the identity {name!r} (error {error:.2g} on logits of size {scale:.2g}); "
                          "explanations of it would be wrong. load(..., check=False) loads it all the same.")
