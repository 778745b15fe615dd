"""Record, edit, cut: exactly what they say, and nothing else."""

import pytest
import torch

from mini_lib import hooks, world
from mini_lib.evaluate import redrawn
from mini_lib.refusal import Refusal


@pytest.fixture(scope="module", params=["trained", "re-drawn"])
def model(request, mllm):
    """Trained `tiny`, and a model whose norm weights are random: some errors show only there."""
    return mllm if request.param == "trained" else redrawn(mllm, 3)


@pytest.fixture(scope="module")
def prompts(mllm):
    return [mllm.prompt(s.picture, "what color is the star ?") for s in world.sample(2, 0)]


def positions(prompt):
    return prompt.tokens.image, torch.arange(int(prompt.tokens.image[-1]) + 1, len(prompt.tokens.text))


def test_recording_changes_nothing_and_keeps_every_point(model, prompts):
    plain = model.logits(prompts[0].inputs)
    with hooks.record(model, *hooks.points(model)) as seen:
        assert torch.equal(model.logits(prompts[0].inputs), plain)
    assert list(seen) == hooks.points(model)
    assert all(x.shape == (1, len(prompts[0].tokens.text), x.shape[-1]) for x in seen.values())


def test_hooks_are_gone_when_the_context_ends_even_after_an_error(model, prompts):
    before = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())
    with pytest.raises(ZeroDivisionError), hooks.edit(model, {"block.0": lambda x: 1 / 0}):
        model.logits(prompts[0].inputs)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules()) == before
    with pytest.raises(Refusal), hooks.cut(model, [0], [0]):
        model.logits(prompts[0].inputs)
    assert not hooks._CUTS


def test_an_edit_is_seen_by_everything_after_it(model, prompts):
    plain = model.logits(prompts[0].inputs)
    with hooks.edit(model, {"block.2": lambda x: x + 1}), hooks.record(model, "block.3") as seen:
        assert not torch.equal(model.logits(prompts[0].inputs), plain)
    with hooks.record(model, "block.3") as untouched:
        model.logits(prompts[0].inputs)
    assert not torch.equal(seen["block.3"], untouched["block.3"])


def test_an_edit_reaches_every_row_of_a_batch(model, prompts):
    """Blocks return a tensor: code that takes `output[0]` would touch only the first row."""
    inputs = {k: torch.cat([p.inputs[k] for p in prompts]) for k in prompts[0].inputs}
    with hooks.edit(model, {"block.5": torch.zeros_like}):
        logits = model.logits(inputs)
    assert torch.equal(logits[0], logits[1])


def test_an_unreached_point_and_an_unknown_point_are_refused(model):
    with pytest.raises(Refusal, match="never reached"), hooks.record(model, "block.0"):
        pass
    with pytest.raises(Refusal, match="block.1"), hooks.record(model, "blok.1"):
        pass


def test_cutting_every_image_key_makes_the_logits_blind_to_the_image(model, prompts):
    image, after = positions(prompts[0])
    assert not torch.equal(*(model.logits(p.inputs) for p in prompts))
    with hooks.cut(model, after, image):
        assert torch.equal(*(model.logits(p.inputs) for p in prompts))


def test_an_empty_cut_and_a_cut_of_the_future_change_nothing(model, prompts):
    inputs, length = prompts[0].inputs, len(prompts[0].tokens.text)
    plain = model.logits(inputs, length)
    with hooks.cut(model, [], []):
        assert torch.allclose(model.logits(inputs, length), plain, atol=1e-4)
    with hooks.cut(model, [5], range(6, length)):
        assert torch.allclose(model.logits(inputs, length), plain, atol=1e-4)


def test_a_cut_in_one_layer_changes_only_the_cut_rows_of_that_layer(model, prompts):
    image, after = positions(prompts[0])
    inputs = prompts[0].inputs
    with hooks.record(model, "block.3") as plain, hooks.cut(model, [], [], layers=[3]):
        model.logits(inputs)
    with hooks.record(model, "block.3") as cut, hooks.cut(model, after[-1:], image, layers=[3]):
        model.logits(inputs)
    changed = (plain["block.3"] != cut["block.3"]).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [int(after[-1])]


def test_a_cut_holds_while_answers_are_generated_with_a_cache(mllm, prompts):
    image, _ = positions(prompts[0])
    with hooks.cut(mllm, range(int(image[-1]) + 1, 200), image):
        said = [mllm.model.generate(**p.inputs, max_new_tokens=6, min_new_tokens=6).tolist()[0][-6:] for p in prompts]
    assert said[0] == said[1]


