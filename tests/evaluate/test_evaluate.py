"""Scores of maps: worked by hand, with the floors they must have."""

import numpy as np
import pytest

from mini_lib.evaluate import chance, interval, mass, pointing, random_map, redrawn, say

TRUTH = np.zeros((1, 4, 4), bool)
TRUTH[0, 1, 1:3] = True                                  # 2 of 16 patches


def one(row, column, value=1.0):
    values = np.zeros((1, 4, 4))
    values[0, row, column] = value
    return values


def test_pointing_is_one_inside_and_zero_outside():
    assert pointing(one(1, 1), TRUTH)[0] == 1 and pointing(one(3, 3), TRUTH)[0] == 0


def test_a_constant_map_scores_chance_and_not_one():
    assert pointing(np.ones((1, 4, 4)), TRUTH)[0] == chance(TRUTH)[0] == 2 / 16


def test_a_tie_counts_by_the_share_that_is_right():
    assert pointing(one(1, 1) + one(3, 3), TRUTH)[0] == 0.5


def test_the_true_mask_is_the_ceiling_of_both_scores():
    assert pointing(TRUTH.astype(float), TRUTH)[0] == mass(TRUTH.astype(float), TRUTH)[0] == 1


def test_mass_ignores_negative_relevance_and_an_empty_map_scores_zero():
    assert mass(3 * one(1, 1) + one(0, 0) - 5 * one(2, 2), TRUTH)[0] == 0.75
    assert mass(-one(1, 1), TRUTH)[0] == 0


def test_random_maps_score_chance():
    rng = np.random.default_rng(0)
    maps = np.stack([random_map((4, 4), rng) for _ in range(4000)])
    assert abs(pointing(maps, np.repeat(TRUTH, 4000, 0)).mean() - 2 / 16) < 0.02


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    for draw, mean in ((lambda: rng.random(100) < 0.3, 0.3), (lambda: rng.exponential(2, 100), 2)):
        covered = 0
        for i in range(200):
            _, low, high = interval(draw(), draws=1000, seed=i)
            covered += low <= mean <= high
        assert 175 <= covered < 200


def test_a_perfect_score_does_not_claim_certainty():
    mean, low, high = interval(np.ones(100))
    assert mean == high == 1 and 0.95 < low < 0.97              # Wilson: 0.963


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError):
        interval([])


def test_redrawn_weights_keep_the_shape_and_forget_the_answers(mllm):
    import torch
    control = redrawn(mllm, 0)
    for (name, old), (_, new) in zip(mllm.model.named_parameters(), control.model.named_parameters()):
        assert old.shape == new.shape and (old.std() == 0 or not torch.equal(old, new)), name
    from mini_lib import world
    samples = world.sample(60, 7, kinds=("color",))
    right = [np.mean(np.array(m.answers(samples.pictures, samples.questions.text, 3)) == samples.questions.answer)
             for m in (mllm, control)]
    assert right[0] > 0.9 and right[1] < 0.35


def test_an_interval_is_said_with_its_n():
    assert say(np.ones(100)) == "100% (96% to 100%, n = 100)" and say([1.0, 1.0, 1.0, 3.0], ".1f").startswith("1.5 (1.0 to ")
    assert say([-1e-7, -2e-7], ".1f") == "0.0 (0.0 to 0.0, n = 2)"
