"""Rank accuracy and IoU: worked by hand, ties against every way to break them, floors and ceilings."""

from itertools import permutations

import numpy as np
import pytest

from mini_lib.evaluate import chance, iou, mass, pointing, random_map, rank_accuracy

TRUTH = np.zeros((1, 4, 4), bool)
TRUTH[0, 1, 0:3] = True                                          # 3 of 16 patches
FALLING = np.arange(16, 0, -1.0).reshape(1, 4, 4)                # 16 at the first patch, 1 at the last


def test_two_of_the_three_highest_patches_inside_are_two_thirds_and_an_iou_of_a_half():
    values = np.zeros((1, 4, 4))
    values[0, 1, 0], values[0, 1, 2], values[0, 3, 3], values[0, 1, 1] = 9, 8, 7, 6
    assert rank_accuracy(values, TRUTH)[0] == pytest.approx(2 / 3)
    assert iou(values, TRUTH)[0] == pytest.approx(2 / 4)         # 2 in both, 3 + 3 - 2 in either


def test_a_map_that_is_highest_elsewhere_scores_zero():
    assert rank_accuracy(FALLING, TRUTH)[0] == iou(FALLING, TRUTH)[0] == 0


def test_only_the_order_counts():
    values = np.random.default_rng(0).normal(size=(5, 4, 4))
    truth = np.repeat(TRUTH, 5, 0)
    for score in (rank_accuracy, iou):
        assert np.array_equal(score(values, truth), score(np.exp(3 * values) - 100, truth))


@pytest.mark.parametrize("score", [rank_accuracy, iou])
def test_a_tie_scores_the_mean_over_all_ways_to_break_it(score):
    truth = np.array([[[1, 1, 0], [0, 1, 0]]], bool)
    for values in ([[2, 1, 1], [1, 0, 0]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 5], [5, 5, 0]], [[3, 0, 3], [0, 0, 0]]):
        values = np.array([values], float)
        broken = [values + 0.01 * np.array(noise, float).reshape(1, 2, 3) for noise in permutations(range(6))]
        assert score(values, truth)[0] == pytest.approx(np.mean([score(one, truth)[0] for one in broken]))


def test_the_true_mask_is_the_ceiling_of_every_score():
    for score in (pointing, mass, rank_accuracy, iou):
        assert score(TRUTH.astype(float), TRUTH)[0] == 1


def test_a_constant_map_scores_the_floor_exactly_and_random_maps_on_average():
    rng = np.random.default_rng(0)
    noise, truth = np.stack([random_map((4, 4), rng) for _ in range(6000)]), np.repeat(TRUTH, 6000, 0)
    for score in (pointing, mass, rank_accuracy):
        assert score(np.ones((1, 4, 4)), TRUTH)[0] == pytest.approx(chance(TRUTH)[0])
        assert score(noise, truth).mean() == pytest.approx(3 / 16, abs=0.015)
    floor = iou(np.ones((1, 4, 4)), TRUTH)[0]
    assert floor < chance(TRUTH)[0] and iou(noise, truth).mean() == pytest.approx(floor, abs=0.01)
    assert floor == pytest.approx((3 * 13 * 12 / 2 * 1 / 5 + 3 * 13 * 2 / 4 + 1) / 560)     # hypergeometric, by hand


def test_each_map_of_a_batch_has_its_own_k():
    truth = np.concatenate([TRUTH, ~TRUTH])
    assert rank_accuracy(np.repeat(FALLING, 2, 0), truth) == pytest.approx([0, 10 / 13])
    assert iou(np.repeat(FALLING, 2, 0), truth) == pytest.approx([0, 10 / 16])


@pytest.mark.parametrize("score", [rank_accuracy, iou])
def test_what_has_no_top_k_is_refused(score):
    with pytest.raises(ValueError, match="without a patch"):
        score(FALLING, np.zeros_like(TRUTH))
    with pytest.raises(ValueError, match="finite"):
        score(FALLING * np.nan, TRUTH)
    with pytest.raises(ValueError, match="the same"):
        score(FALLING[:, :2], TRUTH)
