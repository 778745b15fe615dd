"""Silent bugs, revived one at a time: each is put into the library while a context lasts, and somebody has to notice.

The first ones were shipped by published code of this field; the others are slips that a library like this one invites.
None of them raises: the numbers are plausible, and wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch

from mini_lib import cells, hooks, load, mllm, results, tokens
from mini_lib.conformance import case, checks, handle, models, run
from mini_lib.data import input_output
from mini_lib.mllm import MLLM
from mini_lib.model.architecture.analysis.feature_attribution import integrated_gradients
from mini_lib.model.embedding.cross_modal_embedding import cka
from mini_lib.model.token.visual_token import logit_lens
from mini_lib.refusal import Refusal
from mini_lib.results import PatchMap


@dataclass(frozen=True)
class Bug:
    """revive: puts the bug in.  look: runs what has to notice, and returns a sentence for each thing that it found wrong.
    noticed_by: what one of these sentences has to contain.
    """

    name: str
    revive: Callable[[], AbstractContextManager]
    look: Callable[[], list[str]]
    noticed_by: str


# Not yet: the method that had the bug is not built. To be revived with it.
LATER = {"the clean and the distorted branch share a cache": "contrastive decoding"}


@cache
def loading(**kwargs) -> Callable[[], list[str]]:
    """Does `load` refuse the model?"""
    def look():
        try:
            load("tiny", device="cpu", **kwargs)
        except Refusal as refusal:
            return [str(refusal)]
        return []
    return look


def loading_grouped_heads() -> list[str]:
    try:
        models.small.__wrapped__()
    except Refusal as refusal:
        return [str(refusal)]
    return []


@cache
def method(name: str | Callable, check: Callable, model=models.small) -> Callable[[], list[str]]:
    """Does this check of the battery fail for this method?"""
    return lambda: [str(finding) for finding in run(check, case(name, model())) if not finding.passed]


@cache
def model(check: Callable, which=models.tiny) -> Callable[[], list[str]]:
    """Does this check fail for the model handle?"""
    return lambda: [str(finding) for finding in run(check, which()) if not finding.passed]


def knockout(handle, prompt, token=None) -> PatchMap:
    """Rows of patches that the answer cannot attend to: what they cost. A method of our own, for the bugs of `cut`."""
    target, before = handle.target(prompt, token), handle.passes
    rows, columns = prompt.tokens.grid
    full, values = handle.score(prompt, target), np.zeros(prompt.tokens.grid)
    for row, keys in enumerate(prompt.tokens.image.split(columns)):
        with hooks.cut(handle, [len(prompt.tokens.text) - 1], keys):
            values[row] = float(full - handle.score(prompt, target))
    return PatchMap(values, "nats lost", prompt.picture, prompt.tokens.boxes, prompt.question, target.text, "knockout",
                    {"forward_passes": handle.passes - before})


def watched(handle, prompt, token=None) -> PatchMap:
    """What the answer attends to in the last block: a method of our own, for the bugs of `attention`."""
    target, before, layer = handle.target(prompt, token), handle.passes, len(handle.parts.blocks) - 1
    with hooks.attention(handle, [layer]) as weights:
        handle.score(prompt, target)
    values = weights[layer][0, :, -1, prompt.tokens.image].mean(0).reshape(prompt.tokens.grid)
    return PatchMap(values.numpy(), "share", prompt.picture, prompt.tokens.boxes, prompt.question, target.text, "attention",
                    {"forward_passes": handle.passes - before})


def replaced(where, name: str, make: Callable) -> Callable[[], AbstractContextManager]:
    """A bug that is another function in the place of one: `make(original)` gives it."""
    return lambda: patch.object(where, name, make(getattr(where, name)))


# What published code shipped.

def pixels_dropped(logits):
    return lambda self, inputs, *args, **kwargs: logits(self, {k: v for k, v in inputs.items() if k != "pixel_values"}, *args, **kwargs)


def placeholder(move):
    return lambda self, inputs: {k: v for k, v in move(self, inputs).items() if k != "pixel_values"}


def first_picture_kept(score):
    def mutant(self, prompt, target, pictures=None):
        return score(self, prompt, target, None if pictures is None else (prompt.picture for _ in pictures))
    return mutant


def boolean_into_additive(allowed):
    """`mask[:, :, queries, keys] = False` where the mask is added to the scores: False is 0, and nothing is cut."""
    def mutant(mask, scores, plans):
        if mask is None or mask.dtype == torch.bool:
            return allowed(mask, scores, plans)
        written = mask.clone()
        for plan in plans:
            written[:, :, plan.queries[:, None], plan.keys] = False
        return allowed(torch.where(written == 0, mask, written), scores, [])
    return mutant


def normed_twice(read):
    def mutant(handle, hidden):
        with torch.no_grad():
            return read(handle, handle.parts.norm(hidden))
    return mutant


def never_normed(read):
    return lambda handle, hidden: handle.parts.head(hidden).detach().float().softmax(-1).cpu()


def hooked_after(change):
    """`hooks._attach`, but what becomes of a block's output is up to `change(output, function)`."""
    def make(attach):
        def mutant(handle, point, function):
            if not point.startswith("block"):
                return attach(handle, point, function)
            return handle.parts.blocks[int(point.split(".")[1])].register_forward_hook(
                lambda module, args, output: change(output, function))
        return mutant
    return make


