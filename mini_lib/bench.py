"""How long each method takes, in units of the forward passes it says it costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial


def bench(mllm, prompt, methods: dict, runs: int = 7) -> Iterator[str]:
    """Yield a line per method: median and range of `runs` runs, and how that compares with bare forward passes.

    The bare cost is scoring as many pictures: reading them and one forward pass each. A method close to 1 wastes
    nothing; below 1 it saves something, as token ablation does, which runs the vision tower once.
    """
    target = mllm.target(prompt)
    yield f"{'one question':16} {_say(_times(partial(mllm.score, prompt, target), runs))}"
    for method in methods.values():
        result = method.explain(mllm, prompt)
        passes = result.measured["forward_passes"]
        bare = statistics.median(_times(partial(mllm.score, prompt, target, [prompt.picture] * passes), runs))
        taken = _times(partial(method.explain, mllm, prompt), runs)
        yield (f"{method.slug:16} {_say(taken)}; {passes} forward passes, "
               f"{statistics.median(taken) / bare:.2f} times the bare passes")


def _times(function: Callable, runs: int) -> list[float]:
    function()                                       # the first call pays for warming up
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)


def _say(times: list[float]) -> str:
    return f"{1000 * statistics.median(times):.1f} ms ({1000 * times[0]:.1f} to {1000 * times[-1]:.1f}, n = {len(times)})"
