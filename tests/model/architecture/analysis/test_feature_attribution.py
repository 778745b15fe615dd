"""Feature attribution: each method's identity, its formula worked by hand, and whether it finds what the answer rests on."""

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import games, world
from mini_lib.evaluate import chance, interval, pointing, redrawn
from mini_lib.hooks import attention
from mini_lib.model.architecture.analysis.feature_attribution import activation_map as tam
from mini_lib.model.architecture.analysis.feature_attribution import attention_lrp as lrp
from mini_lib.model.architecture.analysis.feature_attribution import rise
from mini_lib.refusal import Refusal
from mini_lib.registry import methods

METHODS = {slug: method for slug, method in methods().items()
           if method.node.endswith("/feature-attribution") and slug != "modality-shares"}        # no map; tested in a file of its own
OF_WORDS = ("gradient-input", "smoothgrad", "integrated-gradients", "attention-rollout", "generic-relevance", "attention-lrp")
CHEAP = {"rise": {"covers": 200}, "shapley": {"samples": 64}, "integrated-gradients": {"steps": 32}, "smoothgrad": {"samples": 8}}


@pytest.fixture(scope="module")
def samples():
    return world.sample(16, 21, kinds=("color", "shape"), objects=(2, 4))


@pytest.fixture(scope="module")
def maps(mllm, samples):
    """Maps of all methods for the same questions, made when a test first asks for them."""
    kept = {}

    def made(slug, model=mllm):
        if (slug, model.name) not in kept:
            kept[slug, model.name] = np.stack([METHODS[slug].explain(model, model.prompt(s.picture, s.question), mllm.target(
                mllm.prompt(s.picture, s.question)), **CHEAP.get(slug, {})).values for s in samples])
        return kept[slug, model.name]
    return made


@pytest.fixture(scope="module")
def prompt(mllm, samples):
    return mllm.prompt(samples[0].picture, samples[0].question)


# ---------------------------------------------------------------- all methods

@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("slug", METHODS)
def test_its_identities_hold_on_the_trained_and_on_a_random_model(mllm, slug, seed):
    model = mllm if seed is None else redrawn(mllm, seed)
    sample = world.sample(1, 11, kinds=("color",))[0]
    found = METHODS[slug].identity(model, model.prompt(sample.picture, sample.question))
    assert found and [str(one) for one in found if not one.passed] == []


@pytest.mark.parametrize("slug", METHODS)
def test_it_says_what_it_spent(mllm, prompt, slug):
    before = mllm.passes, mllm.backward_passes
    found = METHODS[slug].explain(mllm, prompt, mllm.target(prompt), **CHEAP.get(slug, {}))
    assert (found.measured["forward_passes"], found.measured["backward_passes"]) == (mllm.passes - before[0], mllm.backward_passes - before[1])
    assert ("backward" in METHODS[slug].cost and "no backward" not in METHODS[slug].cost) == (found.measured["backward_passes"] > 0)
    assert [word for word, _ in found.words] == (prompt.question.split() if slug in OF_WORDS else [])


@pytest.mark.parametrize("slug", METHODS)
def test_an_answer_of_many_words_can_be_explained(mllm, samples, slug):
    prompt = mllm.prompt(samples[0].picture, world.CAPTION)
    found = METHODS[slug].explain(mllm, prompt, None, **CHEAP.get(slug, {}))
    assert len(found.target.split()) > 4 and found.values.shape == (8, 8) and np.isfinite(found.values).all() and found.values.any()


@pytest.mark.parametrize("slug, least", [("attention-lrp", 0.7), ("rise", 0.7), ("gradient-input", 0.3), ("smoothgrad", 0.3),
                                         ("integrated-gradients", 0.3), ("generic-relevance", 0.3), ("shapley", 0.3),
                                         ("attention-rollout", 0.3)])
def test_it_points_at_the_asked_object_more_often_than_chance_and_than_on_re_drawn_weights(mllm, maps, samples, slug, least):
    found = pointing(maps(slug), samples.patches)
    assert interval(found)[1] > chance(samples.patches).mean() and found.mean() >= least
    if slug not in ("rise", "shapley"):                         # slow on two models
        control = pointing(maps(slug, redrawn(mllm, 0)), samples.patches)
        assert control.mean() < found.mean() - 0.2


