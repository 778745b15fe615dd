"""Quantised models: what works, and what is refused because a kernel has no backward pass."""

import warnings
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from mini_lib import load, loading, world
from mini_lib.mllm import Target
from mini_lib.refusal import Refusal
from mini_lib.registry import methods
from mini_lib.streams import gradients, merged

WITHOUT = ("occlusion", "token-ablation", "logit-lens", "attention-rollout", "activation-map")       # cheap ones with no backward pass


@pytest.fixture
def two(mllm):
    samples = world.sample(2, 4, kinds=("color",))
    return [mllm.prompt(sample.picture, "what color is the star ?") for sample in samples]


def token(mllm, one, two):
    gap = (mllm.logits(one.inputs) - mllm.logits(two.inputs))[0, -1].abs()
    return Target((int(gap.argmax()),), 0, "")


def test_gradients_of_a_sound_model_add_up_from_one_picture_to_another(mllm, two):
    model = replace(mllm, checks={})
    loading._try_gradients(model, *two, token(model, *two))
    assert model.checks["gradients add up"] < 0.02 and not model.no_gradients


def test_a_layer_without_a_backward_pass_is_found_and_gradients_refused(mllm, two):
    """As with a quantised kernel: the numbers are right, and nothing flows back through them."""
    def forward_only(module, args, output):
        return output.detach()
    handles = [block.mlp.down_proj.register_forward_hook(forward_only) for block in mllm.parts.blocks]
    try:
        model = replace(mllm, checks={})
        loading._try_gradients(model, *two, token(model, *two))
    finally:
        for handle in handles:
            handle.remove()
    assert model.checks["gradients add up"] > 0.3 and "quantised layers" in model.no_gradients
    with pytest.raises(Refusal, match="without a backward pass: occlusion"):
        gradients(model, two[0], token(model, *two), merged(model, two[0], token(model, *two)))


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed, so quantised models are not tried here")
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_model_answers_as_before_and_is_explained_or_refused(mllm, tmp_path, bits):
    from transformers import BitsAndBytesConfig
    mllm.model.save_pretrained(tmp_path)
    mllm.processor.save_pretrained(tmp_path)
    how = dict(load_in_8bit=True) if bits == 8 else dict(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = load(tmp_path, device_map=str(mllm.device), quantization_config=BitsAndBytesConfig(**how), dtype=torch.float32)
    assert not small.exact and small.slack == 0.3 and "gradients add up" in small.checks
    samples = world.sample(12, 4, kinds=("color",), objects=(2, 3))
    pictures, questions = [s.picture for s in samples], [s.question for s in samples]
    same = [a == b for a, b in zip(small.answers(pictures, questions), mllm.answers(pictures, questions))]
    assert np.mean(same) > 0.8
    prompt = small.prompt(pictures[0], questions[0])
    for slug in WITHOUT:
        methods()[slug].explain(small, prompt)
        assert [str(i) for i in methods()[slug].identity(small, prompt) if not i.passed] == []
    completeness = methods()["integrated-gradients"]
    if small.no_gradients:
        with pytest.raises(Refusal, match="add up"):
            completeness.explain(small, prompt)
    else:
        assert [str(i) for i in completeness.identity(small, prompt) if not i.passed] == []
