"""A trained and a re-drawn model, one prompt, and pictures whose right words are known."""

import numpy as np
import pytest
import torch

from mini_lib import hooks, world
from mini_lib.evaluate import redrawn


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 2)


@pytest.fixture(scope="module")
def prompt(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


class Tokens:
    """Pictures, their prompts, and the streams at their image tokens: (N, layers, 64, d)."""

    def __init__(self, mllm, n, seed):
        self.samples = world.sample(n, seed, kinds=("color", "shape"), objects=(2, 4))
        self.labels = world.patch_labels(self.samples.scenes)
        self.prompts = [mllm.prompt(one.picture, one.question) for one in self.samples]
        self.states = self.seen(mllm)

    def seen(self, mllm):
        kept = []
        for prompt in self.prompts:
            with hooks.record(mllm, *hooks.points(mllm)) as seen:
                mllm.logits(prompt.inputs)
            kept.append(torch.stack([seen[layer][0, prompt.tokens.image] for layer in seen]))
        return torch.stack(kept)

    def right(self, words, kind, shift=0):
        """(N, layers) share of the tokens on objects where `words` (N, layers, 64) has the patch's own word, or another picture's."""
        names, truth = np.array({"color": world.COLORS, "shape": world.SHAPES}[kind]), self.labels[kind].reshape(-1, 64)
        out = []
        for i, said in enumerate(words):
            thing, label = truth[i] >= 0, truth[i - shift][truth[i - shift] >= 0]
            out.append((said[:, thing] == names[np.resize(label, thing.sum())]).mean(1))
        return np.array(out)


@pytest.fixture(scope="package")
def tokens(mllm):
    return Tokens(mllm, 30, 61)


@pytest.fixture(scope="package")
def others(mllm):
    return Tokens(mllm, 30, 62)
