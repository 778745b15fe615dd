"""The `mini-lib` command: thin wrappers around functions of the library. Bad input is one sentence and exit code 2."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import __version__, sweep
from .book import commands as book_commands
from .families import commands as families_commands
from .refusal import Refusal
from .scoreboard import commands as scoreboard_commands
from .taxonomy import commands as taxonomy_commands


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        code = args.run(args) or 0
        sys.stdout.flush()               # here, and not as the interpreter ends, where nothing could be caught
        return code
    except BrokenPipeError:              # `… | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141                       # as a shell reports a command that ended so
    except Refusal as refusal:
        print(f"mini-lib: {refusal}", file=sys.stderr)
        return 2
    except OSError as error:         # a folder that may not be written, a full disk: for the user to mend
        print(f"mini-lib: {error.filename or 'stopped'}: {_first_line(error.strerror or error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mini-lib: stopped; what was saved so far is kept.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mini-lib", description="Explain multimodal LLMs, and measure whether it is right.")
    parser.add_argument("--version", action="version", version=f"mini-lib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    explain = commands.add_parser("explain", help="explain the answer to a question about a picture")
    explain.add_argument("picture", metavar="IMAGE", help="a picture, or a folder written by `mini-lib world sample`")
    explain.add_argument("question", nargs="?", metavar="QUESTION")
    explain.add_argument("--model", help="Hugging Face id, folder or tiny-seed1, -twin, -random; tiny by itself")
    explain.add_argument("--checkpoint", type=int, metavar="N", help="an earlier state of tiny, counted from 1")
    explain.add_argument("--method", default="occlusion", metavar="SLUG", help="a method or a node; see `mini-lib methods`")
    explain.add_argument("--token", metavar="WORD", help="explain this word instead of the whole answer")
    explain.add_argument("--device", help="cuda, cpu …; the GPU when there is one")
    explain.add_argument("--dtype", help="float32, float16 or bfloat16; as stored by itself")
    explain.add_argument("--device-map", metavar="MAP", help="handed to transformers, for example auto")
    explain.add_argument("--out", metavar="FILE", help=".png, .json or .html; .json for a folder")
    explain.set_defaults(run=_explain)

    methods = commands.add_parser("methods", help="every method, its node and its cost")
    methods.set_defaults(run=_methods)

    check = commands.add_parser("check", help="put a model and its methods through the conformance battery")
    check.add_argument("slugs", nargs="*", metavar="SLUG", help="methods or nodes; all by itself")
    check.add_argument("--all", action="store_true", help="every method")
    check.add_argument("--model")
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_check)

    world = commands.add_parser("world", help="Shapeland").add_subparsers(required=True, metavar="COMMAND")
    sample = world.add_parser("sample", help="write pictures, questions and their truth to a folder")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--n", type=int, default=10)
    sample.add_argument("--out", required=True, metavar="DIR")
    sample.add_argument("--kinds", nargs="+", metavar="KIND", help="color shape count exist relation (these by themselves) size digit")
    sample.set_defaults(run=_world_sample)

    train = commands.add_parser("train", help="train tiny from nothing, or go on with a run")
    train.add_argument("--out", default="runs/tiny", metavar="DIR")
    train.add_argument("--config", metavar="FILE", help="another recipe")
    train.add_argument("--seed", type=int, help="another seed than the recipe's")
    train.add_argument("--twin", action="store_true", help="with every planted dose at 0")
    train.add_argument("--ship", metavar="NAME", help="take the finished run into the package as tiny, tiny-seed1 or tiny-twin")
    train.add_argument("--device")
    train.add_argument("--minutes", type=float, help="stop after so long; the next call goes on")
    train.set_defaults(run=_train)

    card = commands.add_parser("card", help="measure tiny again")
    card.add_argument("--samples", type=int, default=2000)
    card.add_argument("--seed", type=int, default=1)
    card.add_argument("--model")
    card.add_argument("--checkpoint", type=int, metavar="N")
    card.add_argument("--json", action="store_true")
    card.add_argument("--write", action="store_true", help="store the card and its page in the book")
    card.set_defaults(run=_card)

    bench = commands.add_parser("bench", help="time what each method costs on tiny")
    bench.add_argument("--model")
    bench.add_argument("--method", nargs="+", metavar="SLUG", help="all by itself; with --wide on a CPU those of a few passes")
    bench.add_argument("--wide", action="store_true", help="an untrained model of LLaVA-1.5's full width: all 32 layers where a GPU holds them")
    bench.add_argument("--layers", type=int, metavar="N", help="of --wide")
    bench.add_argument("--runs", type=int, default=5, metavar="N", help="how often each is timed")
    bench.set_defaults(run=_bench)

    families_commands.add_parser(commands)
    scoreboard_commands.add_parser(commands, _load)
    sweep.add_parser(commands, _load)
    book_commands.add_parser(commands)
    taxonomy_commands.add_parser(commands)
    return parser


DTYPES = ("float32", "float16", "bfloat16")
STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")   # what --device-map takes besides a device


def _load(model: str | None, device: str | None = None, dtype: str | None = None, device_map: str | None = None,
          checkpoint: int | None = None):
    if dtype not in (None, *DTYPES):
        raise Refusal(f"--dtype {dtype!r}: give {', '.join(DTYPES[:-1])} or {DTYPES[-1]}.")
    _check_device("--device", device)
    if device_map not in STRATEGIES:
        _check_device("--device-map", device_map)
    import transformers

    from .loading import load
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return load(model, checkpoint=checkpoint, device=device, dtype=dtype, device_map=device_map)
    except ImportError as error:     # a package that only some models or options need
        raise Refusal(f"A package is missing: {_first_line(error)}") from None


def _check_device(option: str, name: str | None) -> None:
    if name is None:
        return
    import torch
    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        raise Refusal(f"{option} {name!r} cannot be used here ({_first_line(error)}); try cpu.") from None


def _check_out(out: str | None, suffixes: tuple[str, ...], what: str) -> str | None:
    """The suffix of `out`. A file that cannot be written is refused now, not after minutes of work."""
    if out is None:
        return None
    path = Path(out)
    if path.suffix not in suffixes:
        raise Refusal(f"--out {out!r}: the name for {what} has to end in {' or '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise Refusal(f"--out {out!r}: there is no folder {str(path.parent)!r}; make it first.")
    if path.is_dir():
        raise Refusal(f"--out {out!r} is a folder; give the name of a file.")
    return path.suffix


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise Refusal(f"--seed {seed}: give zero or more.")


def _first_line(error) -> str:
    return str(error).strip().split("\n")[0]


def _explain(args) -> int:
    # All that can be refused is refused before the model: a slip in a name should not cost a load.
    folder = Path(args.picture)
    scores = folder.is_dir() and args.question is None
    suffix = _check_out(args.out, (".json",) if scores else (".png", ".json", ".html"), "a folder's scores" if scores else "a map")
    from .registry import find
    method = find(args.method)
    if method.many:
        raise Refusal(f"{method.slug} compares many prompts, so that one picture is not enough; call it from Python: "
                      f"help({method.explain.__module__}).")
    if scores:
        return _explain_folder(args, method, folder)
    if args.question is None:
        raise Refusal("The question is missing: mini-lib explain IMAGE \"QUESTION\".")
    from .pictures import open_picture
    picture, notes = open_picture(args.picture)
    mllm = _load(args.model, args.device, args.dtype, args.device_map, args.checkpoint)
    prompt = mllm.prompt(picture, args.question)
    for note in (*notes, *prompt.notes):
        print(f"note: {note}")
    print(f"{mllm.name} answers: {mllm.answer(prompt)}")
    result = method.explain(mllm, prompt, args.token)
    print(result)
    print(f"measured: {', '.join(f'{k.replace(chr(95), chr(32))} {v}' for k, v in result.measured.items())}; cost: {method.cost}")
    if suffix == ".json":
        Path(args.out).write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")
    elif suffix == ".png":
        result.plot().savefig(args.out, dpi=150)
    elif suffix == ".html":
        result.explore().save(args.out)
    if suffix:
        print(f"wrote {args.out}")
    return 0


def _explain_folder(args, method, folder: Path) -> int:
    from .evaluate.folder import check_truth, score_folder
    if args.token is not None:
        raise Refusal(f"--token {args.token!r}: a folder's pictures have different answers; give one picture, or leave --token out.")
    check_truth(folder / "truth.jsonl")
    mllm = _load(args.model, args.device, args.dtype, args.device_map, args.checkpoint)
    scores = score_folder(mllm, method, folder)
    right = scores["answers"]
    print(f"answers right: {right['mean']:.1%} ({right['low']:.1%} to {right['high']:.1%}), n = {right['n']}")
    print("peak of the map on an object that the answer rests on:")
    for name, row in scores["pointing"].items():
        print(f"  {name:18} {row['mean']:.1%} ({row['low']:.1%} to {row['high']:.1%}), n = {row['n']}" if row["n"] else f"  {name}: none")
    if args.out:
        Path(args.out).write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {args.out}")
    return 0


def _methods(args) -> int:
    from .registry import methods
    for method in methods().values():
        print(f"{method.slug:16} {method.node:28} {method.cost}\n{'':16} {method.paper}")
    return 0


def _check(args) -> int:
    from .registry import find, methods
    if args.slugs and args.all:
        raise Refusal("--all runs every method; leave it out, or the names.")
    chosen = {method.slug: method for method in map(find, args.slugs)} or methods()
    mllm = _load(args.model)
    from .conformance.report import report
    return report(mllm, list(chosen.values()), args.json)


def _world_sample(args) -> int:
    from . import world
    from .refusal import nearest
    kinds = tuple(dict.fromkeys(args.kinds or world.KINDS))
    _check_seed(args.seed)
    known = (*world.KINDS, *world.MORE_KINDS)
    for kind in kinds:
        if kind not in known:
            raise Refusal(f"There is no kind of question {kind!r}{nearest(kind, known)}")
    if args.n < 1:
        raise Refusal(f"--n {args.n}: ask for at least one sample.")
    if Path(args.out).exists() and not Path(args.out).is_dir():
        raise Refusal(f"--out {args.out!r} is a file; give the name of a folder.")
    folder = world.write(world.sample(args.n, args.seed, kinds), args.out)
    print(f"wrote {args.n} samples to {folder} (pictures, masks, twins and truth.jsonl)")
    return 0


def _train(args) -> int:
    from .tiny.build import CONFIG
    from .tiny.train import recipe, train
    _check_device("--device", args.device)
    if args.seed is not None:
        _check_seed(args.seed)
    try:
        config = recipe(args.seed, planted=not args.twin, path=args.config or CONFIG)
        folder = train(args.out, config, args.device, args.minutes)
    except FileNotFoundError as error:
        raise Refusal(f"There is no recipe {error.filename!r}.") from None
    except ValueError as error:
        raise Refusal(str(error)) from None
    print(f"the model is in {folder}")
    if args.ship:
        from .tiny import store
        print(f"shipped as {args.ship} in {store.ship(args.out, args.ship)}")
    return 0


def _card(args) -> int:
    from .tiny import card as cards
    from .tiny import store
    if args.samples < 1:
        raise Refusal(f"--samples {args.samples}: measure at least one question per kind.")
    _check_seed(args.seed)
    tiny = args.model in (None, "tiny") and args.checkpoint is None
    if args.write and not tiny:
        raise Refusal("--write stores the card of tiny itself; leave --model and --checkpoint out.")
    mllm = _load(args.model, checkpoint=args.checkpoint)
    twin = _load("tiny-twin") if tiny and "tiny-twin" in store.names() else None
    for one in (mllm, twin):
        if one is not None:
            one.batch_size = 256
    card = cards.measure(mllm, args.samples, args.seed, twin)
    if args.json:
        print(json.dumps(card, indent=1))
    else:
        for name, row in cards.flat(card):
            print(f"{name:52} {row['accuracy']:6.1%}  ({row['low']:.1%} to {row['high']:.1%})  n = {row['n']}")
    if args.write:
        from .book import root
        from .tiny import page
        from .tiny.build import read_config
        page.write(card, read_config(), root())
    return 0


def _bench(args) -> int:
    from .bench import run
    return run(args, _load)
