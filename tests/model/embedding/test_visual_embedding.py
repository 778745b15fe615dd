"""Probes and named heads: exact where they must be, right where the world knows, and known errors are caught."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mini_lib import families, hooks, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.heads import quiet
from mini_lib.model.embedding.visual_embedding import head_decomposition as heads
from mini_lib.model.embedding.visual_embedding import linear_probe as probes
from mini_lib.refusal import Refusal
from mini_lib.registry import find
from mini_lib.world.shots import HELD_OUT, MADE_UP

ANSWERS = {"color": list(world.COLORS), "shape": list(world.SHAPES)}


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 2)


@pytest.fixture(scope="module")
def prompt(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


def failed(slug, model, prompt):
    return [one.claim for one in find(slug).identity(model, prompt) if not one.passed]


@pytest.mark.parametrize("slug", ["linear-probe", "head-decomposition"])
def test_its_identities_hold_on_the_trained_and_on_a_random_model(model, prompt, slug):
    assert failed(slug, model, prompt) == []


@pytest.mark.parametrize("slug", ["linear-probe", "head-decomposition"])
def test_its_identities_hold_on_another_family(prompt, slug):
    other = families.small("Qwen2.5-VL")
    assert failed(slug, other, other.prompt(prompt.picture, "what color is the star ?")) == []


# --- silent errors, brought back ---

def test_tokens_that_are_off_by_one_are_caught(mllm, prompt, monkeypatch):
    whole = probes.record

    def shifted(model, *names):
        class Late:
            def __enter__(self):
                self.context = whole(model, *names)
                self.seen = self.context.__enter__()
                return self

            def __exit__(self, *error):
                return self.context.__exit__(*error)

            def items(self):
                return [(name, value.roll(1, 1)) for name, value in self.seen.items()]
        return Late()
    monkeypatch.setattr(probes, "record", shifted)
    monkeypatch.setattr(probes, "tower", lambda model: hooks.record(model))
    assert any("the model's own logits" in claim for claim in failed("linear-probe", mllm, prompt))


def test_a_split_by_patch_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(probes, "held_out", lambda picture, seed: np.random.default_rng(seed).random(len(picture)) < 0.3)
    assert failed("linear-probe", mllm, prompt) == ["no picture is on both sides of the split"]


def test_scaling_each_axis_by_itself_is_caught(mllm, prompt, monkeypatch):
    """Standardising makes the probe depend on which axes the model happens to write its vectors in."""
    monkeypatch.setattr(probes, "evened", lambda x, train: (x - x[train].mean(0)) / (x[train].std(0) + 1e-9))
    assert "turning all vectors alike changes no score of the probe" in failed("linear-probe", mllm, prompt)


def test_axes_that_are_not_orthonormal_are_caught(mllm, prompt, monkeypatch):
    def raw(x, labels):
        means = np.stack([x[labels == one].mean(0) for one in np.unique(labels)])
        return (means - means.mean(0))[:-1] / np.linalg.norm(means - means.mean(0), axis=1)[:-1, None], means.mean(0)
    monkeypatch.setattr(probes, "directions", raw)
    assert failed("linear-probe", mllm, prompt) == ["once a label's directions are removed, its means are equal"]


def changing(monkeypatch, change):
    whole = heads.writes
    monkeypatch.setattr(heads, "writes", lambda *args: (lambda found: replace(found, heads=change(found.heads)))(whole(*args)))


def test_a_head_that_is_left_out_is_caught(mllm, prompt, monkeypatch):
    changing(monkeypatch, lambda written: written[:, :, :-1])
    assert failed("head-decomposition", mllm, prompt) == [
        "embedding, heads, biases and MLPs sum to the stream behind the last block", "the same parts, read as words, sum to the logits"]


def test_heads_in_another_order_are_caught_although_they_still_sum_to_the_stream(mllm, prompt, monkeypatch):
    changing(monkeypatch, lambda written: written.flip(2))
    assert failed("head-decomposition", mllm, prompt) == ["a head whose attention is zero no longer writes what it wrote"]


def test_words_without_the_final_norms_weight_are_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(heads, "word_directions", lambda model, words: model.parts.head.weight[
        [model.tokens(word)[0] for word in words]].detach().double())
    assert failed("head-decomposition", mllm, prompt) == ["the same parts, read as words, sum to the logits"]


def test_words_that_are_chosen_for_their_length_are_caught(mllm, prompt, monkeypatch):
    def long(written, words):
        axes = np.linalg.svd(written - written.mean(0), full_matrices=False)[2][:1]
        return words * np.linspace(9, 1, len(words))[:, None] @ axes.T @ axes
    monkeypatch.setattr(heads, "within", long)
    assert "a head that only writes one word is given its name, and the name explains it" in failed("head-decomposition", mllm, prompt)


def test_words_that_are_not_projected_out_are_caught(mllm, prompt, monkeypatch):
    """Without it the second word brings the first one's direction back, and a direction may be counted twice."""
    def careless(written, words, most):
        left, rows = written - written.mean(0), heads.within(written, words)
        chosen, shares, spread = [], [], float(np.square(left).sum())
        for _ in range(most):
            best = int(np.square(left @ rows.T).sum(0).argmax())
            axis = rows[best] / np.linalg.norm(rows[best])
            chosen, shares = [*chosen, best], [*shares, float(np.square(left @ axis).sum() / spread)]
            left = left - np.outer(left @ axis, axis)
        return chosen, shares, left, spread
    monkeypatch.setattr(heads, "text_span", careless)
    assert "what is left of a head has nothing along its first word" in failed("head-decomposition", redrawn(mllm, 2), prompt)


