"""Sinks: exact where it must be, planted ones are found, known errors are caught, and `tiny` has none."""

from contextlib import contextmanager

import numpy as np
import torch

from mini_lib import hooks
from mini_lib.evaluate import interval
from mini_lib.model.token.visual_token import sinks as module
from mini_lib.model.token.visual_token.sinks import OUTLYING, measure, outlying, sinks
from mini_lib.registry import find


def failed(model, prompt):
    return [one.claim for one in find("sinks").identity(model, prompt) if not one.passed]


def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt):
    assert failed(model, prompt) == []


def test_attention_that_is_paid_taken_for_attention_that_is_got_is_caught(model, prompt, monkeypatch):
    """Rows are queries; summed over the wrong axis, they are what the image tokens pay."""
    plain = hooks.attention
    monkeypatch.setattr(module, "attention", lambda mllm, change: plain(
        mllm, change=lambda weights: (change(weights.transpose(2, 3)), weights)[1]))
    assert "the attention of a word adds up to 1" in failed(model, prompt)


def test_lengths_at_the_wrong_positions_are_caught(model, prompt, monkeypatch):
    plain = hooks.record

    class Rolled(dict):
        def __getitem__(self, name):
            return super().__getitem__(name).roll(1, 1)

    @contextmanager
    def shifted(mllm, *names):
        late = Rolled()
        with plain(mllm, *names) as seen:
            yield late
            late.update(seen)
    monkeypatch.setattr(module, "record", shifted)
    assert "a token made 50 times longer is measured as that, and all others as before" in failed(model, prompt)


def test_what_is_measured_is_what_transformers_gives(mllm, prompt):
    """A second way to the same numbers: lengths from its hidden states, attention from the kept weights."""
    target = mllm.target(prompt)
    lengths, received, _ = measure(mllm, prompt, target)
    inputs, image = mllm.forced(prompt, target), prompt.tokens.image
    with torch.no_grad():
        hidden = mllm.model(**inputs, output_hidden_states=True).hidden_states[:-1]
    assert np.allclose(lengths, torch.stack([one[0, image].norm(dim=-1) for one in hidden]), rtol=1e-4)
    with hooks.attention(mllm) as weights:
        mllm.logits(inputs)
    after = slice(int(image[-1]) + 1, None)
    assert np.allclose(received, torch.stack([weights[k][0, :, after][..., image].mean((0, 1)) for k in range(6)]), atol=1e-6)


def test_nothing_is_kept_but_what_is_reported(mllm, prompt):
    found = sinks(mllm, prompt, "red")
    lengths, received, _ = measure(mllm, prompt, mllm.target(prompt, "red"))
    assert found.values.shape == (2, 6) and np.allclose(found.values, [outlying(lengths).max(1), outlying(received).max(1)])
    assert found.measured["forward_passes"] == 1
    assert found.measured["watched"] == np.argwhere(outlying(received) > OUTLYING).tolist()
    assert np.allclose(found.measured["attention on the picture"], received.sum(1), atol=1e-4)


def test_a_planted_long_token_is_listed(mllm, prompt):
    target = mllm.target(prompt, "red")

    def longer(x):
        x = x.clone()
        x[:, prompt.tokens.image[9]] *= 30
        return x
    with hooks.edit(mllm, {"embed": longer}):
        found = sinks(mllm, prompt, target)
    assert [0, 9] in found.measured["long"] and {token for _, token in found.measured["long"]} == {9}


def test_where_nothing_is_received_nothing_stands_out():
    assert (outlying(np.zeros((2, 4))) == 0).all()
    assert np.allclose(outlying(np.array([[1.0, 1, 1, 5]])), [[0.5, 0.5, 0.5, 2.5]])


def test_tiny_has_no_sinks_and_the_chapter_says_so(mllm, tokens):
    """Findings: no token is long; attention that stands out follows the question; later blocks pay it without need."""
    long, asked, ground, share, on_picture = 0.0, [], [], [], []
    for i, prompt in enumerate(tokens.prompts):
        lengths, received, _ = measure(mllm, prompt, mllm.target(prompt))
        ratios = outlying(received)[1:4]
        long = max(long, outlying(lengths).max())
        patches, bare = tokens.samples.patches[i].ravel(), tokens.labels["shape"][i].ravel() < 0
        if (ratios > OUTLYING).any():
            asked.append((ratios > OUTLYING)[:, patches].sum() / (ratios > OUTLYING).sum())
            ground.append((ratios > OUTLYING)[:, bare].sum() / (ratios > OUTLYING).sum())
            share.append(patches.mean())
        on_picture.append(received[3:].sum(1).mean())
    assert long < OUTLYING / 2
    assert interval(asked)[1] > 3 * np.mean(share) and interval(ground)[2] < 0.3, (interval(asked), interval(ground))
    assert interval(on_picture)[1] > 0.5, interval(on_picture)
