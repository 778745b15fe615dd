"""Measure every row on every case: resumable after a kill, and shared among processes.

Each process writes a file of its own in the run's folder, `records-K.jsonl`: a header, then one line for each row and case,
appended in one write as soon as it is known. Records are put together by their key (row, case), so that one that stands in
two files counts once, and a line that was torn off is measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import torch
from tqdm import tqdm

from .. import __version__
from ..book import versions
from ..evaluate import redrawn
from ..refusal import Refusal
from .cases import draw, right
from .measure import measure, prepare
from .rows import Row
from .table import board

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")     # where launchers say how many processes run


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
    with _appending(out / f"records-{process[0]}.jsonl", head) as file, \
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
                file.write(_line(record))
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


def fingerprint(network: torch.nn.Module) -> str:
    """A hash of names, types, shapes and up to 1,024 evenly spaced numbers of every tensor: enough to tell two trainings
    apart in a second, not to prove that nothing was touched."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not tensor.is_meta:                                  # offloaded weights are not here to be read
            flat = tensor.detach().flatten()
            digest.update(flat[::max(1, len(flat) // 1024)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def read(out: Path, head: dict) -> dict[tuple[str, int], dict]:
    """All whole records in a folder by (row, case), each once. Raises Refusal for a file whose header is another."""
    found: dict[tuple[str, int], dict] = {}
    for path in sorted(out.glob("records-*.jsonl")):
        lines = _whole(path)
        if not lines:
            continue                                            # another process is just writing its header
        first, *records = lines
        for name in head:
            if not isinstance(first, dict) or first.get(name) != head[name]:
                raise Refusal(f"{str(out)!r} holds a scoreboard with {_said(name, first)}, not {_said(name, head)}; "
                              "give another --out, or delete that folder.")
        for record in filter(None, records):
            found.setdefault((record["row"], record["case"]), record)
    return found


def team(device: str | None = None):
    """accelerate's state where a launcher started several processes, else None.

    `accelerate launch` starts one process a GPU; on CPUs `torchrun` does. Raises Refusal when accelerate is missing.
    """
    if not any(int(os.environ.get(name) or 1) > 1 for name in SIZES):
        return None
    try:
        from accelerate import PartialState
    except ImportError:
        raise Refusal("Several processes were started, and sharing the work needs a package that is missing: "
                      "pip install accelerate") from None
    # Shares end at different times, on a slow model hours apart; the usual limit on waiting is minutes.
    return PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=timedelta(days=7))


def _whole(path: Path) -> list[dict | None]:
    """The lines that end, parsed; None for a damaged one, which is measured again."""
    data = path.read_bytes()
    return [_parsed(line) for line in data[:data.rfind(b"\n") + 1].splitlines()]


def _parsed(line: bytes) -> dict | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _appending(path: Path, head: dict):
    """The file opened for unbuffered appending: a torn last line cut off, the header in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes() if path.exists() else b""
    file = open(path, "ab", buffering=0)
    file.truncate(data.rfind(b"\n") + 1)
    if b"\n" not in data:
        file.write(_line(head))
    return file


def _line(record: dict) -> bytes:
    return (json.dumps(record) + "\n").encode()


def _said(name: str, head) -> str:
    value = head.get(name) if isinstance(head, dict) else None
    return f"the methods {', '.join(value)}" if name == "rows" and value else f"{name} {value!r}"
