"""Circuits: which few heads and MLPs are enough for the task, and how faithful they are at every size.

    f(C) = (m(C) - m(none)) / (m(all) - m(none))            CPR = integral of f over k          CMD = integral of |1 - f| over k

m(C): the logit difference on the clean prompt when every node outside the circuit C does what it did in the corrupted run (`heads`,
`pairs`).  k: the share of all nodes that is in C.  f(all) = 1 and f(none) = 0 by construction.  CPR: the higher, the more of the
answer is kept by small circuits; CMD: the lower, the nearer the circuit stays to the whole model, at every size.

Nodes are put in order by one of three scores, on one half of the pairs; f is measured on the other half:

    attribution   sum over positions of (a_clean - a_corr) . dm/da at the clean run             one backward pass a pair, all nodes at once
    ablation      m(all) - m(all but this node)                                                 one forward pass a node
    pruning       take out the node whose loss leaves f highest, again and again                about half the nodes squared

Sources: faithfulness and the areas: Mueller et al. 2025, arXiv:2504.13151 (MIB; there edges, here nodes); scores by attribution: Syed et
al. 2023, arXiv:2310.10348; pruning step by step: Conmy et al. 2023, arXiv:2304.14997 (there edges, with a threshold).
Misleads when f is read as understanding (a circuit can be enough and say nothing of what it computes), when order and f come from the
same prompts, when no random circuit of the same size stands beside it, and when what goes wrong cancels: f may pass 1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ....batches import in_batches, progress
from ....evaluate import interval
from ....heads import names, replaced, watched
from ....hooks import attention, edit
from ....pairs import Pair, pair_of, run
from ....refusal import Refusal, nearest
from ....registry import Identity, method
from ....results import Curves
from ....streams import inputs
from ....trial import variants

BY = ("attribution", "ablation", "pruning")


def identity(mllm, prompt) -> list[Identity]:
    """The whole circuit is the model, the empty one the corrupted run; nodes are the model's own; scores are right to first order."""
    pair = pair_of(mllm, prompt)
    count, last = len(names(mllm)), len(mllm.parts.blocks) - 1
    none, clean = torch.ones(1, count, dtype=torch.bool), activations(mllm, pair, pair.states[0])
    with replaced(mllm, clean, none):
        same = float(run(mllm, pair, pair.states[0], 0, clean=True)[0])
    empty = float(outcomes(mllm, pair, none)[0])
    claims = [Identity("every node replaced by its own clean activation changes nothing", abs(same - pair.clean), mllm.slack)]
    if torch.equal(pair.states[0][:, -len(pair.rivals):], pair.changed[0][:, -len(pair.rivals):]):
        claims.append(Identity("the empty circuit is the corrupted run", abs(empty - pair.corrupted), mllm.slack))

    def silent(weights):                                                          # the first head of the last block attends to nothing
        return weights * (torch.arange(weights.shape[1], device=weights.device) > 0)[:, None, None]
    with attention(mllm, [last], silent):
        muted = activations(mllm, pair, pair.states[0])
    apart = muted[last][0], clean[last][0]                                                        # (1, T, H, d_head)
    claims.append(Identity("a head that attends to nothing hands on nothing, and no other head changes",
                           float(torch.cat([apart[0][:, :, :1], apart[0][:, :, 1:] - apart[1][:, :, 1:]], 2).abs().max()),
                           mllm.slack / 10 * max(1.0, float(apart[1].abs().max()))))
    score, steps = attributions(mllm, pair), []
    for node in (0, count - 1):                                                   # a head at the start, an MLP at the end
        both = [near(mllm, pair, node, sign * 0.02) for sign in (1, -1)]
        steps.append(abs((both[1] - both[0]) / 0.04 - score[node]))
    claims.append(Identity("a small step of one node has the effect that its score says", max(steps) / max(1.0, float(np.abs(score).max())),
                           20 * mllm.slack))
    return claims


def near(mllm, pair: Pair, node: int, share: float) -> float:
    """m of the clean run with one node moved by this share of the way to its corrupted activation."""
    clean, corrupted = (activations(mllm, pair, states[0], side) for states, side in ((pair.states, True), (pair.changed, False)))
    between = {k: [own + share * (away - own) for own, away in zip(clean[k], corrupted[k])] for k in clean}
    outside = torch.zeros(1, len(names(mllm)), dtype=torch.bool)
    outside[0, node] = True
    with replaced(mllm, between, outside):
        return float(run(mllm, pair, pair.states[0], 0, clean=True)[0])


