"""The model handle: one object, the same for every architecture.

`load()` gives `tiny`; `load("llava-hf/llava-1.5-7b-hf")` or a local folder gives that model. Before a handle is
returned it has to pass three identities; a model that fails one is refused, because every explanation would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from . import hooks
from .parts import Parts, find_parts
from .pictures import open_picture
from .refusal import Refusal, nearest
from .tiny import WEIGHTS
from .tokens import TokenMap, map_tokens


@dataclass(frozen=True)
class Prompt:
    """A picture and a question, ready to run.

    inputs: what the model takes, a batch of one.  tokens: the token map.  notes: what was done to the picture.
    """

    picture: Image.Image
    question: str
    inputs: dict
    tokens: TokenMap
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Prompt({self.question!r}, {self.picture.width} x {self.picture.height} picture, {self.tokens!r})"


@dataclass(frozen=True)
class Target:
    """The tokens to explain: `ids` are forced after the prompt, and those from `first` on are scored.

    text: what the scored tokens say.
    """

    ids: tuple[int, ...]
    first: int
    text: str


@dataclass
class MLLM:
    """A multimodal LLM whose every part has a standard name. Made by `load`."""

    name: str
    model: torch.nn.Module
    processor: object
    parts: Parts
    batch_size: int = 64
    checks: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.model.parameters()) / 1e6
        passed = ", ".join(self.checks) or "none"
        return f"MLLM({self.name}: {type(self.model).__name__}, {size:.1f} M parameters on {self.device}; checked: {passed})"

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    @property
    def tokenizer(self):
        return self.processor.tokenizer

    @property
    def image_token(self) -> int:
        """Id of the token that stands for one patch."""
        config = self.model.config
        return getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)

    def prompt(self, picture, question: str) -> Prompt:
        """Put a picture and a question into the model's own chat form.

        picture: a path, a PIL image or an array (H, W, 3) uint8.  Raises Refusal for a bad picture or no question.
        """
        if not question or not question.strip():
            raise Refusal("The question is empty; ask something, such as \"what color is the star ?\".")
        picture, notes = open_picture(picture)
        question = question.strip()
        message = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]
        inputs = self.processor.apply_chat_template(message, add_generation_prompt=True, tokenize=True,
                                                    return_dict=True, return_tensors="pt")
        inputs = self._move(inputs)
        if self.tokenizer.unk_token_id is not None:
            unknown = [w for w in question.split() if self.tokenizer.unk_token_id in self._encode(w)]
            if unknown:
                raise Refusal(f"{self.name} does not know {unknown[0]!r}"
                              + nearest(unknown[0].lower(), sorted(w for w in self.tokenizer.get_vocab() if w.isalnum())))
        tokens = map_tokens(inputs["input_ids"][0], self.tokenizer, self.image_token, question, picture.size,
                            self.processor.image_processor)
        return Prompt(picture, question, inputs, tokens, tuple(notes))

    def answer(self, prompt: Prompt, most: int = 48) -> str:
        """The model's greedy answer as text, at most `most` tokens."""
        return self.tokenizer.decode(self._generate(prompt, most), skip_special_tokens=True).strip()

    def answers(self, pictures, questions, most: int = 48) -> list[str]:
        """Greedy answers to many questions at once: `pictures` and `questions` are equally long sequences."""
        out = []
        for at in range(0, len(questions), self.batch_size):
            said = questions[at:at + self.batch_size]
            messages = [[{"role": "user", "content": [{"type": "image", "image": open_picture(p)[0]},
                                                      {"type": "text", "text": str(q)}]}]
                        for p, q in zip(pictures[at:at + self.batch_size], said)]
            inputs = self._move(self.processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
                processor_kwargs={"padding": True}))
            with torch.no_grad():
                ids = self.model.generate(**inputs, max_new_tokens=most, do_sample=False)
            out += self.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
        return [text.strip() for text in out]

    def target(self, prompt: Prompt, word: str | None = None) -> Target:
        """What to explain: the whole greedy answer, or one word.

        word: has to be one token.  Where the answer says it, it is explained there, after the words before it;
        otherwise at the place of the first answer word.  Raises Refusal for a word of several tokens, offering them.
        """
        said = tuple(i for i in self._generate(prompt, 48) if i not in self._special())
        if word is None:
            if not said:
                raise Refusal("The model answers nothing here; name the word to explain with `token`.")
            return Target(said, 0, self.tokenizer.decode(said).strip())
        token = self.token(word)
        first = said.index(token) if token in said else 0
        return Target((*said[:first], token), first, word)

    def token(self, word: str) -> int:
        """The id of a word that is one token; raises Refusal, offering its tokens, when it is not."""
        for form in (" " + word, word):
            ids = self._encode(form)
            if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
                return ids[0]
        pieces = [self.tokenizer.decode([i]).strip() for i in self._encode(word)]
        if self.tokenizer.unk_token_id in self._encode(word):
            raise Refusal(f"{self.name} does not know the word {word!r}"
                          + nearest(word.lower(), sorted(w for w in self.tokenizer.get_vocab() if w.isalnum())))
        raise Refusal(f"{word!r} is not one token of {self.name} but {len(pieces)}: "
                      + ", ".join(repr(p) for p in pieces) + "; give one of these.")

    def forced(self, prompt: Prompt, target: Target) -> dict:
        """The prompt's inputs with the target's tokens, but the last, appended: every scored token is predicted."""
        return _extend(prompt.inputs, target.ids[:-1])

    def logits(self, inputs: dict, last: int = 1) -> torch.Tensor:
        """Logits of the last `last` positions: (B, last, vocabulary), float32, no gradient."""
        with torch.no_grad():
            return self.model(**inputs, logits_to_keep=last, use_cache=False).logits.float()

    def score(self, prompt: Prompt, target: Target, pictures: list[Image.Image] | None = None) -> torch.Tensor:
        """Log-probability of the target, summed over its scored tokens, one value per picture: (N,), in nats.

        pictures: the same question is asked of each; the prompt's own picture when left out.
        Cost: one forward pass a picture, `batch_size` at a time.
        """
        inputs = self.forced(prompt, target)
        if pictures is None:
            return self.score_inputs(inputs, target)
        parts = []
        for at in range(0, len(pictures), self.batch_size):
            chunk = pictures[at:at + self.batch_size]
            vision = self._move(self.processor.image_processor(images=chunk, return_tensors="pt"))
            parts.append(self.score_inputs({**repeat_text(inputs, len(chunk)),
                                            **{k: v for k, v in vision.items() if k in inputs}}, target))
        return torch.cat(parts)

    def score_inputs(self, inputs: dict, target: Target) -> torch.Tensor:
        """The same for inputs that already hold the forced tokens, as `forced` makes them: (N,), in nats."""
        count = len(target.ids) - target.first
        logprobs = self.logits(inputs, count).log_softmax(-1)
        wanted = torch.tensor(target.ids[target.first:], device=logprobs.device)
        return logprobs.gather(-1, wanted.expand(len(logprobs), -1)[..., None])[..., 0].sum(-1).cpu()

    def _generate(self, prompt: Prompt, most: int) -> list[int]:
        with torch.no_grad():
            ids = self.model.generate(**prompt.inputs, max_new_tokens=most, do_sample=False)
        return ids[0, prompt.inputs["input_ids"].shape[1]:].tolist()

    def _special(self) -> set[int]:
        return set(self.tokenizer.all_special_ids)

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _move(self, inputs) -> dict:
        dtype = self.model.dtype
        return {k: v.to(self.device, dtype if v.is_floating_point() else v.dtype) for k, v in inputs.items()
                if isinstance(v, torch.Tensor)}


