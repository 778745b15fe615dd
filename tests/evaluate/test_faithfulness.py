"""Insertion, deletion and infidelity: known in closed form on an additive scorer, ordered as they must be on `tiny`."""

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import world
from mini_lib.evaluate import areas, curves, infidelity
from mini_lib.evaluate.faithfulness import squares
from mini_lib.refusal import Refusal
from tests.evaluate.toys import COEFFICIENTS, Toy

TRUE, FLAT = COEFFICIENTS[None], np.ones((1, 4, 4))
# In reading order, an order and its inverse are the same, and a mix-up of the two would not show.
SHUFFLED = np.random.default_rng(1).permutation(COEFFICIENTS.ravel()).reshape(4, 4)


def pictured(seed):
    """A toy prompt on a picture of its own. Its brightness is that of white, nearly: ties are broken by the picture."""
    picture = np.full((32, 32, 3), 255, np.uint8)
    picture[0, 0] = seed % 256
    return Toy().prompt(picture)


@pytest.mark.parametrize("coefficients", [COEFFICIENTS, SHUFFLED], ids=["in reading order", "shuffled"])
def test_the_curves_of_an_additive_scorer_are_running_sums(coefficients):
    toy = Toy(coefficients)
    result = curves(toy, toy.prompt(), None, coefficients[None], "black")
    sums = np.concatenate([[0], np.sort(COEFFICIENTS.ravel())[::-1].cumsum()])              # most relevant first
    words = 3 - 1 + 2                                                                       # what the words add always
    assert result.share == pytest.approx(np.arange(17) / 16)
    assert result.insertion[0] == pytest.approx(words + sums) and result.deletion[0] == pytest.approx(words + 40 - sums)
    area = (sums[:-1] + sums[1:]).sum() / 2 / 16 / 40
    assert result.gap == pytest.approx(40)
    assert result.insertion_area[0] == pytest.approx(area) and result.deletion_area[0] == pytest.approx(1 - area)


def test_fewer_steps_take_patches_in_equal_shares():
    toy = Toy()
    result = curves(toy, toy.prompt(), None, TRUE, "black", steps=4)
    quarters = np.sort(COEFFICIENTS.ravel())[::-1].reshape(4, 4).sum(1).cumsum()
    assert result.insertion[0] == pytest.approx(4 + np.concatenate([[0], quarters]))
    uneven = curves(toy, toy.prompt(), None, TRUE, "black", steps=3)
    assert uneven.share == pytest.approx([0, 5 / 16, 11 / 16, 1])


def test_the_true_order_beats_every_other_and_the_reverse_is_the_worst():
    toy, rng, true = Toy(SHUFFLED), np.random.default_rng(0), SHUFFLED[None]
    maps = np.concatenate([true, -true, rng.random((50, 4, 4))])
    result = curves(toy, toy.prompt(), None, maps, "black")
    assert result.insertion_area.argmax() == result.deletion_area.argmin() == 0
    assert result.insertion_area.argmin() == result.deletion_area.argmax() == 1


def test_deleting_in_one_order_is_inserting_in_the_other_read_backwards():
    toy = Toy(bend=torch.tanh)                                   # any model, not only an additive one
    result = curves(toy, toy.prompt(), None, np.concatenate([TRUE, -TRUE]), "black", least=0)
    assert result.deletion[0] == pytest.approx(result.insertion[1, ::-1])
    assert result.deletion_area[0] == pytest.approx(result.insertion_area[1])


def test_a_constant_map_is_a_random_one_and_its_areas_are_a_half_on_average():
    runs = [curves(Toy(), pictured(seed), None, FLAT, "black") for seed in range(200)]
    inserted, deleted, left_out = areas(runs)
    assert inserted.shape == deleted.shape == (200, 1) and left_out == 0
    assert inserted.std() > 0.05, "the order is the same on every picture"
    assert inserted.mean() == pytest.approx(0.5, abs=0.02) and deleted.mean() == pytest.approx(0.5, abs=0.02)
    rng = np.random.default_rng(0)
    random = curves(Toy(), Toy().prompt(), None, rng.random((200, 4, 4)), "black").insertion_area
    assert random.mean() == pytest.approx(inserted.mean(), abs=0.03) and random.std() == pytest.approx(inserted.std(), rel=0.2)


