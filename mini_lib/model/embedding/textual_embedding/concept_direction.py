"""Concept direction: the difference of two means, and what happens when it is added.

    r = mean h_l over prompts of kind 1  -  mean h_l over prompts of kind 0
    f(t) = f with h_l := h_l + t r at the same place                    t: dose, 0 nothing, 1 the whole difference

h_l: (d,) stream at one place, such as the word "red" or "blue" of a question, after l blocks.  f: log-probability that the next word is
the one wanted, less that of the one not wanted, in nats.  A reading of a direction is a guess until it is added: it should move f steadily, and
as long a random direction at right angles to it should not.

Sources: adding a difference of two prompts' activations: Turner et al. 2023, arXiv:2308.10248; the difference of means of two
groups as a direction that acts: Marks and Tegmark 2023, arXiv:2310.06824.  The control at right angles is ours.
Misleads when the dose drives the stream to where no prompt ever was, when only a random direction is compared that destroys as much as it
adds nothing (compare with a concept that is not in the picture), and at a layer where what is read there is not used any more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ....evaluate import interval
from ....hooks import points
from ....registry import Identity, method
from ....results import Curves
from ....steer import after, direction, orthogonal
from ....trial import variants
from ....vectors import states

NODE = "model/embedding/textual-embedding"
PAPER = "Turner et al. 2023, arXiv:2308.10248; Marks and Tegmark 2023, arXiv:2310.06824"


def identity(mllm, prompt) -> list[Identity]:
    """Dose 0 changes nothing; dose 1 of the difference of two prompts is the other prompt; controls are as long and at right angles."""
    one, other = variants(mllm, prompt, 2)
    end, last = one.inputs["input_ids"].shape[1] - 1, points(mllm)[-1]
    pair = states(mllm, [one, other], [end, end])[:, -1]
    r = direction(pair, [0, 1])
    logprobs = [mllm.logits(each.inputs)[0, -1].log_softmax(-1).cpu() for each in (one, other)]
    doses = [after(mllm, [one], [end], last, dose * r)[0] for dose in (0.0, 1.0)]
    aside = orthogonal(r, 3)
    return [Identity("dose 0 changes nothing", float((doses[0] - logprobs[0]).abs().max()), mllm.slack),
            Identity("the whole difference, added at the end, gives the other prompt's answer", float((doses[1] - logprobs[1]).abs().max()), mllm.slack),
            Identity("controls are at right angles", float((aside @ r).abs().max() / (r @ r).clamp(min=1e-12)), 1e-5),
            Identity("controls are as long", float((aside.norm(dim=-1) / r.norm().clamp(min=1e-12) - 1).abs().max()), 1e-5)]


def trial(mllm, prompt, token=None) -> Curves:
    """Four pictures made from one, the first two against the others, at the last position of the last block but one."""
    target = mllm.target(prompt, token)
    prompts = variants(mllm, prompt, 4)
    ends = [one.inputs["input_ids"].shape[1] - 1 for one in prompts]
    wanted = target.ids[target.first]
    r = direction(states(mllm, prompts, ends)[:, -2], [0, 0, 1, 1])
    result = concept_direction(mllm, prompts[:2], ends[:2], points(mllm)[-2], r, [wanted] * 2, doses=(0, 1))
    passes = result.measured["forward_passes"] + len(prompts)
    return replace(result, question=prompt.question, target=target.text, measured={**result.measured, "forward_passes": passes})


@method("concept-direction", node=NODE, paper=PAPER, trial=trial, identity=identity,
        cost="one forward pass a prompt for the means; one a prompt, dose and direction, five of which are controls; no backward pass")
def concept_direction(mllm, prompts, positions, point: str, r, wanted, unwanted=None, *, others=None,
                      doses=(0, 0.25, 0.5, 0.75, 1, 1.5), controls: int = 5, seed: int = 0) -> Curves:
    """What adding a direction does to the next word.

    positions: for each prompt the place where it is added.  point: of `hooks`.  r: (d,), as `steer.direction` gives it.
    wanted, unwanted: for each prompt the ids of two words; without the second f is the log-probability of the first.
    others: name -> (d,), further directions to compare with.  controls: how many random ones at right angles are averaged.
    Returns Curves of (directions, doses) in nats, mean over the prompts with 95 % intervals. The prompts have to be others than r is from.
    """
    before, wanted = mllm.passes, torch.as_tensor(wanted)
    given = {"difference of means": torch.as_tensor(r)[None], **{name: torch.as_tensor(one)[None] for name, one in (others or {}).items()},
             "random, at right angles": orthogonal(torch.as_tensor(r), controls, seed)}
    values = []
    for some in given.values():
        line = []
        for dose in doses:
            every = []
            for one in some:
                logprobs = after(mllm, prompts, positions, point, dose * one)
                every.append(logprobs.gather(1, wanted[:, None])[:, 0]
                             - (0 if unwanted is None else logprobs.gather(1, torch.as_tensor(unwanted)[:, None])[:, 0]))
            line.append(interval(torch.stack(every).mean(0).double().numpy()))
        values.append(line)
    mean, low, high = np.moveaxis(np.array(values), -1, 0)
    return Curves(mean, list(given), [f"{dose:g}" for dose in doses], "dose", "nats for the wanted word", f"concept direction, {point}",
                  low, high, measured={"forward_passes": mllm.passes - before, "prompts": len(prompts)})