def trial(mllm, prompt, token=None) -> Curves:
    """A circuit from two pictures made from one, tried on two others."""
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)
    prompts = variants(mllm, prompt, 4)
    result = circuit(mllm, prompts, words=[target] * 4, draws=2, sizes=4)
    return replace(result, question=prompt.question, target=target.text, measured={**result.measured, **mllm.spent(before)})


@method("circuit", node="model/layer/decision-workflow", paper="Mueller et al. 2025, arXiv:2504.13151", trial=trial, identity=identity,
        cost="six forward passes a pair and one for each circuit that is tried; one backward pass a pair that is scored by attribution")
def circuit(mllm, prompts, others=None, words=None, *, by: str = "attribution", order=None, sizes: int = 9, draws: int = 20,
            seed: int = 0) -> Curves:
    """Faithfulness of the best nodes over the circuit's size, beside random circuits of the same sizes.

    others: for each prompt the corrupted one, or their pair; by itself the same picture in turned colours.  words: for each prompt the answer, or None.
    by: how nodes are scored, "attribution", "ablation" or "pruning", on every second prompt; f is measured on the rest.
    order: node numbers, most important first, from elsewhere; then nothing is scored, and f is measured on all prompts.
    sizes: how many sizes, 0 and all nodes among them.  draws: random circuits a size.
    Returns Curves of (best nodes and random ones, sizes), with intervals over prompts; measured has the order by name, "CPR",
    "CMD", and "random CPR", one for each random order.
    """
    before, count = (mllm.passes, mllm.backward_passes), len(names(mllm))
    others, words = (given or [None] * len(prompts) for given in (others, words))
    pairs = [pair_of(mllm, *one) for one in zip(prompts, words, others)]
    held = pairs if order is not None else pairs[1::2]
    if not held:
        raise Refusal(f"{len(pairs)} prompts are too few: every second one is held out, so give two or more.")
    order = ordered(mllm, pairs[::2], by) if order is None else np.asarray(order)
    kept = np.unique(np.round(np.linspace(0, 1, sizes) ** 2 * count).astype(int))               # small sizes lie closer
    rng = np.random.default_rng(seed)
    found = faithfulness(mllm, held, np.stack([order, *(rng.permutation(count) for _ in range(draws))]), kept)   # (pairs, orders, sizes)
    share, f = kept / count, found.mean(0)
    lines = [found[:, 0], found[:, 1:].mean(1)] if draws else [found[:, 0]]
    # No spread, no interval: at both ends f is 0 and 1 by construction, which `interval` would take for right and wrong.
    ends = np.array([[interval(column) if np.ptp(column) else column[:1].repeat(3) for column in line.T] for line in lines])
    measured = {**mllm.spent(before), "order": [names(mllm)[k] for k in order], "CPR": area(f[0], share)[0], "CMD": area(f[0], share)[1],
                **({"random CPR": [area(line, share)[0] for line in f[1:]]} if draws else {})}
    return Curves(ends[..., 0], ["best nodes", "random nodes"][:len(lines)], [str(k) for k in kept], f"nodes kept of {count}", "faithfulness f",
                  f"circuit by {by}", ends[..., 1], ends[..., 2], pairs[0].prompt.question, pairs[0].target.text, measured)


