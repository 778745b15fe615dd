"""The logit lens on image tokens: exact where it must be, right where the world knows, and known errors are caught."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mini_lib import hooks, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.mllm import Target
from mini_lib.model.token.visual_token import logit_lens as module
from mini_lib.model.token.visual_token.logit_lens import logit_lens, read
from mini_lib.refusal import Refusal
from mini_lib.registry import find
from mini_lib.world.shots import HELD_OUT, MADE_UP


def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt):
    assert [str(i) for i in find("logit-lens").identity(model, prompt) if not i.passed] == []


def test_norming_the_last_layer_twice_is_caught(mllm, prompt, monkeypatch):
    """`hidden_states[-1]` is already normed: norming it again is a known silent error, visible once norm weights differ."""
    model = redrawn(mllm, 2)

    def twice(m, hidden):
        with torch.no_grad():
            return m.parts.head(m.parts.norm(m.parts.norm(hidden))).float().softmax(-1)
    monkeypatch.setattr(module, "read", twice)
    assert not find("logit-lens").identity(model, prompt)[0].passed


def test_reading_without_the_norm_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(module, "read", lambda m, hidden: m.parts.head(hidden).detach().float().softmax(-1))
    assert not find("logit-lens").identity(mllm, prompt)[0].passed


def test_the_lens_gives_distributions_of_the_right_shape(model, prompt):
    with hooks.record(model, "block.3") as seen:
        model.logits(prompt.inputs)
    chance = read(model, seen["block.3"][0, prompt.tokens.image])
    assert chance.shape == (64, len(model.tokenizer)) and torch.allclose(chance.sum(-1), torch.ones(64), atol=1e-5)
    result = logit_lens(model, prompt, "red")
    assert np.allclose(result.chance[4].ravel(), chance.max(-1).values, atol=1e-6)
    assert np.allclose(result.word_chance[4].ravel(), chance[:, model.tokens("red")[0]], atol=1e-6)
    assert result.words.shape == result.chance.shape == result.word_chance.shape == (7, 8, 8)
    assert (result.word_chance <= result.chance + 1e-6).all()


def test_among_rivals_the_numbers_are_the_same_but_renormalised(model, prompt):
    rivals = list(world.COLORS)
    said = {word: Target((model.tokens(word)[0],), 0, word) for word in [*rivals, "star"]}
    whole, some = logit_lens(model, prompt, said["red"]), logit_lens(model, prompt, said["red"], among=rivals)
    assert set(some.words.ravel()) <= set(rivals)
    each = np.stack([logit_lens(model, prompt, said[word]).word_chance for word in rivals])     # (8, 7, 8, 8)
    assert np.allclose(some.word_chance, whole.word_chance / each.sum(0), atol=1e-5)
    assert np.allclose(some.chance, each.max(0) / each.sum(0), atol=1e-5)
    assert (some.words == np.array(rivals, object)[each.argmax(0)]).mean() > 0.999           # ties apart
    assert (logit_lens(model, prompt, said["star"], among=rivals).word_chance == 0).all()


def test_a_rival_that_the_model_does_not_know_is_refused(mllm, prompt):
    with pytest.raises(Refusal, match="reddish"):
        logit_lens(mllm, prompt, "red", among=["red", "reddish"])


@pytest.fixture(scope="module")
def readings(mllm):
    """Share of tokens whose last-layer word is a colour or shape of the picture's objects, on ground and on objects."""
    samples, control = world.sample(60, 41, kinds=("color",), objects=(2, 4)), redrawn(mllm, 0)
    labels = world.patch_labels(samples.scenes)
    shape, color = labels["shape"], labels["color"]
    out = {name: [] for name in ("ground", "ground, other picture", "ground, random model", "objects", "objects, other picture",
                                 "objects, made-up words")}

    def there(i):
        return [*np.array(world.SHAPES)[shape[i][shape[i] >= 0]], *np.array(world.COLORS)[color[i][color[i] >= 0]]]
    for i, sample in enumerate(samples):
        prompt = mllm.prompt(sample.picture, sample.question)
        target = mllm.target(prompt)
        words = logit_lens(mllm, prompt, target).words[-1].astype(str)
        noise = logit_lens(control, prompt, target).words[-1].astype(str)
        for name, where in (("ground", shape[i] < 0), ("objects", shape[i] >= 0)):
            out[name].append(np.isin(words[where], there(i)).mean())
            out[f"{name}, other picture"].append(np.isin(words[where], there(i - 1)).mean())
        out["objects, made-up words"].append(np.isin(words[shape[i] >= 0], [*MADE_UP, *HELD_OUT]).mean())
        out["ground, random model"].append(np.isin(noise[shape[i] < 0], there(i)).mean())
    return {name: interval(values) for name, values in out.items()}


def test_hardly_a_token_can_be_read_and_the_chapter_says_so(readings):
    """Findings about `tiny`, not wishes: few words fit the picture, and on the objects most are made-up ones."""
    assert readings["ground"][2] < 0.1 and readings["objects"][2] < 0.2, readings
    assert readings["ground"][1] < readings["ground, random model"][2], readings
    assert readings["objects, made-up words"][1] > 0.5, readings


def test_the_objects_own_tokens_do_not_name_them_and_the_chapter_says_so(readings):
    """A finding about `tiny`, not a wish: what they say fits another picture about as often as their own."""
    assert readings["objects"][1] < readings["objects, other picture"][2], readings


def first(mllm, tokens, states, names):
    """The first of `names` at every token: (N, layers, 64)."""
    chance = read(mllm, states)[..., mllm.tokenizer.convert_tokens_to_ids(list(names))]
    return np.array(names)[chance.argmax(-1)]


@pytest.mark.parametrize("kind, names, least, control", [("color", world.COLORS, 0.5, 0.4), ("shape", world.SHAPES, 0.85, 0.4)])
def test_among_rivals_the_right_word_is_first_at_every_layer(mllm, tokens, others, kind, names, least, control):
    """A finding that the likeliest of all words hides; a probe, trained on other pictures, is better still."""
    words, noise = first(mllm, tokens, tokens.states, names), redrawn(mllm, 0)
    drawn = tokens.right(first(noise, tokens, tokens.seen(noise), names), kind)
    for layer in range(7):
        ours = interval(tokens.right(words, kind)[:, layer])
        assert ours[1] > least, (layer, ours)
        assert interval(tokens.right(words, kind, shift=1)[:, layer])[2] < control
        assert interval(drawn[:, layer])[2] < control
    label = others.labels[kind].reshape(-1, 64)
    for layer in (0, 6):
        x, y = others.states[:, layer].numpy()[label >= 0], label[label >= 0]
        said = LogisticRegression(max_iter=1000).fit(x / 20, y).predict(tokens.states[:, layer].flatten(0, 1).numpy() / 20)
        probe = tokens.right(np.array(names)[said].reshape(-1, 1, 64), kind)[:, 0]
        assert interval(probe)[1] > 0.9 and interval(probe)[0] >= interval(tokens.right(words, kind)[:, layer])[0]


def test_rivals_force_a_word_on_the_ground_too(mllm, tokens):
    """A limitation that the chapter names: the ground is given colours, and several of them."""
    said = first(mllm, tokens, tokens.states[:, -1:], world.COLORS)[:, 0][tokens.labels["shape"].reshape(-1, 64) < 0]
    assert len(set(said)) >= 4
