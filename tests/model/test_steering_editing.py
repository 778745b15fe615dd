"""Steering and editing: a vector that recolours, a fact rewritten; what has to hold exactly, and what is true of `tiny`."""

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import steer, world
from mini_lib.evaluate import interval, redrawn
from mini_lib.hooks import points
from mini_lib.model.steering_editing import rank_one_edit as editing
from mini_lib.model.steering_editing import steering as adding
from mini_lib.refusal import Refusal
from mini_lib.registry import find
from mini_lib.vectors import states
from mini_lib.world import plants

METHODS = "steering", "rank-one-edit"
RED, BLUE = world.COLORS.index("red"), world.COLORS.index("blue")


@pytest.fixture(scope="module")
def prompt(mllm):
    one = world.sample(1, seed=5, kinds=("color",))[0]
    return mllm.prompt(one.picture, one.question)


@pytest.fixture(params=["trained", "re-drawn"])
def model(request, mllm):
    return mllm if request.param == "trained" else redrawn(mllm, 0)


def broken(slug, mllm, prompt):
    return [one.claim for one in find(slug).identity(mllm, prompt) if not one.passed]


@pytest.mark.parametrize("slug", METHODS)
def test_identities_hold(model, prompt, slug):
    assert not broken(slug, model, prompt)


# Errors that people make, and which identity sees them.

def test_a_vector_that_is_added_everywhere_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(adding, "after", lambda model, prompts, places, point, added: steer.after(
        model, prompts, [range(one.inputs["input_ids"].shape[1]) for one in prompts], point, added))
    assert broken("steering", mllm, prompt) == ["behind the last block, what is added anywhere but at the end changes nothing"]


def test_one_vector_for_the_whole_batch_is_caught(mllm, prompt, monkeypatch):
    monkeypatch.setattr(adding, "after", lambda model, prompts, places, point, added: steer.after(
        model, prompts, places, point, added[0] if added.dim() > 1 else added))
    assert any("its own vector" in claim for claim in broken("steering", mllm, prompt))


def test_an_edit_that_is_not_scaled_by_its_own_key_is_caught(mllm, prompt, monkeypatch):
    def unscaled(*args, **named):
        edit = write(*args, **named)
        return editing.Edit(edit.block, edit.u * 2, edit.value, edit.key, edit.loss)

    write = editing.write_fact
    monkeypatch.setattr(editing, "write_fact", unscaled)
    assert "at the word, the block writes the old value and the new one's difference" in broken("rank-one-edit", mllm, prompt)


def test_an_edit_that_stays_is_caught(mllm, prompt, monkeypatch):
    from contextlib import contextmanager
    handles = []

    @contextmanager
    def stays(model, edit):
        module = editing.projection(model, f"block.{edit.block}")
        handles.append(module.register_forward_hook(
            lambda module, args, output: output + (args[0] @ edit.u.to(args[0]))[..., None] * edit.value.to(output)))
        yield

    monkeypatch.setattr(editing, "edited", stays)
    try:
        assert "afterwards the model is as it was" in broken("rank-one-edit", mllm, prompt)
    finally:
        for handle in handles:
            handle.remove()


# What the pieces do.

def test_prompts_of_several_lengths_and_vectors_of_their_own_are_as_one_by_one(model, prompt):
    longer = model.prompt(prompt.picture, "what color is the star ?"), model.prompt(prompt.picture, "how many objects are there ?")
    prompts, places = [prompt, *longer], [[3, 5], prompt.tokens.image, [7]]
    added = torch.randn(3, states(model, [prompt], [[0]]).shape[-1], generator=torch.Generator().manual_seed(0))
    together = steer.after(model, prompts, places, "block.1", added)
    alone = torch.cat([steer.after(model, [p], [place], "block.1", one) for p, place, one in zip(prompts, places, added)])
    assert torch.allclose(together, alone, atol=model.slack)


def test_lines_are_the_groups_and_the_same_at_random(mllm, prompt):
    found = adding.steering(mllm, [prompt] * 3, [[3]] * 3, "embed", torch.ones(128), [1, 2, 3], ["b", "a", "b"], doses=(0, 1), controls=2)
    assert found.lines == ["b", "a", "b, random", "a, random"] and found.values.shape == (4, 2)
    assert found.measured["forward_passes"] == 3 * 2 * 3 and found.measured["length"] == pytest.approx(128 ** 0.5)