# --- linear probes: parts and truth ---

@pytest.fixture(scope="module")
def shown(mllm):
    """120 pictures: (prompts, labels by name, vectors)."""
    pictures = world.sample(120, 5, kinds=("color",), objects=(2, 4))
    labels = {name: values.reshape(-1, 64) for name, values in world.patch_labels(pictures.scenes).items()}
    labels["place"] = np.where(labels["shape"] >= 0, np.arange(64) % 8, -1)
    prompts = [mllm.prompt(one, "what color is the star ?") for one in pictures.pictures]
    return prompts, labels, probes.vectors(mllm, prompts, labels["shape"])


def curve(mllm, shown, name, points):
    prompts, labels, found = shown
    types = np.where(labels["shape"] >= 0, np.arange(64), -1) if name == "place" else labels["shape"] * 8 + labels["color"]
    return probes.linear_probe(mllm, prompts, labels[name], types, {point: found[point] for point in points}, name)


def at(result, line, point):
    k = result.lines.index(line), result.points.index(point)
    return result.values[k], result.low[k], result.high[k]


def test_the_tower_hands_on_what_the_connector_turns_into_image_tokens(mllm, shown):
    """The class token is dropped, and the order kept: the model's own connector gives "embed" from "vision.out"."""
    with torch.no_grad():
        again = mllm.model.model.multi_modal_projector(shown[2]["vision.out"])
    assert (again - shown[2]["embed"]).abs().max() < 1e-3


def test_vectors_are_those_of_one_prompt_at_a_time(mllm, shown):
    prompts, labels, found = shown
    alone = probes.vectors(replace(mllm, batch_size=1), prompts[:3], labels["shape"][:3])
    rows = int((labels["shape"][:3] >= 0).sum())
    assert all(torch.allclose(found[point][:rows], alone[point], atol=1e-3) for point in found)


def test_a_control_task_gives_each_type_one_label():
    types = np.array([3, 1, 3, 2, 1, 9])
    made = np.array([probes.control(np.array([0, 1, 2, 0, 1, 2]), types, seed) for seed in range(30)])
    assert (made[:, 0] == made[:, 2]).all() and (made[:, 1] == made[:, 4]).all()
    assert len(np.unique(made, axis=0)) > 10 and np.isin(made, (0, 1, 2)).all()


def test_random_labels_are_read_at_chance(shown):
    labels, rng = shown[1]["color"], np.random.default_rng(0)
    thing = labels >= 0
    picture = np.repeat(np.arange(len(labels)), thing.sum(1))
    unseen, right = probes.held_out(picture, 0), []
    for _ in range(3):
        y = rng.integers(8, size=thing.sum())
        right.append((probes.predicted(shown[2]["embed"], y, unseen) == y[unseen]).mean())
    assert abs(np.mean(right) - 1 / 8) < 0.04


