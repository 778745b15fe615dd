"""Rank-one edit: one fact written into the projection of one MLP, and nothing else, as far as it goes.

    W' = W + (v - W k) (C^-1 k)^T / (k^T C^-1 k)        so that W' k = v exactly

W: (d, m) the projection at the end of an MLP. It answers what its units hold, a key, with what it writes, a value.
k: (m,) mean key at the word that the fact is about.  v: (d,) the value that makes the model say the new word, found by gradient descent on
what is added to W k.  C: (m, m) second moments of keys of other prompts, which makes the change small for keys that are common.

The edit is kept as a change of what the MLP writes, u^T a times (v - W k) for what the units hold, a; as a weight it is the same. So it
also fits on weights that are quantised or elsewhere, and goes without a trace.

Sources: Meng et al. 2022, arXiv:2202.05262 (ROME). Edits of multimodal LLMs: Cheng et al. 2023, arXiv:2310.08475; Basu et al. 2024,
arXiv:2406.04236. That places found by tracing need not be those where edits work best: Hase et al. 2023, arXiv:2301.04213.
Misleads when only the prompts of the edit are asked again; when it is read as finding where the fact was: an edit may shout it down from
anywhere; and when the next edit, or the hundredth, is not tried.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...batches import in_batches, progress
from ...inputs import alike, joined
from ...neurons import projection, watched
from ...parts import weight_of
from ...refusal import Refusal
from ...registry import Identity, method
from ...results import Matrix
from ...trial import variants

PAPER = "Meng et al. 2022, arXiv:2202.05262"


@dataclass(frozen=True)
class Edit:
    """A change of one MLP: what it writes gains (u . a) * value, a what its units hold.

    block: which.  u: (m,).  value: (d,) v - W k.  key: (m,) k.  loss: nats, of the new word at the end of the search for v.
    """

    block: int
    u: torch.Tensor
    value: torch.Tensor
    key: torch.Tensor
    loss: float

    @property
    def size(self) -> float:
        """Norm of W' - W."""
        return float(self.u.norm() * self.value.norm())


@contextmanager
def edited(mllm, edit: Edit):
    """While the context lasts, the model has the edit."""
    with on_output(projection(mllm, f"block.{edit.block}"),
                   lambda held, written: written + (held @ edit.u.to(held))[..., None] * edit.value.to(written)):
        yield


@contextmanager
def on_output(module, change):
    """While the context lasts, a projection writes `change(held, written)`: what goes in, (…, m), and what would come out, (…, d)."""
    handle = module.register_forward_hook(lambda module, args, output: change(args[0], output))
    try:
        yield
    finally:
        handle.remove()


def keys(mllm, prompts, block: int, places=None) -> torch.Tensor:
    """(K, m) float64 on the CPU: what the units of a block's MLP hold, in all prompts at their places, or at all positions."""
    found: list = []

    def run(rows):
        with watched(mllm, [f"block.{block}"]) as seen:
            mllm.logits(joined([prompts[row].inputs for row in rows]))
        held = seen[f"block.{block}"].view(len(rows), -1, seen[f"block.{block}"].shape[-1])
        for one, row in zip(held, rows):
            found.append((one if places is None else one[[places[row]]]).double().cpu())

    for group in alike([one.inputs for one in prompts]):
        in_batches(mllm, group, run)
    return torch.cat(found)


def second_moment(mllm, prompts, block: int) -> torch.Tensor:
    """(m, m) C: mean of a a^T over all positions of the prompts, with a thousandth of its mean diagonal added, so that it has an inverse."""
    held = keys(mllm, prompts, block)
    moment = held.T @ held / len(held)
    return moment + 1e-3 * moment.diagonal().mean().clamp(min=1e-12) * torch.eye(len(moment), dtype=moment.dtype)


