"""`mini-lib scoreboard`: score all methods that give a map, on samples whose truth is known."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..records import place as places
from ..records import team
from ..refusal import Refusal, nearest


def add_parser(subparsers, load: Callable) -> None:
    """Add `scoreboard` to the command line. load: `load(model, device, dtype, device_map, checkpoint)` gives a handle."""
    parser = subparsers.add_parser("scoreboard", help="score every method beside floors and ceilings; goes on where it stopped")
    parser.add_argument("--model", help="Hugging Face id, folder or tiny-seed1, -twin, -random; tiny by itself")
    parser.add_argument("--checkpoint", type=int, metavar="N", help="an earlier state of tiny, counted from 1")
    parser.add_argument("--device", help="cuda, cpu …; the GPU when there is one")
    parser.add_argument("--dtype", help="float32, float16 or bfloat16; as stored by itself")
    parser.add_argument("--device-map", metavar="MAP", help="handed to transformers, for example auto")
    parser.add_argument("--methods", nargs="+", default=(), metavar="SLUG", help="all that give a map by itself")
    parser.add_argument("--samples", type=int, default=200, metavar="N", help="questions to ask; those answered wrong are left out")
    parser.add_argument("--few", type=int, metavar="N", help="how many also get the costly controls; a fifth of --samples by itself")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cover", default="mean", help="what covered patches show: mean, blur or black")
    parser.add_argument("--zoom", type=int, default=1, metavar="N", help="enlarge the pictures N times, for large patches")
    parser.add_argument("--sort", default="pointing", metavar="METRIC", help="what rows are sorted by")
    parser.add_argument("--out", default="runs/scoreboard", metavar="DIR", help="folder of the run, or a .json file beside it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="store the scoreboard of tiny and its page in the book")
    parser.set_defaults(run=partial(scoreboard, load))


def scoreboard(load: Callable, args) -> int:
    """Run the command; returns its exit code. All that can be refused is refused before the model is loaded."""
    few = max(1, args.samples // 5) if args.few is None else args.few
    for option, value, least in (("--samples", args.samples, 1), ("--few", few, 0), ("--seed", args.seed, 0), ("--zoom", args.zoom, 1)):
        if value < least:
            raise Refusal(f"{option} {value}: give {least} or more.")
    if args.write and (args.model not in (None, "tiny") or args.checkpoint is not None):
        raise Refusal("--write stores the scoreboard of tiny itself; leave --model and --checkpoint out.")
    file = Path(args.out) if args.out.endswith(".json") else Path(args.out) / "scoreboard.json"
    folder = file.with_suffix("") if args.out.endswith(".json") else file.parent
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"--out {args.out!r}: {str(folder)!r} is a file; give the name of a folder.")
    from ..covers import COVERS
    from . import run as runs
    from .measure import METRICS
    from .rows import all_rows
    from .table import sort_rows, text
    for option, value, known in (("--cover", args.cover, COVERS), ("--sort", args.sort, METRICS)):
        if value not in known:
            raise Refusal(f"{option} {value!r} is not known{nearest(value, known)}")
    rows, options = all_rows(args.methods), runs.Options(args.samples, few, args.seed, args.cover, args.zoom)

    state = team(args.device)
    place, wait = places(state)
    device = args.device if state is None else None if args.device_map else str(state.device)
    mllm = load(args.model, device, args.dtype, args.device_map, args.checkpoint)
    found = runs.run(mllm, rows, options, folder, place, wait)
    if place[0]:
        return 0
    found = {**found, "sorted_by": args.sort, "rows": sort_rows(found["rows"], args.sort)}
    beside = file.with_suffix(".json.part")
    beside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, file)                                     # never half a file
    print(json.dumps(found, indent=1) if args.json else text(found))
    print(f"wrote {file}", file=sys.stderr)
    if args.write:
        from ..book import root
        from . import page
        page.write(found, root())
    return 0
