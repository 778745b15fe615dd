"""Answer and explain every row of a data set: `mini-lib sweep DATA --method SLUG`. Resumable, and shared among processes.

    accelerate launch -m mini_lib sweep my-folder --model org/name --method occlusion --out runs/mine

Each process takes every n-th row and appends what it finds (`mini_lib.records`); in the end all is put together in sweep.jsonl, in the
order of the rows. Pictures and maps pass through one at a time, so memory stays flat.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from . import __version__
from .data_sets import rows
from .records import appending, at, find, fingerprint, line, place, team
from .refusal import Refusal

KEY = ("index", "method")


def sweep(mllm, source, methods: Sequence, out: str | Path, first: int | None = None, process: tuple[int, int] = (0, 1),
          wait: Callable = lambda: None) -> dict:
    """Explain the answer to every row with every method, as far as that is still missing in folder `out`.

    source: as of `data_sets.rows`.  methods: registered ones.  first: only so many rows.  process, wait: as of `scoreboard.run`.
    A picture that cannot be opened, or a method that refuses, is a record too, with the reason.
    Returns {"rows", "explained", "refused", "file"}; the file has one line {"index", "name", "question", "answer", "method",
    "result"} for each row and method, "result" as of `to_dict`.  Raises Refusal for a folder of other work, and in the end when
    records of other processes are missing.
    """
    out, slugs = Path(out), [method.slug for method in methods]
    head = {"schema": 1, "version": __version__, "model": mllm.name, "fingerprint": fingerprint(mllm.model), "data": _name(source),
            "methods": slugs}
    done, count = find(out, head, KEY, "sweep"), 0
    with appending(out / f"records-{process[0]}.jsonl", head) as file, \
            tqdm(desc="sweep", unit="row", disable=True if process[0] else None) as bar:           # None: shown in a terminal only
        for asked in islice(rows(source), first):
            count += 1
            left = [method for method in methods if (asked.index, method.slug) not in done]
            if asked.index % process[1] == process[0]:
                for record in _explained(mllm, asked, left):
                    file.write(line(record))
                bar.update()
    wait()
    done = find(out, head, KEY, "sweep")
    wanted = [(index, slug) for index in range(count) for slug in slugs]
    missing = sum(key not in done for key in wanted)
    if missing:
        raise Refusal(f"{str(out)!r} still lacks {missing} of {len(wanted)} records, of a process that stopped early; run the same command again.")
    refused = 0
    beside = out / "sweep.jsonl.part"
    if not process[0]:
        with open(beside, "wb") as merged:
            for key in wanted:
                record = at(*done[key])
                refused += "refused" in record
                merged.write(line(record))
        os.replace(beside, out / "sweep.jsonl")                         # never half a file
    return {"rows": count, "explained": len(wanted) - refused, "refused": refused, "file": str(out / "sweep.jsonl")}


def _explained(mllm, asked, methods):
    """One record for each method; the answer is found once."""
    if not methods:
        return
    known = {"index": asked.index, "name": asked.name, "question": asked.question}
    try:
        prompt = mllm.prompt(asked.picture(), asked.question)
        target = mllm.target(prompt)
    except Refusal as refusal:
        yield from ({**known, "method": method.slug, "refused": str(refusal)} for method in methods)
        return
    for method in methods:
        record = {**known, "answer": target.text, "method": method.slug}
        try:
            yield {**record, "result": method.explain(mllm, prompt, target).to_dict()}
        except Refusal as refusal:
            yield {**record, "refused": str(refusal)}


def _name(source) -> str:
    """What a data set is called in the header: a folder by its place, so that another one is not taken for it."""
    if isinstance(source, (str, Path)):
        return str(source) if str(source).startswith("hf:") else str(Path(source).resolve())
    return str(getattr(source, "info", None) and source.info.dataset_name or type(source).__name__)


def add_parser(commands, load: Callable) -> None:
    """`mini-lib sweep DATA`. load: as of `scoreboard.commands.add_parser`."""
    parser = commands.add_parser("sweep", help="answer and explain every question of a data set; goes on where it stopped")
    parser.add_argument("data", metavar="DATA", help="a folder with pictures and questions.jsonl, or hf:NAME[:SPLIT]")
    parser.add_argument("--method", nargs="+", default=["occlusion"], metavar="SLUG")
    parser.add_argument("--model")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--device-map", metavar="MAP")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N rows")
    parser.add_argument("--out", default="runs/sweep", metavar="DIR")
    parser.set_defaults(run=partial(_run, load))


def _run(load: Callable, args) -> int:
    from .registry import find as method
    methods = [method(slug) for slug in dict.fromkeys(args.method)]
    for one in methods:
        if one.many:
            raise Refusal(f"{one.slug} compares many prompts and does not explain them one by one; call it from Python.")
    if args.first is not None and args.first < 1:
        raise Refusal(f"--first {args.first}: give 1 or more.")
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise Refusal(f"--out {args.out!r} is a file; give the name of a folder.")
    next(rows(args.data), None)                                         # a wrong folder is refused before the model is loaded
    state = team(args.device)
    process, wait = place(state)
    device = args.device if state is None else None if args.device_map else str(state.device)
    found = sweep(load(args.model, device, args.dtype, args.device_map, None), args.data, methods, args.out, args.first, process, wait)
    if not process[0]:
        print(json.dumps(found, indent=1))
    return 0
