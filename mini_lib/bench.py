"""What each method costs, against the passes that it says it makes; and other libraries at the same work (`bench_others.py`).

    ratio = seconds of the method / (forward passes x seconds of one + backward passes x seconds of one)

A plain pass is timed per row, in batches of the size that the method can use, on inputs that are ready. So 1 wastes nothing; below 1
saves something, as do methods of the merged stream, which run the vision tower once.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from .bench_others import Work, others
from .hooks import attention
from .refusal import Refusal
from .streams import gradients, merged, score


@dataclass(frozen=True)
class Cost:
    """times: seconds of each run, sorted.  passes: forward and backward passes of one run.  plain: seconds of as many plain ones.

    memory: MB at the peak of a run beyond that of the plain passes; None where it cannot be told.
    """

    name: str
    times: list[float]
    passes: tuple[int, int]
    plain: float
    memory: float | None = None

    @property
    def ratio(self) -> float:
        return statistics.median(self.times) / self.plain

    def __str__(self) -> str:
        said = f"{1000 * statistics.median(self.times):.1f} ms ({1000 * self.times[0]:.1f} to {1000 * self.times[-1]:.1f}, n = {len(self.times)})"
        forward, backward = self.passes
        more = "" if self.memory is None else f", {self.memory:+,.0f} MB"
        return f"{self.name:32} {said}; {forward} forward, {backward} backward passes: {self.ratio:.2f} times the plain ones{more}"


def bench(mllm, prompt, methods: dict, runs: int = 5) -> Iterator[Cost]:
    """A Cost for each method, its runs in turn with the plain passes it is held against; then those of other libraries beside ours.

    The first is no method but attention as far as one position looks: what it costs to see any of it.
    The answer is found beforehand: generation is in no method's count.
    """
    target = mllm.target(prompt)

    def rows():
        with attention(mllm, queries=[-1]):
            mllm.logits(prompt.inputs)

    yield from costs(mllm, prompt, target, {"attention of one position": rows}, runs)
    for method in methods.values():
        yield from costs(mllm, prompt, target, {method.slug: partial(method.explain, mllm, prompt, target)}, runs)
    for slug, theirs in others(mllm, prompt, target).items():
        if slug in methods:
            yield from costs(mllm, prompt, target, {slug: partial(methods[slug].explain, mllm, prompt, target), **theirs}, runs)


def costs(mllm, prompt, target, functions: dict[str, Callable], runs: int) -> list[Cost]:
    """The costs of functions that are run in turn, so that what else the machine does falls on all of them alike.

    Passes are those that `mllm` counts; a function that makes its own returns a `Work`, which has them.
    """
    passes = {}
    for name, function in functions.items():                                        # this also pays for warming up
        before = mllm.passes, mllm.backward_passes
        own = function()
        passes[name] = (own.forward, own.backward) if isinstance(own, Work) else (mllm.passes - before[0], mllm.backward_passes - before[1])
    sizes = [max(1, min(mllm.batch_size, max(made))) for made in zip(*passes.values())]
    forward, both = _plain(mllm, prompt, target, *sizes)
    for plain in (*forward, both):
        plain()
    plain = peak(both if any(made[1] for made in passes.values()) else forward[0])
    peaks = {name: peak(function) for name, function in functions.items()}
    timed = _times([*functions.values(), *forward, both], runs)
    seconds = [statistics.median(one) for one in timed[len(functions):]]
    each = seconds[0] / sizes[0], (seconds[2] - seconds[1]) / sizes[1]
    return [Cost(name, sorted(times), passes[name], sum(n * one for n, one in zip(passes[name], each)),
                 None if plain is None else peaks[name] - plain) for name, times in zip(functions, timed)]


def peak(function: Callable) -> float | None:
    """MB that a call needs at its peak beyond what is held before it: of the GPU, or of this process under Linux; else None."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - held) / 1e6
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        reset.write_text("5")                                            # the highest resident size begins anew
        held = _resident(status, "VmRSS")
        function()
        return _resident(status, "VmHWM") - held
    except OSError:
        return None


def _resident(status: Path, name: str) -> float:
    return next(float(row.split()[1]) for row in status.read_text().splitlines() if row.startswith(f"{name}:")) / 1e3


def _plain(mllm, prompt, target, rows: int, rows_back: int) -> tuple[list[Callable], Callable]:
    """A forward pass of `rows` rows from pixels on; and of `rows_back` from the merged stream on, without and with a backward pass."""
    inputs, stream = mllm.forced(prompt, target), merged(mllm, prompt, target)
    many = {name: value.repeat(rows, *[1] * (value.dim() - 1)) for name, value in inputs.items()}
    streams = stream.repeat(rows_back, 1, 1)
    return [partial(mllm.score_inputs, many, target), partial(score, mllm, prompt, target, streams)], partial(
        gradients, mllm, prompt, target, streams)


def _times(functions: list[Callable], runs: int) -> list[list[float]]:
    """Seconds of `runs` runs of each function, one after the other in turn."""
    times = [[] for _ in functions]
    for _ in range(runs):
        for function, kept in zip(functions, times):
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            kept.append(time.perf_counter() - start)
    return times


def run(args, load: Callable) -> int:
    """`mini-lib bench`; load: as of `scoreboard.commands.add_parser`. Slips are refused before a model is made."""
    from .registry import find, methods
    chosen = {method.slug: method for method in map(find, args.method)} if args.method else methods()
    for option, value in (("--layers", args.layers), ("--runs", args.runs)):
        if value is not None and value < 1:
            raise Refusal(f"{option} {value}: give 1 or more.")
    if args.model and args.wide or args.layers and not args.wide:
        raise Refusal("--layers goes with --wide, and --wide is a model of its own; leave the other out.")
    from . import world
    if args.wide:
        from .bench_wide import QUICK, wide
        mllm = wide(args.layers)
        if mllm.device.type == "cpu" and not args.method:
            chosen = {slug: chosen[slug] for slug in QUICK}
    else:
        mllm = load(args.model)
    sample = world.sample(1, seed=0, kinds=("color",))[0]
    print(mllm)
    for row in bench(mllm, mllm.prompt(sample.picture, sample.question), chosen, args.runs):
        print(row, flush=True)
    return 0
