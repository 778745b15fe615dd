"""`mini-lib taxonomy COMMAND`: check the data, look things up, cite, export, compare, lint a manuscript.

Each command is a function from the parsed arguments to the exit code: 0 when all is well, 1 when something was found that
must be corrected, 2 when the command could not do its work.
"""

import argparse
import json
import sys
from pathlib import Path

from .cite import FORMATS, cite
from .coverage import as_text, coverage
from .diff import RELEASES, diff
from .export import export
from .lint import lint
from .load import REPOSITORY
from .nodes import Taxonomy
from .pages import book_site, write_pages
from .pages_parts import count
from .release import freeze
from .search import hits
from .show import describe, describe_hit
from .validate import check_data, check_work, read_sound, validate

MOST = 10      # hits of a search, and problems quoted when a command cannot go on


def add_parser(subparsers) -> None:
    """Add `taxonomy` and its commands to what `argparse.ArgumentParser.add_subparsers` returned."""
    parser = subparsers.add_parser("taxonomy", help="the taxonomy: check it, look a node up, cite it, lint a manuscript")
    commands = parser.add_subparsers(dest="taxonomy_command", required=True, metavar="COMMAND")

    _add(commands, "validate", run_validate, "check the data, the ids, the changelog, the releases and the pages")
    command = _add(commands, "check-work", run_check_work, "check one work that you want to propose")
    command.add_argument("file", type=Path, metavar="FILE.yaml", help="one entry as in taxonomy/works.yaml")
    command = _add(commands, "show", run_show, "print one node with its works")
    command.add_argument("query", nargs="+", metavar="NODE", help="its id, slug or name, such as MX-0008, or visual token")
    command = _add(commands, "search", run_search, "find nodes by words, in English, Chinese or Korean")
    command.add_argument("words", nargs="+", metavar="WORDS")
    command.add_argument("--works", action="store_true", help="look through the titles of the works, too")
    command = _add(commands, "cite", run_cite, "print how to cite a node, or the whole taxonomy")
    command.add_argument("query", nargs="*", metavar="NODE", help="its id, slug or name; without one, the whole taxonomy")
    command.add_argument("--format", choices=sorted(FORMATS), default="text")
    command = _add(commands, "lint", run_lint, "check what a manuscript says about nodes: ids, labels, citations")
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".tex, .bib, .md or other text")
    command = _add(commands, "coverage", run_coverage,
                   "count works by node, modality and year, and how well they are checked")
    command.add_argument("--json", action="store_true", help="all counts, for programs")
    command = _add(commands, "diff", run_diff, "print what changed between two versions, as a section of the changelog")
    command.add_argument("old", type=Path, metavar="OLD",
                         help=f"a folder with nodes.yaml, a nodes.yaml, or a file of {RELEASES}")
    command.add_argument("new", type=Path, metavar="NEW")
    command.add_argument("--wording", nargs="+", default=(), metavar="ID",
                         help="nodes whose definition or scope was only worded anew, with the same meaning")
    command = _add(commands, "release", run_release,
                   f"write the data of this version to {RELEASES}, against which later ones are held")
    command = _add(commands, "export", run_export, "write YAML, JSON, SKOS, CSV, BibTeX, LaTeX macros and CSL-JSON")
    command.add_argument("--out", type=Path, required=True, metavar="DIR",
                         help="a new folder, or that of an earlier export")
    command = _add(commands, "pages", run_pages, "write the pages of the taxonomy")


