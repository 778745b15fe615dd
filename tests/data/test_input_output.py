"""Occlusion: exact on a scorer whose coefficients are known, right on a world whose objects are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import world
from mini_lib.data.input_output import covered, occlusion, spread, windows
from mini_lib.evaluate import chance, interval, pointing, random_map, redrawn
from mini_lib.refusal import Refusal
from mini_lib.registry import find

COEFFICIENTS = np.arange(16).reshape(4, 4) - 5.0


def additive_mllm():
    """A "model" whose score is the sum over 4 x 4 patches of coefficient x brightness."""
    def score(prompt, target, pictures):
        light = [np.asarray(p, float).mean(2).reshape(4, 8, 4, 8).mean((1, 3)) / 255 for p in pictures]
        return torch.tensor([(COEFFICIENTS * one).sum() for one in light])
    boxes = np.array([[8 * c, 8 * r, 8 * c + 8, 8 * r + 8] for r in range(4) for c in range(4)], float)
    prompt = SimpleNamespace(picture=Image.new("RGB", (32, 32), "white"), question="?",
                             tokens=SimpleNamespace(grid=(4, 4), boxes=boxes))
    return SimpleNamespace(score=score, passes=0, target=lambda prompt, token=None: SimpleNamespace(text="x")), prompt


def test_an_additive_scorer_gets_its_own_coefficients_back():
    mllm, prompt = additive_mllm()
    assert np.allclose(occlusion(mllm, prompt, cover="black", size=1).values, COEFFICIENTS)


def test_larger_covers_average_the_regions_that_hold_a_patch():
    mllm, prompt = additive_mllm()
    values = occlusion(mllm, prompt, cover="black", size=2).values
    corner = COEFFICIENTS[:2, :2].sum()                         # the corner patch lies in one region only
    assert values[0, 0] == pytest.approx(corner)
    assert values[0, 1] == pytest.approx((corner + COEFFICIENTS[:2, 1:3].sum()) / 2)


def test_the_whole_picture_as_one_region_costs_everything():
    mllm, prompt = additive_mllm()
    assert np.allclose(occlusion(mllm, prompt, cover="black", size=4).values, COEFFICIENTS.sum())


def test_each_patch_is_in_as_many_regions_as_geometry_says():
    regions = windows(8, 8, 3)
    assert len(regions) == 36 and all(len(r) == 9 for r in regions)
    assert np.allclose(spread(np.ones(36), regions, 64), 1)


@pytest.mark.parametrize("cover", ["mean", "blur", "black"])
def test_a_cover_changes_its_box_and_nothing_else(cover):
    picture = world.sample(1, 0)[0].picture
    before, after = np.asarray(picture), np.asarray(covered(picture, (16, 16, 32, 32), cover))
    outside = np.ones((64, 64), bool)
    outside[16:32, 16:32] = False
    assert np.array_equal(before[outside], after[outside])


def test_an_unknown_cover_is_refused():
    with pytest.raises(Refusal, match="'blur'"):
        covered(Image.new("RGB", (8, 8)), (0, 0, 4, 4), "blurr")


@pytest.mark.parametrize("seed", [None, 0])
def test_its_identities_hold_on_the_trained_and_on_a_random_model(mllm, seed):
    model = mllm if seed is None else redrawn(mllm, seed)
    sample = world.sample(1, 11, kinds=("color",))[0]
    assert [str(i) for i in find("occlusion").identity(model, model.prompt(sample.picture, sample.question)) if not i.passed] == []


@pytest.fixture(scope="module")
def scored(mllm):
    """60 colour and shape questions with two objects or more: maps of the model, of a re-drawn one, and of noise."""
    samples, control, rng = world.sample(60, 21, kinds=("color", "shape"), objects=(2, 4)), redrawn(mllm, 0), np.random.default_rng(0)
    prompts = [mllm.prompt(s.picture, s.question) for s in samples]
    maps = {"occlusion": np.stack([occlusion(mllm, p).values for p in prompts]),
            "re-drawn": np.stack([occlusion(control, p, s.answer).values for p, s in zip(prompts, samples)]),
            "random": np.stack([random_map((8, 8), rng) for _ in prompts])}
    return maps, samples.patches


def test_its_peak_lies_on_the_asked_object_far_more_often_than_the_controls(scored):
    maps, truth = scored
    rate = {name: interval(pointing(values, truth)) for name, values in maps.items()}
    assert rate["occlusion"][1] > 0.6, rate                     # the lower end of the interval
    assert abs(rate["random"][0] - chance(truth).mean()) < 0.12
    for control in ("re-drawn", "random"):                      # paired: the same pictures
        assert interval(pointing(maps["occlusion"], truth) - pointing(maps[control], truth))[1] > 0.2, rate


def test_a_cover_smaller_than_the_object_hardly_costs_anything(mllm, scored):
    """What is left of the object still gives the answer away; hence the default of a quarter of the grid."""
    samples = world.sample(20, 21, kinds=("color", "shape"), objects=(2, 4))
    small = [occlusion(mllm, mllm.prompt(s.picture, s.question), size=1).values.max() for s in samples]
    assert np.median(small) < 0.2 * np.median(scored[0]["occlusion"][:20].max((1, 2)))


def test_covering_the_object_with_the_twins_version_of_it_flips_the_answer(mllm):
    """The true counterfactual: the twin differs in the asked object only, and taking its box over flips the answer."""
    flipped = []
    for sample in world.sample(40, 31, kinds=("color",)):
        rows, columns = np.nonzero(sample.mask)
        box = (int(columns.min()) - 1, int(rows.min()) - 1, int(columns.max()) + 2, int(rows.max()) + 2)
        edited = covered(sample.picture, box, sample.twin_picture)
        flipped.append(mllm.answer(mllm.prompt(edited, sample.question)) == sample.twin_answer)
    assert np.mean(flipped) > 0.9


def test_it_costs_the_passes_it_says(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    assert occlusion(mllm, mllm.prompt(sample.picture, sample.question)).measured["forward_passes"] == 49 + 1


def test_a_cover_of_another_size_is_refused(mllm):
    with pytest.raises(Refusal, match="same size"):
        covered(Image.new("RGB", (8, 8)), (0, 0, 4, 4), Image.new("RGB", (9, 9)))
