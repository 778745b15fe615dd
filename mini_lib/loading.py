"""Load a model and verify it.

`load()` gives `tiny`, `load("tiny-seed1")` a sibling of it, and `load("llava-hf/llava-1.5-7b-hf")` or a local folder
that model. Before a handle is returned it has to pass four identities; a model that fails one is refused, because
every explanation would be wrong.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.models.auto import processing_auto

from . import hooks
from .mllm import MLLM, Target
from .parts import find_parts
from .refusal import Refusal
from .streams import gradients, merged, score
from .tiny import store

# The form of a conversation for models that were given none: pictures, words, and the answer on a line of its own.
PLAIN = ("{% for message in messages %}{% for part in message['content'] %}{{ 'IMAGE' if part['type'] == 'image' else part['text'] }}"
         "{% endfor %}{{ '\\n' }}{% endfor %}")


def load(model: str | Path | None = None, *, checkpoint: int | None = None, device: str | None = None, dtype=None,
         device_map=None, check: bool = True, **kwargs) -> MLLM:
    """Load a multimodal LLM: `tiny` by itself, another shipped one by its name, a local folder, or a Hugging Face id.

    checkpoint: number of an earlier state of `tiny`, from 1; `tiny.store.checkpoints()` gives their training steps.
    device: "cuda", "cpu", …; by itself the GPU when there is one.  dtype, device_map and further keywords go to
    transformers' `from_pretrained`; shipped models are float32 by themselves, others as they were stored.
    check: run the identities below; costs six forward passes.
    Raises Refusal for an unknown name or checkpoint, a shipped file that is lost or changed, a folder that is no
    model, a model that takes no pictures, or one that fails an identity. Which families work: chapters/families.md.
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
        processor = _processor(source, config)
        network = _network(source, config, state, dtype=dtype or "auto", device_map=device_map, **kwargs)
    except (OSError, ValueError, ImportError) as error:
        raise Refusal(f"{source!r} cannot be loaded: {_first_line(error)}") from None
    if device_map is None and not getattr(network, "is_quantized", False):      # quantised weights are where they must be
        try:
            network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (AssertionError, RuntimeError) as error:
            raise Refusal(f"{name} cannot go to {device!r}: {_first_line(error)}") from None
    return wrap(network, processor, name, check)


def wrap(network, processor, name: str = "", check: bool = True) -> MLLM:
    """The handle of a model and its processor that are in memory already, such as one that was just fine-tuned.

    The model is set to eval mode and its weights to need no gradient.  check, and what is raised: as of `load`.
    """
    name = name or type(network).__name__
    processor.tokenizer.padding_side = "left"               # or a batch would go on generating after its padding
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    network = network.eval().requires_grad_(False)
    parts = find_parts(network)
    mllm = MLLM(name, network, processor, parts)
    if check:
        try:
            _verify(mllm)
        except ValueError as error:
            if isinstance(error, Refusal):
                raise
            raise Refusal(f"{name}: its processor or model does not take a question about a picture: {_first_line(error)}") from None
    else:
        hooks.install(network)
    return mllm


def _processor(source: str, config):
    """The model's processor; where only its part for videos cannot be had, the same processor without that part.

    transformers reads videos with torchvision alone, and asks for it even where none will be shown.
    """
    try:
        processor = AutoProcessor.from_pretrained(source)
    except (ImportError, ValueError, RecursionError):        # which one depends on the family
        kind = getattr(transformers, processing_auto.PROCESSOR_MAPPING_NAMES.get(config.model_type) or "AutoProcessor")
        if getattr(kind, "is_dummy", False) or "video_processor" not in getattr(kind, "get_attributes", list)():
            raise
        made = {"image_processor": AutoImageProcessor.from_pretrained, "tokenizer": AutoTokenizer.from_pretrained,
                "feature_extractor": AutoFeatureExtractor.from_pretrained, "video_processor": lambda _: None}
        if set(kind.get_attributes()) - set(made):
            raise
        stored = kind.get_processor_dict(source)[0]
        pictures_only = type(kind.__name__, (kind,), {"check_argument_for_proper_class": _unless_none})
        processor = pictures_only.from_args_and_dict([made[part](source) for part in kind.get_attributes()], stored)
    if getattr(processor, "chat_template", None) is None:
        # BLIP's processors put the picture in front of the words by themselves.
        image = "" if hasattr(processor, "num_query_tokens") else str(getattr(processor, "image_token", ""))
        processor.chat_template = PLAIN.replace("IMAGE", image)
    return processor


