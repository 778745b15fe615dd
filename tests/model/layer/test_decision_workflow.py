"""Activation patching, attribution patching, circuits: exact where they must be, right where the world knows, and errors are caught."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mini_lib import heads, hooks, load, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.model.layer.decision_workflow import attribution, circuit, patching
from mini_lib.model.layer.decision_workflow.attribution import attributed, attribution_patching
from mini_lib.model.layer.decision_workflow.circuit import (
    ablations,
    area,
    attributions,
    faithfulness,
    ordered,
    outcomes,
)
from mini_lib.model.layer.decision_workflow.patching import activation_patching, patched, patching_map
from mini_lib.pairs import counterpart, groups_of, pair_of
from mini_lib.refusal import Refusal
from mini_lib.registry import find

SLUGS = ["activation-patching", "patching-map", "attribution-patching", "circuit"]
EMPTY, ALL = "the empty circuit is the corrupted run", "every position patched, at any point, is the clean run"
FIRST_ORDER = "a small step has the effect that it says, at every point"


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 2)


@pytest.fixture(scope="module")
def sample():
    return world.sample(12, 7, kinds=("color", "shape"), objects=(3, 3))[0]


@pytest.fixture(scope="module")
def prompt(mllm, sample):
    return mllm.prompt(sample.picture, sample.question)


@pytest.fixture(scope="module")
def pair(mllm, sample, prompt):
    return pair_of(mllm, prompt, other=mllm.prompt(sample.twin_picture, sample.question))


def failed(slug, mllm, prompt):
    return [identity.claim for identity in find(slug).identity(mllm, prompt) if not identity.passed]


@pytest.mark.parametrize("slug", SLUGS)
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert failed(slug, model, prompt) == []


@pytest.mark.parametrize("slug", SLUGS[:1] + SLUGS[2:])
def test_its_identities_hold_for_an_answer_of_many_words(mllm, prompt, slug):
    assert failed(slug, mllm, mllm.prompt(prompt.picture, world.CAPTION)) == []


# Errors that one makes easily: each brought back, each caught by an identity.

def test_a_state_of_the_layer_before_is_caught(mllm, prompt, monkeypatch):
    """`hidden_states[k]` enters block k, and is no output of block k: off by one is the commonest error in patching."""
    true = patching.run
    monkeypatch.setattr(patching, "run", lambda mllm, pair, streams, point: true(mllm, pair, streams, min(point + 1, 6)))
    assert ALL in failed("activation-patching", mllm, prompt)


def test_positions_that_are_shifted_by_one_are_caught(mllm, prompt, monkeypatch):
    true = torch.as_tensor
    monkeypatch.setattr(patching.torch, "as_tensor", lambda values, **how: (true(values, **how) - 1).clamp(min=0))
    assert ALL in failed("activation-patching", mllm, prompt)


def test_patching_into_the_wrong_run_is_caught(mllm, prompt, monkeypatch):
    def mixed(*args):
        found = pair_of(*args)
        return replace(found, changed=found.states)
    monkeypatch.setattr(patching, "pair_of", mixed)
    assert "nothing patched is the corrupted run" in failed("activation-patching", mllm, prompt)


def test_a_gradient_of_the_other_run_is_caught(mllm, prompt, monkeypatch):
    true = attribution.slopes
    monkeypatch.setattr(attribution, "slopes", lambda mllm, pair, stream: true(mllm, pair, pair.states[0]))
    assert FIRST_ORDER in failed("attribution-patching", mllm, prompt)


def test_an_attribution_with_the_sign_turned_is_caught(mllm, prompt, monkeypatch):
    true = attribution.slopes
    monkeypatch.setattr(attribution, "slopes", lambda *args: [-slope for slope in true(*args)])
    assert FIRST_ORDER in failed("attribution-patching", mllm, prompt)


def test_an_mlp_that_is_zeroed_and_not_replaced_is_caught(mllm, prompt, monkeypatch):
    """Zeros are what "ablation" means elsewhere; the corrupted run they are not."""
    true = heads.replaced

    def zeros(mllm, other, outside):
        return true(mllm, {k: [z, torch.zeros_like(written)] for k, (z, written) in other.items()}, outside)
    monkeypatch.setattr(circuit, "replaced", zeros)
    assert EMPTY in failed("circuit", mllm, prompt)


def test_heads_that_are_cut_the_wrong_way_are_caught(mllm, prompt, monkeypatch):
    """The width of a block's heads is (heads, d_head), and not (d_head, heads)."""
    whole = circuit.activations

    def turned(seen):
        return {k: [z.transpose(2, 3).reshape(z.shape), mlp] for k, (z, mlp) in seen.items()}
    monkeypatch.setattr(circuit, "activations", lambda *args, **how: turned(whole(*args, **how)))
    assert "a head that attends to nothing hands on nothing, and no other head changes" in failed("circuit", mllm, prompt)


