"""Many rows through a model: a batch at a time, with a bar, and with smaller batches when memory runs out.

    parts = in_batches(mllm, rows, run)             # [run(rows[0:64]), run(rows[64:128]), …]
    for start, stop in spans(1000, mllm.batch_size): ...        # for what has to be made a batch at a time
    with progress(1000, "rise"): ...                # what runs inside counts on this bar

A limit on memory is honoured in the same way: `torch.cuda.set_per_process_memory_fraction(0.5)` makes torch run out earlier.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from contextlib import contextmanager

import torch
from tqdm import tqdm

from .refusal import Refusal

WAIT = 5                            # seconds of work before a bar is shown
_BARS: list[tqdm] = []              # the one bar in use: loops within a loop count on the outermost


def in_batches(mllm, rows, run: Callable) -> list:
    """What `run` returns for each batch of rows, in order.

    rows: anything with a length that can be sliced: a list, an array, a tensor.  run: takes such a slice, and may be called again
    with a part of it. When memory runs out, `mllm.batch_size` is halved for good, with a warning, and nothing that was done is lost.
    Raises Refusal when even one row is too much.
    """
    out, at = [], 0
    with progress(len(rows), mllm.name):
        while at < len(rows):
            part, before = rows[at:at + mllm.batch_size], (mllm.passes, mllm.backward_passes)
            full = None
            try:
                out.append(run(part))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                full = str(error).strip().splitlines()[0]
            if full is None:
                at += len(part)
                _BARS[-1].update(len(part))
                continue
            # Not within `except`: the traceback holds on to every tensor of the failed run.
            mllm.passes, mllm.backward_passes = before
            _free()
            if len(part) == 1:
                raise Refusal(f"{mllm.name} runs out of memory on a single row ({full}). Take a smaller picture, dtype=torch.bfloat16, "
                              "a quantised model, or device_map=\"auto\", which also uses the CPU and the disk.")
            mllm.batch_size = len(part) // 2
            warnings.warn(f"{mllm.name}: out of memory with {len(part)} rows in a batch; going on with {mllm.batch_size}.", stacklevel=2)
    return out


def spans(total: int, size: int) -> list[tuple[int, int]]:
    """Where batches of `size` rows start and stop. A list, because `mllm.batch_size` may shrink on the way."""
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error) or "out of memory" in str(error).lower()


@contextmanager
def progress(total: int, what: str):
    """A bar over `total` rows, shown after some seconds and gone at the end; within another one, none of its own."""
    if _BARS:
        yield
        return
    with tqdm(total=total, desc=what, unit="row", delay=WAIT, leave=False) as bar:
        _BARS.append(bar)
        try:
            yield
        finally:
            _BARS.pop()


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