def first_row_recorded(output, function):
    function(output[0])
    return output


def first_row_edited(output, function):
    changed = output.clone()
    changed[0] = function(output[:1])[0]
    return changed


def zero_baseline(baseline):
    def mutant(handle, prompt, target, stream):
        empty = stream.clone()
        empty[:, prompt.tokens.image] = 0
        empty[:, prompt.tokens.question] = 0
        return empty
    return mutant


# Where things are.

@contextmanager
def padded_on_the_right():
    tokenizer = models.tiny().tokenizer
    with patch.object(tokenizer, "padding_side", "right"):
        yield


def padding_seen(inputs):
    def mutant(self, *args):
        made = inputs(self, *args)
        return {**made, "attention_mask": torch.ones_like(made["attention_mask"])}
    return mutant


def cut_in_any_row(allowed):
    """Each row by itself: positions mean other tokens in rows that are padded differently, and nobody says so."""
    def mutant(mask, scores, plans):
        if mask is None or len(mask) == 1:
            return allowed(mask, scores, plans)
        return torch.cat([allowed(row[None], one[None], plans) for row, one in zip(mask, scores)])
    return mutant


def columns_first(lattice):
    def mutant(box, rows, columns):
        return lattice(box, rows, columns).reshape(rows, columns, 4).transpose(1, 0, 2).reshape(-1, 4)
    return mutant


def shifted_tokens(map_tokens):
    def mutant(*args):
        found = map_tokens(*args)
        return tokens.TokenMap(found.text, found.image + 1, found.grid, found.boxes, found.words)
    return mutant


def transposed(spread):
    def mutant(drops, regions, patches):
        side = round(patches ** 0.5)
        return spread(drops, regions, patches).reshape(side, side).T.ravel()
    return mutant


def one_patch_late(spread):
    return lambda *args: np.roll(spread(*args), 1)


# What is scored.

def one_token_early(score_inputs):
    def mutant(self, inputs, target, gradient=False):
        count = len(target.ids) - target.first
        logprobs = self.logits(inputs, count + 1, gradient)[:, :-1].log_softmax(-1)
        wanted = torch.tensor(target.ids[target.first:])
        return logprobs.gather(-1, wanted.expand(len(logprobs), -1)[..., None])[..., 0].sum(-1)
    return mutant


def forced_tokens_unseen(extend):
    def mutant(inputs, ids):
        grown = extend(inputs, ids)
        if len(ids):
            grown["attention_mask"] = torch.cat([inputs["attention_mask"], torch.zeros_like(grown["attention_mask"][:, :len(ids)])], 1)
        return grown
    return mutant


def mean_of_words(score_inputs):
    def mutant(self, inputs, target, gradient=False):
        return score_inputs(self, inputs, target, gradient) / (len(target.ids) - target.first)
    return mutant


def at_the_start(target):
    def mutant(self, prompt, word=None):
        found = target(self, prompt, word)
        return mllm.Target(found.ids[found.first:], 0, found.text) if isinstance(word, str) else found
    return mutant


def unknown_word(tokens_of):
    return lambda self, word: [self.tokenizer.convert_tokens_to_ids(word)]


# What is left behind, and what is left to chance.

def hooks_stay(attach):
    def mutant(*args):
        attach(*args)
        return SimpleNamespace(remove=lambda: None)
    return mutant


def hooks_stay_after_errors(edit):
    @contextmanager
    def mutant(handle, edits):
        handles = [hooks._attach(handle, point, function) for point, function in edits.items()]
        yield
        for one in handles:
            one.remove()
    return mutant


def cuts_stay_after_errors(cut):
    @contextmanager
    def mutant(handle, queries, keys, layers=None):
        plan = hooks._Cut({hooks._attention_of(block) for block in handle.parts.blocks}, torch.as_tensor(queries), torch.as_tensor(keys))
        hooks._CUTS.append(plan)
        yield
        hooks._CUTS.remove(plan)
    return mutant