def test_cuts_can_be_nested_and_end_where_they_should(model, prompts):
    image, after = positions(prompts[0])
    plain = model.logits(prompts[0].inputs)
    with hooks.cut(model, after, image[:32]):
        half = model.logits(prompts[0].inputs)
        with hooks.cut(model, after, image[32:]):
            assert torch.equal(*(model.logits(p.inputs) for p in prompts))
        assert torch.equal(model.logits(prompts[0].inputs), half)
    assert torch.equal(model.logits(prompts[0].inputs), plain) and not hooks._CUTS


def test_a_cut_that_never_came_into_force_is_refused(mllm, prompts):
    with pytest.raises(Refusal, match="did not run"), hooks.cut(mllm, [70], [5]):
        pass
    from mini_lib import load
    unhooked = load(device="cpu")
    unhooked.model.set_attn_implementation({"text_config": "sdpa"})
    with pytest.raises(Refusal, match="cannot be cut"), hooks.cut(unhooked, [70], [5]):
        unhooked.logits(prompts[0].inputs)


def test_a_cut_in_a_batch_of_unequal_prompts_is_refused(mllm):
    """With padding on the left, one position means another token in each row."""
    samples = world.sample(12, 3)
    with pytest.raises(Refusal, match="padded differently"), hooks.cut(mllm, [70], [5]):
        mllm.answers(samples.pictures, samples.questions.text)


def test_a_cut_that_leaves_nothing_to_see_is_refused(model, prompts):
    with pytest.raises(Refusal, match="nothing to attend to"), hooks.cut(model, [3], range(0, 4)):
        model.logits(prompts[0].inputs)


@pytest.mark.parametrize("base", ["eager", "sdpa"])
def test_cuts_agree_on_every_attention_kernel(mllm, prompts, base):
    """Eager masks are additive floats, where False is 0: a boolean cut written into one would do nothing."""
    from mini_lib import load
    other = load(device="cpu", attn_implementation=base)
    image, after = positions(prompts[0])
    with hooks.cut(other, after, image):
        here = other.logits(prompts[0].inputs)
    with hooks.cut(mllm, after, image):
        there = mllm.logits(prompts[0].inputs)
    assert torch.allclose(here, there, atol=1e-4)
    assert not torch.allclose(here, other.logits(prompts[0].inputs), atol=1e-2)


def test_some_rows_of_attention_are_those_of_the_whole_and_change_nothing(model, prompts):
    inputs = {k: torch.cat([p.inputs[k] for p in prompts]) for k in prompts[0].inputs}
    plain, last = model.logits(inputs), inputs["input_ids"].shape[1] - 1
    with hooks.attention(model) as whole:
        model.logits(inputs)
    with hooks.attention(model, queries=[3, -1]) as rows:
        assert torch.equal(model.logits(inputs), plain)
    for layer, weights in whole.items():
        assert rows[layer].shape == (2, weights.shape[1], 2, last + 1)
        assert torch.allclose(rows[layer], weights[:, :, [3, last]], atol=1e-5)
        assert torch.allclose(rows[layer].sum(-1), torch.ones(()), atol=1e-5) and not rows[layer][:, :, 0, 4:].any()


def test_some_rows_of_attention_are_right_under_a_cut_and_in_a_padded_batch(model, prompts, mllm):
    image, _ = positions(prompts[0])
    last = len(prompts[0].tokens.text) - 1
    with hooks.cut(model, [last], image), hooks.attention(model, layers=[2], queries=[-1]) as rows:
        model.logits(prompts[0].inputs)
    assert not rows[2][0, :, 0, image].any() and torch.allclose(rows[2].sum(-1), torch.ones(()), atol=1e-5)
    words = ["what color is the star ?", "describe the picture ."]
    inputs = model._inputs([[{"role": "user", "content": [{"type": "image", "image": p.picture}, {"type": "text", "text": text}]}]
                            for p, text in zip(prompts, words)])
    with hooks.attention(model) as whole:
        model.logits(inputs)
    with hooks.attention(model, queries=[-1]) as rows:
        model.logits(inputs)
    assert all(torch.allclose(rows[k], whole[k][:, :, -1:], atol=1e-5) for k in whole)


def test_rows_that_are_only_looked_at_cannot_be_changed(model):
    with pytest.raises(Refusal, match="leave one of them out"), hooks.attention(model, change=lambda w: w, queries=[-1]):
        pass
    assert not hooks._ROWS and not hooks._WATCHED