def write_fact(mllm, prompts, places, block: int, wanted: int, moment=None, *, steps: int = 30, rate: float = 0.5, most: float = 4.0,
               seed: int | None = None) -> Edit:
    """The edit that makes these prompts go on with another word.

    prompts: of one form.  places: for each the position of the word that the fact is about.  wanted: the new word's id.
    moment: C, as `second_moment` gives it; without it, keys are taken as all alike (C = 1).
    most: how long what is added may become, in lengths of W k.  seed: of the control: a random vector in the direction's place, as long.
    Cost: one forward and one backward pass a prompt and step, and a forward pass a prompt.
    Raises Refusal for prompts of several forms.
    """
    if len(alike([one.inputs for one in prompts])) > 1:
        raise Refusal("These prompts differ in length; an edit takes prompts of one form.")
    where = torch.as_tensor([int(place) for place in places])
    key = keys(mllm, prompts, block, where.tolist()).mean(0)
    module = projection(mllm, f"block.{block}")
    with torch.no_grad():
        own = (module(key.to(mllm.device, mllm.model.dtype)) - module(torch.zeros_like(key).to(mllm.device, mllm.model.dtype))).double().cpu()
    added, length = torch.zeros(len(own), device=mllm.device, requires_grad=True), float(own.norm())
    search, loss = torch.optim.Adam([added], lr=rate), 0.0

    def run(rows):
        def put(held, written):
            mark = torch.zeros(len(rows), written[..., 0].numel() // len(rows)).to(written)
            mark[torch.arange(len(rows)), where[rows]] = 1
            return written + mark.view(*written.shape[:-1], 1) * added.to(written)
        with on_output(module, put):
            logits = mllm.logits(joined([prompts[row].inputs for row in rows]), 1, gradient=True)[:, -1]
        lost = -logits.log_softmax(-1)[:, wanted] / len(prompts)
        return float(lost.detach().sum()), mllm.backward(lost, [added])[0]

    with progress(steps * len(prompts), "writing a fact"):
        for _ in range(steps):
            lost, gradients = zip(*in_batches(mllm, list(range(len(prompts))), run))
            loss, added.grad = sum(lost), sum(gradients) + 0.01 * added.detach() / length**2        # the longer, the dearer
            search.step()
            with torch.no_grad():
                added.mul_(min(1.0, most * length / max(float(added.norm()), 1e-12)))
    value = added.detach().double().cpu()
    if seed is not None:
        noise = torch.randn(len(value), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        value = noise / noise.norm() * value.norm()
    u = key if moment is None else torch.linalg.solve(moment, key)
    return Edit(block, u / (u @ key), value, key, loss)


def chances(mllm, prompts, ids) -> np.ndarray:
    """(N,) probability of each prompt's word as the next one. Prompts of one form share a batch. Cost: one forward pass a prompt."""
    found = np.empty(len(prompts))

    def run(rows):
        logprobs = mllm.logits(joined([prompts[row].inputs for row in rows]))[:, -1].log_softmax(-1).cpu()
        found[rows] = logprobs.gather(1, torch.as_tensor([int(ids[row]) for row in rows])[:, None])[:, 0].exp()

    for group in alike([one.inputs for one in prompts]):
        in_batches(mllm, group, run)
    return found


def identity(mllm, prompt) -> list[Identity]:
    """At the word the block writes W k and the value; elsewhere what the key's share calls for; as a weight it is the same; no trace."""
    block, place = len(mllm.parts.blocks) // 2, prompt.inputs["input_ids"].shape[1] - 1
    others = variants(mllm, prompt, 2)
    edit = write_fact(mllm, [prompt], [place], block, mllm.target(prompt).ids[0], second_moment(mllm, others, block), steps=2)
    module = projection(mllm, f"block.{block}")

    def runs():
        """Logits of the next word, what the projection writes (T, d), and what its units hold (T, m)."""
        def keep(held, written):
            kept.update(held=held.detach().flatten(0, -2).double().cpu(), written=written.detach().flatten(0, -2).double().cpu())
            return written
        kept: dict = {}
        with on_output(module, keep):
            logits = mllm.logits(prompt.inputs)
        return logits[0, -1].cpu(), kept["written"], kept["held"]

    plain, wrote, held = runs()
    with edited(mllm, edit):
        changed, writes, _ = runs()
    weight = weight_of(module)
    instead = (weight.double().cpu() + torch.outer(edit.value, edit.u)).to(weight)
    with on_output(module, lambda held, written: torch.nn.functional.linear(held, instead, module.bias)):
        as_weight = runs()[0]
    limit = mllm.slack * max(1.0, float(edit.value.abs().max()))
    return [Identity("at the word, the block writes the old value and the new one's difference",
                     float((writes[place] - wrote[place] - edit.value).abs().max()), limit),
            Identity("elsewhere it writes as much more as the key has a share in what the units hold",
                     float((writes - wrote - (held @ edit.u)[:, None] * edit.value).abs().max()), limit),
            Identity("written into the weight, it is the same model", float((as_weight - changed).abs().max()), limit),
            Identity("afterwards the model is as it was", float((runs()[0] - plain).abs().max()), 0.0)]


def trial(mllm, prompt, token=None) -> Matrix:
    """The answer's first word, written at the last position of a picture and asked of another, in one block."""
    target, prompts = mllm.target(prompt, token), variants(mllm, prompt, 3)
    wanted, end = target.ids[target.first], prompt.inputs["input_ids"].shape[1] - 1
    result = rank_one_edit(mllm, prompts[:2], [end] * 2, wanted, {"other picture": (prompts[2:], [wanted])}, prompts,
                           blocks=[len(mllm.parts.blocks) // 2], steps=2)
    return replace(result, question=prompt.question, target=target.text)


@method("rank-one-edit", node="model/steering-editing", paper=PAPER, trial=trial, identity=identity,
        cost="a forward and a backward pass a prompt, step and block; and a few forward passes a prompt and block")
def rank_one_edit(mllm, prompts, places, wanted: int, tests: dict, background=None, *, blocks=None, steps: int = 30,
                  seed: int | None = None) -> Matrix:
    """A fact written into one block after the other, and each time all tests asked.

    prompts, places, wanted, steps, seed: as for `write_fact`.  tests: name -> (prompts, for each the id of the word that it should get).
    background: prompts whose keys the edit should leave alone; without them all keys count alike.  blocks: which; all by default.
    Returns a Matrix of (no edit and blocks, tests): mean probability of the words; measured["loss"] and ["size"] are lists, one a block.
    """
    before = mllm.passes, mllm.backward_passes
    blocks = range(len(mllm.parts.blocks)) if blocks is None else blocks

    def ask():
        return [chances(mllm, *test).mean() for test in tests.values()]

    values, edits = [ask()], []
    for block in blocks:
        moment = None if background is None else second_moment(mllm, background, block)
        edits.append(write_fact(mllm, prompts, places, block, wanted, moment, steps=steps, seed=seed))
        with edited(mllm, edits[-1]):
            values.append(ask())
    return Matrix(np.array(values), ["no edit", *(str(block) for block in blocks)], list(tests), ("block", "test"), "chance of its word",
                  "rank-one edit", prompts[0].question, mllm.tokenizer.decode([wanted]).strip(),
                  {**mllm.spent(before), "loss": [round(one.loss, 4) for one in edits], "size": [round(one.size, 4) for one in edits]})
