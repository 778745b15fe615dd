"""Minimal pairs: two prompts of one form that differ in one thing, and how far the model tells them apart.

    m = sum over scored tokens t of [ logit_t(y_t) - logit_t(r_t) ]

y: the answer to the clean prompt, forced word by word on both.  r_t: its rival, what the corrupted prompt makes the model say instead.
m is a logit difference, because -log p of an answer that is sure hardly moves, and because what moves all logits alike is no news.

A pair may differ in the picture, or in the question; it must not differ in the number of tokens, or positions would not match.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .hooks import edit, points, record, skipped
from .inputs import alike
from .prompts import Prompt, Target
from .refusal import Refusal
from .results import Matrix
from .roles import roles
from .streams import entering, inputs

UNIT = "share of the answer recovered"


@dataclass(frozen=True)
class Pair:
    """A clean prompt, a corrupted one, and the stream of both runs.

    target: the clean answer, forced on both.  rivals: the token against each scored one.
    states, changed: (1, T, d) of the clean and of the corrupted run at each point: what enters each block, and what leaves the last one.
    clean, corrupted: m of the two runs.  starts: at how many points, from the first on, a run may start.
    """

    prompt: Prompt
    other: Prompt
    target: Target
    rivals: tuple[int, ...]
    states: list[torch.Tensor]
    changed: list[torch.Tensor]
    clean: float
    corrupted: float
    starts: int

    @property
    def gap(self) -> float:
        """m of the clean run less m of the corrupted one, in logits."""
        return self.clean - self.corrupted

    def first_change(self) -> int:
        """The first position at which the two prompts differ before block 0."""
        return int((self.states[0] != self.changed[0]).any(-1)[0].float().argmax())

    def read(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, t, V) logits of the scored positions -> (N,) m."""
        place = list(range(len(self.rivals)))
        return (logits[:, place, list(self.target.ids[self.target.first:])] - logits[:, place, list(self.rivals)]).sum(1)


def pair_of(mllm, prompt, token=None, other=None, rival: str | None = None) -> Pair:
    """The pair of a prompt and another one.

    other: the corrupted prompt, with the same number of tokens, or a pair made before, which is handed back as it is; by itself the same question about the picture's `counterpart`.
    rival: the word against the answer; by itself what the corrupted prompt makes likeliest in each place, the answer's word apart.
    Cost: five forward passes, once the answer is known.
    Raises Refusal for prompts of different forms, for two pictures where some of the picture comes in behind block 0, and where
    the model tells the two hardly apart, so that there is nothing to recover.
    """
    if isinstance(other, Pair):
        return other
    other = mllm.prompt(counterpart(prompt.picture), prompt.question) if other is None else other
    target, sides = mllm.target(prompt, token), (prompt, other)
    forced = [mllm.forced(one, target) for one in sides]
    if len(alike(forced)) > 1 or not torch.equal(prompt.tokens.image, other.tokens.image):
        raise Refusal(f"The two prompts have {len(prompt.tokens.text)} and {len(other.tokens.text)} tokens, or another layout; positions "
                      "would not match. Take pictures of one size, and questions with the same number of words.")
    if mllm.parts.later and any(not torch.equal(forced[0][name], forced[1][name]) for name in forced[0] if name != "input_ids"):
        raise Refusal(f"In {mllm.name} the picture also comes in behind block 0 ({mllm.parts.later}), which no patch of the stream carries "
                      "over; take a pair that differs in the question.")
    states, logits, words = [], [], target.ids[target.first:]
    for one in forced:
        with record(mllm, *points(mllm)) as seen:
            logits.append(mllm.logits(one, len(words)).cpu())
        states.append(list(seen.values()))
    likely = logits[1][0].scatter(1, torch.tensor(words)[:, None], -torch.inf).argmax(-1).tolist()
    rivals = tuple(likely) if rival is None else (mllm.tokens(rival)[0],) * len(words)
    late = len(entering(mllm, other, target)) == len(mllm.parts.blocks)
    pair = Pair(prompt, other, target, rivals, *states, 0.0, 0.0, len(states[0]) if late else 1)
    clean, corrupted = (float(pair.read(one)[0]) for one in logits)
    if abs(clean - corrupted) <= mllm.slack / 10:
        raise Refusal(f"The model tells the two prompts apart by {clean - corrupted:.1g} logits, so that there is nothing to recover; "
                      "give another prompt as `other`.")
    return Pair(prompt, other, target, rivals, *states, clean, corrupted, pair.starts)


def counterpart(picture: Image.Image) -> Image.Image:
    """The picture with its colour channels turned, red to green to blue to red; of one without colours, its negative."""
    pixels = np.asarray(picture)
    other = np.roll(pixels, 1, axis=2)
    return Image.fromarray(255 - pixels if np.array_equal(other, pixels) else other)


def run(mllm, pair: Pair, streams: torch.Tensor, point: int, clean: bool = False, gradient: bool = False) -> torch.Tensor:
    """m of N runs that go on from `streams` (N, T, d) at this point, by number; the blocks before it do not run. (N,), in logits.

    clean: which prompt the runs are of, where something else of it is needed; by itself the corrupted one.
    """
    side, own = (pair.prompt, pair.states) if clean else (pair.other, pair.changed)
    first = point if point < pair.starts else 0
    edits = {"embed": streams.to}
    if first < point:                                           # a family whose runs cannot start late: put in on the way
        edits = {"embed": own[0].expand(len(streams), -1, -1).to, points(mllm)[point]: streams.to}
    with skipped(mllm, first), edit(mllm, edits):
        logits = mllm.logits(inputs(mllm, side, pair.target, len(streams)), len(pair.rivals), gradient)
    found = pair.read(logits)
    return found if gradient else found.cpu()


def groups_of(prompt, target) -> dict[str, list[int]]:
    """Rows of a table: each word of the question by itself, and the other roles; positions of each, in their order."""
    found = roles(prompt, target)
    question, rows = set(found.pop("question")), {}
    for word, positions in prompt.tokens.words:
        if own := [position for position in positions if position in question]:
            name = next(name for name in (word, *(f"{word} ({k})" for k in range(2, 999))) if name not in rows)
            rows[name] = own
            question -= set(own)
    rows |= {name: positions for name, positions in found.items() if positions}
    if question:
        rows["marks"] = sorted(question)
    return dict(sorted(rows.items(), key=lambda row: row[1][0]))


def table(mllm, pair: Pair, values: np.ndarray, groups, name: str, before) -> Matrix:
    """Shares recovered as a Matrix of (groups, points), with what was measured along the way."""
    rivals = " ".join(mllm.tokenizer.decode([token]).strip() for token in pair.rivals)
    measured = {**mllm.spent(before), "gap": float(f"{pair.gap:.4g}"), "rival": rivals}
    return Matrix(values, list(groups), points(mllm), ("patched", "at"), UNIT, name, pair.prompt.question, pair.target.text, measured)
