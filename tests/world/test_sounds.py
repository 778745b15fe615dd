"""Sounds are checked by a listener who finds the tones in the waveform, and by a reader of the picture."""

import re
from dataclasses import replace

import numpy as np
import pytest

from mini_lib import world
from mini_lib.world.sounds import (
    APART,
    GAP,
    PITCHES,
    RATE,
    ROW,
    SECONDS,
    SOUND_KINDS,
    TONES,
    ask_sounds,
    sample_sounds,
    spectrograms,
    tone_boxes,
    truth_sound_masks,
    twin_sounds,
)

ORDER, COUNT = ("first", "second", "third"), {2: "two", 3: "three"}


def listen(wave):
    """The tones of one waveform, from its samples alone: [(start, end, pitch)] in seconds and hertz."""
    loud = np.flatnonzero(np.convolve(np.abs(wave), np.ones(80) / 80, "same") > 0.12)
    tones = []
    for samples in np.split(loud, np.flatnonzero(np.diff(loud) > 160) + 1):      # shorter dips are noise, not a gap
        start, end = samples[0], samples[-1] + 1
        spectrum = np.abs(np.fft.rfft(wave[start:end] * np.hanning(end - start), 2 * RATE))
        tones.append((start / RATE, end / RATE, spectrum.argmax() / 2))
    return tones


def oracle(question, tones):
    """Read the question as a person would and answer it from the list of tones heard."""
    pitches = [pitch for *_, pitch in tones]
    if re.fullmatch(r"which comes first , the (high or the low|low or the high) tone \?", question):
        assert len(pitches) == 2
        return "high" if pitches[0] > pitches[1] else "low"
    if asked := re.fullmatch(r"which tone is the (highest|lowest) \?", question):
        return ORDER[pitches.index((max if asked[1] == "highest" else min)(pitches))]
    assert question == "how many tones are there ?"
    return COUNT[len(pitches)]


@pytest.fixture(scope="module")
def sounds():
    return sample_sounds(200, 5)


@pytest.fixture(scope="module", params=SOUND_KINDS)
def asked(request, sounds):
    """Sounds with a valid question, and the questions."""
    questions = ask_sounds(sounds, request.param, 1)
    rows = np.flatnonzero(questions.valid)
    assert len(rows) > 60
    return sounds[rows], questions[rows]


def test_every_answer_is_what_a_listener_would_say(asked):
    sounds, questions = asked
    assert [oracle(text, listen(wave)) for text, wave in zip(questions.text, sounds.waves)] == list(questions.answer)


def test_every_twin_flips_the_answer_as_promised(asked):
    sounds, questions = asked
    twins, answers = twin_sounds(sounds, questions)
    assert [oracle(text, listen(wave)) for text, wave in zip(questions.text, twins.waves)] == list(answers)
    assert (answers != questions.answer).all()


def test_a_twin_is_a_small_edit(asked):
    sounds, questions = asked
    twins, _ = twin_sounds(sounds, questions)
    for name in ("start", "length", "seed"):
        assert np.array_equal(getattr(sounds, name), getattr(twins, name))
    moved, flipped = (sounds.pitch != twins.pitch).sum(1), (sounds.present != twins.present).sum(1)
    assert np.array_equal(np.sort(sounds.pitch, 1), np.sort(twins.pitch, 1))
    assert (flipped == (questions.kind == "tones")).all() and (moved == 2 * (questions.kind != "tones")).all()


def test_the_sounds_are_what_the_arrays_say(sounds):
    for i in range(60):
        heard, here = listen(sounds.waves[i]), np.flatnonzero(sounds.present[i])
        assert len(heard) == len(here)
        for (start, end, pitch), k in zip(heard, here):
            assert abs(start - sounds.start[i, k]) < 0.02
            assert abs(end - sounds.start[i, k] - sounds.length[i, k]) < 0.02
            assert abs(pitch - sounds.pitch[i, k]) < 3
    assert sounds.waves.shape == (200, RATE * SECONDS) and sounds.waves.dtype == np.float32
    assert np.abs(sounds.waves).max() < 1


def test_tones_keep_apart_in_time_and_in_pitch(sounds):
    end = sounds.start + sounds.length
    assert (sounds.start[:, 1:] - end[:, :-1]).min() >= GAP - 1e-9
    assert sounds.start.min() > 0 and end.max() < SECONDS
    assert np.diff(np.sort(sounds.pitch, 1)).min() >= APART - 1e-6 and APART >= 3 * ROW
    assert PITCHES[0] <= sounds.pitch.min() and sounds.pitch.max() <= PITCHES[1] < RATE / 2
    assert set(sounds.present.sum(1)) == {2, 3}


