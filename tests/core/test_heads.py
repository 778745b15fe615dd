"""Heads and MLPs told apart and taken out, and one word held against its rival: exact on one model and on a family with grouped heads."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mini_lib import families, heads, world
from mini_lib.contrast import contrast
from mini_lib.heads import MLP, StandIns, count, on_parts, parts_of, quiet, split, stand_ins, watched, without
from mini_lib.mllm import Target
from mini_lib.refusal import Refusal


@pytest.fixture(scope="module", params=["tiny", "Qwen2.5-VL"])
def pair(request, mllm):
    """A model with a prompt: `tiny`, and one whose heads share keys and values."""
    model, sample = mllm if request.param == "tiny" else families.small(request.param), world.sample(1, 11, kinds=("color",))[0]
    return model, model.prompt(sample.picture, sample.question)


def test_looking_at_parts_changes_nothing_and_they_sum_to_what_attention_writes(pair):
    model, prompt = pair
    plain, kept = model.logits(prompt.inputs), []
    handle = parts_of(model.parts.blocks[1])[0].register_forward_hook(lambda module, args, output: kept.append(output.detach()[0, -1]))
    with watched(model, [-1]) as seen:
        assert torch.equal(model.logits(prompt.inputs), plain)
    handle.remove()
    alone, bias = split(model, 1, seen[1][0][:, 0])
    assert alone.shape[1] == count(model) and (alone[0].sum(0) + bias - kept[0].double()).abs().max() < 1e-5


def test_a_set_of_parts_is_taken_out_together_and_no_set_is_the_model(pair):
    model, prompt = pair
    target = contrast(model, prompt).target
    instead = stand_ins(model, prompt, target, "zero")
    sets = [[], [(0, 1), (1, 0)], [(1, MLP)], [(0, 1)]]
    found = without(model, prompt, target, sets, instead)[:, 0]
    assert (found[0] - model.logits(prompt.inputs)[0, -1]).abs().max() < 1e-4

    def gone(z, head):
        z = z.clone()
        z[:, :, head] = 0
        return z
    with on_parts(model, {0: lambda z: gone(z, 1), 1: lambda z: gone(z, 0)}):
        both = model.logits(prompt.inputs)[0, -1]
    with on_parts(model, None, {1: torch.zeros_like}):
        mlp = model.logits(prompt.inputs)[0, -1]
    assert (found[1] - both).abs().max() < 1e-4 and (found[2] - mlp).abs().max() < 1e-4
    assert (found[1] - found[0]).abs().max() > 1e-3 and (found[3] - found[1]).abs().max() > 1e-4
    small = without(replace(model, batch_size=1), prompt, target, sets, instead)[:, 0]
    assert (small - found).abs().max() < 1e-4


def test_parts_are_taken_out_at_the_given_positions_alone(pair):
    model, prompt = pair
    target = contrast(model, prompt).target
    zero, last = stand_ins(model, prompt, target, "zero"), len(model.parts.blocks) - 1
    ahead = without(model, prompt, target, [[(last, 0)]], zero, range(len(prompt.tokens.text) - 1))
    assert (ahead[0, 0] - model.logits(prompt.inputs)[0, -1]).abs().max() < 1e-4        # behind the last block nobody reads them
    everywhere, here = (without(model, prompt, target, [[(last, 0)]], zero, at) for at in (None, [-1]))
    assert (everywhere - here).abs().max() < 1e-4


def test_means_are_over_positions_or_over_prompts_and_a_resample_is_one_prompt(mllm):
    drawn = world.sample(6, 3, kinds=("color",))
    prompts = [mllm.prompt(one.picture, one.question) for one in drawn]
    target = contrast(mllm, prompts[0]).target
    with watched(mllm) as seen:
        mllm.logits(prompts[0].inputs)
    own, over = (stand_ins(mllm, prompts[0], target, "mean", others) for others in (None, prompts[1:4]))
    assert torch.allclose(own.heads[2][0], seen[2][0][0].mean(0), atol=1e-5) and own.mlps[2].shape == (1, 128)
    each = [stand_ins(mllm, prompts[0], target, "resample", [one]) for one in prompts[1:4]]
    assert torch.allclose(over.mlps[4], torch.stack([one.mlps[4] for one in each]).mean(0), atol=1e-5)
    assert over.heads[0].shape == (len(prompts[0].tokens.text), 4, 32)
    longer = mllm.prompt(drawn[0].picture, "what shape is the red object ?")
    for others, how, match in (([longer], "mean", "number of tokens"), (None, "resample", "exactly one"), (prompts, "resample", "exactly one"),
                               (None, "means", "Did you mean|cannot")):
        with pytest.raises(Refusal, match=match):
            stand_ins(mllm, prompts[0], target, how, others)


def test_quiet_is_the_same_as_taking_out_at_the_last_position(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    target, means = contrast(mllm, prompt).target, torch.randn(6, 128, generator=torch.Generator().manual_seed(0))
    with quiet(mllm, [(5, 2), (3, 1)], means):
        wanted = mllm.logits(prompt.inputs)[0, -1]
    instead = StandIns([row.view(1, 4, 32) for row in means], [])
    assert (without(mllm, prompt, target, [[(5, 2), (3, 1)]], instead, [-1])[0, 0] - wanted).abs().max() < 1e-4


def test_hooks_are_gone_after_an_error(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    plain = mllm.logits(prompt.inputs)
    with pytest.raises(ZeroDivisionError), on_parts(mllm, {0: lambda z: z * 0}, {1: lambda m: 1 / 0}):
        mllm.logits(prompt.inputs)
    assert torch.equal(mllm.logits(prompt.inputs), plain)


def test_a_word_is_held_against_its_likeliest_rival_a_given_one_or_none(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    logits = mllm.logits(prompt.inputs)[0, -1]
    first, second = logits.topk(2).indices.tolist()
    asked = contrast(mllm, prompt)
    assert asked.ids == (first, second) and asked.value == pytest.approx(float(logits[first] - logits[second]), abs=1e-4)
    other = contrast(mllm, prompt, asked.rival)
    assert other.ids == (second, first) and other.value == pytest.approx(-asked.value, abs=1e-4)
    assert contrast(mllm, prompt, rival=False).value == pytest.approx(float(logits[first]), abs=1e-4)
    assert contrast(mllm, prompt, rival="star").ids[1] == mllm.tokens("star")[0]
    with pytest.raises(Refusal, match="another one"):
        contrast(mllm, prompt, rival=asked.target.text)


def test_of_an_answer_of_many_words_the_first_or_the_named_one_is_asked_about(mllm):
    prompt = mllm.prompt(world.sample(1, 11, kinds=("color",))[0].picture, world.CAPTION)
    whole = mllm.target(prompt)
    assert contrast(mllm, prompt).target == Target(whole.ids[:1], 0, mllm.tokenizer.decode(whole.ids[:1]).strip())
    third = mllm.tokenizer.decode([whole.ids[2]]).strip()
    if third not in whole.text.split()[:2]:
        assert contrast(mllm, prompt, third).target.ids == whole.ids[:3]


def test_logits_that_a_model_bends_are_straightened(mllm):
    sample = world.sample(1, 11, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    asked, logits = contrast(mllm, prompt), mllm.logits(prompt.inputs)[:, -1]
    capped = replace(mllm, parts=replace(mllm.parts, cap=30.0))
    assert float(asked.of(capped, 30 * (logits / 30).tanh())[0]) == pytest.approx(asked.value, abs=1e-3)


def test_blocks_without_an_output_projection_are_refused():
    with pytest.raises(Refusal, match="o_proj"):
        heads.parts_of(torch.nn.Linear(2, 2))


def test_a_family_that_norms_what_it_adds_can_still_have_parts_taken_out():
    other = families.small("Gemma 3")
    prompt = other.prompt(world.sample(1, 11, kinds=("color",))[0].picture, "is the star red ?")
    asked = contrast(other, prompt)
    lost = asked.value - asked.of(other, without(other, prompt, asked.target, [[], [(0, 0)]], stand_ins(other, prompt, asked.target, "zero"))[:, 0])
    assert abs(float(lost[0])) < 1e-3 < np.abs(float(lost[1])) + 1e-2