def test_the_tower_makes_shape_and_size_readable_and_pixels_and_random_weights_do_not(mllm, shown):
    prompts, labels, _ = shown
    blank = redrawn(mllm, 0)
    random = prompts, labels, probes.vectors(blank, prompts, labels["shape"])
    for name, floor in (("shape", 0.35), ("size", 0.75)):
        trained = curve(mllm, shown, name, ("pixels", "vision.out", "embed"))
        for point in ("vision.out", "embed"):
            assert at(trained, "accuracy", point)[1] > 0.85
            assert at(trained, "selectivity", point)[1] > 0.1
            assert at(curve(blank, random, name, (point,)), "accuracy", point)[2] < floor
        assert at(trained, "accuracy", "pixels")[2] < floor and at(trained, "selectivity", "pixels")[1] < 0.05


def test_colour_is_in_the_pixels_already_and_the_chapter_says_so(mllm, shown):
    assert at(curve(mllm, shown, "color", ("pixels",)), "accuracy", "pixels")[1] > 0.65


def test_place_is_learnt_by_heart_where_the_tower_begins_and_the_connector_loses_a_part(mllm, shown):
    """Findings about `tiny`, not wishes."""
    found = curve(mllm, shown, "place", ("vision.0", "vision.out", "embed"))
    assert at(found, "accuracy", "vision.0")[1] > 0.95 and at(found, "selectivity", "vision.0")[2] < 0.2
    assert at(found, "accuracy", "embed")[2] < at(found, "accuracy", "vision.out")[0]


def test_the_control_task_gets_easier_behind_the_tower(mllm, shown):
    found = curve(mllm, shown, "color", ("vision.1", "embed"))
    assert at(found, "control task", "embed")[1] > at(found, "control task", "vision.1")[2]


def test_a_probe_cannot_read_what_was_removed_and_still_reads_the_rest(shown):
    _, labels, found = shown
    thing = labels["shape"] >= 0
    picture = np.repeat(np.arange(len(thing)), thing.sum(1))
    unseen, x = probes.held_out(picture, 0), np.asarray(found["embed"], float)
    left = probes.removed(x, *probes.directions(x, labels["color"][thing]))
    color, shape = ((probes.predicted(left, labels[name][thing], unseen) == labels[name][thing][unseen]).mean() for name in ("color", "shape"))
    assert color < 0.3 and shape > 0.95


def test_colour_and_shape_are_used_and_size_is_readable_but_not_used(mllm, shown):
    """Taken away behind the connector: the asked label costs answers, size and shuffled colours do not or far less."""
    _, labels, found = shown
    thing, x, rng = labels["shape"] >= 0, np.asarray(found["embed"], float), np.random.default_rng(0)
    spaces = [probes.directions(x, labels[name][thing]) for name in ("color", "shape", "size", "place")]
    spaces.append(probes.directions(x, rng.permutation(labels["color"][thing])))
    asked = world.sample(60, 78, kinds=("color", "shape"), objects=(2, 4))
    own = (world.patch_labels(asked.scenes)["shape"] >= 0).reshape(-1, 64)
    right = {"color": [], "shape": []}
    for one, tokens in zip(asked, own):
        said = probes.answers_without(mllm, mllm.prompt(one.picture, one.question), tokens, spaces)
        assert said.shape == (6, len(mllm.tokenizer))
        right[one.kind].append([int(i) in mllm.tokens(one.answer) for i in said.argmax(-1)])
    color, shape = (np.array(right[kind], float) for kind in ("color", "shape"))
    assert color[:, 0].mean() > 0.9 and shape[:, 0].mean() > 0.9
    means = color.mean(0), shape.mean(0)
    assert interval(color[:, 5] - color[:, 1])[1] > 0.1 and interval(shape[:, 5] - shape[:, 2])[1] > 0.1, means
    assert color[:, 3].mean() > 0.95 and shape[:, 3].mean() > 0.95, means                   # size
    assert color[:, 4].mean() > 0.8 and shape[:, 4].mean() > 0.8, means                     # place


