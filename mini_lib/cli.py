"""The `mini-lib` command: thin wrappers around functions of the library. Bad input is one sentence and exit code 2."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import __version__
from .book import commands as book_commands
from .refusal import Refusal
from .taxonomy import commands as taxonomy_commands


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except Refusal as refusal:
        print(f"mini-lib: {refusal}", file=sys.stderr)
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
    explain.add_argument("--model", help="Hugging Face id or folder; tiny by itself")
    explain.add_argument("--method", default="occlusion", metavar="SLUG", help="a method or a node; see `mini-lib methods`")
    explain.add_argument("--token", metavar="WORD", help="explain this word instead of the whole answer")
    explain.add_argument("--device", help="cuda, cpu …; the GPU when there is one")
    explain.add_argument("--dtype", help="float32, bfloat16 …; as stored by itself")
    explain.add_argument("--device-map", metavar="MAP", help="handed to transformers, for example auto")
    explain.add_argument("--out", metavar="FILE", help=".png, .json or .html")
    explain.set_defaults(run=_explain)

    methods = commands.add_parser("methods", help="every method, its node and its cost")
    methods.set_defaults(run=_methods)

    check = commands.add_parser("check", help="run the executable identity of each method")
    check.add_argument("slugs", nargs="*", metavar="SLUG")
    check.add_argument("--model")
    check.set_defaults(run=_check)

    world = commands.add_parser("world", help="Shapeland").add_subparsers(required=True, metavar="COMMAND")
    sample = world.add_parser("sample", help="write pictures, questions and their truth to a folder")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--n", type=int, default=10)
    sample.add_argument("--out", required=True, metavar="DIR")
    sample.add_argument("--kinds", nargs="+", metavar="KIND", help="color shape count exist relation; all by themselves")
    sample.set_defaults(run=_world_sample)

    train = commands.add_parser("train", help="train tiny from nothing, or go on with a run")
    train.add_argument("--out", default="runs/tiny", metavar="DIR")
    train.add_argument("--config", metavar="FILE", help="another recipe")
    train.add_argument("--device")
    train.add_argument("--minutes", type=float, help="stop after so long; the next call goes on")
    train.set_defaults(run=_train)

    card = commands.add_parser("card", help="measure tiny again")
    card.add_argument("--samples", type=int, default=2000)
    card.add_argument("--seed", type=int, default=1)
    card.add_argument("--model")
    card.add_argument("--json", action="store_true")
    card.add_argument("--write", action="store_true", help="store the card and its page in the book")
    card.set_defaults(run=_card)

    bench = commands.add_parser("bench", help="time what each method costs on tiny")
    bench.add_argument("--model")
    bench.set_defaults(run=_bench)

    book_commands.add_parser(commands)
    taxonomy_commands.add_parser(commands)
    return parser


def _load(model: str | None, **kwargs):
    import transformers

    from .mllm import load
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return load(model, **{k: v for k, v in kwargs.items() if v is not None})


def _explain(args) -> int:
    from .registry import find
    method = find(args.method)                       # before the model: a slip in a name should not cost a load
    suffix = Path(args.out).suffix if args.out else None
    if suffix not in (None, ".png", ".json", ".html"):
        raise Refusal(f"--out {args.out!r}: the name has to end in .png, .json or .html.")
    folder = Path(args.picture)
    if folder.is_dir() and args.question is None:
        return _explain_folder(args, method, folder)
    if args.question is None:
        raise Refusal("The question is missing: mini-lib explain IMAGE \"QUESTION\".")
    from .pictures import open_picture
    picture, notes = open_picture(args.picture)
    mllm = _load(args.model, device=args.device, dtype=args.dtype, device_map=args.device_map)
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
    from .evaluate.folder import score_folder
    scores = score_folder(_load(args.model, device=args.device, dtype=args.dtype, device_map=args.device_map), method, folder)
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
    from . import world
    from .registry import find, methods
    chosen = [find(slug) for slug in args.slugs] or list(methods().values())
    mllm = _load(args.model)
    for claim, error in mllm.checks.items():
        print(f"{'load':16} passed: {claim} (error {error:.1e})")
    sample = world.sample(1, seed=0, kinds=("color",))[0]
    failed = 0
    for method in chosen:
        for identity in method.identity(mllm, mllm.prompt(sample.picture, sample.question)):
            print(f"{method.slug:16} {identity}")
            failed += not identity.passed
    return 1 if failed else 0


def _world_sample(args) -> int:
    from . import world
    from .refusal import nearest
    kinds = tuple(args.kinds or world.KINDS)
    for kind in kinds:
        if kind not in world.KINDS:
            raise Refusal(f"There is no kind of question {kind!r}{nearest(kind, world.KINDS)}")
    if args.n < 1:
        raise Refusal(f"--n {args.n}: ask for at least one sample.")
    folder = world.write(world.sample(args.n, args.seed, kinds), args.out)
    print(f"wrote {args.n} samples to {folder} (pictures, masks, twins and truth.jsonl)")
    return 0


def _train(args) -> int:
    from .tiny.build import CONFIG
    from .tiny.train import train
    try:
        folder = train(args.out, args.config or CONFIG, args.device, args.minutes)
    except FileNotFoundError as error:
        raise Refusal(f"There is no recipe {error.filename!r}.") from None
    except ValueError as error:
        raise Refusal(str(error)) from None
    print(f"the model is in {folder}")
    return 0


def _card(args) -> int:
    from .tiny import card as cards
    if args.samples < 1:
        raise Refusal(f"--samples {args.samples}: measure at least one question per kind.")
    mllm = _load(args.model)
    mllm.batch_size = 256
    card = cards.measure(mllm, args.samples, args.seed)
    if args.json:
        print(json.dumps(card, indent=1))
    else:
        for kind, row in card["kinds"].items():
            print(f"{kind:10} {row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%}), n = {row['n']}")
        exact = card["captions"]["exact"]
        print(f"{'caption':10} {exact['accuracy']:.1%} ({exact['low']:.1%} to {exact['high']:.1%}) exact, n = {exact['n']}")
    if args.write:
        from .book import root
        from .tiny.build import read_config
        cards.write(card, read_config(), root())
    return 0


def _bench(args) -> int:
    from . import world
    from .bench import bench
    from .registry import methods
    sample = world.sample(1, seed=0, kinds=("color",))[0]
    mllm = _load(args.model)
    for row in bench(mllm, mllm.prompt(sample.picture, sample.question), methods()):
        print(row)
    return 0
