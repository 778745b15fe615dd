"""Attention flow, knock-out and evidence per word: exact where they must be, right where the world knows, and errors are caught."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mini_lib import hooks, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.mllm import Target
from mini_lib.model.token.visual_textual_token import evidence, flow, knockout
from mini_lib.model.token.visual_textual_token.evidence import evidence_per_word
from mini_lib.model.token.visual_textual_token.flow import attention_flow, attention_shares
from mini_lib.model.token.visual_textual_token.knockout import attention_knockout, effects, knockout_map
from mini_lib.refusal import Refusal
from mini_lib.registry import find
from mini_lib.roles import roles

SLUGS = ["attention-flow", "attention-shares", "attention-knockout", "knockout-map", "evidence-per-word"]
BLOCKS = range(6)


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 2)


@pytest.fixture(scope="module")
def prompt(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


@pytest.fixture(scope="module")
def caption(mllm, prompt):
    return mllm.prompt(prompt.picture, world.CAPTION)


def failed(slug, mllm, prompt):
    return [identity.claim for identity in find(slug).identity(mllm, prompt) if not identity.passed]


@pytest.mark.parametrize("slug", SLUGS)
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert failed(slug, model, prompt) == []


@pytest.mark.parametrize("slug", SLUGS)
def test_its_identities_hold_for_an_answer_of_many_words(mllm, caption, slug):
    assert failed(slug, mllm, caption) == []


# Errors that published code made, or that one makes easily: each brought back, each caught by an identity.

def test_a_cut_that_is_a_silent_no_op_is_caught(mllm, prompt, monkeypatch):
    """A boolean written into an additive mask is one: `False` is 0 there, and nothing is cut."""
    monkeypatch.setattr(knockout, "cut", lambda *args: nullcontext())
    monkeypatch.setattr(evidence, "cut", lambda *args: nullcontext())
    assert "what is cut gets no attention at all" in failed("attention-knockout", mllm, prompt)
    assert "with all image edges cut the answer is the same for the negative of the picture" in failed("attention-knockout", mllm, prompt)
    assert "what the blind model says is the same for the negative of the picture" in failed("evidence-per-word", mllm, prompt)


def test_a_cut_after_the_softmax_that_is_not_renormed_is_caught(mllm, prompt, monkeypatch):
    true = hooks._allowed

    def late(mask, scores, plans):
        return true(mask, scores, [])

    @contextmanager
    def zeros(mllm, queries, keys, *rest):
        monkeypatch.setattr(hooks, "_allowed", late)
        with hooks.cut(mllm, queries, keys, *rest):
            yield
        monkeypatch.setattr(hooks, "_allowed", true)

    def zeroed(mllm, reduce):
        def change(weights):
            weights = weights.clone()
            weights[..., prompt.tokens.image] = 0
            return weights
        return hooks.attention(mllm, change=change, reduce=reduce)
    monkeypatch.setattr(knockout, "cut", zeros)
    monkeypatch.setattr(knockout, "attention", zeroed)
    assert "what is left of each row sums to 1" in failed("attention-knockout", mllm, prompt)


def test_cuts_that_all_land_in_the_first_row_of_a_batch_are_caught(mllm, prompt, monkeypatch):
    def first_row(mllm, queries, keys, layers=None, rows=None):
        return hooks.cut(mllm, queries, keys, layers, None if rows is None else [0])
    monkeypatch.setattr(knockout, "cut", first_row)
    assert failed("knockout-map", mllm, prompt) == ["cutting the whole picture costs what it costs by itself"]


def test_forgetting_the_position_that_answers_is_caught(mllm, prompt, monkeypatch):
    """In `tiny` the question's last word says the answer: cut only words "before the answer", and it still sees."""
    monkeypatch.setattr(evidence, "words", lambda prompt, target: roles(prompt, target)["question"])
    assert "what the blind model says is the same for the negative of the picture" in failed("evidence-per-word", mllm, prompt)


def test_a_position_counted_twice_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(flow, "roles", lambda p, target: {**roles(p, target), "question": p.tokens.question})
    assert "every sort of token counted once, the shares of attention sum to 1" in failed("attention-flow", mllm, prompt)


def test_heads_that_are_summed_and_not_averaged_are_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(flow, "_mean", lambda weights, queries: weights[0][:, queries].mean(1).sum(0))
    assert failed("attention-shares", mllm, prompt)


# What the pieces do.

def test_every_position_plays_one_part(mllm, prompt, caption):
    for one, target in ((prompt, mllm.target(prompt)), (caption, mllm.target(caption)), (caption, Target((5, 6, 7), 2, "x"))):
        found = roles(one, target)
        length = len(one.tokens.text) + len(target.ids) - 1
        assert sorted(p for positions in found.values() for p in positions) == list(range(length))
        assert found["answer"] == list(range(length - len(target.ids) + target.first, length))
    assert roles(prompt, mllm.target(prompt))["question"] == prompt.tokens.question[:-1]       # the question mark says the answer
    assert roles(caption, Target((5, 6, 7), 2, "x"))["said"] == [len(caption.tokens.text)]


