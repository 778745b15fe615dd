"""Runs that start at the block where something is changed: the same answer, and the blocks before it stay at rest."""

import pytest
import torch

from mini_lib import families, hooks, world
from mini_lib.model.token.visual_textual_token.knockout import scores
from mini_lib.streams import at_once, entering, merged, score


@pytest.fixture(scope="module")
def asked(mllm):
    sample = world.sample(1, 3, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


def test_a_run_that_starts_at_any_block_gives_the_answer_of_the_whole(mllm, asked):
    target = mllm.target(asked)
    states = entering(mllm, asked, target)
    assert len(states) == len(mllm.parts.blocks) and torch.equal(states[0], merged(mllm, asked, target))
    whole = mllm.score(asked, target)
    for block, state in enumerate(states):
        assert torch.allclose(at_once(mllm, asked, target, state, block), whole, atol=mllm.slack)


def test_a_change_of_the_state_acts_as_an_edit_at_its_point_does(mllm, asked):
    target = mllm.target(asked)
    states = entering(mllm, asked, target)
    with hooks.edit(mllm, {"block.2": lambda stream: stream.flip(-1)}):
        edited = mllm.score(asked, target)
    assert torch.allclose(at_once(mllm, asked, target, states[3].flip(-1), 3), edited, atol=mllm.slack)
    assert abs(float(edited - mllm.score(asked, target))) > 100 * mllm.slack


def test_blocks_before_the_start_do_not_run_and_are_as_before_also_after_an_error(mllm, asked):
    target, ran = mllm.target(asked), []
    states = entering(mllm, asked, target)
    handles = [block.mlp.register_forward_hook(lambda *_, k=k: ran.append(k)) for k, block in enumerate(mllm.parts.blocks)]
    at_once(mllm, asked, target, states[4], 4)
    assert ran == [4, 5]
    with pytest.raises(ZeroDivisionError), hooks.skipped(mllm, 4):
        raise ZeroDivisionError
    own = mllm.parts.blocks[0].forward
    mllm.parts.blocks[0].forward = kept = lambda *args, **kwargs: own(*args, **kwargs)         # as accelerate does
    try:
        with hooks.skipped(mllm, 2):
            pass
        assert vars(mllm.parts.blocks[0])["forward"] is kept and "forward" not in vars(mllm.parts.blocks[1])
    finally:
        del mllm.parts.blocks[0].forward
        for handle in handles:
            handle.remove()
    assert torch.allclose(score(mllm, asked, target, states[0]), mllm.score(asked, target), atol=mllm.slack)


def test_where_a_later_start_gives_another_answer_all_runs_start_at_the_first_block(mllm, asked, monkeypatch):
    target, cuts = mllm.target(asked), [([], [], []), ([asked.tokens.question[-1]], asked.tokens.image.tolist(), range(3, 6))]
    wanted = scores(mllm, asked, target, cuts)
    monkeypatch.setattr("mini_lib.streams.skipped", lambda mllm, block: hooks.skipped(mllm, 0))          # a start that does not work
    assert len(entering(mllm, asked, target)) == 1
    assert scores(mllm, asked, target, cuts) == pytest.approx(wanted, abs=mllm.slack)


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "Qwen3-VL", "Gemma 3"])
def test_other_families_start_later_too(name):
    other = families.small(name)
    prompt = other.prompt(world.sample(1, 3, kinds=("color",))[0].picture, "what is this ?")
    target = other.target(prompt)
    states = entering(other, prompt, target)
    assert len(states) == len(other.parts.blocks) > 1
    assert torch.allclose(at_once(other, prompt, target, states[-1], len(states) - 1), other.score(prompt, target), atol=other.slack)