def _add(commands, name: str, run, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
    command.add_argument("--root", type=Path, default=REPOSITORY, help="the repository (default: the one of this package)")
    command.set_defaults(run=_guarded(run))
    return command


def _guarded(run):
    """What cannot be done is one sentence and exit code 2; the library raises such sentences."""
    def guarded(args) -> int:
        try:
            return run(args)
        except KeyError:
            raise            # a slip of ours, no message for a user
        except (OSError, LookupError, ValueError, ImportError) as error:
            from_system = isinstance(error, OSError) and error.strerror
            print(f"{error.filename}: {error.strerror}." if from_system else error, file=sys.stderr)
            return 2
    return guarded


def _load(args) -> Taxonomy:
    """The taxonomy, if its data are sound: what they are not, is the business of `validate`."""
    taxonomy, problems = read_sound(args.root)
    if problems:
        shown = "\n".join(problems[:MOST])
        raise ValueError(f"{shown}\nThe data are not sound ({count(len(problems), 'problem')}). "
                         "Run `mini-lib taxonomy validate`.")
    return taxonomy


def _told(problems: list[str]) -> int:
    """Print each problem. The exit code: 1 if there is one, else 0."""
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def run_validate(args) -> int:
    """Print every problem. Exit code 1 if there is one, else 0."""
    problems = validate(args.root)
    code = _told(problems)
    taxonomy = None if problems else _load(args)
    counted = f"{count(len(taxonomy.nodes), 'node')}, {count(len(taxonomy.works), 'work')}, " if taxonomy else ""
    print(f"taxonomy: {counted}{count(len(problems), 'problem')}")
    return code


def run_check_work(args) -> int:
    """Print every problem of one proposed work. Exit code 1 if there is one, else 0."""
    problems = check_work(args.file, args.root)
    code = _told(problems)
    print(f"{args.file}: {count(len(problems), 'problem') if problems else 'this work can be proposed'}")
    return code


def run_show(args) -> int:
    """Print the node that the query names. Exit code 2, with the nearest names, if there is none."""
    taxonomy = _load(args)
    print(describe(taxonomy.find(" ".join(args.query)), taxonomy))
    return 0


def run_search(args) -> int:
    """Print the best hits with the reason. Exit code 1 if there is none."""
    words = " ".join(args.words)
    found = hits(words, _load(args), args.works)
    for hit in found[:MOST]:
        print(describe_hit(hit))
    if len(found) > MOST:
        print(f"and {count(len(found) - MOST, 'more node')}; give more words to narrow it down")
    if not found:
        more = "" if args.works else ", or --works"
        print(f"No node says anything of {words!r}. Try fewer or other words{more}.", file=sys.stderr)
    return 0 if found else 1


def run_cite(args) -> int:
    """Print the citation of a node, or of the whole."""
    taxonomy = _load(args)
    node = taxonomy.find(" ".join(args.query)) if args.query else None
    print(cite(node, taxonomy, book_site(args.root), args.format))
    return 0


def run_lint(args) -> int:
    """Print each fault with its place. Exit code 1 if there is one, 2 if a file could not be read."""
    taxonomy, faults, unread = _load(args), [], 0
    for path in args.files:
        try:
            found = lint(path, taxonomy)
        except (OSError, ValueError) as error:
            print(f"{path}: {error.strerror}." if isinstance(error, OSError) else error, file=sys.stderr)
            unread += 1
            continue
        print(*found, sep="\n", end="\n" if found else "")
        faults += found
    print(f"taxonomy {taxonomy.version}: {count(len(args.files), 'file')}, {count(len(faults), 'fault')}"
          + (f", {unread} not read" if unread else ""))
    return 2 if unread else 1 if faults else 0


def run_coverage(args) -> int:
    """Print the counts, as a table or as JSON."""
    taxonomy = _load(args)
    counted = coverage(taxonomy)
    print(json.dumps(counted, indent=1, ensure_ascii=False) if args.json else as_text(counted, taxonomy))
    return 0


def run_diff(args) -> int:
    """Print the section of the changelog."""
    print(diff(args.old, args.new, tuple(args.wording)), end="")
    return 0


def run_release(args) -> int:
    """Write the release file, unless the data are not sound or this version was released with other data."""
    if _told(check_data(args.root)):
        return 1
    print(freeze(args.root).relative_to(args.root))
    return 0


def run_export(args) -> int:
    """Write all exports. Nothing is written when the data are not sound."""
    for path in export(_load(args), book_site(args.root), args.out):
        print(path)
    return 0


def run_pages(args) -> int:
    """Write the pages that differ. Exit code 1, and nothing is written, if the data are not sound."""
    if _told(check_data(args.root)):
        return 1
    changed = write_pages(args.root)
    for path in changed:
        print(path.relative_to(args.root))
    print(f"taxonomy: {count(len(changed), 'page')} changed")
    return 0