# What the pieces do.

def test_the_results_have_their_shapes(mllm, model, prompt):
    target = mllm.target(prompt, "red")                             # a random model says it after other words, which are forced then
    table = activation_patching(model, prompt, target)
    assert table.rows == ["first", "image", "what", "color", "is", "the", "star", "answer"]
    assert table.columns == ["embed", *(f"block.{k}" for k in range(6))] and table.values.shape == (8, 7)
    assert attribution_patching(model, prompt, target).values.shape == (8, 7)
    assert activation_patching(model, prompt, target, groups={"all": range(8)}).values.shape == (1, 7)
    assert patching_map(model, prompt, target, block=2).values.shape == (8, 8)


def test_a_patch_by_hand_gives_the_same(mllm, pair):
    at = dict(pair.prompt.tokens.words)["star"]
    with hooks.record(mllm, "block.1") as seen:
        mllm.logits(pair.prompt.inputs)

    def put(stream):
        stream = stream.clone()
        stream[:, at] = seen["block.1"][:, at]
        return stream
    with hooks.edit(mllm, {"block.1": put}):
        by_hand = float(pair.read(mllm.logits(pair.other.inputs))[0])
    assert patched(mllm, pair, [at], [2])[0, 0] == pytest.approx(by_hand, abs=1e-3)


def test_a_run_that_cannot_start_late_gives_the_same(mllm, pair):
    sets = [[], list(pair.prompt.tokens.question)]
    assert np.allclose(patched(mllm, pair, sets), patched(mllm, replace(pair, starts=1), sets), atol=1e-3)
    outside = torch.eye(30, dtype=torch.bool)[[3, 20, 29]]
    assert np.allclose(outcomes(mllm, pair, outside), outcomes(mllm, replace(pair, starts=1), outside), atol=1e-3)


def test_a_pair_of_questions_leaves_the_image_out(mllm, model, sample, prompt):
    table = activation_patching(model, prompt, mllm.target(prompt), other=model.prompt(sample.picture, "what color is the circle ?"))
    assert np.abs(table.values[table.rows.index("image")] * table.measured["gap"]).max() < 1e-4


def test_nodes_in_a_batch_are_those_of_one_at_a_time(mllm, model, prompt):
    one = pair_of(model, prompt, mllm.target(prompt))
    outside = torch.rand(5, 30, generator=torch.Generator().manual_seed(0)) < 0.4
    alone = [outcomes(model, one, row[None])[0] for row in outside]
    assert np.allclose(outcomes(model, one, outside), alone, atol=1e-3)
    assert heads.names(model)[:6] == ["0.0", "0.1", "0.2", "0.3", "0.mlp", "1.0"]


def test_many_gradients_along_the_line_add_up_to_the_gap(mllm, pair):
    assert attributed(mllm, pair, 16)[0].sum() == pytest.approx(pair.gap, rel=0.02)
    assert abs(attributed(mllm, pair, 1)[0].sum() / pair.gap - 1) > 0.2


def test_the_areas_are_those_of_the_curve():
    assert area(np.array([0, 1, 1.0]), np.array([0, 0.5, 1])) == (0.75, 0.25)
    assert area(np.array([0, 2, 1.0]), np.array([0, 0.5, 1])) == (1.25, 0.75)


def test_faithfulness_is_nothing_for_no_node_and_one_for_all(mllm, model, prompt):
    f = faithfulness(model, [pair_of(model, prompt, mllm.target(prompt))], np.arange(30)[None], [0, 15, 30])
    assert f.shape == (1, 1, 3) and f[0, 0, [0, 2]] == pytest.approx([0, 1], abs=1e-6)


def test_pruning_takes_out_first_what_costs_least(mllm, pair, monkeypatch):
    """On a made-up model in which each node is worth its number, the order is known."""
    monkeypatch.setattr(circuit, "outcomes", lambda mllm, pair, outside: -(outside * torch.arange(30)).sum(1).numpy())
    assert ordered(mllm, [pair], "pruning").tolist() == list(range(30))[::-1]


