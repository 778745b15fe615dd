"""Handwriting: the split is kept, what is drawn is the writer's ink, and scenes without digits are what they always were."""

import hashlib

import numpy as np

from mini_lib import world
from mini_lib.world import digits


def test_training_and_unseen_handwriting_never_mix():
    seen, unseen = digits.draw(5000, np.random.default_rng(0)), digits.draw(5000, np.random.default_rng(0), unseen=True)
    assert seen.max() < digits.SEEN <= unseen.min() and unseen.max() < len(digits.writings()[1])
    ink = digits.writings()[0].reshape(-1, 64)
    assert len({row.tobytes() for row in ink[:digits.SEEN]} & {row.tobytes() for row in ink[digits.SEEN:]}) <= 2


def test_the_split_is_fixed():
    values = digits.writings()[1]
    assert hashlib.sha256(values.astype(np.uint8).tobytes()).hexdigest()[:16] == "99c3fa75ee18cae9"
    assert np.bincount(values[digits.SEEN:], minlength=10).min() >= 25


def test_a_drawn_digit_is_the_writers_ink():
    """Averaged over the cells of its 8 x 8 grid, what is drawn correlates with the bitmap, and best with its own."""
    scenes = world.sample_scenes(1, 0, (1, 1)).edited(radius=np.full((1, 4), 16.0), x=np.full((1, 4), 32.0), y=np.full((1, 4), 32.0),
                                                      shape=np.full((1, 4), world.DIGIT))
    ink = digits.writings()[0][:50].reshape(50, 64)
    for index in range(50):
        from mini_lib.world.scenes import _coverage
        drawn = _coverage(scenes.edited(writing=np.full((1, 4), index)))[0, 0, 16:48, 16:48]
        cells = drawn.reshape(8, 4, 8, 4).mean((1, 3)).ravel()
        match = [np.corrcoef(cells, one)[0, 1] for one in ink]
        assert np.argmax(match) == index and match[index] > 0.9


def test_nothing_is_drawn_outside_a_digits_square():
    scenes = world.sample_scenes(300, 1, (1, 1), digits=1.0)
    box = np.abs(np.arange(64) + 0.5 - scenes.x[:, :1]) <= scenes.radius[:, :1] + 3, np.abs(np.arange(64) + 0.5 - scenes.y[:, :1]) <= scenes.radius[:, :1] + 3
    masks = world.object_masks(scenes)[:, 0]
    assert not (masks & ~(box[1][:, :, None] & box[0][:, None, :])).any() and masks.any((1, 2)).all()


def test_value_is_what_was_written_and_minus_one_elsewhere():
    scenes = world.sample_scenes(500, 2, digits=0.5)
    digit = scenes.shape == world.DIGIT
    assert 0.4 < digit.any(1).mean() < 0.6 and (digit.sum(1) <= 1).all()
    assert np.array_equal(scenes.value[digit], digits.writings()[1][scenes.writing[digit]])
    assert (scenes.value[~digit] == -1).all() and scenes.present[digit].all()


def test_scenes_without_digits_or_tint_are_drawn_as_before():
    """Chapters name samples by seed: these may not move under them."""
    samples = world.sample(20, 3, kinds=("color", "shape", "count", "exist", "relation"))
    assert hashlib.sha256(samples.pictures.tobytes()).hexdigest()[:16] == "e976b3cd2896505d"
    assert list(samples.questions.text[:2]) == ["what color is the triangle ?", "what shape is the orange object ?"]
