"""Two sides of many prompts: states of a picture's tokens and states of words, at every point of the stream.

    pictures = of_pictures(mllm, prompts)              # (points, N, d): the mean over each picture's tokens
    words = of_words(mllm, prompts, captions)          # (points, N, d): the mean over each caption's words
    colors = of_classes(mllm, prompts, labels, 8)      # (points, 8, d): the mean over all tokens of each label

A caption is forced behind its prompt as an answer, and nothing but the picture's own tokens can look at the picture
(`hooks.cut`): what the words hold comes from words alone. If they could see it, the two sides would be alike because one is
copied from the other.
"""

from __future__ import annotations

from contextlib import ExitStack

import torch

from .batches import in_batches
from .hooks import cut, points, record
from .inputs import alike, extend, joined
from .refusal import Refusal


def mean(tokens: torch.Tensor, k: int) -> torch.Tensor:
    """(n, d) -> (d,)"""
    return tokens.mean(0)


def of_pictures(mllm, prompts, pool=mean) -> torch.Tensor:
    """States of each picture's tokens, pooled: (points, N, …) float32, on the CPU.

    pool: `pool(tokens, k)` makes of the (n, d) states of prompt number k what is kept.  Cost: one forward pass a prompt.
    """
    return _pooled(mllm, [(prompt.inputs, prompt.tokens.image, ()) for prompt in prompts], pool)


def of_words(mllm, prompts, texts=None, pool=mean) -> torch.Tensor:
    """States of the words of each text, pooled: (points, N, …) float32, on the CPU.

    texts: one for each prompt; its words see each other and the question but not the picture.  Left out: the words of the
    prompts' own questions, which do see it.  Cost: one forward pass a prompt.
    Raises Refusal when there is not one text a prompt, and for words that the model does not know.
    """
    if texts is None:
        return _pooled(mllm, [(prompt.inputs, torch.tensor(prompt.tokens.question), ()) for prompt in prompts], pool)
    if len(texts) != len(prompts):
        raise Refusal(f"{len(texts)} texts for {len(prompts)} prompts; give one for each.")
    rows = []
    for prompt, text in zip(prompts, texts):
        ids, first = mllm.tokenizer.encode(text, add_special_tokens=False), prompt.inputs["input_ids"].shape[1]
        if not ids or mllm.tokenizer.unk_token_id in ids:
            raise Refusal(f"{mllm.name} does not know every word of {text!r}.")
        rows.append((extend(prompt.inputs, ids), torch.arange(first, first + len(ids)), tuple(prompt.tokens.image.tolist())))
    return _pooled(mllm, rows, pool)


def of_classes(mllm, prompts, labels, classes: int) -> torch.Tensor:
    """The mean state of all picture tokens with each label: (points, classes, d) float32, on the CPU.

    labels: (N, P) int, what each of a picture's tokens shows, 0 to `classes` - 1; below 0 it counts for none. Or (N, P, K), where it
    shows several things, such as a colour and a shape.
    Raises Refusal when a label never occurs.
    """
    labels = torch.as_tensor(labels)
    labels = labels[..., None] if labels.dim() == 2 else labels
    member = torch.nn.functional.one_hot(labels.clamp(min=-1) + 1, classes + 1)[..., 1:].sum(2).float()     # (N, P, classes)
    missing = [k for k in range(classes) if not member[..., k].any()]
    if missing:
        raise Refusal(f"No token has the label {missing[0]}; every one of the {classes} has to occur.")
    sums = of_pictures(mllm, prompts, lambda tokens, k: member[k].T @ tokens.cpu()).sum(1)     # (points, classes, d)
    return sums / member.sum((0, 1))[:, None]


def _pooled(mllm, rows, pool) -> torch.Tensor:
    """rows: (inputs, positions to pool, positions that no other position may look at) each."""
    layers, found = points(mllm), [None] * len(rows)

    def run(some):
        batch, hidden = joined([rows[k][0] for k in some]), rows[some[0]][2]
        with ExitStack() as stack:
            seen = stack.enter_context(record(mllm, *layers))
            if hidden:
                others = sorted(set(range(batch["input_ids"].shape[1])) - set(hidden))
                stack.enter_context(cut(mllm, others, hidden))
            mllm.logits(batch)
        for row, k in enumerate(some):
            found[k] = torch.stack([pool(seen[layer][row, rows[k][1].to(seen[layer].device)].float(), k).cpu() for layer in layers])

    for group in alike([row[0] for row in rows]):
        for hidden in sorted({rows[k][2] for k in group}):
            in_batches(mllm, [k for k in group if rows[k][2] == hidden], run)
    return torch.stack(found, 1)
