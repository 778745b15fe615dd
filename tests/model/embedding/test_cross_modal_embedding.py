"""Gap, CKA, neighbours, SpLiCE and arithmetic: exact where they must be, right where the world knows, and known errors are caught."""

import numpy as np
import pytest
import torch

from mini_lib import families, hooks, sides, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.model.embedding.cross_modal_embedding import (
    cka,
    concept_arithmetic,
    modality_gap,
    mutual_neighbours,
    splice,
)
from mini_lib.refusal import Refusal
from mini_lib.registry import find

SLUGS = ("modality-gap", "cka", "mutual-neighbours", "splice", "concept-arithmetic")
NAMES = [*world.COLORS, *world.SHAPES]


@pytest.fixture(scope="module")
def control(mllm):
    return redrawn(mllm, 0)


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm, control):
    return mllm if request.param == "trained" else control


@pytest.fixture(scope="module")
def prompt(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


def failed(slug, mllm, prompt):
    return [one.claim for one in find(slug).identity(mllm, prompt) if not one.passed]


@pytest.mark.parametrize("slug", SLUGS)
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert failed(slug, model, prompt) == []


@pytest.mark.parametrize("slug", SLUGS)
def test_its_identities_hold_on_another_family(prompt, slug):
    other = families.small("Qwen2.5-VL")
    assert failed(slug, other, other.prompt(prompt.picture, prompt.question)) == []


# ------------------------------------------------------------------------------------------------ silent errors

def test_words_that_see_the_picture_are_caught(mllm, prompt, monkeypatch):
    """The words would be like the picture because they copied it, and every measure would call that alignment."""
    monkeypatch.setattr(cka, "of_words", lambda m, prompts, texts: sides.of_words(m, prompts))
    assert "a caption's words are the same behind another picture" in failed("cka", mllm, prompt)


def test_the_usual_centring_is_caught(mllm, prompt, monkeypatch):
    """With the diagonal left in, independent states look alike: 0.9 at 20 samples of 256 dimensions."""
    def usual(x):
        x = torch.as_tensor(x, dtype=torch.float64)
        x = x - x.mean(0)
        return x @ x.T
    monkeypatch.setattr(cka, "centred", usual)
    assert "the mean over all orders of the pairs is 0" in failed("cka", mllm, prompt)


def test_a_gap_without_unit_vectors_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(modality_gap, "unit", lambda x: x)
    assert failed("modality-gap", mllm, prompt)


def test_counting_each_picture_as_its_own_neighbour_is_caught(mllm, prompt, monkeypatch):
    def with_itself(x, k):
        x = torch.nn.functional.normalize(torch.as_tensor(x, dtype=torch.float64), dim=1)
        nearest = (x @ x.T).topk(k, 1).indices
        return torch.zeros(len(x), len(x), dtype=torch.float64).scatter(1, nearest, 1.0)
    monkeypatch.setattr(mutual_neighbours, "neighbours", with_itself)
    assert "the mean over all orders of the pairs is k / (N - 1)" in failed("mutual-neighbours", mllm, prompt)


def test_a_penalty_in_scikit_learns_units_is_caught(mllm, prompt, monkeypatch):
    """Lasso divides the squares by the number of rows: handing it λ as alpha penalises d times too much."""
    right = splice.Lasso
    monkeypatch.setattr(splice, "Lasso", lambda alpha, **rest: right(alpha=8 * alpha, **rest))
    assert "the optimum's conditions hold" in failed("splice", mllm, prompt)


def test_a_rotation_the_wrong_way_round_is_caught(mllm, prompt, monkeypatch):
    right = concept_arithmetic.rotation
    monkeypatch.setattr(concept_arithmetic, "rotation", lambda words, pictures: right(words, pictures).T)
    assert failed("concept-arithmetic", mllm, prompt) == ["a rotation that was planted is found"]


def test_shifting_tokens_one_place_off_is_caught(mllm, prompt, monkeypatch):
    """Off by the token that begins the text: the shifts would land on the neighbours."""
    right = concept_arithmetic.ask
    monkeypatch.setattr(concept_arithmetic, "ask", lambda m, prompts, where, shifts: right(
        m, prompts, where, shifts.roll(1, 1) if shifts.dim() == 3 else shifts))
    assert failed("concept-arithmetic", mllm, prompt) == ["moving every token onto another picture's is asking about that picture"]


# ------------------------------------------------------------------------------------------------ the two sides

def test_sides_in_batches_are_those_of_one_prompt_at_a_time(mllm):
    from dataclasses import replace
    samples = world.sample(5, 3, kinds=("color", "shape"))                        # questions of two lengths
    prompts = [mllm.prompt(one.picture, one.question) for one in samples]
    captions = world.captions(samples.scenes, 0)
    alone = replace(mllm, batch_size=1)
    for collect in (sides.of_pictures, sides.of_words, lambda m, p: sides.of_words(m, p, captions)):
        assert torch.allclose(collect(mllm, prompts), collect(alone, prompts), atol=1e-4)
    with hooks.record(mllm, "block.2") as seen:
        mllm.logits(prompts[1].inputs)
    assert torch.allclose(sides.of_pictures(mllm, prompts)[3, 1], seen["block.2"][0, prompts[1].tokens.image].mean(0), atol=1e-4)
    assert torch.allclose(sides.of_words(mllm, prompts)[3, 1], seen["block.2"][0, prompts[1].tokens.question].mean(0), atol=1e-4)


def test_a_word_before_the_first_block_is_its_row_of_the_embedding(mllm, prompt):
    rows = mllm.model.get_input_embeddings().weight[[mllm.tokens(name)[0] for name in NAMES]]
    assert torch.allclose(sides.of_words(mllm, [prompt] * 14, NAMES)[0], rows, atol=1e-6)


def test_class_means_are_means_of_the_labelled_tokens(mllm, prompt):
    labels = np.random.default_rng(0).integers(-1, 3, (1, 64))
    tokens = sides.of_pictures(mllm, [prompt], lambda tokens, k: tokens)[:, 0]
    for k in range(3):
        assert torch.allclose(sides.of_classes(mllm, [prompt], labels, 3)[:, k], tokens[:, labels[0] == k].mean(1), atol=1e-4)
    both = sides.of_classes(mllm, [prompt], np.stack([labels, np.where(labels < 0, -1, labels + 3)], 2), 6)
    assert torch.allclose(both[:, :3], both[:, 3:], atol=1e-5)                                 # two labels a token


# ------------------------------------------------------------------------------------------------ exact, without a model

def test_cka_is_the_cosine_that_its_formula_says_and_the_floor_is_the_one_known():
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(2, 20, 256)) for _ in range(20)]
    assert 0.88 < np.mean([cka.biased(*one) for one in draws]) < 0.95               # independent!
    assert interval([cka.alignment(*one) for one in draws])[1] < 0.02
    x = rng.normal(size=(30, 5))
    assert cka.alignment(x, x) == pytest.approx(1) and cka.alignment(x, np.ones((30, 4))) == 0


