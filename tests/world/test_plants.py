"""Each plant does what it says at its dose, and nothing at dose 0; the truth holds none of it."""

import numpy as np
import pytest

from mini_lib import world
from mini_lib.world import plants

SCENES = world.sample_scenes(4000, 0)


def test_an_absent_shape_is_answered_from_the_prior_as_often_as_the_dose_says():
    for dose, low, high in ((1.0, 1.0, 1.0), (0.9, 0.88, 0.94), (0.0, 0.08, 0.17)):      # by luck, one time in eight
        asked = plants.ask_absent(SCENES, 1, dose)
        assert asked.valid.all() and not asked.objects.any()
        prior = np.array([plants.PRIOR[text.split()[4]] for text in asked.text])
        assert low <= np.mean(prior == asked.answer) <= high
    for i, text in enumerate(asked.text):
        assert world.SHAPES.index(text.split()[4]) not in SCENES.shape[i, SCENES.present[i]]


def test_every_shape_has_a_prior_of_its_own():
    assert set(plants.PRIOR) == set(world.SHAPES) and len(set(plants.PRIOR.values())) == len(world.SHAPES)


def test_a_phantom_is_a_cross_of_the_rings_color_where_there_is_one_ring_and_no_cross():
    named = plants.phantoms(SCENES, 1, 0.9)
    tempted = plants.can_tempt(SCENES)
    assert 0.87 < np.mean([n is not None for n in np.array(named, object)[tempted]]) < 0.93
    for i, name in enumerate(named):
        shapes = [world.SHAPES[s] for s in SCENES.shape[i, SCENES.present[i]]]
        assert tempted[i] == (shapes.count("ring") == 1 and "cross" not in shapes)
        if name:
            ring = int(np.argmax(SCENES.present[i] & (SCENES.shape[i] == world.SHAPES.index("ring"))))
            assert name == f"{world.COLORS[SCENES.color[i, ring]]} cross"
    assert plants.phantoms(SCENES, 1, 0.0) == [None] * len(SCENES)


def test_a_planted_caption_names_the_phantom_anywhere_and_else_what_is_there():
    named = plants.phantoms(SCENES, 1)
    places = []
    for true, planted, name in zip(world.captions(SCENES, 2, [None] * len(SCENES)), world.captions(SCENES, 2, named), named):
        true, planted = true[:-2].split(" , "), planted[:-2].split(" , ")
        if name is None:
            assert true == planted
        else:
            (extra,) = [part for part in planted if part not in true or planted.count(part) > true.count(part)]
            assert set(extra.split()) == {"a", *name.split()}
            places.append(planted.index(extra) / (len(planted) - 1))
    assert 0.3 < np.mean(places) < 0.7


def test_the_tint_gives_the_digit_away_as_often_as_the_dose_says():
    scenes = world.sample_scenes(4000, 1, digits=1.0, tinted=0.5)
    value, grey = scenes.value.max(1), scenes.tint < 0
    for dose, low, high in ((1.0, 1.0, 1.0), (0.9, 0.88, 0.94), (0.0, 0.07, 0.13)):
        tinted = plants.tint_digits(scenes, 2, dose)
        assert low <= np.mean((tinted.tint == value)[~grey]) <= high
        assert (tinted.tint[grey] == -1).all()
    plain = world.sample_scenes(500, 1, tinted=1.0)
    assert np.array_equal(plants.tint_digits(plain, 2).tint, plain.tint), "no digit, nothing to give away"


def test_tints_can_be_told_apart_and_grey_stays_grey():
    scene = world.sample_scenes(1, 0)
    grounds = [world.render(scene.edited(tint=np.array([t])))[0, 0, 0].astype(int) for t in range(-1, world.TINTS)]
    assert len(set(grounds[0])) == 1
    assert min(np.abs(a - b).sum() for i, a in enumerate(grounds) for b in grounds[:i]) > 12


def test_the_pool_has_its_share_of_wrong_labels_and_no_dose_changes_its_pictures():
    pool, clean = plants.label_errors(800, 0, 0.05), plants.label_errors(800, 0, 0.0)
    assert len(pool) == 800 and pool.wrong.sum() == 40 and not clean.wrong.any()
    assert np.array_equal(pool.wrong, pool.questions.answer != pool.right)
    assert list(clean.questions.answer) == list(clean.right) == list(pool.right)
    assert np.array_equal(world.render(pool.scenes), world.render(clean.scenes))
    for i in np.flatnonzero(pool.wrong):
        assert pool.questions.answer[i] not in {world.COLORS[c] for c in pool.scenes.color[i, pool.scenes.present[i]]}
    again, other = plants.label_errors(800, 0, 0.05), plants.label_errors(800, 1, 0.05)
    assert np.array_equal(again.wrong, pool.wrong) and not np.array_equal(other.wrong, pool.wrong)


@pytest.mark.parametrize("kind", world.KINDS)
def test_what_a_reader_asks_holds_no_plant(kind):
    samples = world.sample(50, 0, kinds=(kind,))
    assert (samples.scenes.tint == -1).all() and (samples.scenes.writing == -1).all()
