"""The parts of a decoder block that write into the stream: its attention heads, one by one, and its MLP.

    with on_parts(mllm, heads={3: lambda z: ...}, mlps={3: lambda m: ...}): ...     # change, or look at, what parts hand on
    found = writes(mllm, prompts)                        # what each part wrote at the last position, summing to the stream
    instead = stand_ins(mllm, prompt, target, "mean")    # what parts hand on when they are taken out
    logits = without(mllm, prompt, target, [[(4, 2)], [(5, 2), (3, MLP)]], instead)        # a row for each set of parts

The stream is a plain sum, so a head can be told apart behind the projection that all heads of a block share:
W_O z = sum over heads i of W_O^(i) z^(i), z^(i): (d_head,) what head i gathered by attention. Families with grouped keys and values
are no special case, as z has one slice for each query head all the same.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from .batches import in_batches, progress
from .hooks import ATTENTION, edit, points, record, skipped
from .parts import weight_of
from .refusal import Refusal, nearest
from .streams import entering, inputs

MLP = "MLP"
MLPS = ("mlp", "feed_forward", "block_sparse_moe")       # what families call it in a block
WAYS = ("zero", "mean", "resample")


def parts_of(block) -> tuple:
    """The output projection of a block's attention, and its MLP. Raises Refusal where either has another name or is missing."""
    attention = next((getattr(block, name) for name in ATTENTION if hasattr(block, name)), None)
    projection = getattr(attention, "o_proj", None)
    mlp = next((getattr(block, name) for name in MLPS if hasattr(block, name)), None)
    if projection is None or mlp is None:
        raise Refusal(f"{type(block).__name__} has no attention with an `o_proj` beside an MLP, so that its heads are not found.")
    return projection, mlp


def count(mllm) -> int:
    """Heads in a block: those with queries of their own."""
    return mllm.model.config.get_text_config().num_attention_heads


@contextmanager
def on_parts(mllm, heads: dict | None = None, mlps: dict | None = None):
    """Functions on what parts hand on, while the context lasts; each returns what is used in its place.

    heads: block -> function of what the block's heads hand to the output projection, (N, T, H, d_head), before its bias.
    mlps: block -> function of what the block's MLP writes, (N, T, d).
    """
    many, form = count(mllm), {}
    with ExitStack() as stack:
        for k in {*(heads or {}), *(mlps or {})}:
            def before(module, args, k=k):
                form[k] = args[0].shape[:2]
                if heads and k in heads:
                    return (heads[k](args[0].unflatten(-1, (many, -1))).flatten(2), *args[1:])

            def after(module, args, output, k=k):
                if not mlps or k not in mlps:
                    return output
                own = output[0] if isinstance(output, tuple) else output
                # Experts may hand on their rows without the batch: (N * T, d).
                used = mlps[k](own.view(*form[k], -1)).view(own.shape)
                return (used, *output[1:]) if isinstance(output, tuple) else used

            projection, mlp = parts_of(mllm.parts.blocks[k])
            stack.callback(projection.register_forward_pre_hook(before).remove)
            stack.callback(mlp.register_forward_hook(after).remove)
        yield


@contextmanager
def watched(mllm, where=slice(None), gradient: bool = False):
    """Yields a dict that fills as the model runs: block -> (z (N, P, H, d_head), MLP (N, P, d)) at the given positions.

    They are detached; with `gradient` part of the graph, at all positions.
    """
    seen: dict = {}

    def keep_heads(z, k):
        seen[k] = (z if gradient else z.detach()[:, where],)
        return z

    def keep_mlp(written, k):
        seen[k] = (seen[k][0], written if gradient else written.detach()[:, where])
        return written

    blocks = range(len(mllm.parts.blocks))
    with on_parts(mllm, {k: partial(keep_heads, k=k) for k in blocks}, {k: partial(keep_mlp, k=k) for k in blocks}):
        yield seen


def names(mllm) -> list[str]:
    """All parts in their order: "block.head" for each head of a block, then "block.mlp"."""
    return [f"{block}.{part}" for block in range(len(mllm.parts.blocks)) for part in (*range(count(mllm)), "mlp")]


def replaced(mllm, other: dict, outside: torch.Tensor):
    """A context: row n of the batch runs with another run's activations, as `watched` kept them of one row, in the parts where outside[n].

    outside: (N, parts) bool, in the order of `names`.
    """
    outside, many = outside.view(len(outside), len(mllm.parts.blocks), -1), count(mllm)

    def mix(own, new, gone):
        return torch.where(gone.to(own.device), new.to(own), own)

    blocks = [k for k in range(len(mllm.parts.blocks)) if outside[:, k].any()]
    return on_parts(mllm, {k: partial(mix, new=other[k][0], gone=outside[:, k, None, :many, None]) for k in blocks},
                    {k: partial(mix, new=other[k][1], gone=outside[:, k, many, None, None]) for k in blocks})