def _unless_none(self, name, part):
    return None if part is None else super(type(self), self).check_argument_for_proper_class(name, part)


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
    Cutting every image key = blind: with no text position attending to the picture, two pictures give equal logits. Where some
    blocks have no attention that could be cut, the picture's tokens are swapped instead: each picture then answers as the other.
    Where the picture comes in by cross-attention, that is closed.
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
    lens = _lens(mllm, seen[last][:, -1:])
    # Every position but the picture's own: some families put words between its tokens, which would carry on what they see.
    image = one.tokens.image
    words = torch.tensor(sorted(set(range(len(one.tokens.text))) - set(image.tolist())))
    layers = [k for k, block in enumerate(mllm.parts.blocks) if hooks.can_cut(block)]
    with hooks.cut(mllm, [], [], layers):
        uncut = mllm.logits(one.inputs)
    crossing = [block.cross_attn for block in mllm.parts.blocks if hasattr(block, "cross_attn")]
    if crossing:
        blindness = "cross-attention closed = blind to the picture"
        with hooks.closed(crossing):
            blind = mllm.logits(one.inputs) - mllm.logits(two.inputs)
    elif len(layers) == len(mllm.parts.blocks):
        blindness = "all image keys cut = blind to the picture"
        with hooks.cut(mllm, words, image):
            blind = mllm.logits(one.inputs) - mllm.logits(two.inputs)
    else:
        blindness = "image tokens swapped = the other picture"
        with hooks.record(mllm, "embed") as seen:
            mllm.logits(two.inputs)
        with hooks.edit(mllm, {"embed": lambda x: seen["embed"]}):
            blind = mllm.logits(one.inputs) - other
    scale, sight = plain.abs().max().item(), (plain - other).abs().max().item()
    near = scale * (1e-4 if mllm.exact else 3e-2)
    quantised = getattr(mllm.model, "is_quantized", False)
    mllm.checks = {
        "hooks off = hooks on": (plain - hooked).abs().max().item(),
        "lens at the last layer = logits": (lens - hooked).abs().max().item(),
        "an empty cut changes nothing": (plain - uncut).abs().max().item(),
        blindness: blind.abs().max().item(),
    }
    # LLM.int8 picks its outlier columns over all rows, so that a picture which nothing attends to still changes how words are rounded.
    limits = dict.fromkeys(mllm.checks, near) | {blindness: (0.15 if quantised else 1e-3) * sight}
    for name, error in mllm.checks.items():
        if not error <= limits[name]:
            raise Refusal(f"{mllm.name} fails the identity {name!r} (error {error:.2g} on logits of size {scale:.2g}, which pictures change by {sight:.2g}); "
                          "explanations of it would be wrong. load(..., check=False) loads it all the same.")
    if quantised:
        token = (plain - other)[0, -1].abs().argmax()                    # the one that tells the two pictures apart best
        _try_gradients(mllm, one, two, Target((int(token),), 0, ""))


def _try_gradients(mllm: MLLM, one, two, target: Target) -> None:
    """Gradients all the way from one picture to another have to add up to the difference; `mllm.no_gradients` says so where they do not.

    Some of bitsandbytes' kernels have no backward pass on some devices, and torch then hands out what is left of the gradient.
    """
    alone = replace(mllm, batch_size=1)                                  # backward passes fill memory
    start, end = (merged(alone, prompt, target) for prompt in (two, one))
    points, weights = np.polynomial.legendre.leggauss(16)
    found = 0.0
    with suppress(RuntimeError):                                         # nothing of the graph is left at all
        for point, weight in zip(points, weights):
            slope = gradients(alone, one, target, start + (point + 1) / 2 * (end - start))[1]
            found += weight / 2 * float((slope * (end - start).float()).sum())
    high, low = score(alone, one, target, torch.cat([end, start])).tolist()
    error = float(abs(found - (high - low)) / max(abs(high - low), 1e-9))
    mllm.checks["gradients add up"] = error
    if not error <= 0.3:
        mllm.no_gradients = (f"{mllm.name}: the gradients of its quantised layers miss what they should add up to by {error:.0%}, so methods "
                             "that need gradients would be wrong here. Load it unquantised (dtype=torch.bfloat16, device_map=\"auto\"), or "
                             "take a method without a backward pass: occlusion, rise, shapley, token-ablation.")


def _lens(mllm, hidden: torch.Tensor) -> torch.Tensor:
    """Logits of the stream after the last block, through the parts that were found."""
    return mllm.parts.head(mllm.parts.norm(hidden)).float()