def test_the_counterpart_has_the_same_shapes_in_other_colours(sample):
    turned = np.asarray(counterpart(sample.picture))
    assert np.array_equal(turned[..., 1], np.asarray(sample.picture)[..., 0])
    grey = sample.picture.convert("L").convert("RGB")
    assert np.array_equal(np.asarray(counterpart(grey)), 255 - np.asarray(grey))


def test_words_of_the_question_each_have_a_row(mllm, prompt):
    asked = mllm.prompt(prompt.picture, "is the star left of the circle ?")
    rows = groups_of(asked, mllm.target(asked, "yes"))
    assert list(rows) == ["first", "image", "is", "the", "star", "left", "of", "the (2)", "circle", "answer"]


def test_what_nobody_can_mean_is_refused(mllm, prompt, pair):
    with pytest.raises(Refusal, match="tokens"):
        activation_patching(mllm, prompt, other=mllm.prompt(prompt.picture, "what shape is the red object ?"))
    with pytest.raises(Refusal, match="nothing to recover"):
        attribution_patching(mllm, prompt, other=prompt)
    with pytest.raises(Refusal, match="There is no block 6"):
        patching_map(mllm, prompt, block=6)
    with pytest.raises(Refusal, match="Did you mean|did you mean|There is no score"):
        ordered(mllm, [pair], "atribution")
    with pytest.raises(Refusal, match="too few"):
        circuit.circuit(mllm, [prompt], [pair])
    late = replace(mllm, parts=replace(mllm.parts, later="DeepStack"))
    with pytest.raises(Refusal, match="DeepStack"):
        pair_of(late, prompt)


# What is true of `tiny`: findings, as the chapter tells them.

@pytest.fixture(scope="module")
def cases(mllm):
    """8 colour and 8 shape questions with their twins: (sample, pair, groups of positions)."""
    out = []
    for one in world.sample(16, 81, kinds=("color", "shape"), objects=(3, 4)):
        prompt = mllm.prompt(one.picture, one.question)
        pair = pair_of(mllm, prompt, mllm.target(prompt, one.answer), mllm.prompt(one.twin_picture, one.question))
        image, own, naming = prompt.tokens.image.numpy(), one.patches.ravel(), prompt.tokens.words[one.words[1]][1]
        rest = [p for p in prompt.tokens.question[:-1] if p not in naming]
        out.append((one, pair, [image[own], image[~own], naming, rest, [len(prompt.tokens.text) - 1]]))
    return out


@pytest.fixture(scope="module")
def color(cases):
    return np.array([one.kind == "color" for one, *_ in cases])


@pytest.fixture(scope="module")
def shares(mllm, cases):
    """(16, 5 groups, 7 points)"""
    return np.array([(patched(mllm, pair, groups) - pair.corrupted) / pair.gap for _, pair, groups in cases])


def test_the_answer_goes_from_the_objects_patches_to_the_naming_word_to_the_position_that_answers(shares, color):
    patches, others, naming, words, answer = shares.transpose(1, 2, 0)                         # (7, 16) each
    assert interval(patches[0])[1] > 0.85 and np.abs(others[0]).mean() < 0.15 and np.abs(words).max() < 0.05
    assert interval(naming[2][color])[1] > 0.4 and interval(patches[2][color])[2] < 0.4       # colours: in block 1
    assert np.abs(naming[2][~color]).max() < 0.05 and interval(patches[2][~color])[1] > 0.8   # shapes: not yet
    assert interval(naming[4])[1] > 0.6 and interval(patches[4])[2] < 0.2
    assert interval(naming[5][color])[1] > 0.5 and answer[6] == pytest.approx(1, abs=1e-3)


def test_a_random_step_of_the_same_length_does_little(mllm, cases, shares):
    placebo = np.array([(patched(mllm, pair, groups[2:3], [4], placebo=0)[0, 0] - pair.corrupted) / pair.gap for _, pair, groups in cases])
    assert interval(shares[:, 2, 4] - placebo)[1] > 0.5 and interval(placebo)[2] < 0.25


def test_random_models_tell_the_two_pictures_hardly_apart(mllm, cases):
    control = redrawn(mllm, 0)
    gaps = [abs(pair_of(control, pair.prompt, pair.target, pair.other, one.twin_answer).gap) for one, pair, _ in cases[::2]]
    assert interval(gaps)[2] < 2 < interval([pair.gap for _, pair, _ in cases])[1]