def watch_stays_after_errors(attention):
    @contextmanager
    def mutant(handle, layers=None, change=None):
        weights = {}

        def keep(found, k):
            weights[k] = found
            return found
        for k, block in enumerate(handle.parts.blocks):
            hooks._WATCHED[hooks._attention_of(block)] = lambda found, k=k: keep(found, k)
        yield weights
        hooks._WATCHED.clear()
    return mutant


def weights_asked_for_gradients(score_inputs):
    def mutant(self, inputs, target, gradient=False):
        self.model.requires_grad_(gradient or next(self.model.parameters()).requires_grad)
        return score_inputs(self, inputs, target, gradient)
    return mutant


def shade_by_chance(filling):
    def mutant(picture, cover, radius):
        shade = filling(picture, cover, radius)
        return shade.point(lambda value: min(255, value + int(np.random.randint(9))))
    return mutant


# Batches, rounding, bookkeeping.

def everything_at_once(score):
    def mutant(self, prompt, target, pictures=None):
        if pictures is None:
            return score(self, prompt, target)
        return self.score_inputs(self.showing(prompt, target, list(pictures)), target)
    return mutant


def diagonal_left_in(_):
    """CKA as usually centred: each state meets itself, and few samples of wide states look alike whatever they are."""
    return cka.biased


def rows_turned_round(score_inputs):
    return lambda self, inputs, *args, **kwargs: score_inputs(self, inputs, *args, **kwargs).flip(0)


def mean_gradient(backward):
    def mutant(self, scores, wanted):
        self.backward_passes += len(scores)
        return torch.autograd.grad(scores.mean(), wanted)
    return mutant


def groups_tiled(_):
    """Keys of grouped heads repeated as 0 1 0 1 where they have to be 0 0 1 1."""
    return lambda tensor, times, dim=None: tensor.repeat(1, times, 1, 1)


def stretched(spread):
    """Stretched to reach 1, as maps often are for display; where nothing matters that is 0 / 0."""
    def mutant(*args):
        values = spread(*args)
        with np.errstate(invalid="ignore"):
            return values / values.max()
    return mutant


def three_decimals(short):
    return lambda values: np.round(values, 3).tolist()


def passes_uncounted(logits):
    def mutant(self, *args, **kwargs):
        before = self.passes
        try:
            return logits(self, *args, **kwargs)
        finally:
            self.passes = before
    return mutant