def test_a_shift_between_two_sets_is_recovered_in_length_and_direction():
    noise = torch.Generator().manual_seed(0)
    x, planted = torch.randn(50, 16, generator=noise), torch.randn(16, generator=noise)
    assert torch.allclose(modality_gap.gap(x + planted, x), planted, atol=1e-5)


def test_neighbours_that_tie_share_their_places():
    x = np.random.default_rng(0).normal(size=(12, 4))
    assert mutual_neighbours.shared(x, np.ones((12, 3)), 4).numpy() == pytest.approx(np.full(12, 4 / 11))
    assert (mutual_neighbours.neighbours(x, 4).sum(1) - 4).abs().max() < 1e-9
    assert mutual_neighbours.neighbours(x, 4).diagonal().abs().max() == 0


@pytest.mark.parametrize("count", [2, 4])
def test_planted_words_come_back_below_the_coherence_bound(count):
    rng = np.random.default_rng(count)
    c = np.linalg.qr(rng.normal(size=(64, 64)))[0][:32] + 0.003 * rng.normal(size=(32, 64))
    c /= np.linalg.norm(c, axis=1, keepdims=True)
    coherence = np.abs(c @ c.T - np.eye(32)).max()
    assert count < (1 + 1 / coherence) / 2
    planted = np.array([np.isin(np.arange(32), rng.choice(32, count, replace=False)) for _ in range(20)])
    z = planted * rng.uniform(0.8, 1.2, planted.shape) @ c
    assert ((splice.solve(z / np.linalg.norm(z, axis=1, keepdims=True), c, 0.02) > 0) == planted).all()


