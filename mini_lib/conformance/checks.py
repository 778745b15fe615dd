"""The checks of a method, each on its own: `check_x(case)` yields a Finding for each claim.

Their names say what is wrong when they fail. None of them leaves anything behind, whatever the method does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from ..refusal import Refusal
from . import models
from .finding import Case, Finding, holds, said
from .witness import apart, breaking, differ, discord, numbers, random_state, seeded, state, watched

DOTS = ((1, 4), (4, 0), (5, 2))                        # rows and columns, none on the diagonal: a transposed map misses all
WORDS, QUESTION = ("red", "blue"), "what color is the star ?"


def check_identities(case: Case) -> Iterator[Finding]:
    """What the method says must hold does hold, on this model and on an untrained one with random norms."""
    small = models.small()
    pairs = {case.mllm.name: (case.mllm, case.prompt), small.name: (small, small.prompt(case.prompt.picture, QUESTION))}
    for name, pair in pairs.items():
        for one in case.identity(*pair) if case.identity else ():
            yield Finding(f"{one.claim} ({name})", one.error, one.limit)


def check_two_calls_agree(case: Case) -> Iterator[Finding]:
    """Two calls give the same to the last bit, wherever the global random numbers stand, and leave those alone."""
    one = case.result                                   # made at another seed, as each check has one of its own
    with seeded(1):
        before = random_state()
        other = case.explain(case.mllm, case.prompt, case.target)
        yield holds("it does not use up the global random numbers of random, numpy and torch", random_state() == before)
    yield holds("two calls give the same to the last bit, whatever the global seeds", not differ(one, other))


def check_batch_size_changes_nothing(case: Case) -> Iterator[Finding]:
    """Another batch size gives the same, and no batch is larger than it says."""
    for size in (1, 7):
        mllm = replace(case.mllm, batch_size=size)
        with watched(mllm) as seen:
            other = case.explain(mllm, case.prompt, case.target)
        error, limit = apart(case.result, other, mllm.slack)
        yield Finding(f"batches of {size} give what batches of {case.mllm.batch_size} give", error, limit)
        yield Finding(f"with a batch size of {size} it sends no more rows at once", max(0, seen.largest - size), 0,
                      f"the largest batch had {seen.largest}")


def check_cost_is_counted(case: Case) -> Iterator[Finding]:
    """The forward passes that the result says it took are those that the model saw."""
    result, seen = case.observed
    told = result.measured.get("forward_passes")
    yield Finding('measured["forward_passes"] is what the model saw', float("inf") if told is None else abs(told - seen.rows), 0,
                  f"says {told}, saw {seen.rows}")


def check_half_precision(case: Case) -> Iterator[Finding]:
    """bfloat16 gives the map of float32, as far as its eight bits reach (`tiny`)."""
    # A logit between 8 and 16 comes in steps of 1/16 there, so each value may be off by about 0.1 nats. That says nothing of
    # a map that is not in nats, and forbids nothing in one of small values; concordance asks for the same picture in any
    # unit. Ranks would not do: most patches do nothing, and the order among these is rounding in both.
    other = case.caption(models.tiny("bfloat16"))
    yield Finding("bfloat16 gives the map of float32, by 1 - concordance", discord(case.captioned, other), 0.2)


def check_attention_kernels(case: Case) -> Iterator[Finding]:
    """Eager and sdpa attention give the same, or the method refuses one of them (`tiny`)."""
    claim = "eager attention gives what sdpa gives, or is refused"
    try:
        error, limit = apart(case.captioned, case.caption(models.tiny(kernel="eager")), models.tiny().slack)
        yield Finding(claim, error, limit)
    except Refusal as refusal:
        yield holds(claim, True, f"refused: {refusal}")


def check_leaves_everything_as_found(case: Case) -> Iterator[Finding]:
    """Weights, hooks, gradients, modes, cuts and the prompt are as before: after a call, an error in it, and a stop."""
    before, calls = state(case.mllm, case.prompt), case.observed[1].modules

    def unchanged(when):
        after = state(case.mllm, case.prompt)
        changed = [name for name in before if after[name] != before[name]]
        return Finding(f"everything is as it was {when}", len(changed), 0, f"changed: {', '.join(changed)}" if changed else "")

    case.explain(case.mllm, case.prompt, case.target)
    yield unchanged("after a call")
    for share, error, when in ((0.2, RuntimeError("made to fail"), "after an error early on"),
                               (0.8, RuntimeError("made to fail"), "after an error late"),
                               (0.5, KeyboardInterrupt(), "after Ctrl-C")):
        raised = None
        try:
            with breaking(case.mllm, max(1, int(share * calls)), error):
                case.explain(case.mllm, case.prompt, case.target)
        except (Exception, KeyboardInterrupt) as caught:
            raised = caught
        heard = isinstance(raised, KeyboardInterrupt) or not isinstance(error, KeyboardInterrupt) and raised is not None
        yield holds(f"the caller hears of it {when}", heard or not calls, "" if raised is None else said(raised))
        yield unchanged(when)


def check_odd_pictures(case: Case) -> Iterator[Finding]:
    """Black, white, grey and noise give finite numbers, and noise gives others than the picture does."""
    size, noise = case.prompt.picture.size, np.random.default_rng(0).integers(0, 256, (*case.prompt.picture.size[::-1], 3), np.uint8)
    for name, picture in (("black", Image.new("RGB", size)), ("white", Image.new("RGB", size, "white")),
                          ("grey", Image.new("RGB", size, (127, 127, 127))), ("noise", Image.fromarray(noise))):
        try:
            result = case.explain(case.mllm, case.mllm.prompt(picture, case.prompt.question), case.target)
        except Refusal as refusal:
            yield holds(f"{name}: every number is finite", True, f"refused: {refusal}")
            continue
        wild = sum(int((~np.isfinite(values)).sum()) for values in numbers(result).values())
        yield Finding(f"{name}: every number is finite", wild, 0, f"{wild} are not" if wild else "")
        if name == "noise":
            same = all(np.array_equal(values, numbers(result).get(field)) for field, values in numbers(case.result).items())
            yield holds("another picture gives other numbers", not same)


def check_another_grid(case: Case) -> Iterator[Finding]:
    """On a model with another grid the map has that grid, and its boxes cover the picture in reading order."""
    small = models.small()
    picture = case.prompt.picture.resize((90, 60))
    prompt = small.prompt(picture, QUESTION)
    result = case.explain(small, prompt, small.target(prompt, "red"))
    grid, maps = _maps(result)
    if grid is None:
        yield holds("a map has the model's grid", True, "not a map: it has no boxes")
        return
    side = models.SIDE // models.PATCH
    shapes = ", ".join(str(values.shape) for values in numbers(result).values())
    yield holds(f"a map has the model's grid, {side} x {side}", grid == (side, side) and bool(maps), shapes)
    wanted = np.array([[15 * c, 10 * r, 15 * c + 15, 10 * r + 10] for r in range(side) for c in range(side)])
    off = np.abs(result.boxes - wanted).max() if result.boxes.shape == wanted.shape else float("inf")
    yield Finding("the boxes cover the picture in reading order, in its own pixels", off, 1e-6)


def check_points_at_the_patch_that_differs(case: Case) -> Iterator[Finding]:
    """In a grey picture with one white patch, the map differs from that of plain grey most at this patch."""
    # No training is needed to know this: all other patches are one token, over and over (models.redraw). A map that is
    # transposed, shifted or shuffled fails. One that stays flat, as where only positive evidence is kept, says nothing.
    small, ranks = models.small(), []
    for word in WORDS:
        plain = small.prompt(models.dotted(), QUESTION)
        target = small.target(plain, word)
        grid, flat = _maps(case.explain(small, plain, target))
        if not flat:
            yield holds("the map changes most at the one patch that differs", True, "not a map: it has no boxes")
            return
        for dot in DOTS:
            _, maps = _maps(case.explain(small, small.prompt(models.dotted(*dot), QUESTION), target))
            for field, values in maps.items():
                change = (values - flat[field]).reshape(-1, *grid)
                change = np.abs(change - np.median(change, (1, 2), keepdims=True)).sum(0)
                if change.max() > 1e-6:
                    ranks.append(float((change > change[dot]).sum() / (change.size - 1)))
    # Not 0, for sampled maps and coarse ones; a map that has nothing to do with places comes to 0.5.
    yield Finding("share of the other patches that change more than the one that differs", float(np.mean(ranks)) if ranks
                  else float("inf"), 0.2, "" if ranks else "the map is the same wherever that patch lies")


def _maps(result) -> tuple[tuple[int, int] | None, dict[str, np.ndarray]]:
    """The grid of a result and its fields on that grid, (…, rows, columns); (None, {}) for a result without boxes."""
    boxes = getattr(result, "boxes", None)
    if boxes is None or not len(boxes):
        return None, {}
    columns = len(np.unique(np.round(boxes[:, 0], 3)))
    grid = len(boxes) // columns, columns
    return grid, {name: values for name, values in numbers(result).items() if values.ndim > 1 and values.shape[-2:] == grid}


def check_result_can_be_saved(case: Case) -> Iterator[Finding]:
    """The result holds numbers, and its `to_dict` goes through JSON and comes back as it was."""
    result = case.result
    plain = result.to_dict()
    yield holds("it holds numbers", bool(numbers(result)))
    back = json.loads(json.dumps(plain, allow_nan=False))
    changed = [name for name in plain if back.get(name) != plain[name]]
    yield holds("to_dict comes back from JSON as it was", not changed, ", ".join(changed))
    if hasattr(type(result), "from_dict"):
        yield holds("from_dict gives the result back", type(result).from_dict(back).to_dict() == plain)
    if "values" in plain and hasattr(result, "values"):
        scale = float(np.abs(result.values).max())
        off = np.abs(np.asarray(plain["values"], float) - result.values).max()
        yield Finding("to_dict keeps the values to three digits", float(off), 1e-3 * scale)


def check_takes_a_word(case: Case) -> Iterator[Finding]:
    """`token` may be a word or a Target, a word nobody knows is refused, and the result says what it explains."""
    mllm, prompt = case.mllm, case.prompt
    for word in _words(case):
        result = case.explain(mllm, prompt, word)
        if mllm.target(prompt, word) == case.target:
            error, limit = apart(case.result, result, mllm.slack)
            yield Finding(f"token={word!r} gives what its Target gives", error, limit)
        yield holds(f"a result for token={word!r} says so", getattr(result, "target", word) == word)
    refused = None
    try:
        case.explain(mllm, prompt, "no such word at all")
    except Refusal as refusal:
        refused = str(refusal)
    yield holds("a word that the model does not have as one token is refused", refused is not None, refused or "it was not")


def _words(case: Case) -> list[str]:
    """The word of the case and another one, as far as each is one token by itself."""
    found = []
    logits = case.mllm.logits(case.prompt.inputs)[0, -1]
    for token in (case.target.ids[case.target.first], *logits.topk(20).indices.tolist()):
        word = case.mllm.tokenizer.decode([token]).strip()
        try:
            if word and word not in found and token in case.mllm.tokens(word):
                found.append(word)
        except Refusal:
            continue
        if len(found) == 2:
            break
    return found


def check_refuses_several_pictures(case: Case) -> Iterator[Finding]:
    """A prompt of two pictures is refused in one sentence: a map has one grid."""
    try:
        prompt = case.mllm.prompt([case.prompt.picture] * 2, case.prompt.question)
    except Refusal as refusal:
        yield holds("two pictures are refused", True, f"by the model already: {refusal}")
        return
    try:
        case.explain(case.mllm, prompt, case.target)
        yield holds("two pictures are refused", False, "they were explained")
    except Refusal as refusal:
        yield holds("two pictures are refused", True, str(refusal))


CHECKS = (check_identities, check_two_calls_agree, check_batch_size_changes_nothing, check_cost_is_counted, check_half_precision,
          check_attention_kernels, check_leaves_everything_as_found, check_odd_pictures, check_another_grid,
          check_points_at_the_patch_that_differs, check_result_can_be_saved, check_takes_a_word, check_refuses_several_pictures)
