"""Hidden units of MLPs: that they are found in any family, sum to what the MLP writes, and hold what they are told to."""

import pytest
import torch

from mini_lib import families, heads, neurons, world
from mini_lib.hooks import record
from mini_lib.refusal import Refusal
from mini_lib.streams import entering


@pytest.fixture(scope="module")
def sample():
    return world.sample(1, seed=5, kinds=("color",))[0]


@pytest.fixture(scope="module")
def asked(mllm, sample):
    prompt = mllm.prompt(sample.picture, sample.question)
    return prompt, mllm.target(prompt)


def test_what_units_hold_sums_to_what_the_mlp_writes(mllm, asked):
    with neurons.watched(mllm) as seen, heads.watched(mllm) as wrote:
        mllm.logits(asked[0].inputs)
    for k in range(len(mllm.parts.blocks)):
        bias = neurons.projection(mllm, f"block.{k}").bias
        whole = seen[f"block.{k}"].double() @ neurons.written(mllm, f"block.{k}") + (0 if bias is None else bias.detach().double())
        assert torch.allclose(whole, wrote[k][1].double(), atol=1e-4), k


def test_units_of_the_tower_are_seen_patch_by_patch(mllm, asked):
    with neurons.watched(mllm, ["vision.0"]) as seen:
        mllm.logits(asked[0].inputs)
    assert seen["vision.0"].shape[-2] in (64, 65)
    assert seen["vision.0"].shape[-1] == neurons.written(mllm, "vision.0").shape[0]


def test_rows_of_a_batch_hold_their_own_and_start_late(mllm, asked):
    prompt, target = asked
    sets = [{}, {("block.2", 5): 3.0}, {("block.4", 1): -2.0, ("block.5", 7): 1.0}]
    found = neurons.holding(mllm, prompt, target, sets)
    for row, one in zip(found, sets):
        with neurons.held(mllm, one):
            alone = mllm.logits(mllm.forced(prompt, target), len(target.ids) - target.first)[0]
        assert torch.allclose(row, alone, atol=mllm.slack)
    assert (found[1] - found[0]).abs().max() > 10 * mllm.slack


def test_only_the_named_positions_change(mllm, asked):
    prompt, at = asked[0], [70]
    with record(mllm, "block.3") as plain:
        mllm.logits(prompt.inputs)
    with record(mllm, "block.3") as changed, neurons.held(mllm, {("block.3", 0): 50.0}, at):
        mllm.logits(prompt.inputs)
    moved = (plain["block.3"] - changed["block.3"]).abs().amax(-1)[0] > 1e-4
    assert moved.nonzero().flatten().tolist() == at


def test_states_are_taken_over(mllm, asked):
    prompt, target = asked
    given = entering(mllm, prompt, target)
    one = [{("block.1", 3): 1.0}]
    assert torch.equal(neurons.holding(mllm, prompt, target, one, states=given), neurons.holding(mllm, prompt, target, one))


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "Idefics3", "InternVL3", "Gemma 3"])
def test_other_families(name, sample):
    other = families.small(name)
    prompt = other.prompt(sample.picture, sample.question)
    target = other.target(prompt, "red")
    with neurons.watched(other, [one for one in neurons.layers(other) if one in ("vision.0", "block.1")]) as seen:
        other.logits(prompt.inputs)
    assert len(seen) == 2
    plain, changed = neurons.holding(other, prompt, target, [{}, {("block.1", 0): 100.0}])
    assert (plain - changed).abs().max() > 1e-4


def test_what_is_not_there_is_refused(mllm):
    with pytest.raises(Refusal, match="block.9"):
        neurons.written(mllm, "block.9")