def test_the_second_moment_is_that_of_all_positions(mllm, prompt):
    held = editing.keys(mllm, [prompt, prompt], 2)
    assert held.shape == (2 * prompt.inputs["input_ids"].shape[1], 320)
    moment = editing.second_moment(mllm, [prompt], 2)
    wanted = held.T @ held / len(held)
    assert torch.allclose(moment - wanted, 1e-3 * wanted.diagonal().mean() * torch.eye(320, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(editing.keys(mllm, [prompt], 2, [4])[0], held[4], atol=1e-5)


def test_among_all_edits_that_write_the_value_it_moves_other_keys_least(mllm, prompt):
    moment = editing.second_moment(mllm, [prompt], 1)
    edit = editing.write_fact(mllm, [prompt], [66], 1, 10, moment, steps=1)
    other = torch.randn(320, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    other = edit.u + 0.1 * (other - (other @ edit.key) / (edit.key @ edit.key) * edit.key)                 # also 1 at the key
    assert float(edit.u @ edit.key) == pytest.approx(1) and float(other @ edit.key) == pytest.approx(1)
    assert edit.u @ moment @ edit.u < other @ moment @ other


def test_what_nobody_can_mean_is_refused(mllm, prompt):
    longer = mllm.prompt(prompt.picture, "how many red objects are there ?")
    with pytest.raises(Refusal, match="one of each"):
        adding.steering(mllm, [prompt], [[3]], "embed", torch.ones(128), [1, 2])
    with pytest.raises(Refusal, match="differ in length"):
        editing.write_fact(mllm, [prompt, longer], [66, 66], 1, 10)
    with pytest.raises(Refusal, match="block.7"):
        editing.write_fact(mllm, [prompt], [66], 7, 10)


# What is true of `tiny`: findings, as the chapter tells them.

def one_red(n, seed, a=RED, b=BLUE):
    scenes = world.sample_scenes(60 * n, np.random.default_rng(seed), (2, 3))
    has, other = (scenes.present & (scenes.color == color) for color in (a, b))
    chosen = np.flatnonzero((has.sum(1) == 1) & (other.sum(1) == 0))[:n]
    return scenes[chosen], has[chosen]


def shown(scenes):
    return [Image.fromarray(pixels) for pixels in world.render(scenes)]


def own_tokens(prompt, owner, which):
    return prompt.tokens.image[torch.from_numpy((owner == which.argmax()).ravel())]


@pytest.fixture(scope="module")
def vectors(mllm):
    """(points, d) blue less red, at objects' patches."""
    prompts, places = [], []
    for scenes, which in (one_red(24, 1), one_red(24, 101, BLUE, RED)):
        asked = [mllm.prompt(picture, "what color is the star ?") for picture in shown(scenes)]
        prompts += asked
        places += [own_tokens(p, owner, row) for p, owner, row in zip(asked, world.patch_owners(scenes), which)]
    return steer.direction(states(mllm, prompts, places), [0] * 24 + [1] * 24)


@pytest.fixture(scope="module")
def asked(mllm):
    """Questions about pictures whose red object is to be blue: prompts, places, wanted ids, and which answers should change."""
    scenes, which = one_red(32, 2)
    painted, pictures, owners, found = scenes.edited(color=np.where(which, BLUE, scenes.color)), shown(scenes), world.patch_owners(scenes), []
    for kind in ("color", "shape", "count", "exist"):
        questions = world.ask(painted, kind, 7)
        for i in np.flatnonzero(questions.valid):
            prompt = mllm.prompt(pictures[i], questions.text[i])
            found.append((prompt, own_tokens(prompt, owners[i], which[i]), mllm.tokens(questions.answer[i])[0]))
    prompts, places, wanted = zip(*found)
    now = steer.after(mllm, prompts, places, "embed", torch.zeros(128)).argmax(-1)
    return prompts, places, wanted, (now != torch.tensor(wanted)).numpy()


def good(mllm, asked, vector, point):
    prompts, places, wanted, _ = asked
    return (steer.after(mllm, prompts, places, point, vector).argmax(-1) == torch.tensor(wanted)).numpy()


def test_one_vector_recolours_for_all_questions_and_random_ones_do_not(mllm, vectors, asked):
    change = asked[3]
    assert 20 < change.sum() < len(change) - 20
    steered = good(mllm, asked, vectors[0], "embed")
    assert interval(steered[change])[1] > 0.8 and interval(steered[~change])[1] > 0.85
    for one in steer.orthogonal(vectors[0], 2):
        assert interval(good(mllm, asked, one, "embed")[change])[2] < 0.3


def test_a_few_blocks_later_the_patches_are_no_longer_the_place(mllm, vectors, asked):
    change = asked[3]
    assert interval(good(mllm, asked, vectors[points(mllm).index("block.3")], "block.3")[change])[2] < 0.25


@pytest.fixture(scope="module")
def fact(mllm):
    """Pictures without a star, asked for the star's colour: to learn from, and others."""
    scenes = world.sample_scenes(120, np.random.default_rng(3))
    gone = ~(scenes.present & (scenes.shape == world.SHAPES.index("star"))).any(1)
    prompts = [mllm.prompt(p, "what color is the star ?") for p in shown(scenes[np.flatnonzero(gone)[:26]])]
    return prompts[:6], prompts[6:]


def test_a_fact_is_rewritten_where_it_is_hardly_needed_too_and_the_rest_stays(mllm, fact):
    learn, again = fact
    at = [dict(p.tokens.words)["star"][0] for p in learn]
    green, old = (mllm.tokens(word)[0] for word in ("green", plants.PRIOR["star"]))
    assert editing.chances(mllm, again, [old] * 20).mean() > 0.9
    rest = list(world.sample(30, seed=14))
    rest = [mllm.prompt(one.picture, one.question) for one in rest], [mllm.tokens(one.answer)[0] for one in rest]
    before = editing.chances(mllm, *rest)
    moment = editing.second_moment(mllm, rest[0], 1)
    for block in (1, 3):
        edit = editing.write_fact(mllm, learn, at, block, green, moment if block == 1 else None)
        with editing.edited(mllm, edit):
            assert interval(editing.chances(mllm, again, [green] * 20))[1] > 0.6
            assert np.abs(editing.chances(mllm, *rest) - before).mean() < 0.08
    noise = editing.write_fact(mllm, learn, at, 1, green, moment, seed=0)
    with editing.edited(mllm, noise):
        assert interval(editing.chances(mllm, again, [green] * 20))[2] < 0.2
