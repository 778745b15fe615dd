"""Batches: nothing lost and nothing counted twice when memory runs out on the way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mini_lib import batches, covers, world
from mini_lib.batches import in_batches, progress, spans
from mini_lib.refusal import Refusal
from mini_lib.registry import methods
from mini_lib.streams import gradients, merged, score

FEW = {"rise": {"covers": 24}, "shapley": {"exact": False, "samples": 24}, "modality-shares": {"samples": 32}}


@pytest.fixture
def asked(mllm):
    sample = world.sample(1, 3, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)


@pytest.fixture
def full(mllm):
    """`tiny` on a machine that has memory for five rows."""
    def refuse(module, args, kwargs):
        if len(kwargs["input_ids"]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB.")
    handle = mllm.model.register_forward_pre_hook(refuse, with_kwargs=True)
    yield replace(mllm)
    handle.remove()


def numbers(result):
    return getattr(result, "values", getattr(result, "word_chance", None))


@pytest.mark.filterwarnings("ignore:.*out of memory")
@pytest.mark.parametrize("slug", methods())
def test_every_method_gives_the_same_with_memory_for_five_rows(mllm, full, asked, slug):
    explain, few, plain = methods()[slug].explain, FEW.get(slug, {}), replace(mllm)
    target = mllm.target(asked)
    before = plain.passes, plain.backward_passes
    wanted, found = explain(plain, asked, target, **few), explain(full, asked, target, **few)
    assert np.allclose(numbers(found), numbers(wanted), atol=mllm.slack)
    assert (full.passes, full.backward_passes) == (plain.passes, plain.backward_passes) != before      # failed runs are not counted


@pytest.mark.filterwarnings("ignore:.*out of memory")
def test_answers_scores_and_gradients_of_many_rows_are_the_same_with_memory_for_five(mllm, full, asked):
    samples, target = world.sample(13, 5, kinds=("color", "count")), mllm.target(asked)
    pictures, questions = [s.picture for s in samples], [s.question for s in samples]
    assert full.answers(pictures, questions) == mllm.answers(pictures, questions)
    full.batch_size = 64
    assert torch.allclose(full.score(asked, target, iter(pictures)), mllm.score(asked, target, pictures), atol=mllm.slack)
    full.batch_size = 64
    streams = merged(mllm, asked, target).repeat(13, 1, 1) + 0.01 * torch.arange(13)[:, None, None]
    for one, other in zip((score(full, asked, target, streams), *gradients(full, asked, target, streams)),
                          (score(mllm, asked, target, streams), *gradients(mllm, asked, target, streams))):
        assert torch.allclose(one, other, atol=mllm.slack)


@pytest.mark.filterwarnings("ignore:.*out of memory")
def test_each_picture_keeps_its_own_missing_words_when_a_batch_is_run_again(mllm, full, asked):
    """The rows of `gone` belong to pictures: a counter that runs on through a failed batch would shift them."""
    gone = np.random.default_rng(0).random((13, len(asked.tokens.words))) < 0.5
    pictures, target = [asked.picture] * 13, mllm.target(asked)
    wanted = [covers.score(mllm, asked, target, pictures[:1], row[None])[0] for row in gone]
    assert np.allclose(covers.score(full, asked, target, iter(pictures), gone), wanted, atol=mllm.slack)


class Counting:
    """A handle as far as batches look at it."""
    def __init__(self, room):
        self.name, self.batch_size, self.passes, self.backward_passes, self.room, self.ran = "it", 8, 0, 0, room, []

    def run(self, rows, error=torch.OutOfMemoryError):
        self.passes += len(rows)
        if len(rows) > self.room:
            raise error("CUDA out of memory.")
        self.ran.append(rows)
        return sum(rows)


def test_a_batch_is_halved_until_it_fits_and_stays_so():
    it = Counting(room=3)
    with pytest.warns(UserWarning, match="out of memory with 8 rows in a batch; going on with 4") as heard:
        assert sum(in_batches(it, list(range(11)), it.run)) == 55
    assert it.ran == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10]] and it.batch_size == 2 and it.passes == 11 and len(heard) == 2
    in_batches(it, [1, 2, 3], it.run)                            # from now on without a try that is bound to fail
    assert it.ran[-2:] == [[1, 2], [3]]


def test_a_row_that_does_not_fit_is_refused_with_what_to_do():
    it = Counting(room=0)
    with pytest.raises(Refusal, match="single row.*device_map"), pytest.warns(UserWarning):
        in_batches(it, [1, 2, 3], it.run)
    assert not batches._BARS


@pytest.mark.parametrize("error, caught", [(RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
                                           (torch.OutOfMemoryError("CUDA out of memory"), True), (RuntimeError("shapes differ"), False)])
def test_only_a_lack_of_memory_is_answered_by_a_smaller_batch(error, caught):
    assert batches.out_of_memory(error) == caught
    it, tries = Counting(room=9), []

    def run(rows):
        tries.append(len(rows))
        if len(tries) == 1:
            raise error
        return it.run(rows)
    if caught:
        with pytest.warns(UserWarning):
            assert sum(in_batches(it, [1, 2, 3, 4], run)) == 10
    else:
        with pytest.raises(RuntimeError, match="shapes differ"):
            in_batches(it, [1, 2, 3, 4], run)
    assert len(tries) == (3 if caught else 1) and not batches._BARS


def test_loops_within_a_loop_count_on_the_outermost_bar(monkeypatch):
    monkeypatch.setattr(batches, "WAIT", 0)
    it = Counting(room=9)
    with progress(6, "outer"):
        bar = batches._BARS[0]
        for start, stop in spans(6, 4):
            in_batches(it, list(range(start, stop)), it.run)
        assert (bar.n, bar.total, bar.desc) == (6, 6, "outer") and len(batches._BARS) == 1
    assert not batches._BARS


def test_spans_cover_all_rows_once():
    assert spans(7, 3) == [(0, 3), (3, 6), (6, 7)] and spans(0, 3) == []
