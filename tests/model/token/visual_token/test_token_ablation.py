"""Token ablation, at one layer and at each: exact, right where the world knows, and known errors are caught."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mini_lib import hooks, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.model.token.visual_token import token_ablation as module
from mini_lib.model.token.visual_token.token_ablation import averaged, effects, token_ablation_by_layer
from mini_lib.refusal import Refusal
from mini_lib.registry import find


@pytest.mark.parametrize("slug", ["token-ablation", "token-ablation-by-layer"])
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert [str(i) for i in find(slug).identity(model, prompt) if not i.passed] == []


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


def mean_of_everything(stream, image, chosen):
    """A realistic slip: the mean is taken over all positions, words too."""
    stream = stream.clone()
    stream[:, image] = torch.where(chosen[..., None], stream.mean(1, keepdim=True), stream[:, image])
    return stream


def first_row_only(stream, image, chosen):
    """Another one: what holds for a batch of one is written for its first row."""
    changed = stream.clone()
    changed[0] = averaged(stream, image, chosen)[0]
    return changed


def shifted(stream, image, chosen):
    """And another: numbers of image tokens are taken for positions."""
    return averaged(stream, image - image[0], chosen)


@pytest.mark.parametrize("bug, claim", [(mean_of_everything, "become the mean"), (shifted, "become the mean")])
def test_replacing_by_or_at_the_wrong_thing_is_caught(model, prompt, monkeypatch, bug, claim):
    monkeypatch.setattr(module, "averaged", bug)
    failed = [one.claim for one in find("token-ablation-by-layer").identity(model, prompt) if not one.passed]
    assert any(claim in one for one in failed), failed


def test_replacing_in_the_first_row_only_is_caught(mllm, prompt, monkeypatch):
    sets, target = np.ones((3, 64), bool), mllm.target(prompt)
    whole = effects(mllm, prompt, target, sets)
    assert np.ptp(whole) < 1e-3
    monkeypatch.setattr(module, "averaged", first_row_only)
    assert not np.allclose(effects(mllm, prompt, target, sets), whole, atol=1e-2)


def test_by_layer_starts_with_token_ablation_and_ends_with_nothing(model, prompt):
    rng = np.random.default_rng(0)
    sets = {"some": rng.random(64) < 0.3, "others": rng.random((8, 8)) < 0.3}
    found = token_ablation_by_layer(model, prompt, "red", sets)
    target = model.target(prompt, "red")
    plain = effects(model, prompt, target, np.stack([one.ravel() for one in sets.values()]))
    assert found.lines == list(sets) and found.points == hooks.points(model) and found.values.shape == (2, 7)
    assert np.allclose(found.values[:, 0], plain, atol=1e-3) and np.allclose(found.values[:, -1], 0, atol=1e-3)
    again = token_ablation_by_layer(replace(model, batch_size=1), prompt, "red", sets)
    assert np.allclose(found.values, again.values, atol=1e-3)


def test_sets_of_another_size_are_refused(mllm, prompt):
    with pytest.raises(Refusal, match="64 image tokens, and the sets name 60"):
        token_ablation_by_layer(mllm, prompt, "red", {"some": np.ones(60, bool)})


@pytest.fixture(scope="module")
def by_layer(mllm, tokens):
    """(pictures, sets, layers) nats lost: the object and its neighbours, and as many random others."""
    rng, lost = np.random.default_rng(0), []
    for prompt, sample in zip(tokens.prompts[:30], tokens.samples):
        padded = np.pad(sample.patches, 1)
        near = np.any([padded[y:y + 8, x:x + 8] for y in range(3) for x in range(3)], 0)
        rest = rng.choice(np.flatnonzero(~near), min(near.sum(), (~near).sum()), replace=False)
        sets = {"near": near, "rest": np.isin(np.arange(64), rest)}
        lost.append(token_ablation_by_layer(mllm, prompt, mllm.target(prompt), sets).values)
    return np.array(lost)


def test_the_object_is_needed_only_until_the_middle_of_the_decoder(by_layer):
    """As the chapter says: needed after block 1, hardly after block 2, not at all later; random others never."""
    assert interval(by_layer[:, 0, 0])[1] > 2 and interval(by_layer[:, 0, 2])[1] > 0.5, by_layer.mean(0)
    assert interval(by_layer[:, 0, 3])[2] < 0.2 and np.abs(by_layer[:, 0, 4:]).mean() < 0.02, by_layer.mean(0)
    assert np.abs(by_layer[:, 1].mean(0)).max() < 0.1, by_layer.mean(0)


def test_on_re_drawn_weights_the_objects_tokens_are_like_any_others(mllm, tokens):
    control, rng, apart = redrawn(mllm, 0), np.random.default_rng(0), []
    for prompt, sample in zip(tokens.prompts[:30], tokens.samples):
        rest = rng.choice(np.flatnonzero(~sample.patches.ravel()), sample.patches.sum(), replace=False)
        sets = np.stack([sample.patches.ravel(), np.isin(np.arange(64), rest)])
        own, other = effects(control, prompt, mllm.target(prompt), sets)
        apart.append(own - other)
    _, low, high = interval(apart)
    assert low < 0 < high, (low, high)


def test_an_earlier_checkpoint_reads_for_longer(tokens):
    from mini_lib import load
    earlier, late = load("tiny", checkpoint=3), []
    for prompt, sample in zip(tokens.prompts[:25], tokens.samples):
        late.append(token_ablation_by_layer(earlier, prompt, sample.answer, {"all": np.ones(64, bool)}).values[0, 3])
    assert interval(late)[1] > 0, interval(late)