def area(f: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """CPR and CMD of one curve over the share of nodes kept, by trapezoids."""
    return float(np.trapezoid(f, share)), float(np.trapezoid(np.abs(1 - f), share))


def faithfulness(mllm, pairs: list[Pair], orders: np.ndarray, sizes) -> np.ndarray:
    """f of the first `size` nodes of each order: (pairs, orders, sizes), whose mean over pairs is the ratio of mean gaps, as in MIB.

    A pair counts by its gap, or one that is told apart by little would count by its rounding.
    """
    rank = orders.argsort(1)                                                                   # (orders, nodes) each node's place
    outside = torch.from_numpy(rank[:, None] >= np.asarray(sizes)[:, None]).flatten(0, 1)      # (orders * sizes, nodes)
    ends = torch.stack([torch.ones_like(outside[0]), torch.zeros_like(outside[0])])
    circuits, back = torch.unique(torch.cat([ends, outside]), dim=0, return_inverse=True)      # the smallest and largest are common to all
    found = np.array([outcomes(mllm, pair, circuits)[back.numpy()] for pair in pairs])         # (pairs, 2 + orders * sizes)
    restored, gap = found[:, 2:] - found[:, :1], found[:, 1:2] - found[:, :1]
    f = restored.mean(0) / gap.mean()
    return (f + (restored - f * gap) / gap.mean()).reshape(len(pairs), len(orders), -1)        # to first order what each pair adds to f


def ordered(mllm, pairs: list[Pair], by: str) -> np.ndarray:
    """Numbers of all nodes, most important first, on these pairs."""
    if by not in BY:
        raise Refusal(f"There is no score {by!r}{nearest(str(by), list(BY))}")
    if by == "pruning":
        return pruned(mllm, pairs)
    score = attributions if by == "attribution" else ablations
    return np.argsort(-np.mean([score(mllm, pair) for pair in pairs], 0), kind="stable")


def pruned(mllm, pairs: list[Pair]) -> np.ndarray:
    """The order in which nodes go, turned around, when each time the one goes without which m stays highest."""
    left, gone = list(range(len(names(mllm)))), []
    while left:
        outside = torch.zeros(len(left), len(left) + len(gone), dtype=torch.bool)
        outside[:, gone] = True
        outside[range(len(left)), left] = True
        gone.append(left.pop(int(np.mean([outcomes(mllm, pair, outside) for pair in pairs], 0).argmax())))
    return np.array(gone[::-1])


def ablations(mllm, pair: Pair) -> np.ndarray:
    """(nodes,) what m loses when one node alone is replaced, in logits."""
    return pair.clean - outcomes(mllm, pair, torch.eye(len(names(mllm)), dtype=torch.bool))


def attributions(mllm, pair: Pair) -> np.ndarray:
    """(nodes,) the same to first order, from one gradient at the clean run."""
    with torch.enable_grad():
        start = pair.states[0].detach().clone().requires_grad_()
        with watched(mllm, gradient=True) as seen, edit(mllm, {"embed": start.to}):
            m = pair.read(mllm.logits(inputs(mllm, pair.prompt, pair.target, 1), len(pair.rivals), gradient=True))
    blocks, corrupted, scores = sorted(seen), activations(mllm, pair, pair.changed[0], clean=False), []
    slopes = iter(mllm.backward(m, [one for block in blocks for one in seen[block]]))
    for block in blocks:
        z, mlp = (((own.detach() - away) * slope).float().cpu() for own, away, slope in zip(seen[block], corrupted[block], slopes))
        scores += [*z.sum((0, 1, 3)).tolist(), float(mlp.sum())]
    return np.array(scores)


def outcomes(mllm, pair: Pair, outside: torch.Tensor) -> np.ndarray:
    """m of the clean prompt with the nodes outside each circuit replaced: outside (N, nodes) bool -> (N,), in logits.

    Runs start at the first block that has a node outside.
    """
    corrupted, blocks = activations(mllm, pair, pair.changed[0], clean=False), len(mllm.parts.blocks)
    touched = outside.view(len(outside), blocks, -1).any(2).int()
    starts = torch.where(touched.any(1), touched.argmax(1), blocks - 1).clamp(max=pair.starts - 1).numpy()
    found = np.empty(len(outside))

    def from_block(first, some):
        with replaced(mllm, corrupted, outside[some]):
            return run(mllm, pair, pair.states[first].repeat(len(some), 1, 1), first, clean=True)

    with progress(len(outside), "circuits"):
        for first in np.unique(starts):
            rows = np.flatnonzero(starts == first)
            found[rows] = torch.cat(in_batches(mllm, rows, partial(from_block, first))).numpy()
    return found


def activations(mllm, pair: Pair, stream: torch.Tensor, clean: bool = True) -> dict:
    """What every node does in a run from this stream before block 0: block -> (z, MLP), one row each."""
    with watched(mllm) as seen:
        run(mllm, pair, stream, 0, clean=clean)
    return seen
