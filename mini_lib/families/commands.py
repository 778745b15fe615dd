"""`mini-lib families`: which models work, and with which methods. Found by running them: `python -m tests.families` writes the table."""

from __future__ import annotations

import json
from pathlib import Path

from ..refusal import Refusal, nearest

FILE = Path(__file__).with_name("table.json")


def read() -> dict:
    """The table: {"transformers": version, "families": [row]}; a row has "methods", or says why it is "missing" or "refused"."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def find(name: str | None = None) -> list[dict]:
    """The rows of a family, as people call it, by its model_type or by its example on the Hub; all of them without a name.

    Raises Refusal for a family that is not there.
    """
    rows = read()["families"]
    found = [row for row in rows if name is None or name.lower() in (row["family"].lower(), row["kind"].lower(), row["example"].lower())]
    if not found:
        raise Refusal(f"There is no family {name!r} in the table{nearest(name, [row['family'] for row in rows])}")
    return found


def lines(name: str | None = None) -> list[str]:
    """The table in words, a line a family; of one family, what each method says."""
    rows = find(name)
    if name is None:
        return [*map(_line, rows), "", f"run under transformers {read()['transformers']}; mini-lib families NAME says more of one"]
    return [line for row in rows for line in [_line(row), *(
        f"  {slug:22} {'works' if 'works' in said else next(iter(said.values()))}" for slug, said in row.get("methods", {}).items())]]


def _line(row: dict) -> str:
    if "methods" not in row:
        said = f"not tried: {row['missing']}" if "missing" in row else f"refused: {row['refused']}"
    else:
        works = sum("works" in found for found in row["methods"].values())
        said = f"{works} of {len(row['methods'])} methods; grid rule: {row['rule']}"
    return f"{row['family']:20} {said}"


def add_parser(commands) -> None:
    """`mini-lib families [NAME] [--json]`."""
    parser = commands.add_parser("families", help="which models work with which methods")
    parser.add_argument("name", nargs="?", metavar="NAME", help="one family, such as \"Qwen3-VL\" or its model_type")
    parser.add_argument("--json", action="store_true", help="the whole table")
    parser.set_defaults(run=_run)


def _run(args) -> int:
    if args.json:
        print(json.dumps(read() | {"families": find(args.name)}, indent=1, ensure_ascii=False))
    else:
        print("\n".join(lines(args.name)))
    return 0
