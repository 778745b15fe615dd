"""The answer as a function of the stream before block 0, where picture and words are already merged; with gradients.

    stream = merged(mllm, prompt, target)                        # (1, T, d)
    scores = score(mllm, prompt, target, streams)                # (N,) of N changed streams
    scores, gradients = gradients(mllm, prompt, target, streams)  # (N,), (N, T, d)

    states = entering(mllm, prompt, target)                      # what enters each block: [(1, T, d), …]
    scores = at_once(mllm, prompt, target, states[3].repeat(8, 1, 1), 3)     # eight runs that start at block 3

The vision tower runs once, for `merged`; whatever is changed after that costs the decoder alone, and of it only the blocks from the
changed one on. Some families look at the picture's
inputs elsewhere too (Qwen-VL for positions, Qwen3-VL also adds features to later blocks): there these inputs go along unchanged, and
the tower runs again each time; what comes in there is no part of the stream, and nothing here explains it.
"""

from __future__ import annotations

import torch

from .batches import in_batches
from .covers import filling
from .hooks import edit, points, record, skipped
from .inputs import repeat_all, repeat_text
from .parts import weight_of
from .refusal import Refusal


def merged(mllm, prompt, target) -> torch.Tensor:
    """(1, T, d) the stream before block 0 of the prompt with the target's tokens forced. Cost: one forward pass and one more.

    Whether the picture's inputs have to go along is found here, by putting the stream back unchanged, and kept in `mllm.along`.
    Raises Refusal when the same answer does not come back in either way: every function of the stream would be wrong.
    """
    return _checked(mllm, prompt, target)[0]


def _checked(mllm, prompt, target) -> tuple[torch.Tensor, float]:
    """The stream before block 0, and the target's score."""
    with record(mllm, "embed") as seen:
        full = float(mllm.score(prompt, target)[0])
    stream = seen["embed"]
    for along in sorted({mllm.along, True}):
        mllm.along = along
        try:
            again = float(score(mllm, prompt, target, stream)[0])
        except TypeError:                                            # a model that does not run without a picture
            continue
        if abs(again - full) <= mllm.slack:
            return stream, full
    raise Refusal(f"{mllm.name}: put back unchanged, the merged picture and words changed the answer by {again - full:.2g} "
                  "nats, so that changing tokens would be wrong here.")


def entering(mllm, prompt, target) -> list[torch.Tensor]:
    """What enters each block, (1, T, d) each, so that runs can start where something is changed. Cost: that of `merged`, and one block.

    Only what enters block 0 where a start at the last block does not give the same answer: every run has to start there then.
    Raises Refusal as `merged` does.
    """
    with record(mllm, *points(mllm)[1:-1]) as seen:
        stream, full = _checked(mllm, prompt, target)
    states = [stream, *seen.values()]
    late = float(at_once(mllm, prompt, target, states[-1], len(states) - 1)[0])
    return states if abs(late - full) <= mllm.slack else states[:1]


def blank(mllm, prompt, target, stream: torch.Tensor) -> torch.Tensor:
    """(1, T, d) the stream of a picture of the mean colour, with the mean of all words in the place of the question's: a prompt of nothing."""
    plain = mllm.prompt(filling(prompt.picture, "mean"), prompt.question)
    empty, image = stream.clone(), prompt.tokens.image.to(stream.device)
    empty[:, image] = merged(mllm, plain, target)[:, image]
    mean = weight_of(mllm.model.get_input_embeddings()).detach().float().mean(0)
    words = prompt.tokens.question
    # As long as the word itself: the mean of many words is short, and near zero the integral does not converge.
    empty[:, words] = (stream[:, words].float().norm(dim=-1, keepdim=True) * mean / mean.norm()).to(stream)
    return empty


def inputs(mllm, prompt, target, times: int) -> dict:
    """What the model takes beside the stream, `times` rows of it."""
    return (repeat_all if mllm.along else repeat_text)(mllm.forced(prompt, target), times)


def score(mllm, prompt, target, streams: torch.Tensor) -> torch.Tensor:
    """Log-probability of the target when each of `streams` (N, T, d) takes the place of the merged one: (N,), in nats."""
    return torch.cat(in_batches(mllm, streams, lambda batch: at_once(mllm, prompt, target, batch)))


def at_once(mllm, prompt, target, streams: torch.Tensor, block: int = 0) -> torch.Tensor:
    """The same for one batch, however large; for what also differs from row to row, such as cuts, within `in_batches`.

    block: what `streams` enter; those before it do not run.
    """
    with skipped(mllm, block), edit(mllm, {"embed": streams.to}):
        return mllm.score_inputs(inputs(mllm, prompt, target, len(streams)), target)


def gradients(mllm, prompt, target, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same scores (N,), and their gradients with respect to each stream: (N, T, d), float32.

    Cost: one forward and one backward pass through the decoder for each stream, `batch_size` at a time.
    """
    def run(batch):
        leaf = batch.detach().clone().requires_grad_()
        with edit(mllm, {"embed": leaf.to}):
            value = mllm.score_inputs(inputs(mllm, prompt, target, len(batch)), target, gradient=True)
        return value.detach(), mllm.backward(value, [leaf])[0].float()

    scores, found = zip(*in_batches(mllm, streams, run))
    return torch.cat(scores), torch.cat(found)
