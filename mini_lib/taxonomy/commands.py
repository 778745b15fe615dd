"""`mini-lib taxonomy validate | show | pages`.

Each command is a function from the parsed arguments to the exit code.
"""

import argparse
import sys
from pathlib import Path
from textwrap import fill, indent

from .load import DATA, REPOSITORY, Node, Taxonomy, load
from .pages import CONFIRMATION, write_pages
from .validate import check_data, validate


def add_parser(subparsers) -> None:
    """Add `taxonomy` and its commands to what `argparse.ArgumentParser.add_subparsers` returned."""
    parser = subparsers.add_parser("taxonomy", help="the taxonomy: check it, look a node up, write its pages")
    commands = parser.add_subparsers(dest="taxonomy_command", required=True, metavar="COMMAND")

    command = _add(commands, "validate", run_validate, "check the data, the ids, the changelog and the pages")
    command = _add(commands, "show", run_show, "print one node")
    command.add_argument("query", nargs="+", metavar="ID|SLUG|LABEL", help="such as MX-0008, or visual token")
    command = _add(commands, "pages", run_pages, "write taxonomy/index.md and taxonomy/nodes/")


def _add(commands, name: str, run, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
    command.add_argument("--root", type=Path, default=REPOSITORY, help="the repository (default: the one of this package)")
    command.set_defaults(run=run)
    return command


def run_validate(args) -> int:
    """Print every problem. Exit code 1 if there is one, else 0."""
    problems = validate(args.root)
    for problem in problems:
        print(problem)
    nodes = "" if problems else f"{len(load(args.root / DATA).nodes)} nodes, "
    print(f"taxonomy: {nodes}{len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0


def run_show(args) -> int:
    """Print the node that the query names. Exit code 2, with the nearest names, if there is none."""
    try:
        taxonomy = load(args.root / DATA)
        print(describe(taxonomy.find(" ".join(args.query)), taxonomy))
    except (FileNotFoundError, LookupError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run_pages(args) -> int:
    """Write the pages that differ. Exit code 1, and nothing is written, if the data are not sound."""
    problems = check_data(args.root)
    if problems:
        print(*problems, sep="\n")
        return 1
    changed = write_pages(args.root)
    for path in changed:
        print(path.relative_to(args.root))
    print(f"taxonomy: {len(changed)} page{'' if len(changed) == 1 else 's'} changed")
    return 0


def describe(node: Node, taxonomy: Taxonomy, width: int = 92) -> str:
    """One node as plain text for the terminal."""
    def wrapped(text: str) -> str:
        return indent(fill(text, width - 2), "  ")

    def bullets(title: str, items) -> str:
        lines = [fill(item, width, initial_indent="  - ", subsequent_indent="    ") for item in items]
        return "\n".join([title, *lines]) if lines else ""

    def names(ids) -> list[str]:
        return [str(taxonomy.get(id)) for id in ids]

    key = node.confirmation or "added"
    path = " › ".join(step.label for step in taxonomy.paths(node)[0])
    blocks = [
        f"{node.id}  {node.label}\n  {path}\n  slug: {node.slug}"
        + ("\n  also: " + ", ".join(node.alt_labels) if node.alt_labels else ""),
        wrapped(node.definition),
        bullets("Belongs here", node.includes),
        bullets("Does not belong here", [f"{item.text} -> {taxonomy.get(item.see)}" for item in node.excludes]),
        bullets("Strengths", node.strengths),
        bullets("Limitations", node.limitations),
        bullets("Open problems", node.open_problems),
        bullets("Broader", names(node.broader)),
        bullets("Narrower", names(other.id for other in taxonomy.narrower(node))),
        bullets("See also", names(node.see_also)),
        f"In the survey: {key}{' (' + ', '.join(node.seen) + ')' if node.seen else ''}\n" + wrapped(CONFIRMATION[key]),
        f"Usage: {node.usage}" + ("\n" + wrapped(node.usage_note) if node.usage_note else ""),
        f"Status: {node.status}, since version {node.introduced_in}. "
        + (f"Chapter: chapters/{node.slug}.ipynb" if node.runnable else "No chapter yet."),
    ]
    return "\n\n".join(block for block in blocks if block)