def test_the_picture_shows_each_tone_in_its_box_and_only_there(sounds):
    boxes, pixel = tone_boxes(sounds), np.arange(world.SIDE) + 0.5
    for k in range(TONES):
        there = np.flatnonzero(sounds.present[:, k])
        without = sounds.present.copy()
        without[:, k] = False
        gone = replace(sounds, present=without)
        change = np.abs(sounds.pictures.astype(int) - gone.pictures.astype(int)).max(-1)[there]
        left, top, right, bottom = boxes[there, k].T[..., None]
        inside = (((pixel > top) & (pixel < bottom))[:, :, None] & ((pixel > left) & (pixel < right))[:, None])
        assert np.where(inside, 0, change).sum() < 0.02 * change.sum()
        assert (np.where(inside, 0, change) > 40).sum((1, 2)).max() <= 8         # a few pixels where it sets in
        assert (np.where(inside, change, 0).sum((1, 2)) / inside.sum((1, 2))).min() > 60


def test_masks_are_the_bars_of_the_deciding_tones(asked):
    sounds, questions = asked
    masks = truth_sound_masks(sounds, questions)
    assert np.array_equal(questions.tones, sounds.present)
    dark = sounds.pictures[..., 0] < 160
    assert (dark & masks).sum() > 0.98 * dark.sum()
    light = sounds.pictures[..., 0] > 200
    assert (light & masks).sum() < 0.35 * masks.sum()
    none = replace(questions, tones=np.zeros_like(questions.tones))
    assert not truth_sound_masks(sounds, none).any()


def test_a_pure_sine_lies_in_the_row_of_its_pitch():
    for row in (3, 30, 60):
        wave = 0.5 * np.sin(2 * np.pi * (world.SIDE - row) * ROW * np.arange(RATE * SECONDS) / RATE)
        picture = spectrograms(wave[None])[0, ..., 0]
        assert (picture[:, 5:-5].argmin(0) == row).all() and picture[row, 5:-5].max() <= 42


def test_pictures_look_like_shapeland(sounds):
    pictures = sounds.pictures
    assert pictures.shape == (200, world.SIDE, world.SIDE, 3) and pictures.dtype == np.uint8
    assert (pictures[..., :1] == pictures).all() and 212 <= np.median(pictures) <= 246 and pictures.min() < 60


def test_the_noise_is_faint_but_there():
    sounds = sample_sounds(20, 1)
    hiss = replace(sounds, present=np.zeros_like(sounds.present))
    assert 0 < hiss.waves.std() < 0.1 and not np.array_equal(hiss.waves[0], hiss.waves[1])
    assert 0 < (hiss.pictures < 230).mean() < 0.02 and hiss.pictures.min() > 150


def test_no_answer_is_much_likelier_than_another_whatever_the_wording():
    sounds = sample_sounds(4000, 8)
    for kind, options in (("first", ("high", "low")), ("highest", ORDER), ("tones", ("two", "three"))):
        questions = ask_sounds(sounds, kind)
        texts = set(questions.text)
        assert len(texts) == (1 if kind == "tones" else 2)
        for text in texts:
            rows = questions.valid & (questions.text == text)
            assert rows.sum() > 0.4 * questions.valid.sum() and set(questions.answer[rows]) == set(options)
            for option in options:
                assert abs((questions.answer[rows] == option).mean() * len(options) - 1) < 0.15


def test_questions_are_refused_where_they_make_no_sense(sounds):
    count = sounds.present.sum(1)
    assert np.array_equal(ask_sounds(sounds, "first").valid, count == 2)
    assert np.array_equal(ask_sounds(sounds, "highest").valid, count == 3)
    questions = ask_sounds(sounds, "first")
    twins, answers = twin_sounds(sounds, questions)
    same = (twins.pitch == sounds.pitch).all(1)
    assert np.array_equal(same, count != 2) and np.array_equal(answers == questions.answer, count != 2)


def test_words_that_matter(sounds):
    named = {"first": {"first", "high", "low"}, "highest": {"tone", "highest", "lowest"},
             "tones": {"how", "many", "tones"}}
    for kind, names in named.items():
        questions = ask_sounds(sounds, kind)
        assert {text.split()[w] for text, words in zip(questions.text, questions.words) for w in words} == names


def test_the_same_seed_gives_the_same_sounds_and_another_seed_others():
    one, same, other = sample_sounds(10, 3), sample_sounds(10, 3), sample_sounds(10, 4)
    assert np.array_equal(one.waves, same.waves) and np.array_equal(one.pictures, same.pictures)
    assert not np.array_equal(one.waves, other.waves)
    assert np.array_equal(one[4].waves, one.waves[4:5]) and np.array_equal(one[[2, 6]].pictures, one.pictures[[2, 6]])
    assert len(sample_sounds(0)) == 0 and len(sample_sounds(0).pictures) == 0


@pytest.mark.parametrize("bad", [(1, 2), (2, 4), (3, 2)])
def test_an_impossible_number_of_tones_is_refused(bad):
    with pytest.raises(ValueError, match="from 2 to 3"):
        sample_sounds(3, 0, bad)


def test_an_unknown_kind_of_question_names_the_known_ones():
    with pytest.raises(KeyError, match="highest"):
        ask_sounds(sample_sounds(1), "loudest")