def test_the_results_have_their_shapes_and_their_shares_sum_to_one(model, prompt):
    target = model.target(prompt, "red")
    plain = attention_flow(model, prompt, target)
    assert plain.values.shape == (8, 8) and plain.unit == "share of attention"
    assert plain.values.sum() + sum(v for _, v in plain.words) + plain.measured["elsewhere"] == pytest.approx(1, abs=1e-3)
    shares = attention_shares(model, prompt, target)
    assert shares.lines == ["answer so far", "image", "question", "first token"] and shares.values.shape == (4, 6)
    assert shares.values[1].mean() == pytest.approx(plain.values.sum(), abs=1e-5)
    drops = attention_knockout(model, prompt, target)
    assert drops.values.shape == (3, 5) and drops.points == ["0-1", "1-2", "2-3", "3-4", "4-5"]
    assert attention_knockout(model, prompt, target, width=6).points == ["0-5"]
    assert attention_knockout(model, prompt, target, width=1).points == list("012345")
    assert knockout_map(model, prompt, target).values.shape == (8, 8)
    said = evidence_per_word(model, prompt, target)
    assert said.values.shape == (3, 1) and said.columns == ["red"] and len(said.measured["prior"]) == 1


def test_a_source_of_one_block_is_that_block(mllm, prompt):
    with hooks.attention(mllm, [2]) as weights:
        mllm.logits(prompt.inputs)
    wanted = weights[2][0, :, prompt.tokens.question[:-1]].mean((0, 1))[prompt.tokens.image]
    got = attention_flow(mllm, prompt, source="question", layers=[2]).values.ravel()
    assert np.allclose(got, wanted, atol=1e-6)


def test_corrections_are_the_ratio_and_the_part_above(mllm, prompt):
    own = attention_flow(mllm, prompt).values
    plain = attention_flow(mllm, mllm.prompt(prompt.picture, flow.NEUTRAL), "red").values
    assert np.allclose(attention_flow(mllm, prompt, correct="relative").values, own / plain, rtol=1e-3)
    assert np.allclose(attention_flow(mllm, prompt, correct="excess").values, np.clip(own - plain, 0, None), atol=1e-6)


def test_cuts_in_a_batch_are_those_of_one_at_a_time(model, prompt):
    target, part = model.target(prompt, "red"), roles(prompt, model.target(prompt, "red"))
    cuts = [(part["question"], part["image"], BLOCKS), (part["answer"], part["image"][10:20], range(1, 3)), ([], [], BLOCKS),
            (part["answer"], part["question"], [5])]
    plain = float(model.score(prompt, target)[0])
    alone = []
    for queries, keys, blocks in cuts:
        with hooks.cut(model, queries, keys, blocks):
            alone.append(plain - float(model.score(prompt, target)[0]))
    for size in (2, 64):
        assert np.allclose(effects(replace(model, batch_size=size), prompt, target, cuts), alone, atol=1e-3)


def test_in_its_block_a_cut_changes_no_other_row(mllm, prompt):
    words, image = prompt.tokens.question[:2], prompt.tokens.image
    with hooks.attention(mllm, [3]) as plain:
        mllm.logits(prompt.inputs)
    with hooks.cut(mllm, words, image, [3]), hooks.attention(mllm, [3]) as changed:
        mllm.logits(prompt.inputs)
    other = [p for p in range(len(prompt.tokens.text)) if p not in words]
    assert torch.equal(plain[3][:, :, other], changed[3][:, :, other])
    assert not changed[3][:, :, words][..., image].any() and plain[3][:, :, words][..., image].any()


def test_attention_that_is_reduced_is_what_was_kept_whole_and_changes_nothing(mllm, prompt):
    with hooks.attention(mllm, [1]) as whole:
        plain = mllm.logits(prompt.inputs)
    with hooks.attention(mllm, [1], reduce=lambda weights: weights[0, :, -1]) as last:
        assert torch.equal(mllm.logits(prompt.inputs), plain)
    assert torch.equal(last[1], whole[1][0, :, -1])


def test_rows_of_a_batch_are_cut_each_on_its_own(mllm, prompt):
    twice = {name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in prompt.inputs.items()}
    last = len(prompt.tokens.text) - 1
    plain = mllm.logits(twice)
    with hooks.cut(mllm, [last], prompt.tokens.question[:-1], rows=[1]):
        cut = mllm.logits(twice)
    assert torch.allclose(cut[0], plain[0], atol=1e-4) and (cut[1] - plain[1]).abs().max() > 0.1


