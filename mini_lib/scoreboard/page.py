"""The chapter "Scoreboard": the stored scoreboard as a page of the book, every number and every finding taken from it."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np

from ..show.static import CARD, INK
from ..taxonomy.escape import markdown
from .measure import METRICS
from .table import number, said_asked

BOARD = Path(__file__).with_name("board.json")
TABLE = Path(__file__).with_name("table.html")      # style and script of the table
ALIKE = 0.5                                         # rank correlation with a re-drawn model's map that is called high
ALONG, UP, PRICE = "rank_accuracy", "insertion", ("forward", "backward")      # the figure's axes, and its colour


def read() -> dict:
    """The stored scoreboard."""
    return json.loads(BOARD.read_text(encoding="utf-8"))


def write(board: dict, root: Path) -> None:
    """Store the scoreboard in the package, and its page and figure in the book at `root`."""
    BOARD.write_text(json.dumps(board, indent=1) + "\n", encoding="utf-8")
    put(board, root)


def put(board: dict, root: Path) -> None:
    """The page and its figure alone, into the book at `root`."""
    (root / "chapters" / "images").mkdir(parents=True, exist_ok=True)
    (root / "chapters" / "scoreboard.md").write_text(page(board), encoding="utf-8")
    plot(board).savefig(root / "chapters" / "images" / "scoreboard.png", dpi=110)


def page(board: dict) -> str:
    """A scoreboard as a Markdown page of the book."""
    name = markdown(board["model"])
    command = f"mini-lib scoreboard --samples {board['samples']} --few {board['few']} --seed {board['seed']}"
    return f"""# Scoreboard

<!-- Written by `mini-lib scoreboard --write` from mini_lib/scoreboard/board.json; edit mini_lib/scoreboard/page.py instead. -->

Every method of this book that says how much each patch of the picture counts, on the same questions about the same pictures.
The objects that decide are known, so a map can be compared with the truth; and patches can be covered, so it can be compared with the model.

{markdown(said_asked(board))}.
Only right answers are explained, because what a wrong one rests on is not known.
The re-drawn model and the stability are measured on the first {board['few']} of them at most; each cell says on how many.
Covered patches show: {markdown(board['cover'])}.

Two rows know nothing and are the **floors**: the same number everywhere, and noise.
Two rows know the truth and are the **ceilings** of the localised metrics: the mask of the objects that decide, and how far pixels change when the scene is rendered without them.

## Faithful, localised, and at what price

![{_alt(board)}](images/scoreboard.png)

## The table

Sorted by {METRICS[board['sorted_by']].title}; a column's head sorts by it, the best first.
Below each mean stand its 95 % interval and the number of questions.

{_table(board)}

{_metrics(board)}

## Who wins

A method is called level with the winner when the interval of their distance, question by question, holds 0.
With many methods and metrics some such calls will be wrong by chance.

{_winners(board)}

## What does not beat the floor

{_floors(board)}

## Do the maps depend on what was learnt?

{_controls(board)}

## What they cost

{_costs(board)}

## What this means, and what not

{_ceilings(board)}
Localised and faithful are two questions.
A map may lie on the right object and still not say what the model uses, and a model may use more than the object: its edge, or what is not there.
Methods that cover patches are judged here by covering patches, so on the faithful metrics they are at home.
No one number ranks explanations, and this page adds none up.

This is {name}, on Shapeland: few objects on plain ground, answers of one word.
An order found here is a reason to try a method first on a large model, and no evidence that it wins there.
What carries over better is the other direction: a method that fails where the truth is known has to show why it should be trusted where it is not.

## Measure it again

```bash
{command}
```

