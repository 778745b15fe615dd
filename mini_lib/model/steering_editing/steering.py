"""Steering: add a vector to the stream, and count what the model then says, where it should change and where it should not.

    h_l[p] := h_l[p] + t r   for places p in P           t: dose; 0 nothing, 1 the whole difference of two groups' means

h_l: (T, d) stream at point l.  r: (d,), such as the mean over blue objects less the mean over red ones.  P: the places that hold
what is to be changed, such as the patches of an object, or the word of the question that names it.

A change of meaning is more than another answer to one question. When the object is blue now, all questions have the answers that they have
for a picture in which it is blue: some change, some stay. So prompts come in groups, each with the answer that it should get, and each
group is a line of the result. Beside each line stands the same for random vectors, as long and at right angles.

Sources: vectors added to the stream: Turner et al. 2023, arXiv:2308.10248; differences of means as such vectors: Rimsky et al. 2023,
arXiv:2312.06681; shifts of concepts in a multimodal LLM as steering vectors: Khayatan et al. 2025, arXiv:2501.03012. Answers to all
questions about the steered object, scored against a truly changed picture, are ours.
Misleads when only the wanted answer is counted: a dose that breaks the model may raise it too; when the vector is tried on the prompts that
it was made from; and when it works: that a change moves the answer does not say that the model used this direction before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...evaluate import interval
from ...hooks import points
from ...refusal import Refusal
from ...registry import Identity, method
from ...results import Curves
from ...steer import after, direction, orthogonal
from ...trial import variants
from ...vectors import states

PAPER = "Turner et al. 2023, arXiv:2308.10248"


def identity(mllm, prompt) -> list[Identity]:
    """Dose 0 is the model; the whole difference at the end is the other prompt; behind the last block only the end counts."""
    one, other = variants(mllm, prompt, 2)
    end, last = one.inputs["input_ids"].shape[1] - 1, points(mllm)[-1]
    plain = torch.stack([mllm.logits(each.inputs)[0, -1].log_softmax(-1).cpu() for each in (one, other)])
    r = direction(states(mllm, [one, other], [end, end])[:, -1], [0, 1])
    doses = [after(mllm, [one], [end], last, dose * r)[0] for dose in (0.0, 1.0)]
    elsewhere = after(mllm, [one], [range(end)], last, r)[0]
    both = after(mllm, [one, other], [end, end], last, torch.stack([r, -r]))
    return [Identity("dose 0 changes nothing", float((doses[0] - plain[0]).abs().max()), mllm.slack),
            Identity("the whole difference, added at the end, gives the other prompt's answer", float((doses[1] - plain[1]).abs().max()), mllm.slack),
            Identity("behind the last block, what is added anywhere but at the end changes nothing", float((elsewhere - plain[0]).abs().max()), mllm.slack),
            Identity("each prompt of a batch gets its own vector: there and back are the two prompts changed for each other",
                     float((both - plain.flip(0)).abs().max()), mllm.slack)]


def trial(mllm, prompt, token=None) -> Curves:
    """Four pictures made from one, the first two steered towards the others at their image tokens, before block 0."""
    target, prompts = mllm.target(prompt, token), variants(mllm, prompt, 4)
    places = [one.tokens.image for one in prompts]
    r = direction(states(mllm, prompts, places, ["embed"])[:, 0], [0, 0, 1, 1])
    result = steering(mllm, prompts[:2], places[:2], "embed", r, [target.ids[target.first]] * 2, doses=(0, 1), controls=2)
    passes = result.measured["forward_passes"] + len(prompts)
    return replace(result, question=prompt.question, target=target.text, measured={**result.measured, "forward_passes": passes})


@method("steering", node="model/steering-editing", paper=PAPER, trial=trial, identity=identity,
        cost="one forward pass a prompt for the means; one a prompt, dose and vector, five of which are controls; no backward pass")
def steering(mllm, prompts, places, point: str, r, wanted, groups=None, *, doses=(0, 0.25, 0.5, 0.75, 1, 1.5, 2), controls: int = 5,
             seed: int = 0) -> Curves:
    """How often the next word is the one that the changed picture calls for, over the dose, for each group of prompts.

    places: for each prompt a position or several, where `r` is added.  point: of `hooks`.  r: (d,), as `steer.direction` gives it.
    wanted: for each prompt the id of a word: what should be said once the change is made, or still, where nothing should change.
    groups: for each prompt the name of its line; one line by itself.  controls: how many random vectors, of the length of `r` and at right angles.
    Returns Curves of (groups, then the same under random vectors, doses): shares of prompts with 95 % intervals.
    The prompts have to be others than `r` is from.  Raises Refusal for lists of different lengths.
    """
    groups = ["steered"] * len(prompts) if groups is None else list(groups)
    if not len(prompts) == len(places) == len(wanted) == len(groups):
        raise Refusal(f"{len(prompts)} prompts, {len(places)} places, {len(wanted)} words and {len(groups)} groups: give one of each for each prompt.")
    before, r, wanted = mllm.passes, torch.as_tensor(r), torch.as_tensor(wanted)
    said = np.empty((1 + controls, len(doses), len(prompts)))
    for row, vector in enumerate([r, *orthogonal(r, controls, seed)]):
        for column, dose in enumerate(doses):
            said[row, column] = (after(mllm, prompts, places, point, dose * vector).argmax(-1) == wanted).numpy()
    names, values = list(dict.fromkeys(groups)), []
    for shares in (said[0], said[1:].mean(0)):
        for name in names:
            values.append([interval(one) for one in shares[:, [group == name for group in groups]]])
    mean, low, high = np.moveaxis(np.array(values), -1, 0)
    return Curves(mean, [*names, *(f"{name}, random" for name in names)], [f"{dose:g}" for dose in doses], "dose",
                  "share that says what it should", f"steering, {point}", low, high,
                  measured={"forward_passes": mllm.passes - before, "prompts": len(prompts), "length": float(r.norm())})
