"""Shapeland's truth is checked against an independent reader of its questions, not against the code that wrote them."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from mini_lib import world
from mini_lib.world.questions import MARGIN, NUMBERS, PLURALS
from mini_lib.world.scenes import COVER

SINGULAR = {**dict(zip(PLURALS, world.NOUNS)), **{s: s for s in world.NOUNS}}


def objects(scenes, i):
    return [dict(color=world.COLORS[scenes.color[i, k]], shape=world.NOUNS[scenes.shape[i, k]],
                 size="large" if scenes.radius[i, k] > 8 else "small", number=int(scenes.value[i, k]),
                 x=scenes.x[i, k], y=scenes.y[i, k], slot=k) for k in range(world.MOST) if scenes.present[i, k]]


def oracle(question, things):
    """Read the question as a person would and answer it from the list of objects."""
    if m := re.fullmatch(r"what color is the (\w+) \?", question):
        colors = [o["color"] for o in things if o["shape"] == m[1]]
        assert len(colors) == 1, "the question has to have one right answer"
        return colors[0]
    if m := re.fullmatch(r"what shape is the (\w+) object \?", question):
        shapes = [o["shape"] for o in things if o["color"] == m[1]]
        assert len(shapes) == 1
        return shapes[0]
    if m := re.fullmatch(r"is there a (\w+) (\w+) \?", question):
        return "yes" if any(o["color"] == m[1] and o["shape"] == m[2] for o in things) else "no"
    if m := re.fullmatch(r"how many (?:(\w+) )?(\w+) are there \?", question):
        keep = [o for o in things if (m[1] is None or o["color"] == m[1]) and (m[2] == "objects" or o["shape"] == SINGULAR[m[2]])]
        return NUMBERS[len(keep)]
    if m := re.fullmatch(r"is the (\w+) (left of|right of|above|below) the (\w+) \?", question):
        (a,), (b,) = ([o for o in things if o["shape"] == s] for s in (m[1], m[3]))
        axis, sign = {"left of": ("x", 1), "right of": ("x", -1), "above": ("y", 1), "below": ("y", -1)}[m[2]]
        assert abs(a[axis] - b[axis]) >= MARGIN
        return "yes" if sign * (b[axis] - a[axis]) > 0 else "no"
    if m := re.fullmatch(r"what size is the (\w+) \?", question):
        (size,) = [o["size"] for o in things if o["shape"] == m[1]]
        return size
    if question == "what number is written ?":
        (number,) = [o["number"] for o in things if o["shape"] == "digit"]
        return NUMBERS[number]
    raise AssertionError(f"not a question of Shapeland: {question}")


@pytest.fixture(scope="module")
def samples():
    return world.sample(700, seed=5, kinds=(*world.KINDS, *world.MORE_KINDS))


def test_every_answer_is_what_a_reader_of_the_scene_would_say(samples):
    for i in range(len(samples)):
        assert oracle(samples.questions.text[i], objects(samples.scenes, i)) == samples.questions.answer[i]


def test_every_twin_flips_the_answer_as_promised(samples):
    for i in range(len(samples)):
        said = oracle(samples.questions.text[i], objects(samples.twins, i))
        assert said == samples.twin_answers[i] != samples.questions.answer[i]


def test_a_twin_changes_only_the_objects_it_must(samples):
    for i in range(len(samples)):
        kind, before, after = samples.questions.kind[i], objects(samples.scenes, i), objects(samples.twins, i)
        changed = sum(a != b for a, b in zip(before, after)) + abs(len(before) - len(after))
        most = {"relation": 2, "exist": 1 if samples.questions.answer[i] == "no" else samples.questions.objects[i].sum()}
        assert 1 <= changed <= most.get(kind, 1)


def test_twins_never_make_objects_overlap(samples):
    assert (world.object_masks(samples.twins).sum(1) <= 1).all()


def test_the_second_object_in_a_count_twin_keeps_clear_of_the_first_one_wherever_that_lies():
    samples = world.sample(2000, kinds=("count",), objects=(1, 1))
    masks = world.object_masks(samples.twins)
    assert (samples.twins.count == 2).sum() > 100
    assert (masks.sum(1) <= 1).all() and not masks[..., [0, -1], :].any() and not masks[..., [0, -1]].any()


def test_the_same_seed_gives_the_same_samples_and_another_seed_others():
    one, same, other = world.sample(20, 3), world.sample(20, 3), world.sample(20, 4)
    assert np.array_equal(one.pictures, same.pictures) and list(one.questions.text) == list(same.questions.text)
    assert not np.array_equal(one.pictures, other.pictures)


def test_masks_are_exact():
    scenes = world.sample_scenes(50, 0)
    pictures, masks = world.render(scenes).astype(int), world.object_masks(scenes).any(1)
    ground = scenes.ground.round().astype(int)[:, None, None, None]
    touched = np.abs(pictures - ground).max(-1) > 1
    assert (touched | ~masks).all(), "a masked pixel that shows bare ground"
    edge = touched & ~masks                      # only the soft outline may lie outside: three pixels at most, at the tips of stars
    grown = np.zeros_like(masks)
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            grown |= np.roll(masks, (dy, dx), (1, 2))
    assert not (edge & ~grown).any()


def test_objects_keep_apart_but_for_a_rare_corner_and_stay_inside():
    masks = world.object_masks(world.sample_scenes(3000, 1))
    shared = (masks.sum(1) > 1).sum((1, 2))      # pixels in two masks: a square's corner may reach over its circle
    assert (shared > 0).mean() < 0.002 and shared.max() <= 2
    assert not masks[:, :, [0, -1]].any() and not masks[..., [0, -1]].any()


def test_truth_patches_hold_the_asked_object_and_not_merely_another():
    samples = world.sample(100, 2, kinds=("color",))
    masks = world.object_masks(samples.scenes)
    foreign = 0
    for i in range(len(samples)):
        slot = int(np.flatnonzero(samples.questions.objects[i])[0])
        own, others = world.patch_cover(masks[i, slot]), world.patch_cover(np.delete(masks[i], slot, 0)).max(0)
        assert samples.patches[i].any() and (own[samples.patches[i]] >= COVER).all()
        only_others = (others > COVER) & (own < COVER)
        assert not (samples.patches[i] & only_others).any()
        foreign += only_others.sum()
    assert foreign > 500, "the pictures have to hold other objects for this to mean anything"


def test_a_kind_named_twice_counts_once():
    assert list(world.sample(4, 0, ("color", "color")).questions.text) == list(world.sample(4, 0, ("color",)).questions.text)


def test_words_that_matter_are_the_ones_that_name_what_is_asked(samples):
    names = {*world.COLORS, *world.NOUNS, *PLURALS, "color", "shape", "size", "number", "written", "how", "many", "objects",
             "left", "right", "above", "below"}
    for i in range(len(samples)):
        words = samples.questions.text[i].split()
        assert {words[w] for w in samples.questions.words[i]} <= names


def test_every_kind_takes_its_turn_and_both_answers_of_yes_no_occur(samples):
    assert {k: int((samples.questions.kind == k).sum()) for k in world.KINDS} == dict.fromkeys(world.KINDS, 100)
    for kind in ("exist", "relation"):
        said = samples.questions.answer[samples.questions.kind == kind]
        assert 0.35 < (said == "yes").mean() < 0.65


def test_captions_name_each_object_once_in_both_word_orders():
    scenes = world.sample_scenes(200, 3)
    texts = world.captions(scenes, 0)
    color_first = shape_first = 0
    for i, text in enumerate(texts):
        named = []
        for phrase in text.removesuffix(" .").split(" , "):
            a, b = phrase.split()[1:]
            color_first, shape_first = color_first + (a in world.COLORS), shape_first + (a in world.SHAPES)
            named.append((a, b) if a in world.COLORS else (b, a))
        assert sorted(named) == sorted((o["color"], o["shape"]) for o in objects(scenes, i))
    assert 0.4 < color_first / (color_first + shape_first) < 0.6


def test_written_samples_can_be_read_by_any_tool(tmp_path):
    samples = world.sample(10, 0)
    world.write(samples, tmp_path)
    records = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert len(records) == 10
    for i, record in enumerate(records):
        assert np.array_equal(np.asarray(Image.open(tmp_path / record["picture"])), samples.pictures[i])
        assert np.array_equal(np.asarray(Image.open(tmp_path / record["twin"])), samples.twin_pictures[i])
        mask = np.asarray(Image.open(tmp_path / record["mask"])) > 127
        assert np.array_equal(mask, samples.masks[i])
        assert oracle(record["question"], record["objects"]) == record["answer"]
        parts = [np.asarray(Image.open(tmp_path / o["mask"])) > 127 for o in record["objects"] if o["matters"]]
        assert np.array_equal(np.any(parts, 0) if parts else np.zeros_like(mask), mask)


@pytest.mark.parametrize("bad", [(0, 2), (1, 5), (3, 2)])
def test_an_impossible_number_of_objects_is_refused(bad):
    with pytest.raises(ValueError, match="from 1 to 4"):
        world.sample_scenes(3, 0, bad)


def test_an_unknown_kind_of_question_names_the_known_ones():
    with pytest.raises(KeyError, match="color"):
        world.ask(world.sample_scenes(1, 0), "colour")
