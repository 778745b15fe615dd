"""Similarity, polar axes, words in context and directions: exact where they must be, findings as measured, known errors caught."""

import colorsys
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import world
from mini_lib.evaluate import interval, rank_correlation, redrawn
from mini_lib.hooks import points, record
from mini_lib.model.embedding.textual_embedding import concept_direction as adding
from mini_lib.model.embedding.textual_embedding import polar_axes as polar
from mini_lib.model.embedding.textual_embedding import representational_similarity as rsa
from mini_lib.model.embedding.textual_embedding import word_in_context as context
from mini_lib.parts import weight_of
from mini_lib.refusal import Refusal
from mini_lib.registry import find
from mini_lib.vectors import rows, states

SLUGS = "representational-similarity", "polar-axes", "word-in-context", "concept-direction"
STEPS = abs(np.subtract.outer(range(8), range(8)))
CIRCLE = np.minimum(STEPS, 8 - STEPS)                              # steps round the eight colours


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 2)


@pytest.fixture(scope="module")
def prompt(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


def broken(slug, model, prompt):
    return [one.claim for one in find(slug).identity(model, prompt) if not one.passed]


@pytest.mark.parametrize("slug", SLUGS)
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert broken(slug, model, prompt) == []


# Realistic errors, brought back.

def test_counting_the_diagonal_is_caught(mllm, prompt, monkeypatch):
    """The zeros of both diagonals agree perfectly and lift any agreement."""
    def whole(inside, world_, seed=0):
        ways = rsa.ways(len(inside))
        shuffled = np.stack([inside[np.ix_(way, way)].ravel() for way in ways])
        return rank_correlation(shuffled, np.broadcast_to(np.asarray(world_).ravel(), shuffled.shape))
    monkeypatch.setattr(rsa, "permuted", whole)
    assert any("mean agreement is 0" in claim for claim in broken("representational-similarity", mllm, prompt))


def test_correlating_over_units_is_caught_because_it_depends_on_the_basis(mllm, prompt, monkeypatch):
    monkeypatch.setattr(rsa, "distances", lambda vectors: 1 - np.corrcoef(np.asarray(vectors, float)))
    assert any("turning" in claim for claim in broken("representational-similarity", mllm, prompt))


def test_mixing_up_the_rows_of_a_batch_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(rsa, "states", lambda *given: states(*given).flip(0))
    assert any("at once" in claim for claim in broken("representational-similarity", mllm, prompt))


def test_an_axis_that_forgets_its_length_is_caught(mllm, prompt, monkeypatch):
    def unit(vectors, low, high):
        axis = np.asarray(high) - np.asarray(low)
        return (np.asarray(vectors) - (np.asarray(low) + np.asarray(high)) / 2) @ axis / np.linalg.norm(axis)
    monkeypatch.setattr(polar, "coordinates", unit)
    assert any("poles" in claim for claim in broken("polar-axes", mllm, prompt))


def test_an_axis_that_forgets_its_origin_is_caught(mllm, prompt, monkeypatch):
    def raw(vectors, low, high):
        axis = np.asarray(high) - np.asarray(low)
        return 2 * np.asarray(vectors) @ axis / (axis @ axis)
    monkeypatch.setattr(polar, "coordinates", raw)
    assert any("origin" in claim for claim in broken("polar-axes", mllm, prompt))


def test_reading_an_image_token_in_the_place_of_a_word_is_caught(mllm, prompt, monkeypatch):
    """An off-by-many in positions: image tokens know of the picture before block 0."""
    right = context.words

    def early(m, one):
        layers = points(m)
        with record(m, *layers) as seen:
            m.logits(one.inputs)
        image = one.tokens.image[-len(right(m, one)):]
        return np.stack([[seen[layer][0, at].double().numpy() for layer in layers] for at in image])
    monkeypatch.setattr(context, "words", early)
    assert any("before block 0" in claim for claim in broken("word-in-context", mllm, prompt))


def test_adding_to_every_position_or_in_the_wrong_direction_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(adding, "direction", lambda vectors, kinds: vectors[0] - vectors[1])
    assert any("other prompt" in claim for claim in broken("concept-direction", mllm, prompt))


def test_controls_that_are_not_at_right_angles_are_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(adding, "orthogonal", lambda r, count, seed=0: torch.randn(count, len(r)))
    assert len(broken("concept-direction", mllm, prompt)) == 2


# Parts and shapes.

def test_states_are_those_of_one_prompt_at_a_time_whatever_the_length_and_the_order(model):
    samples = world.sample(6, 3, kinds=("color", "count", "relation"))
    prompts = [model.prompt(one.picture, one.question) for one in samples]
    positions = [one.tokens.question for one in prompts]
    together = states(model, prompts, positions)
    assert together.shape == (6, 7, 128)
    for one, at, found in zip(prompts, positions, together):
        with record(model, "embed", "block.5") as seen:
            model.logits(one.inputs)
        assert torch.allclose(found[0], seen["embed"][0, at].mean(0), atol=1e-5)
        assert torch.allclose(found[-1], seen["block.5"][0, at].mean(0), atol=1e-3)
    assert states(model, prompts, [[1, 64]] * 6, ["vision.0", "vision.3"]).shape == (6, 2, 128)


def test_rows_are_the_models_own_and_one_where_they_are_tied(mllm, monkeypatch):
    found, ids = rows(mllm, world.COLORS), [mllm.tokens(word)[0] for word in world.COLORS]
    assert torch.equal(found["input"], mllm.model.get_input_embeddings().weight[ids].float())
    assert torch.equal(found["output"], weight_of(mllm.parts.head)[ids].float())
    monkeypatch.setattr(mllm.model, "get_input_embeddings", lambda: mllm.parts.head)
    assert list(rows(mllm, world.COLORS)) == ["input"]


def test_a_planted_circle_and_a_planted_line_are_found_and_noise_is_not():
    rng, turn = np.random.default_rng(0), 2 * np.pi * np.arange(8) / 8
    ring = np.stack([np.cos(turn), np.sin(turn)], 1) @ rng.normal(size=(2, 50))
    score, p = rsa.test(rsa.distances(ring), CIRCLE)
    assert p < 0.001 and score > 0.9 and polar.tour(polar.plane(ring)[0])[0] == 8
    line = np.outer(np.arange(5), rng.normal(size=50)) + 0.01 * rng.normal(size=(5, 50))
    assert rsa.test(rsa.distances(line), STEPS[:5, :5]) == (pytest.approx(1, abs=0.05), pytest.approx(2 / 120))
    chance = [rsa.test(rsa.distances(rng.normal(size=(6, 50))), STEPS[:6, :6])[1] for _ in range(200)]
    assert 0.35 < np.mean(chance) < 0.65 and np.mean(np.array(chance) < 0.05) < 0.11      # p is uniform where there is nothing


def test_of_more_than_eight_things_many_random_orders_are_tried_the_true_one_first():
    ways = rsa.ways(10)
    assert len(ways) == 20001 and (ways[0] == np.arange(10)).all() and (np.sort(ways, 1) == np.arange(10)).all()
    line = abs(np.subtract.outer(range(10), range(10)))
    assert rsa.test(line, line)[1] <= 2 / 20001


def test_where_nothing_differs_there_is_neither_order_nor_axis(mllm, prompt):
    assert rsa.test(rsa.distances(np.ones((5, 4))), STEPS[:5, :5]) == (0, 1)
    assert (polar.coordinates(np.eye(3), np.ones(3), np.ones(3)) == 0).all()


def test_several_axes_at_once_count_nothing_twice():
    """Two axes at an angle: a vector along one has nothing of the other, though it has a place on each alone."""
    lows, highs = np.zeros((2, 2)), np.array([[1.0, 0], [1, 1]])
    assert np.allclose(polar.joint(np.array([[3.0, 0]]), lows, highs), [[3, 0]])
    assert polar.coordinates(np.array([3.0, 0]), lows[1], highs[1]) != -1


def test_read_out_finds_what_was_planted_and_only_there():
    rng, labels = np.random.default_rng(0), np.arange(200) % 4
    vectors = rng.normal(size=(200, 2, 10))
    vectors[:, 1, :4] += 5 * np.eye(4)[labels]
    right = context.read_out(vectors, labels)
    assert right.shape == (200, 2) and right[:, 1].mean() > 0.95 and interval(right[:, 0])[1] < 0.25 < interval(right[:, 0])[2] + 0.05


def test_what_cannot_be_compared_is_refused(mllm, prompt):
    ends = [[prompt.inputs["input_ids"].shape[1] - 1]]
    with pytest.raises(Refusal, match="at least one prompt"):
        states(mllm, [], [])
    with pytest.raises(Refusal, match="no position"):
        states(mllm, [prompt], [[]])
    with pytest.raises(Refusal, match="no position 90"):
        states(mllm, [prompt], [[90]])
    with pytest.raises(Refusal, match="No prompt is about blue"):
        rsa.means(np.zeros((1, 2, 3)), ["red"], ["red", "blue"])
    with pytest.raises(Refusal, match="square tables"):
        rsa.permuted(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(Refusal, match="No prompt is about green, blue"):
        polar.polar_axes(mllm, [prompt], ["red"], ends, ["red", "green", "blue"])
    with pytest.raises(Refusal, match="nothing between"):
        polar.polar_axes(mllm, [prompt], ["red"], ends, ["red", "red"])
    with pytest.raises(Refusal, match="mixture"):
        polar.joint(np.zeros((1, 2)), np.zeros((2, 2)), np.ones((2, 2)))
    with pytest.raises(Refusal, match="4 to 8"):
        polar.tour(np.zeros((9, 2)))
    with pytest.raises(Refusal, match="two kinds"):
        adding.direction(torch.zeros(2, 3), [1, 1])
    with pytest.raises(Refusal, match="folds only"):
        context.read_out(np.zeros((5, 1, 2)), [0, 0, 0, 0, 1])


def test_the_methods_give_what_they_say(mllm, prompt):
    curves = context.word_in_context(mllm, prompt)
    assert curves.values.shape == (len(prompt.tokens.words), 7) and (curves.values[:, 0] == 0).all()
    assert curves.measured["forward_passes"] == 2
    other = mllm.prompt(Image.new("RGB", (64, 64), "white"), prompt.question)
    one = rsa.representational_similarity(mllm, [prompt, other, prompt, other], list("abcb"), [[70]] * 4, list("abc"), STEPS[:3, :3])
    assert one.values.shape == (3, 3) and one.values[0, 2] == 0 and one.measured["forward_passes"] == 4
    layered = rsa.by_layer(mllm, {"x": ([prompt, other, prompt], list("abc"), [[70]] * 3)}, list("abc"), STEPS[:3, :3])
    assert layered.values.shape == (1, 7) and layered.values[0, -1] == pytest.approx(rsa.agreement(one.values, STEPS[:3, :3]))


# Findings about `tiny`, as the chapter tells them.

@pytest.fixture(scope="module")
def circle(mllm):
    """(agreement with the hues of the pixels, p) of image tokens at the tower's ends, embed, block.0, block.5; trained and random."""
    samples = world.sample(160, 41, kinds=("shape",), objects=(1, 1))
    cover = world.patch_cover(samples.masks).reshape(160, -1)
    own = [np.flatnonzero(share >= min(0.6, share.max())) for share in cover]
    named = [next(word for word in one.question.split() if word in world.COLORS) for one in samples]
    pixels = np.array([picture[mask].mean(0) for picture, mask in zip(samples.pictures, samples.masks)]) / 255
    hue = np.array([colorsys.rgb_to_hsv(*color)[0] for color in rsa.means(pixels[:, None], named, world.COLORS)[0]])
    gap, out = abs(np.subtract.outer(hue, hue)), {}
    for name, model in (("trained", mllm), ("re-drawn", redrawn(mllm, 0))):
        prompts = [model.prompt(one.picture, one.question) for one in samples]
        inside = states(model, prompts, [one.tokens.image[at] for one, at in zip(prompts, own)], ["embed", "block.0", "block.5"])
        tower = states(model, prompts, [1 + at for at in own], ["vision.0", "vision.3"])
        out[name] = rsa.means(torch.cat([tower, inside], 1), named, world.COLORS)
    return {name: [rsa.test(rsa.distances(one), np.minimum(gap, 1 - gap)) for one in found] for name, found in out.items()}


def test_the_colour_circle_lies_in_the_tower_and_is_all_but_lost_in_the_language_model(circle):
    score, p = np.array(circle["trained"]).T
    assert (score[:2] > 0.5).all() and (p[:2] < 0.005).all(), circle
    assert score[2] < 0.55 and (score[3:] < 0.45).all() and (p[3:] > 0.01).all(), circle


def test_a_model_that_learnt_nothing_keeps_the_circle_to_the_end(circle):
    score, p = np.array(circle["re-drawn"]).T
    assert (score > 0.7).all() and (p < 0.001).all() and (score[2:] > np.array(circle["trained"])[2:, 0] + 0.2).all(), circle


def test_of_the_bare_words_only_the_colours_output_rows_follow_the_pixels(mllm):
    from mini_lib.world.scenes import _RGB
    lines = {"zero to four": ("zero one two three four".split(), STEPS[:5, :5]), "places": (list("12345678"), STEPS),
             "pixels": (world.COLORS, rsa.distances(_RGB))}
    found = {(name, table): rsa.test(rsa.distances(v), true) for name, (words, true) in lines.items()
             for table, v in rows(mllm, words).items()}
    assert found["pixels", "output"][1] < 0.005, found
    assert all(p > 0.005 for (name, table), (_, p) in found.items() if (name, table) != ("pixels", "output")), found
    assert found["zero to four", "output"][0] > 0.8 and found["zero to four", "input"][0] < 0.5, found
    control = redrawn(mllm, 0)
    assert all(rsa.test(rsa.distances(v), rsa.distances(_RGB))[1] > 0.05 for v in rows(control, world.COLORS).values())


def test_after_two_blocks_the_noun_has_the_colour_of_its_own_object_and_of_no_other(mllm):
    samples, rng, control = world.sample(200, 41, kinds=("color",), objects=(2, 3)), np.random.default_rng(0), redrawn(mllm, 0)
    truth = np.array([one.answer for one in samples])
    there = samples.scenes.present & ~samples.questions.objects
    rest = [[c for c in np.array(world.COLORS)[colors[where]] if c != answer]
            for colors, where, answer in zip(samples.scenes.color, there, truth)]
    other = np.array([rng.choice(colors) if colors else "" for colors in rest])

    def read(model, number, labels=truth):
        prompts = [model.prompt(one.picture, one.question) for one in samples]
        found = states(model, prompts, [one.tokens.words[number][1] for one in prompts])
        return context.read_out(found[torch.tensor(labels != "")], labels[labels != ""])[:, [0, 2, 6]]
    noun, mark, wrong, noise = read(mllm, 4), read(mllm, 5), read(mllm, 4, other), read(control, 4)
    low, high = ([interval(one[:, 1])[k] for one in (noun, mark, wrong, noise)] for k in (1, 2))
    assert low[0] > 0.75 and max(high[1:]) < 0.45, (low, high)
    assert noun[:, 0].mean() < 0.3 and mark[:, 2].mean() > 0.95, "neither before block 0; the question mark at the end"


def test_on_the_axis_between_the_outer_columns_the_noun_follows_the_true_position(mllm):
    scenes = world.sample_scenes(600, 21, (1, 3))
    which = world.ask(scenes, "place", 0)
    chosen = np.flatnonzero(which.valid & np.array(["column" in text for text in which.text]))[:160]
    pictures, across = world.render(scenes[chosen]), scenes[chosen].x[which[chosen].objects]
    column = np.clip((across // world.PATCH).astype(int), 1, 6)
    between, scores = (column > 1) & (column < 6), {}
    for name, model in (("trained", mllm), ("re-drawn", redrawn(mllm, 0))):
        prompts = [model.prompt(picture, text) for picture, text in zip(pictures, which[chosen].text)]
        found = states(model, prompts, [one.tokens.words[4][1] for one in prompts]).numpy()[:, [0, 3]]
        scores[name] = [rank_correlation(polar.coordinates(v[between], v[column == 1].mean(0), v[column == 6].mean(0))[None],
                                         across[between][None])[0] for v in found.swapaxes(0, 1)]
    assert scores["trained"][1] > 0.85 and abs(scores["trained"][0]) < 0.3 and abs(scores["re-drawn"][1]) < 0.3, scores


def test_the_difference_of_means_moves_the_answer_early_steadily_and_further_than_its_controls(mllm):
    many = world.sample_scenes(3000, 31, (2, 3))
    has = {name: (many.color == world.COLORS.index(name)) & many.present for name in ("red", "blue", "cyan")}
    shape = {name: many.shape[np.arange(len(many)), where.argmax(1)] for name, where in has.items()}
    fit = np.flatnonzero((has["red"].sum(1) == 1) & (has["blue"].sum(1) == 1) & ~has["cyan"].any(1) & (shape["red"] != shape["blue"]))[:40]
    ask = {name: [mllm.prompt(p, f"what shape is the {name} object ?") for p in world.render(many[fit])] for name in has}
    at = ask["red"][0].tokens.words[4][1]
    mean = {name: states(mllm, which[:20], [at] * 20).mean(0) for name, which in ask.items()}
    ids = {name: [mllm.tokens(world.SHAPES[s])[0] for s in shape[name][fit][20:]] for name in ("red", "blue")}

    def curves(layer, point):
        return adding.concept_direction(mllm, ask["red"][20:], at * (len(fit) - 20), point, (mean["blue"] - mean["red"])[layer],
                                        ids["blue"], ids["red"], others={"absent": (mean["cyan"] - mean["red"])[layer]},
                                        doses=(0, 0.5, 0.75, 1), controls=2)
    early, late = curves(2, "block.1"), curves(4, "block.3")
    assert (np.diff(early.values[0]) > 0).all() and early.low[0, -1] > 5 and early.high[0, 0] < -5, early
    assert early.high[1:, -1].max() < early.low[0, -1] and early.high[2, -1] < 0, early     # absent and random stay behind
    assert late.high[0, -1] < 0, late                                     # told apart still, used no more


def test_replacing_a_words_row_is_adding_the_whole_difference(mllm):
    """Before block 0 the difference of means is that of two rows, so dose 1 asks the other question, to rounding."""
    sample = world.sample(1, 5, kinds=("shape",), objects=(3, 3))[0]
    red, blue = (mllm.prompt(sample.picture, f"what shape is the {name} object ?") for name in ("red", "blue"))
    at = red.tokens.words[4][1][0]
    pair = states(mllm, [red, blue], [at, at])[:, 0]
    found = adding.after(mllm, [red], [at], "embed", adding.direction(pair, [0, 1]))[0]
    assert torch.allclose(found, mllm.logits(blue.inputs)[0, -1].log_softmax(-1).cpu(), atol=1e-3)


def test_every_module_of_the_leaf_holds_one_method():
    for slug in SLUGS:
        assert import_module(find(slug).explain.__module__).__doc__.count("Misleads when") == 1
