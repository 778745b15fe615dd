"""Attention-aware LRP: hand the logit back through the network, layer by layer, by rules under which little is lost.

Written as gradient x input with four changed derivatives:

    norm, activation    y = x (y/x), with y/x held fixed
    product a b         half of the relevance to each factor (gate times up, weights times values, queries times keys)
    softmax             its own derivative
    linear              its own derivative

    A_t = h_t . d(logit)/dh_t

h_t: (d,) what enters block 0 at position t.  With the attention weights held fixed as well (`through="values"`), what is left is
linear in the stream, and the values add up to the logit exactly; with them, relevance also flows into queries and keys.

Sources: Achtibat et al. 2024, arXiv:2402.05602; weights held fixed: Ali et al. 2022, arXiv:2202.07304.
Misleads when biases take up relevance (none here), and where softmax saturates: there nothing flows into queries and keys.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import torch

from .....hooks import attention, edit
from .....mllm import repeat_text
from .....refusal import Refusal, nearest
from .....registry import Identity, method
from .....results import PatchMap, patch_map
from .....streams import merged

WAYS = ("all", "values")
HALVED = ("up_proj", "act_fn")                       # the factors of a gated MLP
INNER = ("q_proj", "k_proj", "v_proj")               # the factors of attention, besides its weights


def identity(mllm, prompt) -> list[Identity]:
    """Conservation: with attention held fixed, nothing is lost on the way from the logit to the input."""
    found = attention_lrp(mllm, prompt, mllm.target(prompt), through="values")
    total = found.values.sum() + sum(value for _, value in found.words) + found.measured["elsewhere"]
    logit = found.measured["logit"]
    return [Identity("with attention held fixed the values add up to the logit", abs(total - logit), max(mllm.slack, 1e-3 * abs(logit)))]


@method("attention-lrp", node="model/architecture/analysis/feature-attribution", paper="Achtibat et al. 2024, arXiv:2402.05602",
        cost="three forward passes and one backward pass, once the answer is known", identity=identity)
def attention_lrp(mllm, prompt, token: str | None = None, *, through: str = "all") -> PatchMap:
    """Attention-aware LRP over image tokens and words.

    token: explain this word instead of the whole answer.  through: "all", or "values" (attention weights held fixed).
    Returns a PatchMap of (rows, columns) in logits, with words.  Raises Refusal for another way, and for a decoder whose norms,
    MLPs or projections are not of the kind that the rules know.
    """
    if through not in WAYS:
        raise Refusal(f"Relevance cannot flow through {through!r}{nearest(through, WAYS)}")
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    inputs, leaf = mllm.forced(prompt, target), merged(mllm, prompt, target).clone().requires_grad_()
    wanted = torch.tensor(target.ids[target.first:], device=leaf.device)
    with rules(mllm, through), edit(mllm, {"embed": lambda x: leaf.to(x)}):
        logits = mllm.logits(repeat_text(inputs, 1), len(wanted), gradient=True)
    logit = logits[0].gather(-1, wanted[:, None]).sum()[None]
    gradient, = mllm.backward(logit, [leaf])
    values = (leaf.detach().float() * gradient.float()).sum(-1)[0].cpu().numpy()
    return patch_map(values, prompt, target, "logits", "attention-aware LRP", mllm.spent(before) | {"logit": float(logit.detach())})


@contextmanager
def rules(mllm, through: str = "all"):
    """The decoder with the derivatives of the rules; its values do not change."""
    layers = [mllm.parts.norm, *(module for block in mllm.parts.blocks for module in block.modules())]
    named = [(name.rpartition(".")[2], module) for block in mllm.parts.blocks for name, module in block.named_modules()]
    norms = [module for module in layers if type(module).__name__.endswith("RMSNorm")]
    factors = HALVED + (INNER if through == "all" else ())
    halved = [module for name, module in named if name in factors]
    if len(norms) < 1 + len(mllm.parts.blocks) or len(halved) < len(factors) * len(mllm.parts.blocks):
        raise Refusal(f"{mllm.name} is no decoder of RMSNorm, gated MLPs and separate projections (Llama, Qwen, Mistral, Gemma); "
                      "the rules of LRP are not known for it.")
    with ExitStack() as stack:
        for module in norms + [module for name, module in named if name == "act_fn"]:
            stack.callback(module.register_forward_hook(_fixed_ratio).remove)
        for module in halved:                                                       # after the ratio, where it has both
            stack.callback(module.register_forward_hook(lambda module, args, output: half(output)).remove)
        stack.enter_context(attention(mllm, change=half if through == "all" else torch.Tensor.detach))
        yield


def half(x: torch.Tensor) -> torch.Tensor:
    """The same value with half the derivative."""
    return x / 2 + (x / 2).detach()


def _fixed_ratio(module, args, output):
    ratio = torch.where(args[0] == 0, 0, output / args[0]).detach()
    return (args[0] * ratio).to(output.dtype)