_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")   # inputs with one value per token


def repeat_text(inputs: dict, times: int) -> dict:
    """The per-token inputs of a batch of one, repeated; what belongs to the picture is left out."""
    return {k: v.repeat(times, 1) for k, v in inputs.items() if k in _TEXT}


def _extend(inputs: dict, ids) -> dict:
    """Append tokens to a batch of one; every per-token input grows with them (a missed one raises an IndexError later)."""
    if not len(ids):
        return inputs
    extra = torch.tensor([list(ids)], device=inputs["input_ids"].device)
    grown = dict(inputs)
    for key in _TEXT:
        if key in inputs:
            tail = extra if key == "input_ids" else torch.full_like(extra, int(key == "attention_mask"))
            grown[key] = torch.cat([inputs[key], tail.to(inputs[key].dtype)], 1)
    return grown


def load(model: str | Path | None = None, *, device: str | None = None, dtype=None, device_map=None,
         check: bool = True, **kwargs) -> MLLM:
    """Load a multimodal LLM: `tiny` by itself, a local folder, or a Hugging Face id.

    device: "cuda", "cpu", …; by itself the GPU when there is one.  dtype, device_map and further keywords go to
    transformers' `from_pretrained`.  check: run the identities below; costs five forward passes.
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
    except (OSError, ValueError) as error:
        raise Refusal(f"{source!r} cannot be loaded: {_first_line(error)}") from None
    if device_map is None:
        network = network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
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
    with hooks.cut(mllm, after, image):
        blind = mllm.logits(one.inputs) - mllm.logits(two.inputs)
    scale = plain.abs().max().item()
    mllm.checks = {
        "hooks off = hooks on": (plain - hooked).abs().max().item(),
        "lens at the last layer = logits": (lens - hooked).abs().max().item(),
        "all image keys cut = blind to the picture": blind.abs().max().item(),
    }
    limit = scale * (1e-4 if mllm.model.dtype == torch.float32 else 3e-2)
    for name, error in mllm.checks.items():
        if not error <= limit:
            raise Refusal(f"{mllm.name} fails the identity {name!r} (error {error:.2g} on logits of size {scale:.2g}); "
                          "explanations of it would be wrong. load(..., check=False) loads it all the same.")
