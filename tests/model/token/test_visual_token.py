"""Logit lens and token ablation: exact where they must be, right where the world knows, and known errors are caught."""

import numpy as np
import pytest
import torch

from mini_lib import hooks, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.model.token import visual_token
from mini_lib.model.token.visual_token import effects, lens, logit_lens, token_ablation
from mini_lib.registry import find


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 1)


@pytest.fixture(scope="module")
def prompt(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


@pytest.mark.parametrize("slug", ["logit-lens", "token-ablation"])
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert [str(i) for i in find(slug).identity(model, prompt) if not i.passed] == []


def test_norming_the_last_layer_twice_is_caught(mllm, prompt, monkeypatch):
    """`hidden_states[-1]` is already normed: norming it again is a known silent error, visible once norm weights differ."""
    model = redrawn(mllm, 1)

    def twice(m, hidden):
        with torch.no_grad():
            return m.parts.head(m.parts.norm(m.parts.norm(hidden))).float().softmax(-1)
    monkeypatch.setattr(visual_token, "read", twice)
    assert not find("logit-lens").identity(model, prompt)[0].passed


def test_reading_without_the_norm_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(visual_token, "read", lambda m, hidden: m.parts.head(hidden).detach().float().softmax(-1))
    assert not find("logit-lens").identity(mllm, prompt)[0].passed


def test_the_lens_gives_distributions_of_the_right_shape(model, prompt):
    chance = lens(model, prompt, hooks.points(model), prompt.tokens.image)
    assert chance.shape == (len(model.parts.blocks) + 1, 64, len(model.tokenizer))
    assert torch.allclose(chance.sum(-1), torch.ones(chance.shape[:2]), atol=1e-5)
    result = logit_lens(model, prompt, "red")
    assert result.words.shape == result.chance.shape == result.word_chance.shape == (7, 8, 8)
    assert (result.word_chance <= result.chance + 1e-6).all()


def test_effects_in_a_batch_are_those_of_one_set_at_a_time(model, prompt):
    rng, target = np.random.default_rng(0), model.target(prompt, "red")
    sets = rng.random((5, 64)) < 0.2
    image = prompt.tokens.image
    plain = float(model.score(prompt, target)[0])
    for size in (2, 64):
        model.batch_size = size
        batched = effects(model, prompt, target, sets)
        for chosen, drop in zip(sets, batched):
            def replace(x, chosen=chosen):
                x = x.clone()
                x[:, image[chosen]] = x[:, image].mean(1, keepdim=True)
                return x
            with hooks.edit(model, {"embed": replace}):
                assert plain - float(model.score(prompt, target)[0]) == pytest.approx(float(drop), abs=1e-3)
    model.batch_size = 64


def test_ablating_all_image_tokens_leaves_nothing_of_where(mllm):
    """With every image token equal to the mean, moving the picture's content about changes nothing."""
    sample = world.sample(1, 5, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    target = mllm.target(prompt)
    everything = effects(mllm, prompt, target, np.ones((1, 64), bool))[0]
    single = token_ablation(mllm, prompt).values.max()
    assert everything > single > 0


@pytest.fixture(scope="module")
def readings(mllm):
    """Share of patches whose likeliest last-layer word is an attribute of the object there, per picture."""
    samples = world.sample(60, 41, kinds=("color",), objects=(1, 4))
    shape, color = world.patch_labels(samples.scenes)
    control = redrawn(mllm, 0)
    on, off, shuffled, random_model = [], [], [], []
    for i, sample in enumerate(samples):
        prompt = mllm.prompt(sample.picture, sample.question)
        words, other = logit_lens(mllm, prompt).words[-1], logit_lens(control, prompt, "red").words[-1]
        thing = shape[i] >= 0

        def share(words, j):
            names = (words == np.array([*world.SHAPES, ""])[shape[j]]) | (words == np.array([*world.COLORS, ""])[color[j]])
            return names[shape[j] >= 0].mean()
        on.append(share(words, i))
        shuffled.append(share(words, (i + 1) % len(samples)))
        random_model.append(share(other, i))
        off.append(np.isin(words[~thing], [*world.COLORS, *world.SHAPES]).mean())
    return {name: np.array(values) for name, values in
            {"on": on, "shuffled": shuffled, "random model": random_model, "off": off}.items()}


def test_the_lens_names_objects_at_their_own_patches_more_than_the_controls(readings):
    own = interval(readings["on"])
    for control in ("shuffled", "random model"):
        assert own[1] > interval(readings[control])[2], (control, own, interval(readings[control]))


def test_ablating_the_objects_tokens_costs_more_than_as_many_random_ones(mllm):
    samples, rng = world.sample(60, 51, kinds=("color",), objects=(2, 4)), np.random.default_rng(0)
    own, other = [], []
    for sample in samples:
        prompt = mllm.prompt(sample.picture, sample.question)
        patches = sample.patches.ravel()
        rest = rng.choice(np.flatnonzero(~patches), patches.sum(), replace=False)
        sets = np.stack([patches, np.isin(np.arange(64), rest)])
        a, b = effects(mllm, prompt, mllm.target(prompt, sample.answer), sets)
        own.append(a)
        other.append(b)
    assert interval(np.array(own) - np.array(other))[1] > 1, (np.mean(own), np.mean(other))   # nats, lower end