def test_removing_nothing_leaves_the_answer_and_another_batch_size_changes_nothing(mllm, prompt):
    axes = np.zeros((1, 128)), np.zeros(128)
    space = np.eye(128)[:5], np.ones(128)
    tokens = np.arange(64) < 20
    rows = probes.answers_without(mllm, prompt, tokens, [axes, space])
    assert (rows[0] - mllm.logits(prompt.inputs)[0, -1].log_softmax(-1)).abs().max() < 1e-3 and (rows[1] - rows[0]).abs().max() < 1e-3
    small = probes.answers_without(replace(mllm, batch_size=1), prompt, tokens, [axes, space])
    assert (small - rows).abs().max() < 1e-3 and (rows[2] - rows[0]).abs().max() > 1e-2


def test_labels_of_another_length_and_of_one_kind_are_refused(mllm, shown):
    prompts, labels, _ = shown
    with pytest.raises(Refusal, match="one label for each"):
        probes.vectors(mllm, prompts[:2], np.zeros((2, 63), int))
    with pytest.raises(Refusal, match="two labels"):
        probes.linear_probe(mllm, prompts[:4], np.zeros((4, 64), int), np.zeros((4, 64), int))


# --- heads and their names ---

@pytest.fixture(scope="module")
def written(mllm):
    """(samples, what heads wrote at the answer) for naming and for testing."""
    return [(samples, heads.writes(mllm, [mllm.prompt(one.picture, one.question) for one in samples]))
            for samples in (world.sample(60, seed, kinds=("color", "shape"), objects=(2, 4)) for seed in (77, 99))]


@pytest.fixture(scope="module")
def named(mllm, written):
    words = [w for w in mllm.tokenizer.get_vocab() if w.isalnum() and w not in (*MADE_UP, *HELD_OUT)]
    return heads.head_decomposition(mllm, None, words, most=8, found=written[0][1])


def reading(model, samples, found, name):
    """(questions, 24) whether the word's direction in which each head wrote most is the answer."""
    rows = heads.word_directions(model, ANSWERS[name]).numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = samples.questions.kind == name
    truth = np.array([ANSWERS[name].index(a) for a in samples.questions.answer[asked]])
    own = found.heads.numpy().reshape(len(asked), 24, -1)[asked]
    return ((own - own.mean(0)) @ rows.T).argmax(-1) == truth[:, None]


def test_a_planted_head_gets_the_names_that_were_planted_in_their_order():
    rng = np.random.default_rng(0)
    words = np.linalg.qr(rng.normal(size=(64, 40)))[0].T                             # 40 orthonormal words
    wrote = rng.normal(size=(200, 3)) * (3, 2, 1) @ words[[7, 31, 2]] + rng.normal(size=64)
    chosen, shares, left, _ = heads.text_span(wrote, words, 3)
    assert chosen == [7, 31, 2] and sum(shares) == pytest.approx(1) and np.abs(left).max() < 1e-9


def test_a_head_that_varies_by_rounding_alone_gets_no_name():
    wrote = np.ones((20, 8)) + 1e-7 * np.random.default_rng(0).normal(size=(20, 8))
    assert heads.text_span(wrote, np.eye(8), 3)[:2] == ([], [])


def test_the_colour_head_is_named_by_colours_and_reads_other_pictures_right(mllm, written, named):
    k = named.rows.index("5.2")
    chosen = [named.columns[j] for j in np.argsort(-named.values[k])[:8]]
    assert sum(word in world.COLORS for word in chosen) >= 6, chosen
    right = reading(mllm, *written[1], "color")[:, k]
    blank = redrawn(mllm, 0)
    samples = written[1][0]
    control = reading(blank, samples, heads.writes(blank, [blank.prompt(one.picture, one.question) for one in samples]), "color")
    assert interval(right)[1] > 0.8 and control.mean(0).max() < 0.5


def test_a_shape_head_reads_other_pictures_right(mllm, written, named):
    assert interval(reading(mllm, *written[1], "shape")[:, named.rows.index("4.2")])[1] > 0.8


