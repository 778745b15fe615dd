"""The model handle: one object, the same for every architecture. `loading.load` makes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import torch
from PIL import Image

from .batches import in_batches
from .inputs import each, extend, repeat_all, repeat_text, triple, turn
from .parts import Parts, device_of
from .pictures import open_picture
from .prompts import Prompt, Target
from .refusal import Refusal, nearest
from .tokens import map_tokens
from .views import View, rulers, views


@dataclass
class MLLM:
    """A multimodal LLM whose every part has a standard name. Made by `load`."""

    name: str
    model: torch.nn.Module
    processor: object
    parts: Parts
    batch_size: int = 64                       # questions or pictures in one forward pass; halved when memory runs out
    passes: int = 0                            # forward passes so far, a picture each; generation is not counted
    backward_passes: int = 0
    checks: dict[str, float] = field(default_factory=dict)
    looked: dict = field(default_factory=dict, repr=False)     # sizes of pictures -> the views that the processor makes of them
    alone: dict = field(default_factory=dict, repr=False)      # size of a picture -> whether the image processor alone will do
    no_gradients: str = ""                     # why gradients of this model are wrong; found for quantised ones, as they are loaded
    along: bool = False                        # whether the decoder needs the picture's inputs beside the merged stream

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.model.parameters()) / 1e6
        passed = ", ".join(self.checks) or "none"
        return f"MLLM({self.name}: {type(self.model).__name__}, {size:.1f} M parameters on {self.device}; checked: {passed})"

    @property
    def device(self) -> torch.device:
        return device_of(self.model.get_input_embeddings())

    @property
    def tokenizer(self):
        return self.processor.tokenizer

    @property
    def slack(self) -> float:
        """How far two log-probabilities that should be equal may drift apart in this model's dtype, in nats."""
        return 1e-3 if self.exact else 0.3

    @property
    def exact(self) -> bool:
        """Whether the model computes in float32 with weights of its own, and not in half precision or quantised."""
        return self.model.dtype == torch.float32 and not getattr(self.model, "is_quantized", False)

    def prompt(self, picture, question: str, shots: Sequence = ()) -> Prompt:
        """Put a picture, or several, and a question into the model's own chat form.

        picture: a path, a PIL image or an array (H, W, 3) uint8; or several, all before the question: a list of these
        or an array (K, H, W, 3).  shots: solved examples (picture, question, answer) that come first, as a
        conversation.  Raises Refusal for a bad picture or shot, no question, words the model does not know, or more
        tokens than it takes.
        """
        turns, pictures, notes = self._conversation(picture, question, shots)
        *shown, asked = turns[-1]["content"]
        inputs = self._inputs([turns])
        tokens = map_tokens(inputs, self.tokenizer, self.model.config, asked["text"], [p.size for p in pictures],
                            self.processor.image_processor, partial(self._look, turns, pictures))
        return Prompt(shown[0]["image"], asked["text"], inputs, tokens, tuple(notes), tuple(pictures))

    def answer(self, prompt: Prompt, most: int = 48) -> str:
        """The model's greedy answer as text, at most `most` tokens."""
        return self.tokenizer.decode(self._generate(prompt.inputs, most)[0], skip_special_tokens=True).strip()

    def answers(self, pictures, questions, most: int = 48, shots=None, begin=None) -> list[str]:
        """Greedy answers to many questions at once, `batch_size` at a time.

        pictures, shots: for each question what `prompt` takes.  begin: for each question the words that its answer is
        made to begin with ("" for none), put right behind the chat form; what comes after them is returned.
        Raises Refusal as `prompt` does, and when there is not one of each for every question.
        """
        for what, given in (("pictures", pictures), ("lists of shots", shots), ("beginnings", begin)):
            if given is not None and len(given) != len(questions):
                raise Refusal(f"{len(given)} {what} for {len(questions)} questions; give one for each.")
        asked = list(zip(pictures, questions, [()] * len(questions) if shots is None else shots, begin or [None] * len(questions)))

        def run(rows):
            turns = [self._conversation(*row[:3])[0] for row in rows]
            inputs = self._inputs(turns, None if begin is None else [row[3] for row in rows])
            return self.tokenizer.batch_decode(self._generate(inputs, most), skip_special_tokens=True)

        return [text.strip() for part in in_batches(self, asked, run) for text in part]

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
        return extend(prompt.inputs, target.ids[:-1])

    def logits(self, inputs: dict, last: int = 1, gradient: bool = False) -> torch.Tensor:
        """Logits of the last `last` positions: (B, last, vocabulary), float32; with `gradient`, part of a graph."""
        self.passes += len(inputs["input_ids"])
        with torch.set_grad_enabled(gradient):
            # Sliced once more, because some families ignore `logits_to_keep`.
            return self.model(**inputs, logits_to_keep=last, use_cache=False).logits[:, -last:].float()

    def score(self, prompt: Prompt, target: Target, pictures: Iterable[Image.Image] | None = None) -> torch.Tensor:
        """Log-probability of the target, summed over its scored tokens, one value per picture: (N,), in nats.

        pictures: the same question is asked of each; the prompt's own picture when left out.  A generator is read one
        batch at a time, so memory stays flat.  Cost: one forward pass a picture, `batch_size` at a time.
        Raises Refusal when `pictures` should take the place of several, or are of a size that the model gives other tokens.
        """
        if pictures is None:
            return self.score_inputs(self.forced(prompt, target), target)
        pictures, parts = iter(pictures), []
        while chunk := list(islice(pictures, self.batch_size)):
            parts += in_batches(self, chunk, lambda part: self.score_inputs(self.showing(prompt, target, part), target))
        return torch.cat(parts)

    def showing(self, prompt: Prompt, target: Target, pictures: list[Image.Image]) -> dict:
        """`forced` with each of some pictures in the place of the prompt's own: a batch.

        Raises Refusal for a prompt of several pictures, and for pictures of a size that the model gives other tokens.
        """
        if len(prompt.pictures) > 1:
            raise Refusal(f"score(pictures=) puts others in the place of one picture; this prompt has "
                          f"{len(prompt.pictures)}: make a prompt with the pictures that you want scored.")
        if all(picture.size == prompt.picture.size for picture in pictures) and self._taken_alone(prompt):
            batch = {**repeat_text(prompt.inputs, len(pictures)), **self._taken(prompt, pictures)}
        else:                                    # how patches, tiles and sizes are handed over is the processor's matter
            batch = self._inputs([[turn("user", prompt.question, [picture])] for picture in pictures])
        if not torch.equal(batch["input_ids"], prompt.inputs["input_ids"].expand(len(pictures), -1)):
            raise Refusal(f"score(pictures=) needs pictures that give the same tokens as the prompt's own of {prompt.picture.width} x "
                          f"{prompt.picture.height} pixels; resize them to that.")
        return extend(batch, target.ids[:-1])

    def _taken(self, prompt: Prompt, pictures: list[Image.Image]) -> dict:
        """What the image processor alone makes of some pictures, as far as the model takes it."""
        taken = self._move(self.processor.image_processor(images=pictures, return_tensors="pt"))
        return {name: value for name, value in taken.items() if name in prompt.inputs}

    def _taken_alone(self, prompt: Prompt) -> bool:
        """Whether the image processor alone makes of two pictures what the model takes for two rows: no chat form is needed then.

        Tried once for each size of picture.
        """
        size = prompt.picture.size
        if size not in self.alone:
            text = repeat_text(prompt.inputs, 1)
            wanted = repeat_all({name: value for name, value in prompt.inputs.items() if name not in text}, 2)
            made = self._taken(prompt, [prompt.picture] * 2)
            self.alone[size] = made.keys() == wanted.keys() and all(torch.equal(made[name], wanted[name]) for name in made)
        return self.alone[size]

    def score_inputs(self, inputs: dict, target: Target, gradient: bool = False) -> torch.Tensor:
        """The same for inputs that already hold the forced tokens, as `forced` makes them: (N,), in nats.

        gradient: whether `backward` will be asked where the score comes from.
        """
        with torch.set_grad_enabled(gradient):
            logprobs = self.logits(inputs, len(target.ids) - target.first, gradient).log_softmax(-1)
            wanted = torch.tensor(target.ids[target.first:], device=logprobs.device)
            return logprobs.gather(-1, wanted.expand(len(logprobs), -1)[..., None])[..., 0].sum(-1).cpu()

    def spent(self, before: tuple[int, int]) -> dict:
        """What was run since (passes, backward passes), in the form that results report it."""
        return {"forward_passes": self.passes - before[0], "backward_passes": self.backward_passes - before[1]}

    def backward(self, scores: torch.Tensor, wanted: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Gradients of each score (N,) with respect to its own rows of the wanted tensors; no `.grad` is left anywhere.

        Raises Refusal where `load` found that a quantised model's gradients are wrong.
        """
        if self.no_gradients:
            raise Refusal(self.no_gradients)
        self.backward_passes += len(scores)
        return torch.autograd.grad(scores.sum(), wanted)

    def _conversation(self, picture, question, shots) -> tuple[list[dict], list[Image.Image], list[str]]:
        """What the chat template takes, the question last; all its pictures in order; notes on them."""
        turns, pictures, notes = [], [], []
        for shown, asked, said in [*map(triple, shots or ()), (picture, question, None)]:
            asked, opened = self._checked(asked), [open_picture(one) for one in each(shown)]
            turns.append(turn("user", asked, [one for one, _ in opened]))
            if said is not None:
                turns.append(turn("assistant", self._known(said, "The answer of a shot")))
            pictures += [one for one, _ in opened]
            notes += [note for _, about in opened for note in about]
        return turns, pictures, notes

    def _look(self, turns: list[dict], pictures: list[Image.Image]) -> list[View]:
        """The views that the processor makes of a conversation's pictures; asked once for each set of sizes."""
        sizes = tuple(picture.size for picture in pictures)
        if sizes not in self.looked:
            shown = iter(rulers(sizes))
            asked = [{**one, "content": [{**part, "image": next(shown)} if part["type"] == "image" else part for part in one["content"]]}
                     for one in turns]
            processor = self.processor.image_processor
            self.looked[sizes] = views(self._inputs([asked])["pixel_values"], processor, sizes)
        return self.looked[sizes]

    def _inputs(self, conversations: list, begin=None) -> dict:
        chat = partial(self.processor.apply_chat_template, conversations, add_generation_prompt=True)
        if begin is None:
            inputs = chat(tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs={"padding": True})
        else:
            begin = [self._known(str(words or ""), "The beginning of an answer") for words in begin]
            texts = [text + words for text, words in zip(chat(tokenize=False), begin)]
            images = [[part["image"] for turn in turns for part in turn["content"] if part["type"] == "image"]
                      for turns in conversations]
            # As `apply_chat_template` does it: a form that writes the first token itself must not get a second one.
            first = self.tokenizer.bos_token
            twice = {"add_special_tokens": False} if first and texts[0].startswith(first) else {}
            inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt", **twice)
        length = inputs["input_ids"].shape[1]
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if most and length > most:
            raise Refusal(f"The prompt is {length} tokens long and {self.name} takes {most}; "
                          "give fewer pictures, shots or words.")
        return self._move(inputs)

    def _generate(self, inputs: dict, most: int) -> torch.Tensor:
        """(B, up to `most`) ids after the prompt. Plain greedy: a model's stored sampling habits are switched off."""
        with torch.no_grad():
            ids = self.model.generate(**inputs, max_new_tokens=most, do_sample=False, num_beams=1, repetition_penalty=1.0)
        return ids[:, inputs["input_ids"].shape[1]:]

    def _checked(self, question) -> str:
        if not question or not str(question).strip():
            raise Refusal("The question is empty; ask something, such as \"what color is the star ?\".")
        return self._known(str(question).strip(), "The question")

    def _known(self, text: str, what: str) -> str:
        """The text as it is; raises Refusal for a mark of the model in it, or a word that the model does not know."""
        marks = [mark for mark in self.tokenizer.all_special_tokens if mark and mark in text]
        if marks:
            raise Refusal(f"{what} contains {marks[0]!r}, which has a meaning of its own to {self.name}; "
                          "leave it out.")
        unknown = self.tokenizer.unk_token_id
        strange = [word for word in text.split() if unknown is not None and unknown in self._encode(word)]
        if strange:
            raise Refusal(f"{self.name} does not know {strange[0]!r}{nearest(strange[0].lower(), self._words())}")
        return text

    def _words(self) -> list[str]:
        return sorted(word for word in self.tokenizer.get_vocab() if word.isalnum())

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _move(self, inputs) -> dict:
        dtype = self.model.dtype
        # PaliGemma's processor hands out labels even where nothing is trained; the model would compute a loss from them.
        return {k: v.to(self.device, dtype if v.is_floating_point() else v.dtype) for k, v in inputs.items()
                if isinstance(v, torch.Tensor) and k != "labels"}
