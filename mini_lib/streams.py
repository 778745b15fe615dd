"""The answer as a function of the stream before block 0, where picture and words are already merged; with gradients.

    stream = merged(mllm, prompt, target)                        # (1, T, d)
    scores = score(mllm, prompt, target, streams)                # (N,) of N changed streams
    scores, gradients = gradients(mllm, prompt, target, streams)  # (N,), (N, T, d)

The vision tower runs once, for `merged`; whatever is changed after that costs the decoder alone.
"""

from __future__ import annotations

import torch

from .hooks import edit, record
from .mllm import repeat_text
from .refusal import Refusal


def merged(mllm, prompt, target) -> torch.Tensor:
    """(1, T, d) the stream before block 0 of the prompt with the target's tokens forced. Cost: one forward pass and one more.

    Raises Refusal when the stream alone does not bring the same answer: then the model also looks at the picture's inputs
    elsewhere, as for its positions, and every function of the stream would be wrong.
    """
    with record(mllm, "embed") as seen:
        full = float(mllm.score(prompt, target)[0])
    stream = seen["embed"]
    again = float(score(mllm, prompt, target, stream)[0])
    if not abs(again - full) <= mllm.slack:
        raise Refusal(f"{mllm.name}: put back unchanged, the merged picture and words changed the answer by {again - full:.2g} "
                      "nats, so its positions depend on the picture's inputs; changing tokens would be wrong here.")
    return stream


def score(mllm, prompt, target, streams: torch.Tensor) -> torch.Tensor:
    """Log-probability of the target when each of `streams` (N, T, d) takes the place of the merged one: (N,), in nats."""
    inputs, out = mllm.forced(prompt, target), []
    for batch in streams.split(mllm.batch_size):
        with edit(mllm, {"embed": lambda x, batch=batch: batch.to(x)}):
            out.append(mllm.score_inputs(repeat_text(inputs, len(batch)), target))
    return torch.cat(out)


def gradients(mllm, prompt, target, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same scores (N,), and their gradients with respect to each stream: (N, T, d), float32.

    Cost: one forward and one backward pass through the decoder for each stream, `batch_size` at a time.
    """
    inputs, scores, found = mllm.forced(prompt, target), [], []
    for batch in streams.split(mllm.batch_size):
        leaf = batch.detach().clone().requires_grad_()
        with edit(mllm, {"embed": lambda x, leaf=leaf: leaf.to(x)}):
            value = mllm.score_inputs(repeat_text(inputs, len(batch)), target, gradient=True)
        found.append(mllm.backward(value, [leaf])[0].float())
        scores.append(value.detach())
    return torch.cat(scores), torch.cat(found)
