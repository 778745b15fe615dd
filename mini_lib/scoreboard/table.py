"""From records to the scoreboard: means with intervals, distance from the floor, who wins; and the same as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..evaluate import interval
from .measure import METRICS

GROUPS = ("localised", "faithful", "controls", "cost")
SORT = "pointing"


def board(head: dict, asked: dict, rows: Sequence, cases: Sequence[int], records: dict, sort: str = SORT) -> dict:
    """The scoreboard as plain data, always of this form:

        {schema, version, model, fingerprint, samples, few, seed, cover, zoom, asked: {asked, wrong, off_grid, kept, kinds},
         sorted_by, metrics: {metric: {title, group, more, what}},
         rows: [{row, kind, node, paper, scores: {metric: {mean, low, high, n, over}}, refused: {times, says}}],
         best: {metric: {row, tied}}}

    mean, low, high: with the 95 % interval over cases (Wilson's for rates of right and wrong, else a bootstrap); None where n
    is 0.  over: how much better than the harder floor the row is, case by case, as {floor, mean, low, high}; above 0 is
    better whichever way the metric counts; None for floors, and where there is no floor.
    best: the method with the best mean, and the methods whose distance to it, case by case, has an interval that holds 0.
    rows: sorted by the mean of `sort`, the best first; those without one last.
    """
    columns = {row.name: {metric: _column(records, row.name, metric, cases) for metric in METRICS} for row in rows}
    floors = [row.name for row in rows if row.kind == "floor"]
    methods = [row.name for row in rows if row.kind == "method"]
    out = [{"row": row.name, "kind": row.kind, "node": row.node, "paper": row.paper,
            "scores": {metric: {**_cell(columns[row.name][metric], metric), "over": None if row.kind == "floor" else
                                _over(columns, row.name, floors, metric)} for metric in METRICS},
            "refused": _refused(records, row.name, cases)} for row in rows]
    made = {name: value for name, value in head.items() if name != "rows"}
    about = {name: {"title": one.title, "group": one.group, "more": one.more, "what": one.what} for name, one in METRICS.items()}
    return {**made, "asked": asked, "sorted_by": sort, "metrics": about, "rows": sort_rows(out, sort),
            "best": {metric: _best(columns, methods, metric) for metric in METRICS if METRICS[metric].floored}}


def sort_rows(rows: list[dict], metric: str) -> list[dict]:
    """Rows with the best mean of a metric first; equal ones by name, those without one last."""
    sign = -1 if METRICS[metric].more else 1

    def place(row):
        mean = row["scores"][metric]["mean"]
        return mean is None, 0 if mean is None else sign * mean, row["row"]
    return sorted(rows, key=place)


def text(found: dict) -> str:
    """The scoreboard for a terminal: one table for each group of metrics."""
    lines = [said_asked(found)]
    for group in GROUPS:
        names = [name for name, one in METRICS.items() if one.group == group]
        table = [[f"{group}, sorted by {METRICS[found['sorted_by']].title}", *(_head(name) for name in names)]]
        table += [[_mark(row), *(said(row["scores"][name], name) for name in names)] for row in found["rows"]]
        widths = [max(map(len, column)) for column in zip(*table)]
        lines += ["", *("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)]
    lines += ["", "mean, 95 % interval, and in brackets the number of cases; * a floor, + a ceiling; (more) or (less) is better"]
    return "\n".join(lines + [f"{row['row']} refused {row['refused']['times']} cases: {row['refused']['says']}"
                              for row in found["rows"] if row["refused"]["times"]])


def said_asked(found: dict) -> str:
    """How many questions were asked, and why some were dropped."""
    asked = found["asked"]
    kinds = ", ".join(f"{n} {kind}" for kind, n in asked["kinds"].items())
    off = f"{asked['off_grid']} more left out, their objects on no patch or on all; " if asked["off_grid"] else ""
    return (f"{found['model']}: {asked['asked']} questions, {asked['wrong']} answered wrong and left out; {off}"
            f"{asked['kept']} explained ({kinds})")


def said(cell: dict, metric: str) -> str:
    """One cell as text: "83% 72% to 91% (60)"."""
    if not cell["n"]:
        return "–"
    mean, low, high = (number(cell[key], metric) for key in ("mean", "low", "high"))
    return f"{mean} {low} to {high} ({cell['n']})"


def number(value: float, metric: str) -> str:
    """A number in the form of its metric."""
    written = format(value, METRICS[metric].form)
    return written if written.strip("+-0.%") else written.lstrip("-")      # no "-0.00"


def _head(metric: str) -> str:
    return f"{METRICS[metric].title} ({'more' if METRICS[metric].more else 'less'})"


def _mark(row: dict) -> str:
    return row["row"] + {"floor": " *", "ceiling": " +"}.get(row["kind"], "")


def _column(records: dict, row: str, metric: str, cases: Sequence[int]) -> np.ndarray:
    """(cases,) one score for each case, NaN where there is none."""
    values = [records[row, case].get("scores", {}).get(metric) for case in cases]
    return np.array([np.nan if value is None else value for value in values], float)


def _cell(column: np.ndarray, metric: str) -> dict:
    values = column[~np.isnan(column)]
    return {**_interval(values, METRICS[metric].rate), "n": len(values)}


def _interval(values: np.ndarray, rate: bool) -> dict:
    """Mean, low and high; None without values. rate: whether 0 and 1 mean wrong and right."""
    if not len(values):
        return dict.fromkeys(("mean", "low", "high"))
    # Amounts that happen to be all 0 or 1 are no rates: moved away from there, they get a bootstrap as any others.
    off = 0 if rate else 10
    return dict(zip(("mean", "low", "high"), (_short(value - off) for value in interval(values + off))))


def _ahead(columns: dict, row: str, other: str, metric: str) -> dict | None:
    """How much better one row is than another on the cases that both have."""
    gap = (columns[row][metric] - columns[other][metric]) * (1 if METRICS[metric].more else -1)
    gap = gap[~np.isnan(gap)]
    return _interval(gap, rate=False) if len(gap) else None


def _over(columns: dict, row: str, floors: Sequence[str], metric: str) -> dict | None:
    gaps = {floor: _ahead(columns, row, floor, metric) for floor in floors if METRICS[metric].floored}
    gaps = {floor: gap for floor, gap in gaps.items() if gap}
    harder = min(gaps, key=lambda floor: gaps[floor]["mean"], default=None)
    return None if harder is None else {"floor": harder, **gaps[harder]}


def _best(columns: dict, methods: Sequence[str], metric: str) -> dict:
    known = [row for row in methods if not np.isnan(columns[row][metric]).all()]
    if not known:
        return {"row": None, "tied": []}
    sign = 1 if METRICS[metric].more else -1
    first = max(known, key=lambda row: sign * np.nanmean(columns[row][metric]))
    gaps = {row: _ahead(columns, first, row, metric) for row in known if row != first}
    return {"row": first, "tied": [row for row, gap in gaps.items() if gap is None or gap["low"] <= 0]}


def _refused(records: dict, row: str, cases: Sequence[int]) -> dict:
    says = [records[row, case]["refused"] for case in cases if "refused" in records[row, case]]
    return {"times": len(says), "says": says[0] if says else ""}


def _short(value: float) -> float:
    return float(f"{value:.6g}")
