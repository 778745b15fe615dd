"""What goes into a model: turns of a conversation, and tensors repeated and extended, whatever a family puts beside its tokens."""

from __future__ import annotations

import numpy as np
import torch

from .refusal import Refusal


def turn(role: str, text: str, pictures=()) -> dict:
    return {"role": role, "content": [*({"type": "image", "image": picture} for picture in pictures),
                                      {"type": "text", "text": text}]}


def each(picture) -> list:
    """One picture or several, as a list."""
    several = isinstance(picture, (list, tuple)) or isinstance(picture, np.ndarray) and picture.ndim == 4
    if several and not len(picture):
        raise Refusal("There is no picture in the list; give at least one.")
    return list(picture) if several else [picture]


def triple(shot) -> tuple:
    if not isinstance(shot, (list, tuple)) or len(shot) != 3 or not str(shot[2] or "").strip():
        raise Refusal("Each shot has to be (picture, question, answer); give a list of such triples.")
    return shot[0], shot[1], str(shot[2]).strip()


def per_token(inputs: dict) -> list[str]:
    """Names of the inputs that hold something for each token, whatever a family calls them."""
    return [name for name, value in inputs.items() if value.shape[:2] == inputs["input_ids"].shape]


def alike(inputs: list[dict]) -> list[list[int]]:
    """Numbers of the inputs that have one form, so that they can go through the model together; no padding, which would move positions."""
    groups: dict = {}
    for k, one in enumerate(inputs):
        groups.setdefault(tuple((name, tuple(value.shape)) for name, value in one.items()), []).append(k)
    return list(groups.values())


def joined(inputs: list[dict]) -> dict:
    """Inputs of one form as a batch. A family's patches, tiles and grids follow one another along the first axis, as rows of tokens do."""
    return {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}


def repeat_text(inputs: dict, times: int) -> dict:
    """The per-token inputs of a batch of one, repeated; what belongs to the picture is left out."""
    return repeat_all({name: inputs[name] for name in per_token(inputs)}, times)


def repeat_all(inputs: dict, times: int) -> dict:
    """All inputs of a batch of one, repeated. A family's patches, tiles and grids follow one another along the first axis."""
    return {name: value.repeat(times, *[1] * (value.dim() - 1)) for name, value in inputs.items()}


def extend(inputs: dict, ids) -> dict:
    """Append tokens to every row; each per-token input grows with them (a missed one raises an IndexError later)."""
    if not len(ids):
        return inputs
    grown, extra = dict(inputs), torch.tensor([list(ids)], device=inputs["input_ids"].device).repeat(len(inputs["input_ids"]), 1)
    for name in per_token(inputs):
        if inputs[name].dim() > 2:                               # which pictures a word may look at: the same as the last one
            grown[name] = torch.cat([inputs[name], inputs[name][:, -1:].expand(-1, len(ids), *inputs[name].shape[2:])], 1)
            continue
        # PaliGemma's prompt is one block of zeros that sees all of itself; what follows is 1, or the prompt would look ahead at it.
        ones = name == "attention_mask" or name == "token_type_ids" and not inputs[name].any()
        tail = extra if name == "input_ids" else torch.full_like(extra, int(ones))
        grown[name] = torch.cat([inputs[name], tail.to(inputs[name].dtype)], 1)
    return grown