It goes on where it stopped; `accelerate launch --multi_gpu -m mini_lib scoreboard` spreads it over GPUs, and `--model` takes any model that the book's methods can explain.
"""


def plot(board: dict):
    """The figure: localised to the right, faithful upwards, the price in passes as colour; crosses are the 95 % intervals."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    fig = Figure(figsize=(7.6, 4.6), facecolor=CARD, layout="constrained")
    ax = fig.subplots()
    rows = [row for row in board["rows"] if row["scores"][ALONG]["n"] and row["scores"][UP]["n"]]
    price = LogNorm(1, max([10.0, *map(_passes, rows)]))
    shades, shapes, drawn = "viridis_r", {"method": "o", "floor": "s", "ceiling": "*"}, None
    for place, row in enumerate(rows, 1):
        x, y = row["scores"][ALONG], row["scores"][UP]
        ax.errorbar(x["mean"], y["mean"], xerr=_arms(x), yerr=_arms(y), color="0.8", linewidth=0.8, zorder=1)
        free = row["kind"] != "method"
        dots = ax.scatter(x["mean"], y["mean"], s=120 if row["kind"] == "ceiling" else 60, marker=shapes[row["kind"]], edgecolors=INK, linewidths=0.7,
                          zorder=2, label=f"{place}  {row['row']}", **({"color": "white"} if free else
                          {"c": [max(1.0, _passes(row))], "cmap": shades, "norm": price}))
        drawn = drawn if free else dots
        ax.annotate(str(place), (x["mean"], y["mean"]), (5, 5), textcoords="offset points", fontsize=8, color=INK)
    ax.set_xlabel(f"localised: {METRICS[ALONG].title}", color=INK)
    ax.set_ylabel(f"faithful: {METRICS[UP].title} area", color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    if rows:
        key = ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.2)
        for entry in key.get_texts():
            entry.set_parse_math(False)
    if drawn is not None:
        fig.colorbar(drawn, ax=ax, label="forward and backward passes for one map", location="bottom", shrink=0.6)
    return fig


def _passes(row: dict) -> float:
    return sum(row["scores"][name]["mean"] or 0 for name in PRICE)


def _arms(cell: dict) -> np.ndarray:
    """(2, 1) lengths of the interval's arms to the left and to the right of the mean."""
    return np.array([[cell["mean"] - cell["low"]], [cell["high"] - cell["mean"]]]).clip(min=0)


def _alt(board: dict) -> str:
    points = [f"{row['row']} {number(row['scores'][ALONG]['mean'], ALONG)} and {number(row['scores'][UP]['mean'], UP)}"
              for row in board["rows"] if row["scores"][ALONG]["n"] and row["scores"][UP]["n"]]
    return markdown(f"Each row by its {METRICS[ALONG].title} and its {METRICS[UP].title} area: {'; '.join(points)}.")


def _table(board: dict) -> str:
    """The table as one block of HTML, and behind it its style and script. All text is escaped."""
    head = '<th scope="col" data-more="false">Row</th>' + "".join(
        f'<th scope="col" data-group="{escape(one["group"])}" data-more="{str(one["more"]).lower()}">{escape(one["title"])} '
        f'({"more" if one["more"] else "less"})</th>' for one in board["metrics"].values())
    rows = [f'<tr data-kind="{escape(row["kind"])}" data-words="{escape(" ".join((row["row"], row["kind"], row["node"], row["paper"])))}">'
            f'<th scope="row" data-value="{escape(row["row"])}">{escape(row["row"])}{"" if row["kind"] == "method" else " (" + escape(row["kind"]) + ")"}</th>'
            + "".join(_cell(row["scores"][name], name) for name in board["metrics"]) + "</tr>" for row in board["rows"]]
    # One block of HTML ends at the first empty line, so there is none.
    return "\n".join(['<div class="board-scroll" role="region" aria-labelledby="board-caption" tabindex="0">',
                      '<table class="table" id="board-table">', f'<caption id="board-caption">Scoreboard of {escape(board["model"])}</caption>',
                      f"<thead><tr>{head}</tr></thead>", "<tbody>", *rows, "</tbody>", "</table>", "</div>", "",
                      TABLE.read_text(encoding="utf-8").strip()])


def _cell(cell: dict, metric: str) -> str:
    if not cell["n"]:
        return '<td data-value="">–</td>'
    mean, low, high = (number(cell[key], metric) for key in ("mean", "low", "high"))
    return f'<td data-value="{cell["mean"]:.6g}">{mean} <small>{low} to {high}</small> <small>n = {cell["n"]}</small></td>'


def _metrics(board: dict) -> str:
    lines = [f"- **{one['title']}** ({'more' if one['more'] else 'less'} is better): {markdown(one['what'])}" for one in board["metrics"].values()]
    refused = [f"- {markdown(row['row'])} refused {row['refused']['times']} questions: {markdown(row['refused']['says'])}"
               for row in board["rows"] if row["refused"]["times"]]
    return "\n".join(lines + refused)