def test_one_gradient_puts_the_stream_too_low_and_four_nearly_right(mllm, cases, shares):
    slopes, fits = {}, {}
    for steps in (1, 4):
        found = []
        for _, pair, groups in cases[::2]:
            estimate = attributed(mllm, pair, steps) / pair.gap
            found.append([estimate[:, list(group)].sum(1) for group in groups])
        slopes[steps] = [np.polyfit(x.ravel(), np.ravel(y), 1)[0] for x, y in zip(shares[::2], found)]
        fits[steps] = [np.corrcoef(x.ravel(), np.ravel(y))[0, 1] for x, y in zip(shares[::2], found)]
    assert interval(slopes[1])[2] < 0.7 < 0.8 < interval(slopes[4])[1] and interval(fits[4])[1] > 0.95
    assert np.mean(fits[4]) > np.mean(fits[1]) + 0.05


def test_for_heads_and_mlps_one_gradient_tells_what_matters(mllm, cases):
    fits = [np.corrcoef(attributions(mllm, pair), ablations(mllm, pair))[0, 1] for _, pair, _ in cases[:6]]
    assert interval(fits)[1] > 0.85


def test_less_than_half_of_the_nodes_is_enough_and_those_of_the_other_kind_are_not(mllm, cases, color):
    kinds = [[pair for (_, pair, _), own in zip(cases, color == flag) if own] for flag in (True, False)]
    order = [ordered(mllm, pairs[::2], "attribution") for pairs in kinds]
    rng = np.random.default_rng(0)
    for k in (0, 1):
        tried = np.stack([order[k], order[1 - k], *(rng.permutation(30) for _ in range(6))])
        f = faithfulness(mllm, kinds[k][1::2], tried, [13])[:, :, 0].mean(0)
        assert f[0] > 0.6 and f[1] < 0.3 and f[2:].max() < 0.5 and f[2:].mean() < 0.2


def test_the_circuit_of_the_final_model_keeps_the_answer_in_a_late_checkpoint(mllm, cases, color):
    early = load("tiny", checkpoint=7, device="cpu")
    pairs = [pair for (_, pair, _), own in zip(cases, color) if own]
    theirs = [pair_of(early, pair.prompt, pair.target, pair.other) for pair in pairs[1::2]]
    f = faithfulness(early, theirs, ordered(mllm, pairs[::2], "attribution")[None], [13]).mean()
    assert f > 0.5


def test_the_place_on_a_map_is_told_by_the_pair_and_needs_no_model(mllm, cases):
    controls, hits = [redrawn(mllm, seed) for seed in range(2)], []
    for k, (one, pair, _) in enumerate(cases[:10]):
        own = pair_of(controls[k % 2], pair.prompt, pair.target, pair.other, one.twin_answer)
        apart = np.abs(np.asarray(one.picture, float) - np.asarray(one.twin_picture)).sum(2).reshape(8, 8, 8, 8).sum((1, 3))
        places = [patching_map(mllm, pair.prompt, pair.target, other=pair).peak, np.unravel_index(apart.argmax(), apart.shape),
                  patching_map(controls[k % 2], pair.prompt, pair.target, other=own).peak]
        hits.append([bool(one.patches[place]) for place in places])
    trained, subtracted, random = np.transpose(hits)
    assert interval(trained)[1] > 0.5 and interval(subtracted)[1] > 0.5 and random.mean() < trained.mean()


def test_the_call_over_many_prompts_holds_out_every_second_one(mllm, cases):
    prompts, others = zip(*((pair.prompt, pair) for _, pair, _ in cases[:8:2]))
    result = circuit.circuit(mllm, list(prompts), list(others), draws=2, sizes=5)
    assert result.lines == ["best nodes", "random nodes"] and len(result.measured["order"]) == 30
    assert result.values[:, 0] == pytest.approx(0, abs=1e-6) and result.values[:, -1] == pytest.approx(1, abs=1e-6)
    assert result.measured["CPR"] == pytest.approx(1 - result.measured["CMD"], abs=0.05) and len(result.measured["random CPR"]) == 2
    again = partial(circuit.circuit, mllm, list(prompts)[1::2], list(others)[1::2], draws=0, sizes=5)
    order = [heads.names(mllm).index(name) for name in result.measured["order"]]
    assert np.allclose(again(order=order).values[0], result.values[0], atol=1e-5)
