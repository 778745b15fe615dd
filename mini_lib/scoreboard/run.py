"""Measure every row on every case: resumable after a kill, and shared among processes (`mini_lib.records`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from .. import __version__
from ..book import versions
from ..evaluate import redrawn
from ..records import appending, fingerprint, line, read
from ..refusal import Refusal
from .cases import draw, right
from .measure import measure, prepare
from .rows import Row
from .table import board


@dataclass(frozen=True)
class Options:
    """samples: questions drawn.  few: how many of those answered right also get the controls, which take two more maps and
    a second model; 0 for none.  cover: as in `evaluate.curves`.  zoom: as in `cases.draw`."""

    samples: int = 200
    few: int = 40
    seed: int = 0
    cover: str = "mean"
    zoom: int = 1


def run(mllm, rows: Sequence[Row], options: Options, out: str | Path, process: tuple[int, int] = (0, 1),
        wait: Callable = lambda: None) -> dict:
    """Measure what is still missing in folder `out`, and return the scoreboard of everything in it (see `table.board`), with
    the machine that it was finished on.

    process: number of this process, from 0, and how many there are.  wait: called once this process's share is done, to
    return when the others' are too.  Each case has random numbers of its own, so all scores but the seconds are the same
    in any order and any number of processes, up to roundings where the hardware differs.
    Raises Refusal for a folder made with another model, other options or another version, when no question is answered
    right, and when records of other processes are missing in the end.
    """
    out = Path(out)
    head = header(mllm, rows, options)
    done = read(out, head)
    cases, asked = right(mllm, draw(options.samples, options.seed, options.zoom))
    few, control = {case.index for case in cases[:options.few]}, None
    share = [(case, [row for row in rows if (row.name, case.index) not in done]) for case in cases[process[0]::process[1]]]
    with appending(out / f"records-{process[0]}.jsonl", head) as file, \
            tqdm(total=sum(len(left) for _, left in share), desc="scoreboard", unit="map",
                 disable=True if process[0] else None) as bar:              # None: shown in a terminal only
        for case, left in share:
            if not left:
                continue
            if case.index in few and control is None:
                control = redrawn(mllm, options.seed)
            ready = prepare(mllm, case, options.cover, options.seed, control if case.index in few else None)
            for row in left:
                record = {"row": row.name, "case": case.index}
                try:
                    record["scores"] = measure(mllm, row, ready, options.cover, options.seed)
                except Refusal as refusal:
                    record["refused"] = str(refusal)
                file.write(line(record))
                bar.update()
    wait()
    done = read(out, head)
    missing = sum((row.name, case.index) not in done for row in rows for case in cases)
    if missing:
        raise Refusal(f"{str(out)!r} still lacks {missing} of {len(rows) * len(cases)} records, of a process that stopped early; "
                      "run the same command again.")
    return {**board(head, asked, rows, [case.index for case in cases], done), "machine": machine(mllm)}


def machine(mllm) -> str:
    """What the seconds were taken on."""
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name(mllm.device) if mllm.device.type == "cuda" else f"{threads} thread{'s' * (threads > 1)} of a CPU"
    return ", ".join([where, *(f"{name} {version}" for name, version in versions().items() if name in ("torch", "transformers"))])


def header(mllm, rows: Sequence[Row], options: Options) -> dict:
    """What all records of a folder have in common."""
    return {"schema": 1, "version": __version__, "model": mllm.name, "fingerprint": fingerprint(mllm.model), **asdict(options),
            "rows": [row.name for row in rows]}
