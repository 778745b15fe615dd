"""Direct logit attribution, ablation, visual heads, self-repair: exact where they must be, measured where the chapter claims."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mini_lib import families, heads, hooks, world
from mini_lib.contrast import contrast
from mini_lib.evaluate import interval, rank_correlation, redrawn
from mini_lib.heads import MLP, stand_ins
from mini_lib.mllm import Target
from mini_lib.model.layer.individual_components import direct_logit_attribution as direct
from mini_lib.model.layer.individual_components import head_ablation as ablation
from mini_lib.model.layer.individual_components import self_repair as repair
from mini_lib.model.layer.individual_components import visual_heads as visual
from mini_lib.refusal import Refusal
from mini_lib.registry import find
from mini_lib.roles import roles

SLUGS = ["direct-logit-attribution", "head-ablation", "visual-heads", "self-repair"]
KINDS = ("color", "shape")
N = 12


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 2)


@pytest.fixture(scope="module")
def prompt(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


def failed(slug, model, prompt):
    return [one.claim for one in find(slug).identity(model, prompt) if not one.passed]


@pytest.mark.parametrize("slug", SLUGS)
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert failed(slug, model, prompt) == []


@pytest.mark.parametrize("slug", SLUGS)
def test_its_identities_hold_where_heads_share_keys_and_for_an_answer_of_many_words(mllm, prompt, slug):
    other = families.small("Qwen2.5-VL")
    config = other.model.config.get_text_config()
    assert config.num_key_value_heads < config.num_attention_heads
    assert failed(slug, other, other.prompt(prompt.picture, "what color is the star ?")) == []
    assert failed(slug, mllm, mllm.prompt(prompt.picture, world.CAPTION)) == []


# Silent errors, brought back.

def test_heads_in_another_order_are_caught_although_they_still_sum(mllm, prompt, monkeypatch):
    whole = direct.writes
    monkeypatch.setattr(direct, "writes", lambda *args: (lambda found: replace(found, heads=found.heads.flip(2)))(whole(*args)))
    assert failed("direct-logit-attribution", mllm, prompt) == ["a head's part is what is lost there when its attention is zero"]


def test_a_final_norm_whose_weight_is_forgotten_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(direct, "word_directions", lambda model, ids: model.parts.head.weight[list(ids)].detach().double())
    assert "embedding, heads and MLPs sum to the model's difference of logits" in failed("direct-logit-attribution", mllm, prompt)


def test_a_rival_that_is_added_instead_of_taken_away_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(direct, "direction", lambda model, asked: direct.word_directions(model, asked.ids).sum(0))
    assert "embedding, heads and MLPs sum to the model's difference of logits" in failed("direct-logit-attribution", mllm, prompt)


def test_an_ablation_that_is_a_silent_no_op_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(heads, "_put", lambda chosen, value, where, own: own)
    assert "with all parts of the last block at zero the model is the lens before that block" in failed("head-ablation", mllm, prompt)


def test_another_head_than_the_named_one_is_caught(mllm, prompt, monkeypatch):
    true = heads._changes

    def shifted(model, sets, *rest):
        return true(model, [[(block, part if part == MLP else (part + 1) % 4) for block, part in one] for one in sets], *rest)
    monkeypatch.setattr(heads, "_changes", shifted)
    assert "a head that hands on zero is a head whose attention is zero" in failed("head-ablation", mllm, prompt)


def test_a_run_that_starts_a_block_late_is_caught(mllm, prompt, monkeypatch):
    true = ablation.entering
    monkeypatch.setattr(ablation, "entering", lambda *args: (lambda states: [states[0], *states[:-1]])(true(*args)))
    assert "a part whose own output stands in for it loses nothing" in failed("head-ablation", mllm, prompt)


def test_image_tokens_that_are_off_by_one_are_caught(mllm, prompt, monkeypatch):
    true = visual.weights_on
    monkeypatch.setattr(visual, "weights_on", lambda model, inputs, queries, keys: true(
        model, inputs, queries, keys if len(keys) > 64 else keys + 1))
    assert "a head that is kept from the object gives it nothing" in failed("visual-heads", mllm, prompt)


def test_a_part_that_is_read_through_another_blocks_projection_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(repair, "split", lambda model, block, z: heads.split(model, (block + 1) % 6, z))
    with pytest.raises(Refusal, match="do not sum"):
        repair.self_repair(mllm, prompt)


def test_a_block_that_is_forgotten_after_the_ablation_is_caught(mllm, prompt, monkeypatch):
    def without(model, prompt, target, sets, instead, at, look=None, states=None):
        late = look and (lambda rows, first, seen: look(rows, first + 1, seen))
        return heads.without(model, prompt, target, sets, instead, at, late, states)

    monkeypatch.setattr(repair, "without", without)
    assert "after an ablation all parts, at the norm's new size, sum to what the model then says" in failed("self-repair", mllm, prompt)


def test_taking_a_part_out_everywhere_where_only_the_answer_is_meant_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(repair, "without", lambda model, prompt, target, sets, instead, at, *rest, **named: heads.without(
        model, prompt, target, sets, instead, None, *rest, **named))
    assert "the total is what is lost when the head's attention is zero there, in a pass from the picture on" in failed(
        "self-repair", mllm, prompt)


# What the pieces do.

def test_the_results_have_their_shapes_and_say_what_they_explain(model, prompt):
    parts = direct.direct_logit_attribution(model, prompt, "red", rival="blue")
    assert parts.values.shape == (6, 5) and parts.columns == ["0", "1", "2", "3", "MLP"] and parts.target == "red"
    assert parts.measured["rival"] == "blue"
    assert parts.measured["whole"] == pytest.approx(parts.measured["embedding"] + parts.values.sum(), abs=1e-3)
    assert ablation.head_ablation(model, prompt, "red").values.shape == (6, 5)
    looks = visual.visual_heads(model, prompt, "red")
    assert looks.values.shape == (6, 4) and 0 <= looks.values.min() and looks.values.max() <= 1 + 1e-5 and looks.measured["area"] == 1
    result = repair.self_repair(model, prompt, "red", sets={"two": [(4, 2), (5, 2)], "mlp": [(5, MLP)]})
    assert result.rows == ["two", "mlp"] and result.columns == repair.COLUMNS
    assert np.allclose(result.values[:, :4].sum(1), result.values[:, 4])


def test_one_words_logit_splits_too(mllm, prompt):
    target = mllm.target(prompt)
    found = direct.direct_logit_attribution(mllm, prompt, target, rival=False)
    logit = float(mllm.logits(prompt.inputs)[0, -1, target.ids[0]])
    assert found.measured["embedding"] + found.values.sum() == pytest.approx(logit, abs=1e-3)


def test_a_resample_from_several_prompts_is_the_mean_of_their_effects(mllm):
    one, *others = [mllm.prompt(s.picture, s.question) for s in world.sample(3, 5, kinds=("color",))]
    each = [ablation.head_ablation(mllm, one, how="resample", others=[other]).values for other in others]
    assert np.allclose(ablation.head_ablation(mllm, one, how="resample", others=others).values, np.mean(each, 0), atol=1e-4)


def test_looking_is_what_the_kept_weights_say(mllm, prompt):
    target, mask = mllm.target(prompt), np.zeros((8, 8), bool)
    mask[2:4, 3] = True
    with hooks.attention(mllm, [1]) as kept:
        mllm.logits(prompt.inputs)
    tokens = prompt.tokens.image[torch.tensor([2 * 8 + 3, 3 * 8 + 3])]
    for source in ("answer", "question"):
        queries = roles(prompt, target)[source]
        wanted = kept[1][0][:, queries][..., tokens].sum(-1).mean(-1)
        assert np.allclose(visual.visual_heads(mllm, prompt, mask=mask, source=source).values[1], wanted, atol=1e-5)


def test_what_nobody_can_mean_is_refused(mllm, prompt):
    for call, match in ((lambda: ablation.head_ablation(mllm, prompt, how="men"), "mean"),
                        (lambda: ablation.head_ablation(mllm, prompt, how="resample"), "exactly one"),
                        (lambda: visual.visual_heads(mllm, prompt, mask=np.ones((4, 4), bool)), "one value for each patch"),
                        (lambda: visual.visual_heads(mllm, prompt, source="anwser"), "answer"),
                        (lambda: repair.self_repair(mllm, prompt, sets={"none": []}), "set without parts")):
        with pytest.raises(Refusal, match=match):
            call()
    other = families.small("Gemma 3")
    for method in (direct.direct_logit_attribution, repair.self_repair):
        with pytest.raises(Refusal, match="do not sum"):
            method(other, other.prompt(prompt.picture, "is the star red ?"))


# What is true of `tiny`: findings, as the chapter tells them.

@pytest.fixture(scope="module")
def cases(mllm):
    """Per kind: prompts, targets, patches, and what parts write on average for other questions of the kind."""
    drawn, found = world.sample(140, 79, kinds=KINDS, objects=(3, 4)), {}
    for kind in KINDS:
        rows = np.flatnonzero(drawn.questions.kind == kind)[:N + 20]
        prompts = [mllm.prompt(drawn[i].picture, drawn[i].question) for i in rows]
        targets = [mllm.target(one) for one in prompts[:N]]
        found[kind] = prompts[:N], targets, drawn.patches[rows[:N]], stand_ins(mllm, prompts[0], targets[0], "mean", prompts[N:]), prompts[N:]
    return found


def of_heads(results):
    """(N, 24)"""
    return np.array([one.values[:, :4].ravel() for one in results])


@pytest.fixture(scope="module")
def added(mllm, cases):
    return {kind: [direct.direct_logit_attribution(mllm, p, t) for p, t in zip(*cases[kind][:2])] for kind in KINDS}


@pytest.fixture(scope="module")
def lost(mllm, cases):
    return {kind: [ablation.head_ablation(mllm, p, t, instead=cases[kind][3]) for p, t in zip(*cases[kind][:2])] for kind in KINDS}


def test_for_colours_one_head_adds_most_and_costs_most(added, lost):
    adds, costs = of_heads(added["color"]), of_heads(lost["color"])
    others = np.delete(adds, 22, 1).max(1), np.delete(costs, 22, 1)
    assert interval(adds[:, 22] - others[0])[1] > 1 and costs.mean(0).argmax() == 22
    assert interval(costs[:, 22] - adds[:, 22])[1] > 0.3                           # far more than it adds
    assert all(interval(costs[:, 22] - one)[1] > 1 for one in others[1].T)


def test_for_shapes_a_head_of_the_first_block_costs_most_and_adds_nothing(mllm, cases, added, lost):
    adds, costs = of_heads(added["shape"]), of_heads(lost["shape"])
    assert adds.mean(0).argmax() in (18, 21) and costs.mean(0).argmax() == 2
    assert np.abs(interval(adds[:, 2])).max() < 0.2 and interval(costs[:, 2])[1] > 0.5
    prompts, targets, _, means, _ = cases["shape"]
    at = {role: [one.value - float(one.of(mllm, heads.without(mllm, p, t, [[(0, 2)]], means, roles(p, t)[role])[:, 0])[0])
                 for p, t in zip(prompts, targets) for one in [contrast(mllm, p, t)]] for role in ("question", "answer")}
    assert interval(at["question"])[1] > 0.5 and np.abs(at["answer"]).max() < 0.05


def test_the_last_mlp_adds_most_of_a_shape(added):
    values = np.array([one.values for one in added["shape"]])
    assert interval(values[:, 5, 4] - values[:, :, :4].sum((1, 2)))[1] > 0 and np.abs(values[:, :5, 4].sum(1).mean()) < 0.8


def test_on_random_weights_no_head_adds_or_costs_much(mllm, cases):
    blank = redrawn(mllm, 0)
    for kind in KINDS:
        prompts, targets, *_, others = cases[kind]
        said = [Target((int(blank.logits(p.inputs)[0, -1].argmax()),), 0, "own") for p in prompts[:4]]
        means = stand_ins(blank, prompts[0], said[0], "mean", others)
        adds = of_heads([direct.direct_logit_attribution(blank, p, t) for p, t in zip(prompts, said)])
        costs = of_heads([ablation.head_ablation(blank, p, t, instead=means) for p, t in zip(prompts, said)])
        assert adds.mean(0).max() < 0.8 and np.abs(costs.mean(0)).max() < 0.4


def test_what_stands_in_decides_how_costly_the_first_mlp_looks(mllm, cases, lost):
    for kind in KINDS:
        prompts, targets, *_ = cases[kind]
        over_prompts = np.array([one.values[0, 4] for one in lost[kind]])
        for how in ("zero", "mean"):
            plain = np.array([ablation.head_ablation(mllm, p, t, how=how).values[0, 4] for p, t in zip(prompts[:8], targets)])
            assert interval(plain - over_prompts[:8])[1] > 0, (kind, how)


def test_looking_at_the_object_says_little_of_what_a_head_is_worth(mllm, cases, lost):
    for kind in KINDS:
        prompts, targets, patches, *_ = cases[kind]
        costs = of_heads(lost[kind])
        for source in ("answer", "question"):
            looks = np.array([visual.visual_heads(mllm, p, t, mask=m, source=source).values.ravel() for p, t, m in zip(prompts, targets, patches)])
            assert interval(rank_correlation(looks, costs))[2] < {"answer": 0.25, "question": 0.4}[source]
            assert looks[:, costs.mean(0).argmax()].mean() < {"answer": 0.05, "question": 0.2}[source]       # the costliest hardly looks
        assert interval(looks[:, looks.mean(0).argmax()] - patches.mean((1, 2)))[1] > 0.05     # and some heads do


def test_later_parts_pass_the_loss_on_and_the_norm_gives_some_back(mllm, cases):
    for kind, top in (("color", {"5.2": [(5, 2)], "5.0": [(5, 0)]}), ("shape", {"5.1": [(5, 1)], "4.2": [(4, 2)]})):
        prompts, targets, _, means, _ = cases[kind]
        sets = {**top, "both": [part for parts in top.values() for part in parts]}
        values = np.array([repair.self_repair(mllm, p, t, sets=sets, instead=means).values for p, t in zip(prompts, targets)])
        own, later_heads, mlps, norm, total = values[:, 0].T
        assert interval(own)[1] > 0.5 and np.abs(later_heads).max() < 1e-6 and interval(mlps)[1] > 0.3
        assert interval(norm)[2] < 0.3
        assert interval(values[:, 2, 4] - values[:, :2, 4].sum(1))[1] > 0.1              # two together cost more than their sum
        if kind == "color":
            assert interval(total - own)[1] > 0.3
        else:
            assert interval(norm)[2] < -0.5 and abs(values[:, 1, 1].mean()) < 0.15       # behind 4.2 no head steps in