# ---------------------------------------------------------------- one by one

def test_rollout_is_the_same_whatever_is_asked_for(mllm, prompt):
    explain = METHODS["attention-rollout"].explain
    assert np.array_equal(explain(mllm, prompt, "red").values, explain(mllm, prompt, "blue").values)


def test_integrated_gradients_come_nearer_with_more_steps(mllm, prompt):
    errors = [abs(METHODS["integrated-gradients"].explain(mllm, prompt, steps=n).measured["error"]) for n in (8, 300)]
    assert errors[1] < 0.1 < errors[0]


def test_grad_cam_is_never_negative_and_knows_two_places(mllm, prompt):
    at = {place: METHODS["grad-cam"].explain(mllm, prompt, at=place).values for place in ("connector", "tower")}
    assert all((values >= 0).all() for values in at.values()) and not np.allclose(at["connector"], at["tower"])
    with pytest.raises(Refusal, match="'tower'"):
        METHODS["grad-cam"].explain(mllm, prompt, at="towers")


def test_the_rules_of_lrp_change_derivatives_and_no_value(mllm, prompt):
    plain = mllm.logits(prompt.inputs)
    with lrp.rules(mllm):
        assert torch.allclose(mllm.logits(prompt.inputs), plain, atol=1e-4)
    assert torch.equal(mllm.logits(prompt.inputs), plain)
    x = torch.tensor([3.0], requires_grad=True)
    assert torch.autograd.grad(lrp.half(x), x)[0] == 0.5 and lrp.half(x) == 3


def test_attention_can_be_kept_only_once_at_a_time(mllm):
    with pytest.raises(Refusal, match="being kept already"), attention(mllm), attention(mllm):
        pass


def test_a_decoder_of_another_kind_is_refused_by_lrp(mllm, prompt):
    from dataclasses import replace
    strange = replace(mllm, parts=replace(mllm.parts, norm=torch.nn.LayerNorm(4), blocks=torch.nn.ModuleList([torch.nn.Linear(2, 2)])))
    with pytest.raises(Refusal, match="rules of LRP are not known"), lrp.rules(strange):
        pass


def test_lrp_through_values_alone_is_another_map_and_an_unknown_way_is_refused(mllm, prompt):
    explain = METHODS["attention-lrp"].explain
    assert not np.allclose(explain(mllm, prompt).values, explain(mllm, prompt, through="values").values)
    with pytest.raises(Refusal, match="'values'"):
        explain(mllm, prompt, through="value")


def test_what_all_words_say_is_taken_away():
    own, other = np.array([1.0, 2.0, 3.0]), np.array([[2.0, 4.0, 6.0], [5.0, 0.0, 0.0]])
    assert np.allclose(tam.without(own, other, np.array([1.0, 0.0])), 0)            # said there by a word before, to a factor
    assert np.array_equal(tam.without(own, other, np.zeros(2)), own)                # by no word that says this one
    assert np.array_equal(tam.without(own, 0 * other, np.ones(2)), own)


def test_the_rank_filter_keeps_a_plain_and_takes_a_lone_peak_away():
    plain, peak = np.full((5, 5), 2.0), np.zeros((5, 5))
    peak[2, 2] = 9
    assert np.allclose(tam.ranked(plain), 2) and tam.ranked(peak).max() < 3 and (tam.ranked(np.zeros((4, 4))) == 0).all()


def test_random_masks_are_smooth_shifted_and_half_open():
    masks = rise.random_masks(400, (60, 40), 5, 0.5, np.random.default_rng(0))
    assert masks.shape == (400, 40, 60) and masks.min() >= 0 and masks.max() <= 1
    assert abs(masks.mean() - 0.5) < 0.02 and abs(masks.mean(0) - 0.5).max() < 0.12, "every pixel is seen half of the time"
    assert abs(np.diff(masks, axis=2)).max() < 0.2
    black = rise.through(Image.new("RGB", (60, 40), "red"), np.zeros((1, 40, 60)))[0]
    assert black.getpixel((3, 3)) == (255, 0, 0), "what is covered shows the mean colour"


