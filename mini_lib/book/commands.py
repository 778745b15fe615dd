"""`mini-lib chapters …`: run notebooks, find those that are out of date."""

import sys


def add_parser(subparsers) -> None:
    """Add `chapters` and its sub-commands to the command line."""
    chapters = subparsers.add_parser("chapters", help="run the book's notebooks, find stale ones")
    commands = chapters.add_subparsers(dest="chapters_command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="execute chapters and store their outputs")
    run.add_argument("slugs", nargs="*", metavar="SLUG", help="for example data/input-output; default: all")
    run.add_argument("--stale", action="store_true", help="only chapters that are out of date")
    run.set_defaults(run=run_chapters)

    commands.add_parser("stale", help="list chapters that are out of date, and why; exit 1 if there are any"
                        ).set_defaults(run=list_stale)
    commands.add_parser("status", help="one line for each chapter").set_defaults(run=show_status)
    commands.add_parser("stamp", help="rewrite the set-up cell and the Colab line of every chapter"
                        ).set_defaults(run=stamp_chapters)


def run_chapters(args) -> int:
    from .chapters import Failed, run
    try:
        failures = run(args.slugs, only_stale=args.stale)
    except Failed as problem:
        print(problem, file=sys.stderr)
        return 2
    if failures:
        print(f"{len(failures)} failed: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


def list_stale(args) -> int:
    from . import lock
    entries, found = lock.read(), 0
    for slug in lock.find():
        reasons = lock.stale(slug, entries=entries)
        if reasons:
            found += 1
            print(f"{slug}: {', '.join(reasons)}")
    if found:
        print("Run: mini-lib chapters run --stale")
    return 1 if found else 0


def show_status(args) -> int:
    from .chapters import status
    rows = status()
    if not rows:
        print("There are no chapters yet.")
        return 0
    names = list(rows[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in names}
    for row in [dict(zip(names, names, strict=True)), *rows]:
        print("  ".join(str(row[name]).ljust(widths[name]) for name in names).rstrip())
    return 0


def stamp_chapters(args) -> int:
    from .chapters import stamp_all
    changed = stamp_all()
    print(f"rewrote {', '.join(changed)}" if changed else "nothing to rewrite")
    return 0