def _winners(board: dict) -> str:
    rows, lines = {row["row"]: row for row in board["rows"]}, []
    for metric, best in board["best"].items():
        if best["row"] is None:
            lines.append(f"- **{METRICS[metric].title}**: no method could be scored.")
            continue
        ways = "; ".join(f"{markdown(name)} {number(row['scores'][metric]['mean'], metric)}" for name, row in rows.items()
                         if row["kind"] != "method" and row["scores"][metric]["n"])
        tied = f" Level with it: {_names(best['tied'])}." if best["tied"] else " No other method is level with it."
        lines.append(f"- **{METRICS[metric].title}**: {markdown(best['row'])}, {_spelt(rows[best['row']]['scores'][metric], metric)}.{tied} Beside it: {ways}.")
    return "\n".join(lines)


def _floors(board: dict) -> str:
    """Method by method, the metrics on which the interval of its distance to the harder floor is not above 0."""
    lines, clear = [], []
    for row in _methods(board):
        scored = {name: cell["over"] for name, cell in row["scores"].items() if cell["over"]}
        short = [f"{METRICS[name].title} (the {markdown(over['floor'])})" for name, over in scored.items() if over["low"] <= 0]
        if short:
            lines.append(f"- **{markdown(row['row'])}**: {', '.join(short)}.")
        elif scored:
            clear.append(row["row"])
    said = ["A method beats the floor where the interval of its distance to the harder of the two floors, question by question, lies above 0. "
            "Not beaten, with the floor in brackets:\n\n" + "\n".join(lines) if lines else "",
            f"On every metric these beat both floors: {_names(clear)}." if clear else "No method beats the floors on every metric."]
    return "\n\n".join(filter(None, said))


def _controls(board: dict) -> str:
    known = {row["row"]: row["scores"]["redrawn"] for row in _methods(board) if row["scores"]["redrawn"]["n"]}
    if not known:
        return "This was not measured."
    alike = [name for name, cell in known.items() if cell["low"] > ALIKE]
    said = (f"For {_names(alike)} the map stays much the same when every weight is drawn anew (the whole interval of the correlation is above {ALIKE}). "
            "Such a map shows how the model is built more than what it has learnt, however well it points."
            if alike else f"For no method does the whole interval of the correlation with the re-drawn model's map lie above {ALIKE}.")
    most, least = (pick(known, key=lambda name: known[name]["mean"]) for pick in (max, min))
    return (f"{said}\nThe highest mean is that of {markdown(most)}, {_spelt(known[most], 'redrawn')}, "
            f"the lowest that of {markdown(least)}, {_spelt(known[least], 'redrawn')}.")


def _costs(board: dict) -> str:
    known = [row for row in _methods(board) if row["scores"]["seconds"]["n"]]
    if not known:
        return "This was not measured."
    cheap, dear = (pick(known, key=lambda row: row["scores"]["seconds"]["mean"]) for pick in (min, max))
    said = [f"{markdown(row['row'])} is the {word}: {number(row['scores']['forward']['mean'], 'forward')} forward and "
            f"{number(row['scores']['backward']['mean'], 'backward')} backward passes, {number(row['scores']['seconds']['mean'], 'seconds')} s for one map."
            for row, word in ((cheap, "fastest"), (dear, "slowest"))]
    memory = any(row["scores"]["memory"]["n"] for row in known)
    return "\n".join([*said, "Peak memory is that of the GPU, beyond what the model itself holds." if memory else
                      "Memory was not measured: there was no GPU.",
                      f"Seconds are those of {markdown(board['machine'])}, with whatever else that machine was doing; passes are exact, and "
                      "`mini-lib bench` holds seconds against plain passes taken in turn.", "Finding the answer itself is not counted."])


def _ceilings(board: dict) -> str:
    """Whether the truth is also the most faithful map; nothing where either was not scored."""
    rows = {row["row"]: row["scores"]["insertion"] for row in board["rows"]}
    best, truth = board["best"]["insertion"]["row"], rows.get("true-mask")
    if best is None or not truth or not truth["n"]:
        return ""
    ours, mask = (number(mean, "insertion") for mean in (rows[best]["mean"], truth["mean"]))
    above = rows[best]["mean"] > truth["mean"] and ours != mask
    return (f"On insertion the best method, {markdown(best)} ({ours}), is {'above' if above else 'not above'} the true mask ({mask})"
            + (": the mask is the truth about the scene, and no upper limit of what the model can be shown to use." if above else "."))


def _methods(board: dict) -> list[dict]:
    return [row for row in board["rows"] if row["kind"] == "method"]


def _names(names) -> str:
    return ", ".join(map(markdown, names))


def _spelt(cell: dict, metric: str) -> str:
    return f"{number(cell['mean'], metric)} ({number(cell['low'], metric)} to {number(cell['high'], metric)}, n = {cell['n']})"