def test_made_up_words_name_heads_too_and_names_take_no_more_variance_than_random_directions(mllm, written, named):
    """Findings that the chapter reports: TextSpan always answers, and the share of variance proves nothing."""
    everything = [w for w in mllm.tokenizer.get_vocab() if w.isalnum()]
    wide = heads.head_decomposition(mllm, None, everything, most=1, found=written[0][1])
    first = [wide.columns[j] for j in wide.values.argmax(1)]
    assert 1 <= sum(word in (*MADE_UP, *HELD_OUT) for word in first) <= 12, first     # a quarter of the pool
    rows = np.random.default_rng(0).normal(size=(len(named.columns), 128))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    taken = [sum(heads.text_span(written[0][1].heads[:, k // 4, k % 4].numpy(), rows, 8)[1]) for k in range(24)]
    assert abs(np.mean(taken) - named.values.sum(1).mean()) < 0.15


def test_only_the_colour_heads_loss_costs_answers_about_colour_and_no_heads_those_about_shape(mllm, written):
    (_, before), (samples, _) = written
    means = before.gathered.mean(0)
    for name in ANSWERS:
        rows = np.flatnonzero(samples.questions.kind == name)
        asked = [mllm.prompt(samples[i].picture, samples[i].question) for i in rows]
        inputs = {key: torch.cat([one.inputs[key] for one in asked]) for key in asked[0].inputs}
        truth = torch.tensor([mllm.tokens(samples[i].answer)[0] for i in rows])
        plain = mllm.logits(inputs)[:, -1].log_softmax(-1)[np.arange(len(rows)), truth]
        lost = {}
        for head in ((5, 2), (5, 1), (5, 0), (4, 2), (4, 1), (1, 2)):
            with quiet(mllm, [head], means):
                lost[head] = (plain - mllm.logits(inputs)[:, -1].log_softmax(-1)[np.arange(len(rows)), truth]).numpy()
        if name == "color":
            assert interval(lost[5, 2])[1] > 0.1, interval(lost[5, 2])
        assert all(interval(values)[0] < 0.1 for head, values in lost.items() if (name, head) != ("color", (5, 2))), name


def test_silencing_no_head_changes_nothing_and_the_hooks_are_gone_after_it(mllm, prompt):
    plain = mllm.logits(prompt.inputs)
    with quiet(mllm, [(0, 0)], heads.writes(mllm, [prompt]).gathered.mean(0)):
        assert (mllm.logits(prompt.inputs) - plain).abs().max() < 1e-4               # its own output in its place
    with quiet(mllm, [(5, 2)], torch.zeros(6, 128)):
        assert (mllm.logits(prompt.inputs) - plain).abs().max() > 1e-2
    assert torch.equal(mllm.logits(prompt.inputs), plain)


def test_the_shapes_are_those_that_the_chapter_says(mllm, prompt, written):
    found = heads.writes(mllm, [prompt], [prompt.tokens.image.tolist()])
    assert found.heads.shape == (64, 6, 4, 128) and found.rest.shape == (64, 6, 128) and found.out.shape == (64, 128)
    result = heads.head_decomposition(mllm, None, ["red", "star"], found=written[0][1])
    assert result.values.shape == (24, 2) and result.rows[:5] == ["0.0", "0.1", "0.2", "0.3", "1.0"]
    assert (result.values >= 0).all() and (result.values.sum(1) <= 1 + 1e-9).all()


def test_families_whose_heads_cannot_be_told_apart_are_refused(prompt):
    for name, why in (("Gemma 3", "do not sum"), ("Qwen3.5", "o_proj")):
        other = families.small(name)
        with pytest.raises(Refusal, match=why):
            heads.writes(other, [other.prompt(prompt.picture, "is the star red ?")])


def test_a_norm_that_is_no_rms_norm_is_refused(mllm):
    other = replace(mllm, parts=replace(mllm.parts, norm=torch.nn.LayerNorm(128)))
    with pytest.raises(Refusal, match="RMSNorm"):
        heads.word_directions(other, ["red"])
