"""A model that is split over devices, or part of which rests on disk, is explained as one that is not.

accelerate moves a layer's weights in just before it runs; hooks, edits, cuts and gradients have to hold through that.
"""

import numpy as np
import pytest
import torch

from mini_lib import Refusal, load, world
from mini_lib.evaluate import redrawn
from mini_lib.registry import methods
from mini_lib.tiny.store import WEIGHTS

pytest.importorskip("accelerate", reason="accelerate is not installed, so no model can be split")
# One of each way to look into a model; what they share is enough for the others, which only ask more often.
CHOSEN = ("occlusion", "logit-lens", "activation-map", "attention-lrp", "generic-relevance", "grad-cam", "integrated-gradients")
REST = ("vision_tower", "multi_modal_projector", "language_model.embed_tokens", "language_model.norm", "language_model.rotary_emb")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Only the first half of the decoder stays in memory."""
    where = {**{f"model.{name}": "disk" for name in REST}, "lm_head": "disk",
             **{f"model.language_model.layers.{k}": "cpu" if k < 3 else "disk" for k in range(6)}}
    return load(WEIGHTS, device_map=where, offload_folder=tmp_path_factory.mktemp("offload"), dtype=torch.float32)


@pytest.fixture(scope="module")
def asked():
    return world.sample(1, 0, kinds=("color",))[0]


def test_its_identities_hold_as_exactly(split, mllm):
    assert any(weight.is_meta for weight in split.model.parameters()) and split.device.type == "cpu"
    assert set(split.checks) == set(mllm.checks) and all(error < 1e-4 for error in split.checks.values())


@pytest.mark.parametrize("slug", CHOSEN)
def test_a_method_gives_what_it_gives_in_memory(split, mllm, asked, slug):
    few = {"steps": 4} if slug == "integrated-gradients" else {}
    one, other = (methods()[slug].explain(model, model.prompt(asked.picture, asked.question), **few)
                  for model in (mllm, split))
    numbers = "chance" if slug == "logit-lens" else "values"
    np.testing.assert_allclose(getattr(other, numbers), getattr(one, numbers), atol=1e-4)


def test_what_needs_the_weights_themselves_is_refused(split):
    with pytest.raises(Refusal, match="offloaded or quantised"):
        redrawn(split)