def split(mllm, block: int, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What each head of a block writes into the stream, (K, H, d) float64 on the CPU, and the projection's bias, (d,).

    z: (K, H, d_head) what the heads hand to the projection.
    """
    projection, own = parts_of(mllm.parts.blocks[block])[0], torch.eye(z.shape[1]).to(z)[None, :, :, None]
    with torch.no_grad():
        bias = projection(torch.zeros_like(z[:1].flatten(1)))
        alone = projection((own * z[:, None]).flatten(2)) - bias                                   # (K, H, d): each head alone
    return alone.double().cpu(), bias[0].double().cpu()


@dataclass(frozen=True)
class Writes:
    """What each part wrote at K positions, float64 on the CPU: embed, out (K, d); heads (K, L, H, d); rest (K, L, d), MLP and bias.

    gathered: (K, L, H * d_head), what the heads hand to the output projections.
    """

    embed: torch.Tensor
    heads: torch.Tensor
    rest: torch.Tensor
    out: torch.Tensor
    gathered: torch.Tensor


def writes(mllm, prompts, at=None) -> Writes:
    """Run the prompts one by one and split the stream at the given positions into what its parts wrote.

    at: for each prompt its positions; by itself the last one.  Cost: one forward pass a prompt.
    Raises Refusal where a block's parts are not found, or do not sum to the stream because they are normed or scaled first.
    """
    for block in mllm.parts.blocks:
        parts_of(block)
    runs = [_passed(mllm, prompt.inputs, where) for prompt, where in zip(prompts, at or [[-1]] * len(prompts))]
    embed, z, mlp, out = (torch.cat(one) for one in zip(*runs))
    heads, bias = zip(*(split(mllm, k, z[:, k]) for k in range(z.shape[1])))
    found = Writes(embed.double().cpu(), torch.stack(heads, 1), mlp.double().cpu() + torch.stack(bias), out.double().cpu(),
                   z.flatten(2).double().cpu())
    must_sum(mllm, found.embed + found.heads.sum((1, 2)) + found.rest.sum(1), found.out)
    return found


def must_sum(mllm, parts: torch.Tensor, stream: torch.Tensor):
    """Raises Refusal where the sum of all parts is not the stream: then what they write is normed or scaled before it is added."""
    off = (parts - stream).abs().max() / stream.abs().max()
    if off > (1e-2 if mllm.exact else 0.2):
        raise Refusal(f"In {mllm.name} the parts do not sum to the stream (off by {off:.0%}): what they write is normed or scaled before "
                      "it is added, so that heads cannot be told apart this way.")


def _passed(mllm, given: dict, where) -> tuple[torch.Tensor, ...]:
    """One pass of one prompt, at the given positions: the stream before block 0 (K, d), what heads hand on (K, L, H, d_head), what
    each MLP writes (K, L, d), and the stream behind the last block (K, d)."""
    first, last = points(mllm)[0], points(mllm)[-1]
    with record(mllm, first, last) as ends, watched(mllm, where) as seen:
        mllm.logits(given)
    z, mlp = ([seen[k][one][0] for k in sorted(seen)] for one in (0, 1))
    if len({one.shape for one in z}) > 1:
        raise Refusal(f"The blocks of {mllm.name} differ in the width of their heads, so that they cannot be laid beside one another; "
                      "attention-flow looks at them as they are.")
    return ends[first][0, where], torch.stack(z, 1), torch.stack(mlp, 1), ends[last][0, where]


def word_directions(mllm, words) -> torch.Tensor:
    """(W, d) float64 on the CPU, u_w: a word's logit is its row times the stream, over the stream's root mean square.

    words: each a word of one token, or a token's id.
    Raises Refusal for a word of several tokens, and for a final norm that is no RMSNorm.
    """
    weight = weight_of(mllm.parts.head)
    rows = weight[[word if isinstance(word, int) else mllm.tokens(word)[0] for word in words]].detach().double().cpu()
    probe = torch.randn(2, weight.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gain, tried = (mllm.parts.norm(one.to(mllm.device, mllm.model.dtype)).double().cpu() for one in (torch.ones_like(probe), probe))
    wanted = gain * probe / probe.pow(2).mean(-1, keepdim=True).sqrt()
    if (tried - wanted).abs().max() > 0.05 * wanted.abs().max():
        raise Refusal(f"The final norm of {mllm.name} is no RMSNorm, so that heads are not read as words here.")
    return rows * gain[0]


@dataclass(frozen=True)
class StandIns:
    """What parts hand on when they are taken out: heads[k] fits (T, H, d_head) of block k, mlps[k] fits (T, d)."""

    heads: list[torch.Tensor]
    mlps: list[torch.Tensor]


def stand_ins(mllm, prompt, target, how: str = "mean", others=None) -> StandIns:
    """What takes a part's place: "zero"; "mean", over the prompt's positions, or at each position over other prompts; "resample", what
    it hands on in one other prompt.

    others: prompts of the same form as this one, whose tokens are of the same number and at the same places.
    Cost: no forward pass for "zero", one for the mean over positions, one for each other prompt.
    Raises Refusal for another way, for others of another form, and for a resample from not exactly one other.
    """
    if how not in WAYS:
        raise Refusal(f"A part cannot be taken out by {how!r}{nearest(how, WAYS)}")
    if how == "resample" and len(others or ()) != 1:
        raise Refusal("A resample takes what another prompt hands on: give exactly one in `others`.")
    blocks = range(len(mllm.parts.blocks))
    if how == "zero":
        return StandIns([torch.zeros(())] * len(blocks), [torch.zeros(())] * len(blocks))
    sums: dict = {}
    for one in others or [prompt]:
        if one.inputs["input_ids"].shape != prompt.inputs["input_ids"].shape:
            raise Refusal(f"{one.question!r} has another number of tokens than {prompt.question!r}: what a part hands on at a position "
                          "can only take the place of the same position.")
        with watched(mllm) as seen:
            mllm.logits(mllm.forced(one, target))
        for k, pair in seen.items():
            sums[k] = [a + b[0].float() for a, b in zip(sums.get(k, (0, 0)), pair)]
    if others:
        found = {k: [one / len(others) for one in pair] for k, pair in sums.items()}
    else:
        found = {k: [one.mean(0, keepdim=True) for one in pair] for k, pair in sums.items()}
    return StandIns(*([found[k][one] for k in blocks] for one in (0, 1)))


def without(mllm, prompt, target, sets: list, instead: StandIns, at=None, look=None, states=None) -> torch.Tensor:
    """Logits from which the target's scored tokens are predicted, (N, words, V) on the CPU, when each set of parts hands on
    something else.

    sets: N lists of parts; a part is (block, head) or (block, MLP).  instead: what they hand on.  at: the positions where; all by default.
    look: called for each batch, `look(rows, block, seen)`, with the numbers of its sets, where it starts and what `watched(mllm, [-1])`
    saw from there on.  states: as `streams.entering` gives them, where the caller has them already.
    Each row of a batch has its own set, and runs start at the first block where something changes. Cost: one forward pass a set.
    """
    states = entering(mllm, prompt, target) if states is None else states
    starts = [min([len(states) - 1, *(block for block, _ in one)]) for one in sets]
    out: list = [None] * len(sets)

    def run(first, rows):
        with ExitStack() as stack:
            stack.enter_context(skipped(mllm, first))
            stack.enter_context(edit(mllm, {"embed": states[first].repeat(len(rows), 1, 1).to}))
            stack.enter_context(on_parts(mllm, *_changes(mllm, [sets[k] for k in rows], instead, at)))
            seen = stack.enter_context(watched(mllm, [-1])) if look else None
            logits = mllm.logits(inputs(mllm, prompt, target, len(rows)), len(target.ids) - target.first).cpu()
        for k, one in zip(rows, logits):
            out[k] = one
        if look:
            look(rows, first, seen)

    with progress(len(sets), "ablation"):
        for first in sorted(set(starts)):
            in_batches(mllm, [k for k, start in enumerate(starts) if start == first], partial(run, first))
    return torch.stack(out)


def _changes(mllm, sets: list, instead: StandIns, at) -> tuple[dict, dict]:
    """Functions for `on_parts`: in row k of the batch the parts in sets[k] hand on what stands in for them."""
    many, where = count(mllm), slice(None) if at is None else torch.as_tensor(at)
    heads, mlps = {}, {}
    for block in {block for one in sets for block, _ in one}:
        chosen = torch.tensor([[(block, head) in one for head in range(many)] for one in map(set, sets)])
        if chosen.any():
            heads[block] = partial(_put, chosen[:, None, :, None], instead.heads[block], where)
        chosen = torch.tensor([(block, MLP) in one for one in sets])
        if chosen.any():
            mlps[block] = partial(_put, chosen[:, None, None], instead.mlps[block], where)
    return heads, mlps


def _put(chosen, value, where, own):
    """`own` (N, T, …) with `value` in its place where `chosen`, at the positions `where`."""
    value = value.to(own).expand(own.shape[1:])
    changed = own.clone()
    changed[:, where] = torch.where(chosen.to(own.device), value[where], own[:, where])
    return changed


@contextmanager
def quiet(mllm, heads, means: torch.Tensor, at=(-1,)):
    """Mean ablation: while the context lasts, these heads hand on their mean at the given positions, in every row.

    heads: pairs (block, head).  means: (L, H * d_head), such as `writes(…).gathered.mean(0)`.
    """
    instead = StandIns([row.view(1, count(mllm), -1) for row in means], [])
    with on_parts(mllm, _changes(mllm, [list(heads)], instead, at)[0]):
        yield