# ---------------------------------------------------------------- Shapley values of games that can be worked by hand

GAMES = {"additive": (lambda s: s @ [1.0, -2.0, 0.5, 0.0], [1.0, -2.0, 0.5, 0.0]),
         "both of two": (lambda s: (s[:, 0] & s[:, 1]).astype(float), [0.5, 0.5, 0, 0]),
         "either of two": (lambda s: (s[:, 2] | s[:, 3]).astype(float), [0, 0, 0.5, 0.5]),
         "one but not the other": (lambda s: (s[:, 0] ^ s[:, 1]).astype(float), [0, 0, 0, 0]),
         "a majority": (lambda s: (s.sum(1) > 2).astype(float), [0.25] * 4)}


@pytest.mark.parametrize("game", GAMES)
def test_shapley_values_of_known_games(game):
    play, wanted = GAMES[game]
    sets, n = games.every_set(4), 4
    scores = play(sets).astype(float)
    assert np.allclose(games.by_definition(sets, scores), wanted)
    sizes = sets.sum(1)
    weights = np.array([0 if s in (0, n) else (n - 1) / (len(list(games.every_set(n)[sizes == s])) * s * (n - s)) for s in sizes])
    assert np.allclose(games.fitted(sets, scores, weights), wanted)


def test_sampled_shapley_values_come_near_the_exact_ones():
    """In a game of threes: of pairs alone, sets with their complements already give the exact values."""
    rng, n = np.random.default_rng(0), 12
    threes, alone = rng.normal(size=(n, n, n)) / 4, rng.normal(size=n)

    def play(sets):
        x = sets.astype(float)
        return x @ alone + np.einsum("ki,kj,kl,ijl->k", x, x, x, threes)
    exact = games.by_definition(games.every_set(n), play(games.every_set(n)))
    errors = []
    for samples in (100, 2000):
        sets = games.sampled(n, samples, np.random.default_rng(1))
        assert not sets[0].any() and sets[-1].all() and 0.8 * samples < len(sets) <= samples
        found = games.fitted(sets, play(sets), np.r_[0, np.ones(len(sets) - 2), 0])
        assert found.sum() == pytest.approx(play(sets)[-1] - play(sets)[0])
        errors.append(abs(found - exact).max())
    assert errors[1] < 0.25 < abs(exact).max() and errors[1] < errors[0]


def test_blocks_part_the_grid():
    for grid in ((8, 8), (5, 7)):
        found = games.blocks(grid, 2)
        assert sorted(np.concatenate(found)) == list(range(grid[0] * grid[1])) and max(map(len, found)) == 4


def test_of_objects_the_asked_one_brings_the_answer(mllm, samples):
    """Regions are the objects themselves and the cover is the scene without them: exact values of true counterfactuals."""
    right = []
    for i in range(8):
        scene = samples.scenes[[i]]
        masks = world.object_masks(scene)[0]
        regions = [np.flatnonzero(mask.reshape(8, 8, 8, 8).mean((1, 3)).ravel() > 0) for mask in masks if mask.any()]
        empty = Image.fromarray(world.render(scene.edited(present=np.zeros_like(scene.present)))[0])
        prompt = mllm.prompt(samples[i].picture, samples[i].question)
        found = METHODS["shapley"].explain(mllm, prompt, regions=regions, cover=empty)
        asked = [bool(samples.questions.objects[i, k]) for k, mask in enumerate(masks) if mask.any()]
        right.append(asked[int(np.argmax(found.measured["regions"]))])
        assert found.method == "Shapley values" and found.measured["forward_passes"] <= 2 ** len(regions)
    assert np.mean(right) > 0.85


def test_one_region_alone_is_refused(mllm, prompt):
    with pytest.raises(Refusal, match="there is 1; give two or more"):
        METHODS["shapley"].explain(mllm, prompt, regions=[np.arange(4)])
