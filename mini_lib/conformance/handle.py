"""The checks of a model handle: what every method takes for granted when it asks `mllm` for a score, a token or a batch.

`load` has checked four identities already (`mllm.checks`); these go on where they end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from .. import hooks
from ..mllm import Target
from ..refusal import Refusal
from .finding import CAPTION, Finding, holds

QUESTION = "is the star red ?"
MOST_PATCHES = 36                   # of which the place is tried: one forward pass each


def check_score_is_the_chain_rule(mllm) -> Iterator[Finding]:
    """The score of some words is the sum of the log-probabilities that the model itself gives them, one after the other."""
    prompt = mllm.prompt(_noise(0), CAPTION)
    said = mllm.target(prompt).ids[:6]
    for first in (0, len(said) - 1):
        own, ids = 0.0, prompt.inputs["input_ids"]
        for at, token in enumerate(said):
            text = {key: torch.cat([prompt.inputs[key], torch.full_like(ids[:, :at], int(key == "attention_mask"))], 1)
                    for key in prompt.inputs if prompt.inputs[key].shape == ids.shape}
            text["input_ids"] = torch.cat([ids, torch.tensor([said[:at]], dtype=ids.dtype, device=ids.device)], 1)
            with torch.no_grad():
                logits = mllm.model(**{**prompt.inputs, **text}, use_cache=False).logits[0, -1].float()
            own += float(logits.log_softmax(-1)[token]) if at >= first else 0.0
        error = abs(float(mllm.score(prompt, Target(said, first, ""))[0]) - own)
        yield Finding(f"from word {first + 1} on, a score is the sum of the words' log-probabilities", error, mllm.slack)


def check_pixels_arrive(mllm) -> Iterator[Finding]:
    """A picture handed to `score` counts as it does in a prompt of its own, and another one counts differently."""
    one, other = (mllm.prompt(_noise(seed), QUESTION) for seed in range(2))
    target = Target(mllm.target(one).ids[:1], 0, "")
    scores = mllm.score(one, target, [one.picture, other.picture])
    own = torch.cat([mllm.score(one, target), mllm.score(other, target)])
    yield Finding("pictures score as they do in prompts of their own", float((scores - own).abs().max()), mllm.slack)
    yield holds("two pictures score differently", float(scores[0]) != float(scores[1]) and float(own[0]) != float(own[1]))


def check_boxes_are_where_tokens_look(mllm) -> Iterator[Finding]:
    """Painting one box changes the image token that the map names for it more than any other."""
    plain = Image.new("RGB", (96, 96), (230, 230, 230))
    prompt = mllm.prompt(plain, QUESTION)
    boxes = np.round(prompt.tokens.boxes).astype(int)
    tried = np.unique(np.linspace(0, len(boxes) - 1, MOST_PATCHES).astype(int))
    before, missed = _embedded(mllm, prompt), 0
    for patch in tried:
        dotted = plain.copy()
        dotted.paste((200, 30, 30), tuple(int(side) for side in boxes[patch]))
        missed += int((_embedded(mllm, mllm.prompt(dotted, QUESTION)) - before).norm(dim=-1).argmax()) != patch
    # A large tower writes a little of everything into a few tokens of its own choice; a wrong map misses nearly all.
    yield Finding(f"painting one of {len(tried)} boxes changes its own token most", missed / len(tried), 0.2)


def _embedded(mllm, prompt) -> torch.Tensor:
    with hooks.record(mllm, "embed") as seen:
        mllm.logits(prompt.inputs)
    return seen["embed"][0, prompt.tokens.image].float()


def check_edits_reach_every_row(mllm) -> Iterator[Finding]:
    """Recording keeps and editing reaches each row of a batch, at every point."""
    prompts = [mllm.prompt(_noise(seed), QUESTION) for seed in range(2)]
    inputs = {key: torch.cat([prompt.inputs[key] for prompt in prompts]) for key in prompts[0].inputs}
    plain, alone = mllm.logits(inputs), mllm.logits(prompts[1].inputs)
    with hooks.record(mllm, *hooks.points(mllm)) as seen:
        mllm.logits(inputs)
    shape = (2, len(prompts[0].tokens.text))
    yield holds("every point is recorded as (rows, tokens, width)", all(value.dim() == 3 and value.shape[:2] == shape
                                                                        for value in seen.values()))
    yield Finding("the second row of a batch is what it is alone", float((plain[1] - alone[0]).abs().max()), mllm.slack)
    for point in (hooks.points(mllm)[0], hooks.points(mllm)[-1]):
        with hooks.edit(mllm, {point: torch.zeros_like}):
            same = mllm.logits(inputs)
        yield holds(f"with {point} set to zero, two pictures give the same", torch.equal(same[0], same[1]))


def check_padding_changes_nothing(mllm) -> Iterator[Finding]:
    """Questions of different lengths answer as they do alone, and no cut is made where one position means two tokens."""
    pictures, questions = [_noise(seed) for seed in range(4)], [QUESTION, CAPTION, f"is the star red or the ring red or {QUESTION}", CAPTION]
    together = mllm.answers(pictures, questions, 6)
    alone = [mllm.answer(mllm.prompt(picture, question), 6) for picture, question in zip(pictures, questions)]
    yield holds("a padded batch answers as one by one", together == alone, f"{together} and {alone}" if together != alone else "")
    try:
        prompt = mllm.prompt(pictures[0], QUESTION)
        with hooks.cut(mllm, [len(prompt.tokens.text) - 1], prompt.tokens.image[:1]):
            mllm.answers(pictures, questions, 1)
        yield holds("a cut in rows that are padded differently is refused", False, "it was made")
    except Refusal as refusal:
        yield holds("a cut in rows that are padded differently is refused", True, str(refusal))


def check_target_is_where_the_word_is_said(mllm) -> Iterator[Finding]:
    """A word of the answer is explained where the answer first says it, with the words before it forced."""
    prompt = mllm.prompt(_noise(0), CAPTION)
    said = mllm.target(prompt).ids
    for at, token in enumerate(said[:5]):
        word = mllm.tokenizer.decode([token]).strip()
        try:
            forms = mllm.tokens(word)
        except Refusal:                                     # a piece of a word
            continue
        first = next((k for k, i in enumerate(said) if i in forms), None)
        target = mllm.target(prompt, word)
        yield holds(f"word {at + 1} is explained in its place", (target.first, target.ids[:-1]) == (first, said[:first]), repr(target))


def _noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8))


CHECKS = (check_score_is_the_chain_rule, check_pixels_arrive, check_boxes_are_where_tokens_look, check_edits_reach_every_row,
          check_padding_changes_nothing, check_target_is_where_the_word_is_said)
