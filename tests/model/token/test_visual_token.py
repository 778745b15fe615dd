"""Logit lens and token ablation: exact where they must be, right where the world knows, and known errors are caught."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mini_lib import hooks, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.model.token import visual_token
from mini_lib.model.token.visual_token import effects, logit_lens, read
from mini_lib.registry import find
from mini_lib.world.shots import HELD_OUT, MADE_UP


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 2)


@pytest.fixture(scope="module")
def prompt(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


@pytest.mark.parametrize("slug", ["logit-lens", "token-ablation"])
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert [str(i) for i in find(slug).identity(model, prompt) if not i.passed] == []


def test_norming_the_last_layer_twice_is_caught(mllm, prompt, monkeypatch):
    """`hidden_states[-1]` is already normed: norming it again is a known silent error, visible once norm weights differ."""
    model = redrawn(mllm, 2)

    def twice(m, hidden):
        with torch.no_grad():
            return m.parts.head(m.parts.norm(m.parts.norm(hidden))).float().softmax(-1)
    monkeypatch.setattr(visual_token, "read", twice)
    assert not find("logit-lens").identity(model, prompt)[0].passed


def test_reading_without_the_norm_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(visual_token, "read", lambda m, hidden: m.parts.head(hidden).detach().float().softmax(-1))
    assert not find("logit-lens").identity(mllm, prompt)[0].passed


def test_the_lens_gives_distributions_of_the_right_shape(model, prompt):
    with hooks.record(model, "block.3") as seen:
        model.logits(prompt.inputs)
    chance = read(model, seen["block.3"][0, prompt.tokens.image])
    assert chance.shape == (64, len(model.tokenizer)) and torch.allclose(chance.sum(-1), torch.ones(64), atol=1e-5)
    result = logit_lens(model, prompt, "red")
    assert np.allclose(result.chance[4].ravel(), chance.max(-1).values, atol=1e-6)
    assert np.allclose(result.word_chance[4].ravel(), chance[:, model.tokens("red")[0]], atol=1e-6)
    assert result.words.shape == result.chance.shape == result.word_chance.shape == (7, 8, 8)
    assert (result.word_chance <= result.chance + 1e-6).all()


def test_effects_in_a_batch_are_those_of_one_set_at_a_time(model, prompt):
    rng, target = np.random.default_rng(0), model.target(prompt, "red")
    sets = rng.random((5, 64)) < 0.2
    image = prompt.tokens.image
    plain = float(model.score(prompt, target)[0])
    for size in (2, 64):
        batched = effects(replace(model, batch_size=size), prompt, target, sets)
        for chosen, drop in zip(sets, batched):
            def averaged(x, chosen=chosen):
                x = x.clone()
                x[:, image[chosen]] = x[:, image].mean(1, keepdim=True)
                return x
            with hooks.edit(model, {"embed": averaged}):
                assert plain - float(model.score(prompt, target)[0]) == pytest.approx(float(drop), abs=1e-3)


def test_with_all_image_tokens_alike_it_no_longer_matters_where_anything_lies(mllm):
    """All tokens become the mean: moving two of them about before that changes nothing after it."""
    sample = world.sample(1, 5, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    target, image = mllm.target(prompt), prompt.tokens.image

    def mean(x, order):
        x = x.clone()
        x[:, image] = x[:, image[order]].mean(1, keepdim=True)
        return x
    scores = []
    for order in (torch.arange(64), torch.randperm(64)):
        with hooks.edit(mllm, {"embed": lambda x, order=order: mean(x, order)}):
            scores.append(float(mllm.score(prompt, target)[0]))
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    everything = effects(mllm, prompt, target, np.ones((1, 64), bool))[0]
    assert float(mllm.score(prompt, target)[0]) - scores[0] == pytest.approx(float(everything), abs=1e-3)


@pytest.fixture(scope="module")
def readings(mllm):
    """Share of tokens whose last-layer word is a colour or shape of the picture's objects, on ground and on objects."""
    samples, control = world.sample(60, 41, kinds=("color",), objects=(2, 4)), redrawn(mllm, 0)
    labels = world.patch_labels(samples.scenes)
    shape, color = labels["shape"], labels["color"]
    out = {name: [] for name in ("ground", "ground, other picture", "ground, random model", "objects", "objects, other picture",
                                 "objects, made-up words")}

    def there(i):
        return [*np.array(world.SHAPES)[shape[i][shape[i] >= 0]], *np.array(world.COLORS)[color[i][color[i] >= 0]]]
    for i, sample in enumerate(samples):
        prompt = mllm.prompt(sample.picture, sample.question)
        words = logit_lens(mllm, prompt).words[-1].astype(str)
        noise = logit_lens(control, prompt, "red").words[-1].astype(str)
        for name, where in (("ground", shape[i] < 0), ("objects", shape[i] >= 0)):
            out[name].append(np.isin(words[where], there(i)).mean())
            out[f"{name}, other picture"].append(np.isin(words[where], there(i - 1)).mean())
        out["objects, made-up words"].append(np.isin(words[shape[i] >= 0], [*MADE_UP, *HELD_OUT]).mean())
        out["ground, random model"].append(np.isin(noise[shape[i] < 0], there(i)).mean())
    return {name: interval(values) for name, values in out.items()}


def test_hardly_a_token_can_be_read_and_the_chapter_says_so(readings):
    """Findings about `tiny`, not wishes: few words fit the picture, and on the objects most are made-up ones."""
    assert readings["ground"][2] < 0.1 and readings["objects"][2] < 0.2, readings
    assert readings["ground"][1] < readings["ground, random model"][2], readings
    assert readings["objects, made-up words"][1] > 0.5, readings


def test_the_objects_own_tokens_do_not_name_them_and_the_chapter_says_so(readings):
    """A finding about `tiny`, not a wish: what they say fits another picture about as often as their own."""
    assert readings["objects"][1] < readings["objects, other picture"][2], readings


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