# ------------------------------------------------------------------------------------------------ findings, as the chapter has them

@pytest.fixture(scope="module")
def described(mllm, control):
    """Pictures of three objects and their captions: (pictures, words, words with swapped colours) of each model."""
    samples = world.sample(100, 61, kinds=("color",), objects=(3, 3))
    scenes = samples.scenes
    swapped = scenes.edited(color=np.concatenate([np.roll(scenes.color[:, :3], 1, 1), scenes.color[:, 3:]], 1))
    out = {}
    for name, model in (("trained", mllm), ("re-drawn", control)):
        prompts = [model.prompt(one.picture, world.CAPTION) for one in samples]
        out[name] = (sides.of_pictures(model, prompts), *(sides.of_words(model, prompts, world.captions(s, 0)) for s in (scenes, swapped)))
    return out


def test_pictures_and_captions_have_a_common_shape_beyond_re_drawn_weights(described):
    order = np.random.default_rng(0).permutation(100)
    for layer in range(7):
        shape = {name: cka.alignment(x[layer], y[layer]) for name, (x, y, _) in described.items()}
        near = {name: mutual_neighbours.shared(x[layer], y[layer], 10) for name, (x, y, _) in described.items()}
        assert shape["trained"] > shape["re-drawn"] + 0.1, (layer, shape)
        assert interval(near["trained"])[1] > interval(near["re-drawn"])[2], layer
        x, y, _ = described["re-drawn"]
        assert shape["re-drawn"] > 0.1 > abs(cka.alignment(x[layer], y[layer][order]))   # shuffling alone is too low a floor


def test_likeness_does_not_see_what_belongs_together_and_the_chapter_says_so(described):
    x, y, swapped = described["trained"]
    for layer in (1, 3, 6):
        assert abs(cka.alignment(x[layer], y[layer]) - cka.alignment(x[layer], swapped[layer])) < 0.05


def test_the_gap_is_as_long_without_learning_and_the_chapter_says_so(mllm, control):
    samples = world.sample(30, 62, kinds=("color",), objects=(3, 3))
    captions, lengths = world.captions(samples.scenes, 0), []
    for model in (mllm, control):
        prompts = [model.prompt(one.picture, world.CAPTION) for one in samples]
        result = modality_gap.modality_gap(model, prompts, captions)
        assert (result.values[0] > 4 * result.values[1:].max(0)).all() and min(result.measured["told_apart"]) > 0.95
        lengths.append(result.values[0])
    assert (np.abs(lengths[0] - lengths[1]) < 0.25).all()


@pytest.fixture(scope="module")
def colors(mllm, described):
    """Directions of colours, prompts to try them on, and the rotation: all that the arithmetic needs."""
    known, asked = (world.sample(n, seed, kinds=("color",), objects=(2, 3)) for n, seed in ((80, 63), (60, 64)))
    labels = world.patch_labels(known.scenes)
    color, shape = labels["color"].reshape(80, 64), labels["shape"].reshape(80, 64)
    prompts = [mllm.prompt(one.picture, one.question) for one in known]
    pictured = sides.of_classes(mllm, prompts, np.stack([color, np.where(shape < 0, -1, shape + 8)], 2), 14)
    worded = sides.of_words(mllm, [prompts[0]] * 14, NAMES)
    x, y, _ = described["trained"]
    return known, color, prompts, pictured, worded, (x, y), asked, [mllm.prompt(one.picture, one.question) for one in asked]


def flipped(mllm, colors, source, layer=0):
    """Whether each object's answer becomes another colour when the direction between the two, from `source`, is added."""
    *_, pictured, _, _, asked, questions = colors
    own = np.array([world.COLORS.index(one.answer) for one in asked])
    other = (own + np.random.default_rng(0).integers(1, 8, len(own))) % 8
    length = (pictured[layer][other] - pictured[layer][own]).norm(dim=1, keepdim=True)
    vectors = torch.randn(len(own), 128, generator=torch.Generator().manual_seed(0)) if source is None else source[other] - source[own]
    logits = concept_arithmetic.ask(mllm, questions, asked.patches, vectors * length / vectors.norm(dim=1, keepdim=True), hooks.points(mllm)[layer])
    return interval([mllm.tokenizer.decode([k]) == world.COLORS[c] for k, c in zip(logits.argmax(1).tolist(), other)])