def test_ties_follow_the_seed_and_nothing_else():
    toy = Toy()
    one, same, other = (curves(toy, toy.prompt(), None, FLAT, "black", seed=seed).insertion for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    among = curves(toy, toy.prompt(), None, np.concatenate([TRUE, FLAT]), "black", seed=0).insertion
    assert among[1] == pytest.approx(one[0])                     # whichever maps it is scored with


@pytest.mark.parametrize("factor", [0.01, -1])
def test_a_picture_that_hardly_matters_or_speaks_against_the_answer_is_left_out_and_counted(factor):
    toy, good = Toy(COEFFICIENTS * factor), Toy()
    small, fine = (curves(m, m.prompt(), None, TRUE, "black") for m in (toy, good))
    assert small.gap == pytest.approx(40 * factor) and not small.counted and fine.counted
    assert np.isnan(small.insertion_area).all() and np.isnan(small.deletion_area).all()
    inserted, deleted, left_out = areas([small, fine, small])
    assert inserted.shape == deleted.shape == (1, 1) and left_out == 2
    assert areas([small])[0].shape == (0, 1) and areas([small])[2] == 1


def test_the_empty_picture_is_the_cover_that_was_given():
    toy = Toy()
    gray = Image.new("RGB", (32, 32), (51, 51, 51))
    result = curves(toy, toy.prompt(), None, TRUE, gray)
    assert result.insertion[0, 0] == pytest.approx(4 + 40 * 0.2) and result.gap == pytest.approx(40 * 0.8)


@pytest.mark.parametrize(("maps", "steps", "passes"), [(1, 16, 32), (3, 16, 92), (2, 4, 14), (1, 100, 32)])
def test_curves_cost_the_passes_they_say(maps, steps, passes):
    toy = Toy()
    toy.passes = 7                                               # what was run before does not count
    result = curves(toy, toy.prompt(), None, np.repeat(TRUE, maps, 0), "black", steps=steps)
    assert result.passes == toy.passes - 7 == passes == 2 + 2 * maps * (min(steps, 16) - 1)


def test_maps_that_do_not_fit_are_refused():
    toy = Toy()
    for maps in (TRUE[0], np.ones((1, 8, 8))):
        with pytest.raises(Refusal, match="do not fit"):
            curves(toy, toy.prompt(), None, maps)
    with pytest.raises(Refusal, match="finite"):
        curves(toy, toy.prompt(), None, TRUE * np.nan)
    with pytest.raises(Refusal, match="no curve"):
        curves(toy, toy.prompt(), None, TRUE, steps=1)


def test_squares_lie_inside_the_grid_and_have_the_sides_they_say():
    regions = squares(6, 8, 500, np.random.default_rng(0)).reshape(-1, 6, 8)
    heights, widths = regions.any(2).sum(1), regions.any(1).sum(1)
    assert np.array_equal(heights, widths) and np.array_equal(regions.sum((1, 2)), heights * widths)
    assert set(heights) == {1, 2, 3} and regions.any(0).all()


def test_the_coefficients_of_an_additive_scorer_have_no_infidelity():
    toy = Toy()
    result = infidelity(toy, toy.prompt(), None, np.concatenate([TRUE, 2 * TRUE, 0 * TRUE, FLAT]), "black")
    power = (result.cost**2).mean()
    assert result.plain == pytest.approx([0, power, power, ((result.foretold[3] - result.cost) ** 2).mean()], abs=1e-9)
    assert result.scaled[:3] == pytest.approx([0, 0, power], abs=1e-9)      # one factor makes 2 x the map right
    assert result.unexplained[:3] == pytest.approx([0, 0, 1], abs=1e-9)
    a, b = result.foretold[3], result.cost                       # a constant map foretells the size of the cover
    assert result.unexplained[3] == pytest.approx(1 - (a @ b) ** 2 / (a @ a) / (b @ b)) and 0 < result.unexplained[3] < 1


def test_what_a_cover_costs_is_summed_over_the_patches_it_hides():
    toy = Toy()
    result = infidelity(toy, toy.prompt(), None, FLAT, "black", draws=20)
    sizes = result.foretold[0]
    fours = [COEFFICIENTS[r:r + 2, c:c + 2].sum() for r in range(3) for c in range(3)]
    assert set(sizes) == {1, 4}                                  # squares of 1 x 1 and 2 x 2 patches
    assert set(result.cost[sizes == 1].round(6)) <= set(COEFFICIENTS.ravel())
    assert set(result.cost[sizes == 4].round(6)) <= set(fours)


def test_infidelity_costs_the_same_however_many_maps():
    toy = Toy()
    assert infidelity(toy, toy.prompt(), None, np.repeat(TRUE, 5, 0), draws=30).passes == toy.passes == 31


@pytest.mark.parametrize("size", [0, 1e-8])
def test_a_model_that_ignores_the_picture_up_to_rounding_has_nothing_to_explain(size):
    toy = Toy(size * COEFFICIENTS)
    result = infidelity(toy, toy.prompt(), None, np.concatenate([TRUE, FLAT]), "black")
    assert np.isnan(result.unexplained).all() and result.scaled == pytest.approx(0, abs=1e-12)


def test_infidelity_is_captums():
    captum = pytest.importorskip("captum.metrics", reason="captum is not installed: infidelity is not compared with it")
    toy = Toy(COEFFICIENTS / 10, bend=lambda total: torch.tanh(total / 3))
    maps = np.random.default_rng(0).normal(size=(2, 4, 4))
    ours = infidelity(toy, toy.prompt(), None, maps, "black", draws=40)
    light, weights = torch.ones(1, 16, dtype=torch.float64), torch.from_numpy(COEFFICIENTS.ravel() / 10)
    from mini_lib.evaluate.faithfulness import generator
    regions = torch.from_numpy(squares(4, 4, 40, generator(toy.prompt(), 0))).double()

    def model(shown):
        return torch.tanh((shown @ weights + 4) / 3)

    def perturb(repeated):
        return regions, repeated - regions                       # white is 1 and black is 0

    for row, one in enumerate(maps):
        for normalize, mine in ((False, ours.plain[row]), (True, ours.scaled[row])):
            theirs = captum.infidelity(model, perturb, light, torch.from_numpy(one.reshape(1, 16)), n_perturb_samples=40,
                                       normalize=normalize)
            assert mine == pytest.approx(float(theirs), rel=1e-5)


@pytest.fixture(scope="module")
def scored(mllm):
    """12 colour questions: curves and infidelity of the true mask, the reverse, a constant map, and noise."""
    samples, rng, runs = world.sample(12, 21, kinds=("color",), objects=(2, 4)), np.random.default_rng(0), []
    for sample in samples:
        prompt = mllm.prompt(sample.picture, sample.question)
        target, mask, before = mllm.target(prompt, sample.answer), sample.patches.astype(float), mllm.passes
        maps = np.stack([mask, 1 - mask, np.ones((8, 8)), rng.random((8, 8))])
        curve, wrong = curves(mllm, prompt, target, maps, steps=8), infidelity(mllm, prompt, target, maps, draws=32)
        assert mllm.passes - before == curve.passes + wrong.passes == 2 + 2 * 4 * 7 + 33
        runs.append((curve, wrong))
    return runs


def test_on_the_model_the_true_mask_beats_noise_and_noise_beats_the_reverse(scored):
    inserted, deleted, left_out = areas([curve for curve, _ in scored])
    assert left_out <= 2
    (true, reverse, flat, noise), (true_out, reverse_out, flat_out, noise_out) = inserted.mean(0), deleted.mean(0)
    assert true > max(flat, noise) + 0.1 and min(flat, noise) > reverse + 0.1, inserted.mean(0)
    assert true_out < min(flat_out, noise_out) - 0.1 and max(flat_out, noise_out) < reverse_out - 0.1, deleted.mean(0)


def test_on_the_model_the_true_mask_foretells_costs_better_than_a_constant_map_and_noise(scored):
    true, _, flat, noise = np.nanmean([wrong.unexplained for _, wrong in scored], 0)
    assert true < min(flat, noise) - 0.1
