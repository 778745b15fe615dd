"""Covered pictures and blanked words: exactly what they say, and nothing of what they hide is left."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import world
from mini_lib.covers import filling, score, seen, showing, tiles
from mini_lib.hooks import edit
from mini_lib.refusal import Refusal
from tests.evaluate.toys import COEFFICIENTS, WORDS, Toy

PICTURE = world.sample(1, 0)[0].picture


def test_the_blur_is_an_eighth_of_the_shorter_side_unless_it_is_given():
    assert np.array_equal(filling(PICTURE, "blur"), filling(PICTURE, "blur", 8.0))
    assert not np.array_equal(filling(PICTURE, "blur"), filling(PICTURE, "blur", 2.0))


def test_of_regions_those_in_the_set_are_seen_and_what_no_region_owns_always_is():
    prompt = SimpleNamespace(tokens=SimpleNamespace(boxes=np.zeros((5, 4))))
    shown = seen(prompt, [np.array([0, 1]), np.array([3])], np.array([[True, False], [False, True]]))
    assert shown.tolist() == [[True, True, True, False, True], [False, False, True, True, True]]


def test_a_bad_cover_is_refused():
    with pytest.raises(Refusal, match="'blur'"):
        filling(PICTURE, "blurr")
    with pytest.raises(Refusal, match="same size"):
        filling(PICTURE, Image.new("RGB", (8, 8)))


def test_every_pixel_has_one_patch_even_where_edges_fall_between_pixels():
    edges = np.linspace(2.5, 29.5, 5)                            # a middle crop of 27 pixels in 4 patches
    boxes = np.array([[edges[c], edges[r], edges[c + 1], edges[r + 1]] for r in range(4) for c in range(4)])
    owner = tiles(SimpleNamespace(picture=Image.new("RGB", (32, 32)), tokens=SimpleNamespace(boxes=boxes)))
    sizes = np.bincount(owner[owner >= 0], minlength=16)
    left, right = np.round(2.5), np.round(29.5)
    assert (owner >= 0).sum() == (right - left) ** 2 and sizes.min() >= 36 and sizes.max() <= 49
    assert owner[0, 0] == owner[31, 31] == -1


def test_a_covered_patch_changes_its_own_pixels_and_nothing_else():
    prompt, shown = Toy().prompt(np.random.default_rng(0).integers(1, 256, (32, 32, 3), np.uint8)), np.ones((3, 16), bool)
    shown[1, 6], shown[2] = False, False
    whole, one, none = (np.asarray(p) for p in showing(prompt, "black", shown))
    box = np.zeros((32, 32), bool)
    box[8:16, 16:24] = True                                      # patch 6: second row, third column
    before = np.asarray(prompt.picture)
    assert np.array_equal(whole, before) and not none.any()
    assert np.array_equal(one[~box], before[~box]) and not one[box].any()


def test_what_the_model_does_not_see_is_never_covered():
    prompt = Toy().prompt()
    prompt.tokens.boxes = prompt.tokens.boxes / 2                # the model looks at the upper left quarter
    bare = np.asarray(next(showing(prompt, "black", np.zeros((1, 16), bool))))
    assert not bare[:16, :16].any() and (bare[16:] == 255).all() and (bare[:, 16:] == 255).all()


def test_a_word_goes_with_all_its_tokens_and_only_in_its_own_row():
    """Seven rows in batches of five: the edit must go on where the first batch ended."""
    toy = Toy()
    prompt = toy.prompt()
    gone = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1], [1, 0, 1]], bool)
    nats = score(toy, prompt, None, [prompt.picture] * 7, gone)
    assert nats == pytest.approx(COEFFICIENTS.sum() + (~gone * WORDS).sum(1))
    assert toy.passes == 7


def probabilities(mllm, prompt, change, places=None):
    """What the model says next, (V,), with the question's tokens, or those at `places`, changed before block 0."""
    places = places or prompt.tokens.question

    def put(stream):
        stream = stream.clone()
        stream[:, places] = change(stream[:, places])
        return stream
    with edit(mllm, {"embed": put}):
        return mllm.logits(prompt.inputs)[0, -1].softmax(-1)


def test_zeros_say_nothing_of_the_words_and_the_mean_of_the_question_does(mllm):
    """Two questions of the same length with every word taken away: the model must not be able to tell them apart."""
    told = []
    for sample in world.sample(20, 5, kinds=("color",), objects=(2, 4)):
        asked, other = mllm.prompt(sample.picture, sample.question), mllm.prompt(sample.picture, "is there a red star ?")
        assert len(asked.tokens.question) == len(other.tokens.question)
        zeros = [probabilities(mllm, prompt, torch.zeros_like) for prompt in (asked, other)]
        means = [probabilities(mllm, prompt, lambda x: x.mean(1, keepdim=True).expand_as(x)) for prompt in (asked, other)]
        assert torch.equal(*zeros)
        told.append(float((means[0] - means[1]).abs().sum() / 2))
    assert np.mean(told) > 0.3, told                             # total variation: 0 the same answers, 1 disjoint ones


def test_blanking_on_the_model_is_the_edit_it_says(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    target, gone = mllm.target(prompt), np.zeros((3, 6), bool)
    gone[1, 4], gone[2] = True, True                             # the noun; the whole question
    before = mllm.passes
    full, noun, blind = score(mllm, prompt, target, [sample.picture] * 3, gone)
    assert mllm.passes == before + 3
    assert full == pytest.approx(float(mllm.score(prompt, target)[0]), abs=mllm.slack) and noun < full - 0.3
    for nats, places in ((noun, prompt.tokens.words[4][1]), (blind, prompt.tokens.question)):
        wanted = probabilities(mllm, prompt, torch.zeros_like, places)[target.ids[0]].log()
        assert nats == pytest.approx(float(wanted), abs=mllm.slack)
