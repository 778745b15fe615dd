"""The contextual lens: words find themselves, errors of the index are caught, and what it finds on `tiny` is as the chapter says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mini_lib import hooks, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.model.token.visual_token import contextual_lens as module
from mini_lib.model.token.visual_token.contextual_lens import contextual_lens, index, shapeland
from mini_lib.refusal import Refusal
from mini_lib.registry import find


@pytest.fixture(scope="module")
def texts(mllm):
    return index(mllm)


def failed(model, prompt):
    return [one.claim for one in find("contextual-lens").identity(model, prompt) if not one.passed]


def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt):
    assert failed(model, prompt) == []


def test_words_that_slipped_against_their_states_are_caught(model, prompt, monkeypatch):
    def slipped(mllm, sentences=None, layers=None):
        made = index(mllm, sentences, layers)
        return replace(made, words=np.roll(made.words, 1))
    monkeypatch.setattr(module, "index", slipped)
    assert "a word of the index finds itself, with similarity 1" in failed(model, prompt)


def test_states_of_other_lengths_are_caught(model, prompt, monkeypatch):
    """A dot product in the place of a cosine: long states are near to everything."""
    monkeypatch.setattr(module, "unit", lambda states: states.float())
    assert failed(model, prompt)


def test_sentences_that_are_padded_without_a_mask_are_caught(mllm, prompt, monkeypatch):
    """A realistic slip: rows of different lengths are padded on the left, and the model reads the padding."""
    def padded(m, sentences=None, layers=None):
        longest = max(len(m.tokenizer(text)["input_ids"]) for text in sentences)
        made = [index(m, [" ".join(["a"] * (longest - len(m.tokenizer(text)["input_ids"])) + [text])]) for text in sentences]
        whole = [np.concatenate([getattr(one, name) for one in made]) for name in ("words", "layers", "sentences")]
        return module.Index(torch.cat([one.states for one in made]), *whole)
    monkeypatch.setattr(module, "index", padded)
    assert "a word of the index finds itself, with similarity 1" in failed(mllm, prompt)


def test_the_index_holds_every_word_at_every_layer_under_its_own_name(mllm):
    sentence = "what color is the star ?"
    made = index(mllm, [sentence, sentence, "a red ring ."], ["embed", "block.2"])
    ids = torch.tensor([mllm.tokenizer(sentence)["input_ids"]])
    with hooks.record(mllm, "embed", "block.2") as seen:
        mllm.logits({"input_ids": ids})
    for layer in ("embed", "block.2"):
        rows = (made.layers == layer) & (made.sentences == sentence)
        assert list(made.words[rows]) == sentence.split()                            # once, and without the mark at the start
        assert torch.allclose(made.states[torch.from_numpy(rows)] * seen[layer][0, 1:].norm(dim=-1, keepdim=True),
                              seen[layer][0, 1:], atol=1e-3)
    assert "2 sentences, 2 layers" in repr(made)


def test_batches_and_chunks_change_nothing(mllm, texts, tokens, monkeypatch):
    again = index(replace(mllm, batch_size=3))
    assert sorted(again.words) == sorted(texts.words)
    states = tokens.states[0, 3]
    similar, rows = texts.nearest(states)
    assert np.allclose(again.nearest(states)[0], similar, atol=1e-5)
    monkeypatch.setattr(module, "CHUNK", 501)
    small = texts.nearest(states)
    assert np.allclose(small[0], similar, atol=1e-6) and (texts.words[small[1]] == texts.words[rows]).all()
    every = (module.unit(states) @ texts.states.T).max(1)
    assert np.allclose(every.values, similar, atol=1e-6) and (texts.words[every.indices] == texts.words[rows]).all()


def test_an_index_that_is_given_is_used_and_costs_nothing_again(mllm, prompt):
    sentences = ["a red ring .", "a blue star ."]
    before = mllm.passes
    own = index(mllm, sentences)
    assert mllm.passes - before == 2
    found = contextual_lens(mllm, prompt, "red", own)
    assert found.measured["forward_passes"] == 1 and set(found.words.ravel()) <= set(" ".join(sentences).split())
    assert found.words.shape == found.chance.shape == found.word_chance.shape == (7, 8, 8)
    assert found.unit == "cosine similarity" and "cosine similarity of 'red'" in repr(found)
    assert (found.word_chance <= found.chance + 1e-6).all() and 0 <= found.chance.min() and found.chance.max() <= 1
    only = contextual_lens(mllm, prompt, "red", own, among=["red", "blue"])
    assert set(only.words.ravel()) <= {"red", "blue"} and np.allclose(only.word_chance, found.word_chance)
    assert (contextual_lens(mllm, prompt, "green", own).word_chance == 0).all()


def test_what_cannot_be_compared_is_refused(mllm, prompt, texts):
    with pytest.raises(Refusal, match="does not know every word of 'a crimson star .'"):
        index(mllm, ["a crimson star ."])
    with pytest.raises(Refusal, match="give sentences of two words or more"):
        index(mllm, [""])
    with pytest.raises(Refusal, match="No sentence of the index holds any of frame"):
        contextual_lens(mllm, prompt, "red", texts, among=["frame"])


def test_it_names_colour_words_of_captions_that_it_never_saw(mllm, texts):
    """The positive control: so what it says of image tokens is not the fault of the index."""
    held_out = [text for text in world.captions(world.sample_scenes(40, 5)) if text not in set(shapeland())]
    unseen = index(mllm, held_out).only(world.COLORS)
    right = texts.words[texts.nearest(unseen.states)[1]] == unseen.words
    for layer in hooks.points(mllm):
        assert right[unseen.layers == layer].mean() > 0.8, layer


def choice(texts, states, names):
    """The nearest of `names` at every token: (N, layers, 64)."""
    known = texts.only(names)
    return known.words[known.nearest(states.flatten(0, -2))[1]].astype(str).reshape(states.shape[:-1])


def test_image_tokens_it_hardly_names_and_the_chapter_says_so(mllm, texts, tokens):
    """Findings about `tiny`: colours a little and early, later no better than a random model; shapes nowhere."""
    noise = redrawn(mllm, 0)
    drawn, noise_texts = tokens.seen(noise), index(noise)
    ours = tokens.right(choice(texts, tokens.states, world.COLORS), "color")
    theirs = tokens.right(choice(noise_texts, drawn, world.COLORS), "color")
    assert interval(ours[:, 0])[1] > 1 / len(world.COLORS) and interval(ours[:, 0])[2] < 0.5, interval(ours[:, 0])
    assert interval(ours[:, -1])[1] < interval(theirs[:, -1])[2], (interval(ours[:, -1]), interval(theirs[:, -1]))
    shapes = tokens.right(choice(texts, tokens.states, world.SHAPES), "shape")
    assert all(interval(shapes[:, layer])[2] < 0.3 for layer in range(7)), shapes.mean(0)
