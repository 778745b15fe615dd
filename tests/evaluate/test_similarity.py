"""How alike two maps are: worked by hand, against scipy, and what constant maps count as."""

import numpy as np
import pytest

from mini_lib.evaluate import cosine_distance, rank_correlation


def test_the_same_order_is_one_and_the_reverse_is_minus_one():
    values = np.array([[[1.0, 2], [5, 9]]])
    assert rank_correlation(values, values**3)[0] == pytest.approx(1)
    assert rank_correlation(values, -values)[0] == pytest.approx(-1)
    assert rank_correlation([[1, 2, 3, 4]], [[2, 1, 4, 3]])[0] == pytest.approx(1 - 6 * 4 / (4 * 15))


def test_it_is_scipys_with_and_without_ties():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for one, other in ((rng.normal(size=(6, 30)),) * 2, (rng.integers(0, 5, (6, 30)), rng.integers(0, 3, (6, 30)))):
        other = rng.permuted(other, axis=1)
        assert rank_correlation(one, other) == pytest.approx([stats.spearmanr(a, b)[0] for a, b in zip(one, other)])


def test_random_maps_have_the_floor_and_the_spread_that_are_stated():
    rng = np.random.default_rng(0)
    values = rank_correlation(rng.random((3000, 8, 8)), rng.random((3000, 8, 8)))
    assert abs(values.mean()) < 0.01 and values.std() == pytest.approx(1 / np.sqrt(63), rel=0.05)


def test_a_constant_map_did_not_change_if_it_is_constant_again():
    flat, other = np.ones((1, 2, 2)), np.array([[[1.0, 2], [3, 4]]])
    assert rank_correlation(flat, 7 * flat)[0] == 1 and rank_correlation(flat, other)[0] == 0
    assert rank_correlation(other, flat)[0] == 0


def test_the_cosine_distance_by_hand():
    assert cosine_distance([[3.0, 4]], [[6.0, 8]])[0] == pytest.approx(0)
    assert cosine_distance([[3.0, 4], [1, 0], [1, 0]], [[4.0, 3], [0, 2], [-2, 0]]) == pytest.approx([1 - 24 / 25, 1, 2])
    assert cosine_distance([[0.0, 0], [0, 0]], [[0.0, 0], [1, 0]]) == pytest.approx([0, 1])


@pytest.mark.parametrize("score", [rank_correlation, cosine_distance])
def test_no_pairs_give_no_values(score):
    assert score(np.zeros((0, 8, 8)), np.zeros((0, 8, 8))).shape == (0,)


@pytest.mark.parametrize("score", [rank_correlation, cosine_distance])
def test_what_cannot_be_compared_is_refused(score):
    with pytest.raises(ValueError, match="finite"):
        score([[1.0, np.nan]], [[1.0, 2]])
    with pytest.raises(ValueError, match="two shapes"):
        score([[1.0, 2]], [[1.0, 2, 3]])
