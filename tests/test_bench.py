"""`mini-lib bench`: what it counts, and what it holds it against."""

import time
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from mini_lib import bench, bench_others, world
from mini_lib.registry import methods
from mini_lib.streams import gradients, merged


@pytest.fixture(scope="module")
def asked(mllm):
    sample = world.sample(1, seed=0, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    return prompt, mllm.target(prompt)


def test_a_cost_is_the_seconds_over_those_of_the_passes_made():
    cost = bench.Cost("mine", [1.0, 2.0, 9.0], (10, 4), 0.5)
    assert cost.ratio == 4 and "10 forward, 4 backward passes: 4.00 times" in str(cost) and "2000.0 ms (1000.0 to 9000.0, n = 3)" in str(cost)


def test_plain_passes_cost_about_1_and_a_method_that_sleeps_more(mllm, asked):
    prompt, target = asked
    stream = merged(mllm, prompt, target).repeat(32, 1, 1)

    def plain():
        gradients(mllm, prompt, target, stream)

    def slow():
        plain()
        time.sleep(0.5)

    one, other = bench.costs(mllm, prompt, target, {"plain": plain, "slow": slow}, 3)
    assert one.passes == other.passes == (32, 32)
    assert 0.3 < one.ratio < 1.5 and other.plain == one.plain and other.ratio > one.ratio
    assert min(other.times) > 0.5 and len(other.times) == 3


def test_each_method_has_a_cost_and_other_libraries_stand_beside_it(mllm, asked):
    small = replace(mllm, batch_size=8)
    known = {slug: methods()[slug] for slug in ("gradient-input", "token-ablation")}
    found = list(bench.bench(small, asked[0], known, runs=1))[1:]
    assert [cost.name for cost in found[:2]] == list(known) and found[0].passes == (3, 1)
    if not find_spec("captum"):
        pytest.skip("captum is not installed: nothing is timed beside it")
    ours, theirs = found[2:4]
    assert ours.name == "token-ablation" and theirs.name.startswith("captum") and abs(ours.passes[0] - theirs.passes[0]) <= 2
    assert ours.plain == pytest.approx(theirs.plain, rel=0.05)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("library, least", [("captum", 2), ("nnsight", 2), ("transformer_lens", 3)])
def test_other_libraries_do_the_same_work_in_about_as_many_passes(mllm, library, least):
    """A library that is given less to do, or does something else, would make a false ratio."""
    pytest.importorskip(library, reason=f"{library} is not installed: nothing is timed beside it")
    sample = world.sample(1, seed=4, kinds=("color",))[0]
    prompt = mllm.prompt(sample.picture, sample.question)
    target = mllm.target(prompt, "red" if sample.answer != "red" else "blue")        # of a word that it is sure of, nothing is lost
    ours = {"attention-knockout": lambda result: result.values[0], "logit-lens": lambda result: result.word_chance}
    works = getattr(bench_others, library)(mllm, prompt, target)
    assert len(works) >= least
    for (slug, name), function in works.items():
        found = methods()[slug].explain(mllm, prompt, target, **({"width": bench_others.WIDTH} if slug == "attention-knockout" else {}))
        wanted = np.asarray(ours.get(slug, lambda result: result.values)(found)).ravel()
        work = function()
        assert np.abs(wanted).max() > 0.001, slug
        assert work.values.ravel() == pytest.approx(wanted, abs=mllm.slack), name
        if slug != "attention-knockout":                         # of three edge sets it is given one
            assert abs(work.forward - found.measured["forward_passes"]) <= 2, name
        assert work.backward == found.measured.get("backward_passes", 0), name


def test_the_peak_of_a_call_is_what_it_held_at_most(mllm):
    import torch

    def holds():
        one = torch.ones(50_000_000)                             # 200 MB, and as much again while they are added
        return float((one + one)[0])
    if bench.peak(lambda: None) is None:
        pytest.skip("this system does not tell the highest memory of a process")
    assert 350 < bench.peak(holds) < 500


def test_attention_of_one_position_is_the_first_row_and_costs_little_more_than_a_pass(mllm, asked):
    first = next(bench.bench(mllm, asked[0], {}, runs=3))
    assert first.name == "attention of one position" and first.passes == (1, 0) and first.ratio < 3


@pytest.mark.parametrize("argv, says", [(["--layers", "2"], "--wide"), (["--wide", "--model", "tiny"], "leave the other out"),
                                        (["--runs", "0"], "--runs 0"), (["--method", "oclusion"], "occlusion")])
def test_slips_are_refused_before_a_model_is_made(capsys, argv, says):
    from mini_lib.cli import main
    assert main(["bench", *argv]) == 2
    assert says in capsys.readouterr().err
