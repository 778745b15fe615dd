"""Load a model and verify it.

`load()` gives `tiny`, `load("tiny-seed1")` a sibling of it, and `load("llava-hf/llava-1.5-7b-hf")` or a local folder
that model. Before a handle is returned it has to pass four identities; a model that fails one is refused, because
every explanation would be wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from . import hooks
from .mllm import MLLM
from .parts import find_parts
from .refusal import Refusal
from .tiny import store


def load(model: str | Path | None = None, *, checkpoint: int | None = None, device: str | None = None, dtype=None,
         device_map=None, check: bool = True, **kwargs) -> MLLM:
    """Load a multimodal LLM: `tiny` by itself, another shipped one by its name, a local folder, or a Hugging Face id.

    checkpoint: number of an earlier state of `tiny`, from 1; `tiny.store.checkpoints()` gives their training steps.
    device: "cuda", "cpu", …; by itself the GPU when there is one.  dtype, device_map and further keywords go to
    transformers' `from_pretrained`; shipped models are float32 by themselves, others as they were stored.
    check: run the identities below; costs six forward passes.
    Raises Refusal for an unknown name or checkpoint, a shipped file that is lost or changed, a folder that is no
    model, a model that takes no pictures, or one that fails an identity.
    """
    shipped, state = store.find(model or "tiny"), None
    if shipped is None and checkpoint is not None:
        raise Refusal(f"checkpoint={checkpoint!r} goes with tiny, which has 1 to {len(store.checkpoints())}; "
                      f"{str(model)!r} has none.")
    if shipped is None:
        source = str(model)
        name = Path(source).name if Path(source).is_dir() else source
    else:
        source, dtype = str(store.WEIGHTS), dtype or torch.float32
        name = shipped if checkpoint is None else f"{shipped}, checkpoint {checkpoint}"
        state = store.weights(shipped, checkpoint)
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
        network = _network(source, config, state, dtype=dtype or "auto", device_map=device_map, **kwargs)
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


def _network(source: str, config, state: dict | None, **kwargs):
    """The model of a folder or id; with `state`, other weights of the same architecture."""
    if state is None:
        return AutoModelForImageTextToText.from_pretrained(source, **kwargs)
    # The model's own class, because the Auto classes take no weights without a folder; and its `from_pretrained`,
    # because that turns the tensors' names in a file into the module's, and takes every keyword.
    architecture = getattr(transformers, config.architectures[0])
    network = architecture.from_pretrained(None, config=config, state_dict=state, **kwargs)
    network.generation_config = GenerationConfig.from_pretrained(source)
    return network


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
