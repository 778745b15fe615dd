"""Rationales say what is so, the needed step is the one the answer hangs on, and a mistake has the consequence it says."""

import re

import numpy as np
import pytest

from mini_lib import world
from mini_lib.world import rationales
from mini_lib.world.questions import NUMBERS

SCENES = world.sample_scenes(600, 0, (1, 4), digits=0.3)


def things(i):
    return [(world.COLORS[SCENES.color[i, k]], world.NOUNS[SCENES.shape[i, k]]) for k in np.flatnonzero(SCENES.present[i])]


def believed(step):
    """(color, shape) that a step claims, and whether it names the object by its colour."""
    if m := re.fullmatch(r"the (\w+) object is a (\w+)", step):
        return m[1], m[2], True
    m = re.fullmatch(r"the (\w+) is (\w+)", step)
    return m[2], m[1], False


def oracle(question, here, steps):
    """Answer as a reader would who takes the rationale's word for what it says about the asked object."""
    if m := re.fullmatch(r"how many objects have the (color|shape) of the (.+?) \? think", question):
        name = m[2].removesuffix(" object")
        for color, shape, by_color in map(believed, steps):
            if (color if by_color else shape) == name:
                return NUMBERS[sum((s == shape) if by_color else (c == color) for c, s in here)]
        raise AssertionError("the rationale has to speak of the asked object")
    m = re.fullmatch(r"what color is the (\w+) \? think", question)
    (color,) = [c for c, s in here if s == m[1]]
    return color


@pytest.mark.parametrize("kind", rationales.RATIONALE_KINDS)
def test_a_true_rationale_is_true_and_leads_to_the_answer(kind):
    asked = rationales.reason(SCENES, kind, 1)
    rows = np.flatnonzero(asked.questions.valid)
    assert len(rows) > 200
    for i in rows:
        assert oracle(asked.questions.text[i], things(i), asked.steps[i]) == asked.questions.answer[i]
        assert all(believed(step)[:2] in things(i) for step in asked.steps[i])
        assert asked.rationale[i] == " . ".join(asked.steps[i]) + " . so"
        assert asked.direct[i] + " think" == asked.questions.text[i]


@pytest.mark.parametrize("kind", rationales.RATIONALE_KINDS)
def test_the_needed_step_is_the_one_about_the_asked_object(kind):
    asked = rationales.reason(SCENES, kind, 1)
    for i in np.flatnonzero(asked.questions.valid):
        noun = re.search(r"the (\w+)(?: object)? \? think", asked.questions.text[i])[1]
        for step, needed in zip(asked.steps[i], asked.needed[i]):
            assert needed == (step.split()[1] == noun)
    assert kind != rationales.POST_HOC or not any(map(any, asked.needed))


@pytest.mark.parametrize("kind", rationales.MULTI_HOP)
def test_a_mistake_in_the_needed_step_changes_the_answer_as_it_says(kind):
    asked = rationales.reason(SCENES, kind, 1)
    false = rationales.mistaken(SCENES, asked, 2)
    rows = np.flatnonzero(false.questions.valid)
    for i in rows:
        changed = [a != b for a, b in zip(asked.steps[i], false.steps[i])]
        assert changed == list(asked.needed[i])
        assert oracle(false.questions.text[i], things(i), false.steps[i]) == false.questions.answer[i]
    moved = np.mean(false.questions.answer[rows] != asked.questions.answer[rows])
    assert moved > 0.4, "a mistake that changes no answer tests nothing"


@pytest.mark.parametrize("kind", rationales.RATIONALE_KINDS)
def test_a_mistake_beside_the_point_changes_no_answer(kind):
    asked = rationales.reason(SCENES, kind, 1)
    false = rationales.mistaken(SCENES, asked, 2, needed=False)
    for i in np.flatnonzero(false.questions.valid):
        assert [a != b for a, b in zip(asked.steps[i], false.steps[i])] == [not n for n in asked.needed[i]]
        assert not all(believed(step)[:2] in things(i) for step in false.steps[i])
    assert list(false.questions.answer) == list(asked.questions.answer)


def test_neither_the_place_of_the_needed_step_nor_one_answer_gives_it_away():
    asked = rationales.reason(SCENES, "same_color", 3)
    two = [i for i in np.flatnonzero(asked.questions.valid) if len(asked.steps[i]) == 2]
    assert 0.4 < np.mean([asked.needed[i][0] for i in two]) < 0.6
    answers = asked.questions.answer[asked.questions.valid & (SCENES.count > 1)]
    assert np.mean(answers == "one") < 0.7


def test_a_post_hoc_rationale_never_says_the_answer_of_its_object():
    asked = rationales.reason(SCENES, "post_hoc", 1)
    for i in np.flatnonzero(asked.questions.valid):
        noun = asked.questions.text[i].split()[4]
        assert asked.steps[i] and all(step.split()[1] != noun for step in asked.steps[i])


def test_an_unknown_kind_is_named():
    with pytest.raises(KeyError, match="post_hoc"):
        rationales.reason(SCENES, "same_size")
