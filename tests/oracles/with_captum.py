"""captum: gradients, ablations and Shapley values of plain functions of the model.

Not compared: captum's `LRP`, which knows no attention, and its `KernelShap` beyond a loose limit (see there).
"""

import numpy as np
import torch

from mini_lib.evaluate import infidelity
from mini_lib.evaluate.faithfulness import generator, squares
from mini_lib.games import blocks
from mini_lib.registry import find
from mini_lib.streams import blank

from .pairs import pair

REGIONS = 4                                      # side of a region in patches: four regions


def explain(on, slug, **arguments):
    return find(slug).explain(on.mllm, on.prompt, on.target, **arguments)


def regions(on) -> torch.Tensor:
    """(1, 1, rows, columns) number of the region of each patch."""
    mask = np.zeros(on.prompt.tokens.grid, int)
    for number, region in enumerate(blocks(on.prompt.tokens.grid, REGIONS)):
        mask.ravel()[region] = number
    return torch.from_numpy(mask)[None, None]


def switches(on) -> torch.Tensor:
    return torch.ones(1, 1, *on.prompt.tokens.grid)


@pair("captum", "gradient-input", "InputXGradient", 1e-5)
def gradient_input(on):
    """The same product, of the stream that transformers merges itself."""
    from captum.attr import InputXGradient
    theirs = InputXGradient(on.of_stream).attribute(on.stream.clone().requires_grad_())
    return on.tokens(explain(on, "gradient-input")), on.gathered(theirs.detach().sum(-1)[0])


@pair("captum", "integrated-gradients, 64 steps", "IntegratedGradients", 1e-3)
def integrated_gradients(on):
    """Gauss-Legendre as captum has it by itself, from the same baseline. Its delta is our `measured["error"]`."""
    from captum.attr import IntegratedGradients
    empty = blank(on.mllm, on.prompt, on.target, on.stream)
    theirs, delta = IntegratedGradients(on.of_stream).attribute(on.stream, empty, n_steps=64, internal_batch_size=64,
                                                                return_convergence_delta=True)
    ours = explain(on, "integrated-gradients", steps=64)
    return [*on.tokens(ours), ours.measured["error"]], [*on.gathered(theirs.detach().sum(-1)[0]), float(delta)]