BUGS = (
    Bug("pixels are dropped on the way to the model", replaced(MLLM, "logits", pixels_dropped),
        model(handle.check_pixels_arrive), "two pictures score differently"),
    Bug("pixels are dropped, and a method explains the placeholder", replaced(MLLM, "logits", pixels_dropped),
        method("occlusion", checks.check_odd_pictures), "another picture gives other numbers"),
    Bug("the placeholder's embedding stands in for a missing picture", replaced(MLLM, "_move", placeholder),
        loading(), "pixels are not reaching it"),
    Bug("the first picture is scored in the place of all others", replaced(MLLM, "score", first_picture_kept),
        model(handle.check_pixels_arrive), "score as they do in prompts of their own"),
    Bug("a boolean mask is written into an additive one", replaced(hooks, "_allowed", boolean_into_additive),
        loading(attn_implementation="eager"), "all image keys cut = blind to the picture"),
    Bug("the final norm is applied twice", replaced(logit_lens, "read", normed_twice),
        method("logit-lens", checks.check_identities), "the lens at the last layer is the model's answer"),
    Bug("the final norm is left out", replaced(logit_lens, "read", never_normed),
        method("logit-lens", checks.check_identities), "the lens at the last layer is the model's answer"),
    Bug("output[0] of a tensor is recorded", replaced(hooks, "_attach", hooked_after(first_row_recorded)),
        loading(), "lens at the last layer = logits"),
    Bug("output[0] of a tensor is recorded, and the lens reads it", replaced(hooks, "_attach", hooked_after(first_row_recorded)),
        method("logit-lens", checks.check_identities), "the lens at the last layer is the model's answer"),
    Bug("output[0] of a tensor is edited", replaced(hooks, "_attach", hooked_after(first_row_edited)),
        model(handle.check_edits_reach_every_row), "two pictures give the same"),
    Bug("the baseline is zero where RMSNorm divides by the length", replaced(integrated_gradients, "blank", zero_baseline),
        method("integrated-gradients", checks.check_identities), "the values add up to f(prompt) - f(baseline)"),
    Bug("answers go on behind padding on the right", padded_on_the_right,
        model(handle.check_padding_changes_nothing), "a padded batch answers as one by one"),
    Bug("padding is attended to", replaced(MLLM, "_inputs", padding_seen),
        model(handle.check_padding_changes_nothing), "a padded batch answers as one by one"),
    Bug("a cut means other tokens in rows that are padded differently", replaced(hooks, "_allowed", cut_in_any_row),
        model(handle.check_padding_changes_nothing), "a cut in rows that are padded differently is refused"),
    Bug("boxes run down the columns", replaced(cells, "lattice", columns_first),
        model(handle.check_boxes_are_where_tokens_look), "changes its own token most"),
    Bug("image tokens are counted from one too late", replaced(mllm, "map_tokens", shifted_tokens),
        model(handle.check_boxes_are_where_tokens_look), "changes its own token most"),
    Bug("a map is transposed", replaced(input_output, "spread", transposed),
        method("occlusion", checks.check_points_at_the_patch_that_differs), "change more than the one that differs"),
    Bug("a map is one patch late", replaced(input_output, "spread", one_patch_late),
        method("occlusion", checks.check_points_at_the_patch_that_differs), "change more than the one that differs"),
    Bug("the token before the answer is scored", replaced(MLLM, "score_inputs", one_token_early),
        model(handle.check_score_is_the_chain_rule), "the sum of the words' log-probabilities"),
    Bug("forced words are masked out", replaced(mllm, "extend", forced_tokens_unseen),
        model(handle.check_score_is_the_chain_rule), "the sum of the words' log-probabilities"),
    Bug("log-probabilities are averaged, not summed", replaced(MLLM, "score_inputs", mean_of_words),
        model(handle.check_score_is_the_chain_rule), "the sum of the words' log-probabilities"),
    Bug("a word is explained at the start of the answer", replaced(MLLM, "target", at_the_start),
        model(handle.check_target_is_where_the_word_is_said), "is explained in its place"),
    Bug("an unknown word becomes <unk>", replaced(MLLM, "tokens", unknown_word),
        method("logit-lens", checks.check_takes_a_word), "does not have as one token is refused"),
    Bug("hooks are left behind", replaced(hooks, "_attach", hooks_stay),
        method("logit-lens", checks.check_leaves_everything_as_found), "as it was after a call"),
    Bug("hooks are left behind after an error", replaced(hooks, "edit", hooks_stay_after_errors),
        method("logit-lens", checks.check_leaves_everything_as_found), "as it was after an error"),
    Bug("a cut stays in force after Ctrl-C", replaced(hooks, "cut", cuts_stay_after_errors),
        method(knockout, checks.check_leaves_everything_as_found), "as it was after Ctrl-C"),
    Bug("attention is recorded on after an error", replaced(hooks, "attention", watch_stays_after_errors),
        method(watched, checks.check_leaves_everything_as_found), "as it was after an error"),
    Bug("weights are left asking for gradients", replaced(MLLM, "score_inputs", weights_asked_for_gradients),
        method("gradient-input", checks.check_leaves_everything_as_found), "`requires_grad`"),
    Bug("the cover's shade is drawn from the global generator", replaced(input_output, "filling", shade_by_chance),
        method("occlusion", checks.check_two_calls_agree), "two calls give the same to the last bit"),
    Bug("all rows are sent at once", replaced(MLLM, "score", everything_at_once),
        method("occlusion", checks.check_batch_size_changes_nothing), "it sends no more rows at once"),
    Bug("rows of a batch come back in another order", replaced(MLLM, "score_inputs", rows_turned_round),
        method("occlusion", checks.check_batch_size_changes_nothing), "give what batches of 64 give"),
    Bug("gradients are averaged over the batch", replaced(MLLM, "backward", mean_gradient),
        method("integrated-gradients", checks.check_batch_size_changes_nothing), "give what batches of 64 give"),
    Bug("keys of grouped heads go to the wrong queries", replaced(torch.Tensor, "repeat_interleave", groups_tiled),
        loading_grouped_heads, "an empty cut changes nothing"),
    Bug("a map is stretched to reach 1", replaced(input_output, "spread", stretched),
        method("occlusion", checks.check_odd_pictures), "every number is finite"),
    Bug("a map is saved with three decimals", replaced(results, "_short", three_decimals),
        method("token-ablation", checks.check_result_can_be_saved), "to_dict keeps the values"),
    Bug("biased CKA on few samples", replaced(cka, "alignment", diagonal_left_in),
        method("cka", checks.check_identities), "the mean over all orders of the pairs is 0"),
    Bug("passes are not counted", replaced(MLLM, "logits", passes_uncounted),
        method("occlusion", checks.check_cost_is_counted), "is what the model saw"),
)
