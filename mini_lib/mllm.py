"""The model handle: one object, the same for every architecture. `loading.load` makes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import torch
from PIL import Image

from .parts import Parts
from .pictures import open_picture
from .refusal import Refusal, nearest
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
    batch_size: int = 64                       # questions or pictures in one forward pass
    passes: int = 0                            # forward passes so far, a picture each; generation is not counted
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
    def slack(self) -> float:
        """How far two log-probabilities that should be equal may drift apart in this model's dtype, in nats."""
        return 1e-3 if self.model.dtype == torch.float32 else 0.3

    def prompt(self, picture, question: str) -> Prompt:
        """Put a picture and a question into the model's own chat form.

        picture: a path, a PIL image or an array (H, W, 3) uint8.  Raises Refusal for a bad picture, no question, or a
        question with words the model does not know.
        """
        question = self._checked(question)
        picture, notes = open_picture(picture)
        inputs = self._inputs([_message(picture, question)])
        tokens = map_tokens(inputs, self.tokenizer, self.model.config, question, picture.size,
                            self.processor.image_processor)
        return Prompt(picture, question, inputs, tokens, tuple(notes))

    def answer(self, prompt: Prompt, most: int = 48) -> str:
        """The model's greedy answer as text, at most `most` tokens."""
        return self.tokenizer.decode(self._generate(prompt.inputs, most)[0], skip_special_tokens=True).strip()

    def answers(self, pictures, questions, most: int = 48) -> list[str]:
        """Greedy answers to many questions at once, `batch_size` at a time.

        Raises Refusal as `prompt` does, and when there are not as many pictures as questions.
        """
        if len(pictures) != len(questions):
            raise Refusal(f"{len(pictures)} pictures for {len(questions)} questions; give one picture for each.")
        out = []
        for at in range(0, len(questions), self.batch_size):
            rows = slice(at, at + self.batch_size)
            inputs = self._inputs([_message(open_picture(picture)[0], self._checked(question))
                                   for picture, question in zip(pictures[rows], questions[rows])])
            out += self.tokenizer.batch_decode(self._generate(inputs, most), skip_special_tokens=True)
        return [text.strip() for text in out]

    def target(self, prompt: Prompt, word: str | Target | None = None) -> Target:
        """What to explain: the greedy answer (its first 48 tokens), or one word.

        word: has to be one token.  Where the answer first says it, it is explained there, after the words before it;
        otherwise in the place of the first answer word.  A Target is handed back as it is.
        Raises Refusal for a word of several tokens, offering them, and for an answer without words.
        """
        if isinstance(word, Target):
            return word
        special = set(self.tokenizer.all_special_ids)
        said = tuple(i for i in self._generate(prompt.inputs, 48)[0].tolist() if i not in special)
        if word is None:
            if not said:
                raise Refusal("The model answers nothing here; name the word to explain with `token`.")
            return Target(said, 0, self.tokenizer.decode(said).strip())
        forms = self.tokens(word)
        first, token = next(((at, i) for at, i in enumerate(said) if i in forms), (0, forms[0]))
        return Target((*said[:first], token), first, word)

    def tokens(self, word: str) -> list[int]:
        """The ids under which a word is one token: at the start of a text, and after a space.

        Raises Refusal, offering its tokens or the nearest words, when it is not one token.
        """
        unknown = self.tokenizer.unk_token_id
        coded = [self._encode(word), self._encode(" " + word)]
        forms = [ids[0] for ids in coded if len(ids) == 1 and ids[0] != unknown]
        if forms:
            return forms
        if unknown in coded[0]:
            raise Refusal(f"{self.name} does not know the word {word!r}{nearest(word.lower(), self._words())}")
        pieces = [self.tokenizer.decode([i]).strip() for i in coded[0]]
        raise Refusal(f"{word!r} is not one token of {self.name} but {len(pieces)}: "
                      + ", ".join(repr(p) for p in pieces) + "; give one of these.")

    def forced(self, prompt: Prompt, target: Target) -> dict:
        """The prompt's inputs with the target's tokens, but the last, appended: every scored token is predicted."""
        return _extend(prompt.inputs, target.ids[:-1])

    def logits(self, inputs: dict, last: int = 1) -> torch.Tensor:
        """Logits of the last `last` positions: (B, last, vocabulary), float32, no gradient."""
        self.passes += len(inputs["input_ids"])
        with torch.no_grad():
            # Sliced once more, because some families ignore `logits_to_keep`.
            return self.model(**inputs, logits_to_keep=last, use_cache=False).logits[:, -last:].float()

    def score(self, prompt: Prompt, target: Target, pictures: Iterable[Image.Image] | None = None) -> torch.Tensor:
        """Log-probability of the target, summed over its scored tokens, one value per picture: (N,), in nats.

        pictures: the same question is asked of each; the prompt's own picture when left out.  A generator is read one
        batch at a time, so memory stays flat.  Cost: one forward pass a picture, `batch_size` at a time.
        """
        inputs = self.forced(prompt, target)
        if pictures is None:
            return self.score_inputs(inputs, target)
        parts, pictures = [], iter(pictures)
        while chunk := list(islice(pictures, self.batch_size)):
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

    def _inputs(self, messages: list) -> dict:
        return self._move(self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True}))

    def _generate(self, inputs: dict, most: int) -> torch.Tensor:
        """(B, up to `most`) ids after the prompt. Plain greedy: a model's stored sampling habits are switched off."""
        with torch.no_grad():
            ids = self.model.generate(**inputs, max_new_tokens=most, do_sample=False, num_beams=1, repetition_penalty=1.0)
        return ids[:, inputs["input_ids"].shape[1]:]

    def _checked(self, question) -> str:
        if not question or not str(question).strip():
            raise Refusal("The question is empty; ask something, such as \"what color is the star ?\".")
        question = str(question).strip()
        marks = [mark for mark in self.tokenizer.all_special_tokens if mark and mark in question]
        if marks:
            raise Refusal(f"The question contains {marks[0]!r}, which has a meaning of its own to {self.name}; leave it out.")
        unknown = self.tokenizer.unk_token_id
        strange = [word for word in question.split() if unknown is not None and unknown in self._encode(word)]
        if strange:
            raise Refusal(f"{self.name} does not know {strange[0]!r}{nearest(strange[0].lower(), self._words())}")
        return question

    def _words(self) -> list[str]:
        return sorted(word for word in self.tokenizer.get_vocab() if word.isalnum())

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _move(self, inputs) -> dict:
        dtype = self.model.dtype
        return {k: v.to(self.device, dtype if v.is_floating_point() else v.dtype) for k, v in inputs.items()
                if isinstance(v, torch.Tensor)}


def _message(picture: Image.Image, question: str) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}]


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
