"""Few-shot episodes are checked by a learner who sees only the shots: it must reach the ceiling and no more."""

import re

import numpy as np
import pytest

from mini_lib import world
from mini_lib.world.questions import NUMBERS, PLURALS
from mini_lib.world.shots import HELD_OUT, MADE_UP, RULES, ceiling, sample_episodes, shuffled


def learner(episodes, i):
    """What a perfect learner says about the query: the word of the shot that looks like it, or None."""
    asked = re.fullmatch(r"the (color|shape) is called", episodes.question[i])
    k = episodes.group.shape[1]
    looks = getattr(episodes.scenes, asked[1])[i * k:(i + 1) * k, 0]
    said = {word for look, word in zip(looks[:-1], episodes.labels[i, :-1]) if look == looks[-1]}
    return said.pop() if len(said) == 1 else None


def accuracy(episodes):
    return np.mean([learner(episodes, i) == episodes.answer[i] for i in range(len(episodes))])


@pytest.mark.parametrize("shots", [0, 1, 2, 4])
def test_a_perfect_learner_reaches_the_ceiling_and_no_more(shots):
    episodes = sample_episodes(1500, shots + 1, shots)
    assert abs(accuracy(episodes) - ceiling(shots)) < 0.05
    assert ceiling(0) == 0 and ceiling(1) == 0.5 and ceiling(3) == 0.875


def test_a_learner_who_answers_is_always_right():
    episodes = sample_episodes(500, 5, 1)
    said = [learner(episodes, i) for i in range(500)]
    assert all(word in (None, right) for word, right in zip(said, episodes.answer))


def test_shuffled_shots_say_nothing_and_change_nothing_else():
    episodes = sample_episodes(1500, 5, 1)
    control = shuffled(episodes, 2)
    shots = control.labels[:, :-1]
    assert abs((shots == episodes.labels[:, :-1]).mean() - 0.5) < 0.03
    told = [(learner(control, i), control.answer[i]) for i in range(1500)]
    told = [word == right for word, right in told if word is not None]
    assert len(told) > 300 and abs(np.mean(told) - 0.5) < 0.08
    assert np.array_equal(control.answer, episodes.answer) and control.scenes is episodes.scenes
    assert all(set(labels) <= set(words) for labels, words in zip(control.labels, control.words))
    assert np.array_equal(control.labels, shuffled(episodes, 2).labels)
    assert not np.array_equal(episodes.labels, control.labels), "the episodes themselves have to stay"


def test_two_meanings_have_two_words_and_the_rest_is_free():
    episodes, k = sample_episodes(800, 5, 3), 5
    for index, rule in enumerate(RULES):
        rows = np.flatnonzero(episodes.rule == index)
        assert 0.4 < len(rows) / 800 < 0.6
        looks = {name: getattr(episodes.scenes, name)[:, 0].reshape(-1, k)[rows] for name in RULES}
        for i, row in enumerate(rows):
            pairs = set(zip(looks[rule][i], episodes.labels[row]))
            assert len(pairs) == len({look for look, _ in pairs}) == len({word for _, word in pairs}) <= 2
            assert [episodes.words[row, g] for g in episodes.group[row]] == list(episodes.labels[row])
        names = {"color": world.COLORS, "shape": world.SHAPES}
        for name, of in names.items():                         # each colour and shape as often as the others
            share = np.bincount(looks[name].ravel(), minlength=len(of)) / looks[name].size * len(of)
            assert share.shape == (len(of),) and 0.7 < share.min() and share.max() < 1.3
        other = looks[RULES[1 - index]]
        assert 0.07 < (other[:, 0] == other[:, 1]).mean() < 0.25, "the other attribute must not follow the group"
    assert (episodes.words[:, 0] != episodes.words[:, 1]).all()
    assert 0.46 < episodes.group.mean() < 0.54 and abs(np.corrcoef(episodes.group.T)[0, 1]) < 0.12


def test_told_in_words_a_picture_shows_the_same_color_and_shape():
    episodes, orders = sample_episodes(100, 4, 6), set()
    for told, color, shape in zip(episodes.told.ravel(), episodes.scenes.color[:, 0], episodes.scenes.shape[:, 0]):
        assert set(told.split()) == {world.COLORS[color], world.SHAPES[shape]}
        orders.add(told.split()[0] in world.COLORS)
    assert orders == {True, False} and episodes.told.shape == episodes.group.shape