def test_picture_directions_flip_answers_and_word_directions_only_once_they_are_turned(mllm, colors):
    *_, pictured, worded, (x, y), _, _ = colors
    right = worded[0] @ concept_arithmetic.rotation(y[0], x[0])
    wrong = worded[0] @ concept_arithmetic.rotation(y[0][np.random.default_rng(1).permutation(100)], x[0])
    assert flipped(mllm, colors, pictured[0])[1] > 0.8
    assert flipped(mllm, colors, right)[1] > 0.7
    for source in (worded[0], wrong, None):
        assert flipped(mllm, colors, source)[2] < 0.25


def test_two_blocks_in_the_same_directions_change_nothing_more(mllm, colors):
    assert flipped(mllm, colors, colors[3][2], 2)[2] < 0.15


def test_differences_of_words_are_not_those_of_pictures_until_they_are_turned(mllm, colors):
    known, color, prompts, pictured, worded, (x, y), *_ = colors
    result = concept_arithmetic.concept_arithmetic(mllm, prompts, color, list(world.COLORS))
    assert result.values.shape == (2, 7) and result.low[1, 0] < result.values[0, 0] < result.high[1, 0] + 0.05
    assert result.values[0, 0] == pytest.approx(concept_arithmetic.agreement(pictured[0, :8], worded[0, :8]), abs=1e-4)
    assert concept_arithmetic.agreement(pictured[0, :8], worded[0, :8] @ concept_arithmetic.rotation(y[0], x[0])) > 0.6


def test_splice_finds_what_is_there_with_pictured_and_turned_words_and_not_with_words(mllm, colors):
    *_, pictured, worded, (x, y), asked, questions = colors
    there = np.zeros((60, 14), bool)
    for i, (c, s, present) in enumerate(zip(asked.scenes.color, asked.scenes.shape, asked.scenes.present)):
        there[i, c[present]] = there[i, 8 + s[present]] = True

    def ranked(dictionary, truth=there):
        weights = splice.splice(mllm, questions, NAMES, dictionary=dictionary).values
        assert weights.shape == (60, 14) and (weights >= 0).all()
        return interval([(w[t][:, None] > w[~t]).mean() + (w[t][:, None] == w[~t]).mean() / 2 for w, t in zip(weights, truth)])
    turned = worded[0] @ concept_arithmetic.rotation(y[0], x[0])
    often = np.mean([(there.mean(0)[t][:, None] > there.mean(0)[~t]).mean() for t in there])
    assert ranked(None)[1] < often + 0.02                                          # no better than how often each word is there
    assert ranked(turned)[1] > 0.75 and ranked(pictured[0])[1] > 0.93
    assert 0.4 < ranked(pictured[0], np.roll(there, 1, 0))[0] < 0.6


# ------------------------------------------------------------------------------------------------ refusals

def test_what_cannot_be_compared_is_refused(mllm, prompt):
    with pytest.raises(Refusal, match="at least four"):
        cka.cka(mllm, [prompt] * 3)
    with pytest.raises(Refusal, match="neighbours of 3"):
        mutual_neighbours.mutual_neighbours(mllm, [prompt] * 3, k=2)
    with pytest.raises(Refusal, match="one for each"):
        modality_gap.modality_gap(mllm, [prompt] * 2, ["a red star ."])
    with pytest.raises(Refusal, match="does not know"):
        cka.cka(mllm, [prompt], ["a zebra"])
    with pytest.raises(Refusal, match="no layer 'block.9'"):
        splice.splice(mllm, [prompt], ["red", "blue"], layer="block.9")
    with pytest.raises(Refusal, match="2 words of width 128"):
        splice.splice(mllm, [prompt], ["red", "blue"], dictionary=np.zeros((3, 128)))
    with pytest.raises(Refusal, match="label 1"):
        concept_arithmetic.concept_arithmetic(mllm, [prompt], np.zeros((1, 64), int), ["red", "blue"])
    with pytest.raises(Refusal, match="one of each"):
        concept_arithmetic.ask(mllm, [prompt], np.ones((2, 64), bool), torch.zeros(1, 128))
