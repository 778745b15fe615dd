"""Negative controls: the weights are drawn in the order they say, the given model stays, floors and ceilings hold."""

import numpy as np
import pytest
import torch

from mini_lib import world
from mini_lib.data.input_output import occlusion
from mini_lib.evaluate import cascade, compare_pictures, random_map, redrawn, same_question
from mini_lib.evaluate.sanity import stages
from mini_lib.refusal import Refusal
from mini_lib.registry import find

NAMES = ["unembedding and norm", *(f"block.{k}" for k in (5, 4, 3, 2, 1, 0)), "word embedding", "connector and vision tower"]


def weights_of(mllm):
    return {name: weight.detach().clone() for name, weight in mllm.model.named_parameters()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def samples():
    return world.sample(4, 21, kinds=("color",), objects=(2, 4))


@pytest.fixture(scope="module")
def prompts(mllm, samples):
    return [mllm.prompt(s.picture, s.question) for s in samples]


def test_the_stages_hold_every_weight_once_and_go_from_the_top_down(mllm):
    found = stages(mllm)
    assert [name for name, _ in found] == NAMES
    ids = [id(weight) for _, weights in found for weight in weights]
    assert len(ids) == len(set(ids)) and set(ids) == {id(weight) for weight in mllm.model.parameters()}
    assert all(weights for _, weights in found)
    assert any(weight is mllm.parts.norm.weight for weight in found[0][1])


def test_each_stage_draws_its_own_weights_norms_too_and_leaves_those_below(mllm, prompts):
    seen, groups = [], [[name for name, weight in mllm.model.named_parameters() if any(weight is w for w in weights)]
                        for _, weights in stages(mllm)]

    def explain(model, prompt, target):
        seen.append(weights_of(model))
        return np.ones((8, 8))

    before = weights_of(mllm)
    result = cascade(mllm, explain, prompts[:1])
    assert result.stages == ["as trained", *NAMES] and len(seen) == 1 + len(result.stages)
    assert same(seen[0], before) and same(seen[1], before)
    for stage, now in enumerate(seen[2:]):
        for place, names in enumerate(groups):
            for name in names:
                drawn = before[name].numel() > 1 and before[name].std() > 0 and place <= stage
                assert torch.equal(now[name], before[name]) != drawn, (result.stages[stage + 1], name)
    assert sum("norm" in name and not torch.equal(seen[-1][name], before[name]) for name in before) > 10


def test_the_given_model_is_untouched_also_after_an_error(mllm, prompts):
    before, passes, calls = weights_of(mllm), mllm.passes, []

    def fails(model, prompt, target):
        calls.append(model)
        if len(calls) > 4:
            raise ZeroDivisionError
        return model.score(prompt, target).numpy().reshape(1, 1)

    with pytest.raises(ZeroDivisionError):
        cascade(mllm, fails, prompts[:1])
    assert same(weights_of(mllm), before) and mllm.passes == passes and not any(model is mllm for model in calls)
    assert not same(weights_of(calls[-1]), before), "nothing had been drawn yet"


def test_a_map_of_the_picture_alone_stays_at_the_ceiling_and_noise_at_the_floor(mllm, prompts):
    rng = np.random.default_rng(0)

    def edges(model, prompt, target):
        return np.asarray(prompt.picture, float).reshape(8, 8, 8, 8, 3).std((1, 3, 4))

    ignorant = cascade(mllm, edges, prompts)
    assert ignorant.correlation.shape == (10, 4) and ignorant.correlation == pytest.approx(1)
    noise = cascade(mllm, lambda model, prompt, target: random_map((8, 8), rng), prompts)
    for floor in (noise.correlation, ignorant.floor, noise.floor):
        assert abs(floor.mean()) < 4 / np.sqrt(63 * floor.size)


def test_what_is_explained_stays_the_trained_models_answer(mllm, prompts):
    said = []
    cascade(mllm, lambda model, prompt, target: said.append(target.ids) or np.ones((2, 2)), prompts[:2])
    assert said == [mllm.target(prompt).ids for prompt in prompts[:2]] * 11


def test_the_same_seed_draws_the_same_weights_and_another_one_others(mllm, prompts):
    def last(seed):
        kept = []
        cascade(mllm, lambda model, prompt, target: kept.append(weights_of(model)) or np.ones((2, 2)), prompts[:1], seed=seed)
        return kept[-1]
    one = last(0)
    assert same(one, last(0)) and not same(one, last(1))


def test_occlusion_follows_the_model(mllm, prompts, samples):
    before = mllm.passes
    result = cascade(mllm, occlusion, prompts[:2], samples.patches[:2])
    assert mllm.passes == before and result.passes == 11 * 2 * 50            # S + 1 = 11 explanations of 50 passes
    assert result.correlation[0] == pytest.approx(1) and result.pointing.shape == (10, 2)
    assert result.correlation[-1].mean() < 0.5 and result.maps.shape == (10, 2, 8, 8)


def test_a_method_without_a_map_and_no_prompts_are_refused(mllm, prompts):
    with pytest.raises(Refusal, match="no patch map"):
        cascade(mllm, find("logit-lens").explain, prompts[:1])
    with pytest.raises(Refusal, match="at least one"):
        cascade(mllm, occlusion, [])


def test_pairs_ask_the_same_question_in_turn_and_leave_single_ones_out():
    assert same_question(["a", "b", "a", "c", "a", "b"]).tolist() == [[0, 2], [2, 4], [4, 0], [1, 5], [5, 1]]
    assert same_question(["a", "b"]).shape == (0, 2)


@pytest.fixture(scope="module")
def pairs(mllm):
    samples = world.sample(24, 8, kinds=("color",), objects=(2, 3))
    found = same_question(list(samples.questions.text))[:6]
    prompts = [[mllm.prompt(samples[int(i)].picture, samples[int(i)].question) for i in side] for side in found.T]
    return prompts, [samples.patches[side] for side in found.T]


def test_a_map_that_ignores_the_picture_is_found_out_and_noise_has_the_floor(mllm, pairs):
    (prompts, others), (truth, other_truth) = pairs
    middle = np.exp(-((np.arange(8) - 3.5) ** 2)[:, None] / 9 - (np.arange(8) - 3.5) ** 2 / 9)
    blind = compare_pictures(mllm, lambda model, prompt, target: middle, prompts, others, truth, other_truth)
    assert blind.correlation == pytest.approx(1)
    rng = np.random.default_rng(0)
    noise = compare_pictures(mllm, lambda model, prompt, target: random_map((8, 8), rng), prompts, others)
    for floor in (noise.correlation, noise.floor, blind.floor):
        assert abs(floor.mean()) < 4 / np.sqrt(63 * 6)
    assert noise.followed is None and noise.stayed is None


def test_a_map_of_the_truth_follows_the_picture(mllm, pairs):
    (prompts, others), (truth, other_truth) = pairs
    known = {id(prompt): mask.astype(float) for prompt, mask in zip([*prompts, *others], [*truth, *other_truth])}
    result = compare_pictures(mllm, lambda model, prompt, target: known[id(prompt)], prompts, others, truth, other_truth)
    assert (result.followed == 1).all() and result.stayed.mean() < 0.5
    swapped = {id(prompt): known[id(other)] for prompt, other in zip([*prompts, *others], [*others, *prompts])}
    result = compare_pictures(mllm, lambda model, prompt, target: swapped[id(prompt)], prompts, others, truth, other_truth)
    assert (result.stayed == 1).all() and result.followed.mean() < 0.5


def test_occlusion_follows_the_picture(mllm, pairs):
    (prompts, others), (truth, other_truth) = pairs
    result = compare_pictures(mllm, occlusion, prompts, others, truth, other_truth)
    assert result.followed.mean() > result.stayed.mean() + 0.3 and result.correlation.mean() < 0.6


def test_pairs_of_two_questions_are_refused(mllm, pairs):
    (prompts, others), (truth, _) = pairs
    strange = mllm.prompt(others[0].picture, "how many objects are there ?")
    with pytest.raises(Refusal, match="two questions"):
        compare_pictures(mllm, occlusion, prompts[:1], [strange])
    with pytest.raises(Refusal, match="give pairs"):
        compare_pictures(mllm, occlusion, prompts, others[:2])
    with pytest.raises(Refusal, match="both or none"):
        compare_pictures(mllm, occlusion, prompts, others, truth)


def test_drawing_anew_is_what_it_was_before_it_was_shared(mllm):
    """Chapters print numbers of the re-drawn model: its noise must not change."""
    control, noise = redrawn(mllm, 5), torch.Generator().manual_seed(5)
    for (name, old), new in zip(mllm.model.named_parameters(), control.model.parameters()):
        fresh = torch.randn(old.shape, generator=noise) * (old.std() if old.numel() > 1 else 0)
        assert torch.equal(new, old.mean() + fresh), name