def test_shots_that_matter_are_those_that_show_the_answer():
    episodes = sample_episodes(300, 5, 4)
    assert not episodes.matters[:, -1].any()
    assert np.array_equal(episodes.matters[:, :-1], episodes.labels[:, :-1] == episodes.answer[:, None])
    told = np.array([learner(episodes, i) is not None for i in range(300)])
    assert np.array_equal(told, episodes.matters.any(1))


def test_names_need_no_shots():
    episodes = sample_episodes(300, 3, 5, names=True)
    for i in range(300):
        j = 3 * i + 2
        name = world.COLORS[episodes.scenes.color[j, 0]] if "color" in episodes.question[i] else \
            world.SHAPES[episodes.scenes.shape[j, 0]]
        assert episodes.answer[i] == name
    made_up = sample_episodes(300, 3, 5)                       # the same pictures, other words
    assert np.array_equal(made_up.scenes.color, episodes.scenes.color) and set(made_up.labels.ravel()) <= set(MADE_UP)


def test_held_out_words_are_used_when_asked_for():
    assert set(sample_episodes(200, 5, 0, HELD_OUT).labels.ravel()) == set(HELD_OUT)
    assert set(sample_episodes(500, 5, 0).labels.ravel()) == set(MADE_UP)


def test_made_up_words_are_unlike_each_other_and_unlike_all_other_words():
    words = (*MADE_UP, *HELD_OUT)
    assert len(MADE_UP) == 24 and len(HELD_OUT) == 8 and len(set(words)) == 32
    assert all(re.fullmatch(r"[a-z]{5,6}", word) for word in words)
    assert not [word for word in words if re.search(r"[^aeiouy]{3}", word)], "hard to pronounce"
    taken = {*words, *world.COLORS, *world.SHAPES, *PLURALS, *NUMBERS}
    assert not [(a, b) for a in words for b in taken if a != b and (a.startswith(b) or b.startswith(a))]
    assert len({word[:2] for word in words}) >= 30


def test_pictures_show_one_object_each_and_rows_can_be_chosen():
    episodes = sample_episodes(12, 4, 6)
    assert episodes.pictures.shape == (12, 4, world.SIDE, world.SIDE, 3) and (episodes.scenes.count == 1).all()
    assert np.array_equal(episodes.pictures.reshape(-1, 64, 64, 3), world.render(episodes.scenes))
    some = episodes[[7, 2]]
    assert np.array_equal(some.pictures, episodes.pictures[[7, 2]])
    assert list(some.answer) == list(episodes.answer[[7, 2]])
    assert np.array_equal(episodes[3].pictures, episodes.pictures[3:4]) and len(episodes[episodes.rule == 0]) < 12


def test_the_same_seed_gives_the_same_episodes_and_another_seed_others():
    one, same, other = (sample_episodes(20, 5, seed) for seed in (3, 3, 4))
    assert np.array_equal(one.pictures, same.pictures) and np.array_equal(one.labels, same.labels)
    assert not np.array_equal(one.pictures, other.pictures) and not np.array_equal(one.labels, other.labels)


def test_more_meanings_have_more_words_and_known_are_those_said_before():
    episodes = sample_episodes(400, 6, 2, meanings=4)
    assert episodes.words.shape == (400, 4) and all(len(set(words)) == 4 for words in episodes.words)
    assert np.bincount(episodes.group.ravel()).min() > 500
    for row in range(400):
        labels = list(episodes.labels[row])
        assert episodes.known[row].tolist() == [label in labels[:k] for k, label in enumerate(labels)]
        assert len({(m, w) for m, w in zip(episodes.meaning[row], labels)}) == len(set(labels)) == len(set(episodes.meaning[row]))
    assert {*shuffled(episodes, 0).labels.ravel()} <= set(MADE_UP)


@pytest.mark.parametrize("k, words, meanings", [(0, MADE_UP, 2), (3, ("bovik",), 2), (3, ("bovik", "bovik"), 2), (3, MADE_UP, 1),
                                                (3, MADE_UP[:2], 3), (3, MADE_UP, 7)])
def test_an_impossible_episode_is_refused(k, words, meanings):
    with pytest.raises(ValueError, match="give at least one picture, two meanings, and a different word for each"):
        sample_episodes(2, k, 0, words, meanings=meanings)