@pair("captum", "grad-cam at the connector", "LayerGradCam", 1e-5)
def grad_cam(on):
    """captum takes dimension 1 for channels, so the image tokens are handed over as (1, d, P), a picture of one row."""
    from captum.attr import LayerGradCam

    class Channels(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Identity()

        def forward(self, channels):
            stream = on.stream.repeat(len(channels), 1, 1)
            stream[:, on.prompt.tokens.image] = self.layer(channels).transpose(1, 2)
            return on.of_stream(stream)

    model = Channels()
    image = on.stream[:, on.prompt.tokens.image].transpose(1, 2).clone().requires_grad_()
    theirs = LayerGradCam(model, model.layer).attribute(image, relu_attributions=True)
    return explain(on, "grad-cam").values.ravel(), theirs.detach().ravel()


@pair("captum", "occlusion by 2 x 2 patches", "Occlusion", 1e-3)
def occlusion(on):
    """Both average over the windows that contain a patch. The window covers pixels here, in the picture's mean colour."""
    from captum.attr import Occlusion
    with torch.no_grad():
        theirs = Occlusion(on.of_patches).attribute(switches(on), (1, 2, 2), strides=1, baselines=0, perturbations_per_eval=16)
    return explain(on, "occlusion", size=2).values, theirs[0, 0]


@pair("captum", "token-ablation", "FeatureAblation", 1e-3)
def token_ablation(on):
    """An image token of the stream is one feature, and its baseline is the picture's mean token."""
    from captum.attr import FeatureAblation
    image = on.prompt.tokens.image
    tokens = on.stream[:, image]
    mask = torch.arange(len(image))[None, :, None].expand_as(tokens)

    def of_tokens(changed):
        stream = on.stream.repeat(len(changed), 1, 1)
        stream[:, image] = changed
        return on.of_stream(stream)

    with torch.no_grad():
        theirs = FeatureAblation(of_tokens).attribute(tokens, tokens.mean(1, keepdim=True).expand_as(tokens), feature_mask=mask,
                                                      perturbations_per_eval=16)
    return explain(on, "token-ablation").values.ravel(), theirs[0, :, 0]


@pair("captum", "shapley, exact", "ShapleyValues", 1e-3)
def shapley(on):
    """All orders of four regions. captum gives a region's value to each of its patches; ours is shared among them."""
    from captum.attr import ShapleyValues
    with torch.no_grad():
        theirs = ShapleyValues(on.of_patches).attribute(switches(on), 0, feature_mask=regions(on), perturbations_per_eval=16)
    return explain(on, "shapley", regions=blocks(on.prompt.tokens.grid, REGIONS)).values * REGIONS ** 2, theirs[0, 0]


@pair("captum", "shapley, fitted on all sets", "KernelShap, 300 draws", 0.06)
def kernel_shap(on):
    """captum draws sets with replacement, also where a few would be all, so it comes near the values and does not reach them."""
    from captum.attr import KernelShap
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = KernelShap(on.of_patches).attribute(switches(on), 0, feature_mask=regions(on), n_samples=300, perturbations_per_eval=64)
    found = explain(on, "shapley", regions=blocks(on.prompt.tokens.grid, REGIONS), exact=False)
    return found.values * REGIONS ** 2, theirs[0, 0]


@pair("captum", "infidelity, plain and scaled", "metrics.infidelity", 1e-3)
def infidelity_of_a_map(on):
    """The same squares and covers; captum's `normalize=True` is our `scaled`."""
    from captum.metrics import infidelity as theirs
    one = explain(on, "occlusion").values
    ours = infidelity(on.mllm, on.prompt, on.target, one[None], draws=32)
    hidden = torch.from_numpy(squares(*on.prompt.tokens.grid, 32, generator(on.prompt, 0))).float()
    inputs, values = torch.ones(1, hidden.shape[1]), torch.from_numpy(one.reshape(1, -1)).float()
    with torch.no_grad():
        found = [float(theirs(on.of_patches, lambda repeated: (hidden, repeated - hidden), inputs, values, n_perturb_samples=32,
                              normalize=normalize)) for normalize in (False, True)]
    return [ours.plain[0], ours.scaled[0]], found


@pair("captum", "shapley, exact", "LLMAttribution(ImageMaskInput), as it comes", differs=0.1)
def llm_attribution_with_its_defaults(on):
    """captum is wrong here: it caches by default, transformers then drops the picture, and every region gets exactly 0."""
    ours, theirs = _of_regions(on)
    assert not any(theirs), "captum's default sees the picture now: compare it in earnest"
    return ours, theirs


@pair("captum", "shapley, exact", "LLMAttribution(ImageMaskInput), without its cache", 1e-3)
def llm_attribution_without_its_cache(on):
    """`use_cached_outputs=False` is the cure. Its chat form is the prompt's own, and the answer is forced as ours is."""
    return _of_regions(on, use_cached_outputs=False)


def _of_regions(on, **arguments) -> tuple[list[float], list[float]]:
    from captum.attr import ImageMaskInput, LLMAttribution, ShapleyValues
    picture, mllm = on.prompt.picture, on.mllm
    colour = tuple(int(v) for v in np.asarray(picture).reshape(-1, 3).mean(0).round())
    mask = torch.nn.functional.interpolate(regions(on).float(), (picture.height, picture.width))[0, 0].long()
    given = ImageMaskInput(picture, mask=mask, baseline=colour, processor_fn=lambda image: mllm.prompt(image, on.prompt.question).inputs)
    told = torch.tensor(on.target.ids)
    with torch.no_grad():
        found = LLMAttribution(ShapleyValues(mllm.model), mllm.tokenizer).attribute(given, target=told, **arguments).seq_attr
    parts = blocks(on.prompt.tokens.grid, REGIONS)
    ours = explain(on, "shapley", regions=parts, exact=True).values.ravel()
    return [ours[part].sum() for part in parts], found.tolist()
