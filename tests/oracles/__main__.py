"""Print the table of oracles: `python -m tests.oracles [--json]`. Exits with 1 where a limit is broken."""

import argparse
import json
import sys

from .pairs import rows, subject


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.oracles", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="plain data, with what each comparison says")
    args, found = parser.parse_args(arguments), list(rows(subject()))
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print("| ours | theirs | largest value | largest difference | limit |\n|---|---|---|---|---|")
        for row in found:
            theirs = f"{row['library']} {row['version'] or ''} `{row['theirs']}`"
            print("|", " | ".join([row["ours"], theirs, _number(row["largest"]), _difference(row), _limit(row)]), "|")
    return int(any(row["holds"] is False for row in found))


def _difference(row: dict) -> str:
    return "not installed" if row["difference"] is None else f"{row['difference']:.1e}" + ("" if row["holds"] else " **broken**")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _limit(row: dict) -> str:
    return f"{row['limit']:.0e}" if row["limit"] is not None else f"means something else: at least {row['differs']:g}"


if __name__ == "__main__":
    sys.exit(main())
