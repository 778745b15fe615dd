"""Build one family: a small model of random weights, a tokenizer trained on the spot, the true processor; saved as a user has it."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerFast
from transformers.utils import logging as bars

from ..loading import load
from ..refusal import Refusal, nearest

CORPUS = ["is the star red ? what color is the ring ? how many objects are there ? describe the picture . yes no red blue green star ring",
          "USER: ASSISTANT: user assistant system User: Assistant: Human: model [INST] Question: Answer: is the star red or the ring red"] * 4
VOCABULARY = 340


@dataclass(frozen=True)
class Family:
    """One family as data.

    name: what people call it.  kind: model_type of its config.  config: what differs from the config's defaults; "<image>" in
    the place of a number means that token's id.  processor: its class and its arguments.  pictures: class and arguments of the
    image processor.  tokens: special tokens by the tokenizer's name for them.  template: the conversation's form, `{image}`
    and `{text}` in the user's turn.  place: whether its image tokens stand for places.  alone: whether it takes one picture only.  refused: what `load` must say of it.  missing: why it cannot be built here.
    gain: of random weights, less than 1 where a family is so steep that finite differences mean nothing.
    """

    name: str
    kind: str
    config: dict
    processor: tuple[str, dict]
    pictures: tuple[str, dict]
    tokens: dict[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    template: tuple[str, str, str, str] = ("USER: ", "{image}\n", "{text} ASSISTANT:", " {text}</s>")
    model: str = ""
    example: str = ""
    refused: str = ""
    missing: str = ""
    place: bool = True
    alone: bool = False
    gain: float = 1.0


def tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """Byte-level BPE of a few hundred tokens, with the family's own marks."""
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | family.tokens
    plain = {name: text for name, text in tokens.items() if name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    extra = {name: text for name, text in tokens.items() if name not in plain}
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = list(dict.fromkeys([*plain.values(), *extra.values(), *family.marks]))
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False,
                                                         initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=made, **plain, extra_special_tokens=extra, padding_side="left",
                                   additional_special_tokens=[mark for mark in family.marks], model_max_length=100_000,
                                   model_input_names=["input_ids", "attention_mask"])


def template(family: Family) -> str:
    """The conversation's form in Jinja: what opens a user's turn, a picture, its words, and an answer."""
    begin, image, text, answer = (json.dumps(part).replace("{image}", '" ~ § ~ "').replace("{text}", '" ~ part["text"] ~ "')
                                  for part in family.template)
    image = image.replace("§", json.dumps(family.tokens.get("placeholder", family.tokens.get("image_token", "<image>"))))
    return ("{% for m in messages %}{% if m['role'] == 'user' %}{{ " + begin + " }}{% endif %}{% for part in m['content'] %}"
            "{% if part['type'] == 'image' %}{{ " + image + " }}{% elif m['role'] == 'user' %}{{ " + text + " }}"
            "{% else %}{{ " + answer + " }}{% endif %}{% endfor %}{% endfor %}")


def build(family: Family, folder: Path, seed: int = 0) -> Path:
    """Write the family's model, tokenizer and processor to a folder, as one finds them on the Hub."""
    words = write_processor(family, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = untrained(family, words)
    redraw(network, torch.Generator().manual_seed(seed), family.gain)
    network.save_pretrained(folder)
    return folder


def untrained(family: Family, words: PreTrainedTokenizerFast):
    """The family's model as transformers starts it, with a generation config that says no special tokens."""
    fill = {"VOCABULARY": len(words), "BOS": words.bos_token_id, "EOS": words.eos_token_id, "PAD": words.pad_token_id, **words.get_vocab()}
    network = _network(family, AutoConfig.for_model(family.kind, **_filled(family.config, fill)))
    network.generation_config = GenerationConfig(bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
                                                 pad_token_id=words.pad_token_id, suppress_tokens=sorted(words.all_special_ids))
    return network


def write_processor(family: Family, folder: Path) -> PreTrainedTokenizerFast:
    """Write the family's tokenizer, image processor and chat form to a folder that it makes; returns the tokenizer."""
    folder.mkdir()
    words = tokenizer(family)
    words.save_pretrained(folder)
    name, arguments = family.pictures
    getattr(transformers, name)(**arguments).save_pretrained(folder)
    name, arguments = family.processor
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": name, **arguments}))
    if family.template:
        (folder / "chat_template.jinja").write_text(template(family))
    return words


def _network(family: Family, config):
    if family.model:
        return getattr(transformers, family.model)(config)
    return transformers.AutoModelForImageTextToText.from_config(config)


def _filled(given, fill: dict):
    """The same with names of tokens replaced by their ids."""
    if isinstance(given, dict):
        return {name: _filled(value, fill) for name, value in given.items()}
    if isinstance(given, (list, tuple)):
        return [_filled(value, fill) for value in given]
    return fill.get(given, given) if isinstance(given, str) else given


@torch.no_grad()
def redraw(network, noise: torch.Generator, gain: float = 1.0) -> None:
    """Noise for every weight, norms and biases too: weights of one would hide a norm that is applied twice or left out.

    What leaves an attention is kept faint, so that a patch still matters most to its own token after two blocks.
    """
    for name, weight in network.named_parameters():
        fresh = torch.randn(weight.shape, generator=noise)
        last = name.rsplit(".", 2)[-2] if "." in name else name
        if weight.dim() > 1 and "embed_tokens" not in name and "position" not in name:
            fresh *= gain * weight[0].numel() ** -0.5 * (0.3 if last in ("o_proj", "out_proj", "proj", "projection_layer", "wo") else 1)
        elif weight.dim() == 1:
            fresh = 0.3 * gain * fresh + (1 if "norm" in name and name.endswith("weight") else 0)
        weight.copy_(fresh)


@contextmanager
def _without_bars():
    """No progress bars of transformers: writing and reading a tenth of a million numbers takes no time."""
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


@cache
def small(name: str):
    """What `mini_lib.families.small` says."""
    from .table import FAMILIES
    family = next((one for one in FAMILIES if one.name == name), None)
    if family is None:
        raise Refusal(f"There is no family {name!r} in the table{nearest(name, [one.name for one in FAMILIES])}")
    if family.missing:
        raise Refusal(f"{name} cannot be built here: {family.missing}.")
    with tempfile.TemporaryDirectory() as folder, _without_bars():
        mllm = load(build(family, Path(folder) / family.kind), device="cpu")
    mllm.name = name
    return mllm
