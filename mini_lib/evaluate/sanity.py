"""Negative controls: what an explanation must not score as well as."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch

from ..parts import find_parts


def random_map(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A map of noise."""
    return rng.random(shape)


def redrawn(mllm, seed: int = 0):
    """The same architecture with every weight drawn anew: a model that has learnt nothing.

    Each tensor, norm weights and biases included, is replaced by normal noise of its own mean and spread, so sizes of
    activations stay sensible. A method whose maps look the same on it explains the architecture, not the model
    (Adebayo et al. 2018, arXiv:1810.03292). Returns a new MLLM; the given one is untouched.
    """
    network = copy.deepcopy(mllm.model)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            fresh = torch.randn(weight.shape, generator=noise) * (weight.std().cpu() if weight.numel() > 1 else 0)
            weight.copy_(weight.mean().cpu() + fresh)
    return replace(mllm, name=f"{mllm.name}, weights re-drawn", model=network, parts=find_parts(network), checks={})
