"""Robustness: by hand on a toy, changes that are what they say, and only kept answers count."""

from types import SimpleNamespace

import numpy as np
import pytest

from mini_lib import world
from mini_lib.data.input_output import occlusion
from mini_lib.evaluate import noise, random_map, shift, stability
from mini_lib.refusal import Refusal
from tests.evaluate.toys import Toy

RNG = np.random.default_rng(0)


def test_noise_has_the_size_it_says_and_stays_in_range():
    gray = np.full((64, 64, 3), 128, np.uint8)
    moved = noise(8)(gray, RNG).astype(float) - 128
    assert moved.std() == pytest.approx(8, rel=0.05) and abs(moved.mean()) < 0.3
    white = noise(30)(np.full((8, 8, 3), 255, np.uint8), RNG)
    assert white.dtype == np.uint8 and 200 < white.mean() < 255       # cut off, not wrapped round to black
    assert np.array_equal(noise(0)(gray, RNG), gray)


def test_a_shift_moves_the_picture_and_repeats_the_edge():
    picture = np.arange(4 * 5, dtype=np.uint8).reshape(4, 5, 1).repeat(3, 2)
    right = shift()(picture, RNG)
    assert np.array_equal(right[:, 1:], picture[:, :-1]) and np.array_equal(right[:, 0], picture[:, 0])
    up_left = shift(-1, -2)(picture, RNG)
    assert np.array_equal(up_left[:2, :-1], picture[2:, 1:]) and np.array_equal(up_left[-1, :-1], picture[-1, 1:])
    assert np.array_equal(shift(0, 0)(picture, RNG), picture)


def light(mllm, prompt, target):
    """A map that can be worked out: the brightness of each patch."""
    return np.asarray(prompt.picture, float).mean(2).reshape(4, 8, 4, 8).mean((1, 3))


def striped(level):
    picture = np.full((32, 32, 3), level, np.uint8)
    picture[:, :16] += 20
    return picture


def test_only_pictures_whose_answer_stays_count_and_the_others_are_reported():
    toy = Toy()
    prompts = [toy.prompt(striped(level)) for level in (80, 110, 160, 116)]
    result = stability(toy, light, prompts, lambda picture, rng: picture + 20)           # "dark" below 127.5
    assert result.kept.tolist() == [0, 2] and result.left_out == 2       # means 90, 120, 170, 126: two cross over
    assert result.correlation == pytest.approx(1)                        # the order of the patches is the same
    cosines = [(100 * 120 + 80 * 100) / np.sqrt((100**2 + 80**2) * (120**2 + 100**2)),
               (180 * 200 + 160 * 180) / np.sqrt((180**2 + 160**2) * (200**2 + 180**2))]
    assert result.distance == pytest.approx([1 - cosine for cosine in cosines], abs=1e-9) and (result.distance > 0).all()


def test_where_every_answer_changes_nothing_is_left():
    toy = Toy()
    result = stability(toy, light, [toy.prompt(striped(100))], lambda picture, rng: picture + 100)
    assert result.correlation.shape == result.distance.shape == result.kept.shape == (0,) and result.left_out == 1


def test_no_change_and_a_constant_map_are_the_ceiling_and_noise_is_the_floor():
    toy, rng = Toy(), np.random.default_rng(0)
    prompts = [toy.prompt(striped(level)) for level in range(40, 100, 2)]
    still = stability(toy, light, prompts, noise(0))
    flat = stability(toy, lambda *_: np.ones((4, 4)), prompts, noise(3))
    random = stability(toy, lambda *_: random_map((4, 4), rng) - 0.5, prompts, noise(3))
    for result in (still, flat):
        assert len(result.kept) == 30 and result.correlation == pytest.approx(1) and result.distance == pytest.approx(0)
    assert abs(random.correlation.mean()) < 4 / np.sqrt(15 * 30) and random.distance.mean() == pytest.approx(1, abs=0.2)


def test_a_prompt_of_several_pictures_is_refused():
    prompt = SimpleNamespace(pictures=(1, 2))
    with pytest.raises(Refusal, match="several pictures"):
        stability(Toy(), light, [prompt], noise(1))


def test_on_the_model_a_small_noise_moves_occlusion_less_than_another_picture_would(mllm):
    samples = world.sample(6, 21, kinds=("color",), objects=(2, 4))
    prompts, before = [mllm.prompt(s.picture, s.question) for s in samples], mllm.passes
    result = stability(mllm, occlusion, prompts, noise(2))
    assert len(result.kept) + result.left_out == 6 and len(result.kept) >= 4
    assert mllm.passes - before == 2 * 50 * len(result.kept)             # generation is not counted
    assert result.correlation.mean() > 0.6 and result.distance.mean() < 0.2
    moved = stability(mllm, occlusion, prompts, shift(1))
    assert moved.correlation.mean() > 0.4
