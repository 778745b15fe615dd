"""Vectors of words and of places in many prompts: `rows(mllm, words)`, `states(mllm, prompts, positions)`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .batches import in_batches
from .hooks import points, record
from .inputs import alike, joined
from .parts import weight_of
from .refusal import Refusal


def rows(mllm, words: Sequence[str]) -> dict[str, torch.Tensor]:
    """The vectors that a word has in the weights, before any prompt: each (N, d), float32 on the CPU.

    "input": rows of the word embedding.  "output": rows of the unembedding W_U; left out where a model has tied the two, which
    then are one.  A word stands for its token after a space.  Raises Refusal for a word of several tokens.
    """
    ids = torch.tensor([mllm.tokens(word)[-1] for word in words])
    found = {name: weight_of(part).detach()[ids.to(weight_of(part).device)].float().cpu()
             for name, part in (("input", mllm.model.get_input_embeddings()), ("output", mllm.parts.head))}
    if torch.equal(found["input"], found["output"]):
        del found["output"]
    return found


def states(mllm, prompts: Sequence, positions: Sequence, names: Sequence[str] | None = None) -> torch.Tensor:
    """(N, points, d) float32 on the CPU: for each prompt its mean stream over some positions, at each point.

    positions: for each prompt one position or several.  names: points of `hooks`; by itself "embed" and every block.  Those of
    the vision tower count the tower's own positions, and need a tower that keeps one row a picture and one width.
    Prompts of one form go through the model together, `batch_size` at a time. Cost: one forward pass a prompt.
    Raises Refusal for no prompts, for one without positions, and for a position that is not there.
    """
    if not len(prompts) or len(positions) != len(prompts):
        raise Refusal(f"{len(prompts)} prompts and {len(positions)} lists of positions; give at least one prompt, and a list for each.")
    where, names = [torch.as_tensor(one).flatten().long() for one in positions], list(names or points(mllm))
    for prompt, at in zip(prompts, where):
        if not len(at):
            raise Refusal(f"There is no position for {prompt.question!r}; give at least one for each prompt.")
    out = [torch.empty(0)] * len(prompts)

    def run(chunk):
        with record(mllm, *names) as seen:
            mllm.logits(joined([prompts[i].inputs for i in chunk]))
        if any(len(seen[name]) != len(chunk) or seen[name].dim() != 3 for name in names):
            raise Refusal(f"{mllm.name} does not keep one row a prompt at {', '.join(names)}; ask for points of the decoder.")
        for row, i in enumerate(chunk):
            if int(where[i].max()) >= min(seen[name].shape[1] for name in names):
                raise Refusal(f"There is no position {int(where[i].max())} at {', '.join(names)} for {prompts[i].question!r}.")
            out[i] = torch.stack([seen[name][row, where[i].to(seen[name].device)].float().mean(0).cpu() for name in names])

    for group in alike([prompt.inputs for prompt in prompts]):
        in_batches(mllm, group, run)
    return torch.stack(out)