def test_evidence_of_one_word_is_that_of_the_whole_answer_at_this_word(mllm, caption):
    whole, target = evidence_per_word(mllm, caption), mllm.target(caption)
    for k in (0, 2):
        alone = evidence_per_word(mllm, caption, Target(target.ids[:k + 1], k, "word"))
        assert alone.values[:, 0] == pytest.approx(whole.values[:, k], abs=1e-3)


def test_what_nobody_can_mean_is_refused(mllm, prompt):
    for call, match in ((partial(attention_flow, source="anwser"), "no source"), (partial(attention_flow, correct="ratio"), "no correction"),
                        (partial(knockout_map, to="word"), "Did you mean|Nobody")):
        with pytest.raises(Refusal, match=match):
            call(mllm, prompt, "red")
    with pytest.raises(Refusal, match="one token"):
        attention_shares(mllm, mllm.prompt(prompt.picture, "star"), "red", source="question")
    with pytest.raises(Refusal, match="describes"):
        attention_flow(mllm, prompt, "red", correct="relative", neutral="describes the scenery")


# What is true of `tiny`: findings, as the chapter tells them.

@pytest.fixture(scope="module")
def cases(mllm):
    """15 colour and 15 shape questions with another unique object to ask about: (sample, kind, prompt, other prompt, target)."""
    drawn = world.sample(120, 78, kinds=("color", "shape"), objects=(3, 4))
    found = {"color": [], "shape": []}
    for i in range(len(drawn)):
        kind, there = drawn.questions.kind[i], drawn.scenes.present[i]
        named = (drawn.scenes.shape if kind == "color" else drawn.scenes.color)[i]
        other = [k for k in np.flatnonzero(there & ~drawn.questions.objects[i]) if (named[there] == named[k]).sum() == 1]
        if other and len(found[kind]) < 15:
            asked = f"what color is the {world.NOUNS[named[other[0]]]} ?" if kind == "color" \
                else f"what shape is the {world.COLORS[named[other[0]]]} object ?"
            one = drawn[i]
            prompt = mllm.prompt(one.picture, one.question)
            found[kind].append((one, kind, prompt, mllm.prompt(one.picture, asked), mllm.target(prompt, one.answer)))
    return [*found["color"], *found["shape"]]


def mass(result, patches):
    return result.values[patches].sum() / result.values.sum()


def test_the_answering_position_looks_at_the_object_and_for_colours_at_the_asked_one(mllm, cases):
    controls = [redrawn(mllm, seed) for seed in range(3)]
    rows = {name: [] for name in ("own", "other", "re-drawn", "relative", "share")}
    for i, (one, _, prompt, other, target) in enumerate(cases):
        rows["own"].append(mass(attention_flow(mllm, prompt, target), one.patches))
        rows["other"].append(mass(attention_flow(mllm, other, target), one.patches))
        rows["re-drawn"].append(mass(attention_flow(controls[i % 3], prompt, target), one.patches))
        rows["relative"].append(mass(attention_flow(mllm, prompt, target, correct="relative"), one.patches))
        rows["share"].append(one.patches.mean())
    own, other, noise, relative, share = (np.array(values) for values in rows.values())
    assert interval(own - share)[1] > 0.03 and interval(own - noise)[1] > 0.03
    color = np.array([kind == "color" for _, kind, *_ in cases])
    assert interval((own - other)[color])[1] > 0.04
    assert interval((own - other)[~color])[1] < 0.04                   # a look at objects, not at this one
    assert interval(relative - own)[2] < 0                             # the correction makes it worse


@pytest.fixture(scope="module")
def drops(mllm, cases):
    """(cases, 4 edge sets, 5 windows and all blocks) nats lost."""
    out = []
    for _, _, prompt, _, target in cases:
        part = roles(prompt, target)
        edges = {"image to question": (part["question"], part["image"]), "image to answer": (part["answer"], part["image"]),
                 "image to both": ([*part["question"], *part["answer"]], part["image"]), "question to answer": (part["answer"], part["question"])}
        result = attention_knockout(mllm, prompt, target, edges=edges)
        out.append(np.column_stack([result.values, list(result.measured["all blocks"].values())]))
    return np.array(out)


def test_the_direct_way_is_not_needed_and_the_one_through_the_question_is(drops):
    question, direct, both, hand = drops[:, :, -1].T
    assert interval(direct)[2] < 0.3 and interval(question)[1] > 1 and interval(hand)[1] > 1
    assert interval(question - direct)[1] > 1


def test_it_passes_early_by_kind_and_is_handed_over_late(drops, cases):
    color = np.array([kind == "color" for _, kind, *_ in cases])
    early, late = drops[:, 0], drops[:, 3]                             # image to question, question to answer
    assert interval(early[color][:, 0])[1] > 0.4 and interval(early[color][:, 1])[1] > 0.4 and early[color][:, 2:5].mean() < 0.1
    assert interval(early[~color][:, 2])[1] > 0.5 and early[~color][:, [0, 3, 4]].mean() < 0.1
    assert interval(early[~color][:, 2] - early[~color][:, 1])[1] > 0.5
    assert np.abs(late[:, :3]).mean() < 0.1 and interval(late[:, 4])[1] > 0.3


def test_the_spare_way_helps_with_shapes(drops, cases):
    question, direct, both, _ = drops[[kind == "shape" for _, kind, *_ in cases], :, -1].T
    assert interval(both - question - direct)[1] > 0


def test_random_models_lose_nothing_in_particular(mllm, cases):
    lost = []
    for i, (_, _, prompt, _, target) in enumerate(cases[::2]):
        part = roles(prompt, target)
        lost.append(effects(redrawn(mllm, i % 3), prompt, target, [(part["question"], part["image"], BLOCKS),
                                                                  (part["answer"], part["question"], BLOCKS)]))
    assert np.abs([interval(row)[0] for row in np.transpose(lost)]).max() < 0.6


def test_the_asked_objects_edges_cost_the_answer_and_no_others_do(mllm, cases):
    rng, costs, flips = np.random.default_rng(0), [], []
    for one, _, prompt, _, target in cases:
        part, own = roles(prompt, target), one.patches.ravel()
        image = np.array(part["image"])
        words = [p for name in part if name != "image" for p in part[name]]
        random = rng.choice(np.flatnonzero(~own), own.sum(), replace=False)
        most = np.argsort(np.where(own, -1, attention_flow(mllm, prompt, target).values.ravel()))[-own.sum():]
        cuts = [(words, image[own], BLOCKS), (part["question"], image[own], BLOCKS), (part["answer"], image[own], BLOCKS),
                (words, image[random], BLOCKS), (words, image[most], BLOCKS), (words, image, range(3, 6))]
        costs.append(effects(mllm, prompt, target, cuts))
        said = []
        for queries, keys, blocks in (cuts[0], cuts[3], (part["answer"], image, BLOCKS)):
            with hooks.cut(mllm, queries, keys, blocks):
                said.append(int(mllm.logits(prompt.inputs)[0, -1].argmax()) != target.ids[0])
        flips.append(said)
    own, question, answer, random, most, late = np.transpose(costs)
    assert interval(own - random)[1] > 0.5 and interval(own - most)[1] > 0.5
    assert interval(question)[1] > 0.4 and interval(answer)[2] < 0.2 and interval(late)[2] < 0.3
    flipped, by_random, direct = (interval(values) for values in np.transpose(flips))
    assert flipped[1] > 0.15 and by_random[0] < 0.05 and direct[0] < 0.1


def test_the_knock_out_map_finds_the_object_more_often_than_attention(mllm, cases):
    hits = {"map": [], "attention": [], "relative": [], "words": []}
    for one, _, prompt, _, target in cases[::2]:
        for name, result in (("map", knockout_map(mllm, prompt, target)), ("attention", attention_flow(mllm, prompt, target)),
                             ("relative", attention_flow(mllm, prompt, target, correct="relative")),
                             ("words", attention_flow(mllm, prompt, target, source="question", layers=[1, 2]))):
            hits[name].append(bool(one.patches[result.peak]))
    assert interval(hits["map"])[1] > 0.6 and np.mean(hits["words"]) > np.mean(hits["attention"])
    assert np.mean(hits["map"]) > np.mean(hits["attention"]) + 0.2 > np.mean(hits["relative"])


def test_captions_owe_colours_shapes_and_marks_to_the_picture_and_nothing_else(mllm):
    shown, control = world.sample(16, 79, kinds=("color",), objects=(2, 3)), redrawn(mllm, 1)
    found, noise, ways = {}, {}, []
    for one in shown:
        prompt = mllm.prompt(one.picture, world.CAPTION)
        target = mllm.target(prompt)
        for model, store in ((mllm, found), (control, noise)):
            result = evidence_per_word(model, prompt, target)
            sorts = np.array(["a" if word == "a" else "mark" if word in ",." else "named" for word in result.columns])
            for sort in ("a", "mark", "named"):
                store.setdefault(sort, []).append(result.values[2][sorts == sort].mean())
        part = roles(prompt, target)
        ways.append(effects(mllm, prompt, target, [(part["answer"], part["image"], BLOCKS), (part["question"], part["image"], BLOCKS)]))
    assert interval(found["a"])[2] < 0.3 and interval(found["named"])[1] > 3 and interval(found["mark"])[1] > 1
    assert interval(noise["named"])[2] < 2
    direct, through = np.transpose(ways)
    assert interval(direct)[1] > 10 and interval(through)[2] < 1.5        # a caption takes the direct way
