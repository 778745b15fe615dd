"""Draw the tree as an SVG: the whole on top, its parts from left to right, each box a link to the page of its node.

The site puts the drawing into the page (`mini_lib/book/sphinx_taxonomy.py`), where its lines and words take the colour of
the text around them, light or dark. As a file of its own it has a white ground. How well a node is confirmed is said by
the kind of its outline and by words, never by colour alone. Links stand in the order of the tree, so the Tab key walks it.
"""

from __future__ import annotations

from html import escape
from textwrap import wrap

from .coverage import applies
from .nodes import Node, Taxonomy
from .pages_parts import badge, count, in_tree_order

LETTERS = 22                    # on one line of a box
LINES = 3                       # in a box; what is longer ends in an ellipsis and is whole in the tooltip
WIDTH, GAP, INDENT = 152, 20, 26    # of a box, between two columns, and of all that stands below a root
LINE, PAD, SPACE = 15, 5, 6     # height of a line, above and below it in a box, and between two boxes
OUTLINE = {"confirmed": "sure", "confirmed-substance": "sure", "likely": "unsure", "recalled": "unsure", "added by us": "ours"}
LEGEND = ("The number in a box says how many works are filed there; a small triangle, that the node has a chapter. "
          "Unbroken outline: confirmed, at least in substance. Dashed: likely or recalled. Dotted: added by us.")
STYLE = """
svg:root { color: #1f2328; background: #fff; }
.mx-tree text { font: 12px system-ui, sans-serif; fill: currentColor; text-anchor: middle; }
.mx-tree rect { fill: none; stroke: currentColor; stroke-width: 1.2; pointer-events: all; }
.mx-tree .unsure rect { stroke-dasharray: 5 3; }
.mx-tree .ours rect { stroke-width: 2.6; stroke-dasharray: 1 3.4; stroke-linecap: round; }
.mx-tree .gone text { text-decoration: line-through; }
.mx-tree .edge { fill: none; stroke: currentColor; stroke-opacity: .55; }
.mx-tree .also { stroke-dasharray: 2 3; }
.mx-tree a:is(:hover, :focus-visible) rect { stroke-width: 3; stroke-dasharray: none; }
.mx-tree a:focus { outline: none; }
.mx-tree a:focus-visible text { text-decoration: underline; }
"""


def draw_tree(taxonomy: Taxonomy, folder: str = "nodes/") -> str:
    """The tree as SVG text. folder: what stands before the names of the node pages in the links."""
    order = in_tree_order(taxonomy)
    labels = {node.id: _lines(_said(node)) for _, node in order}
    tall = {id: PAD * 2 + LINE * len(lines) for id, lines in labels.items()}
    x = {node.id: 1.5 + (INDENT + (depth - 1) * (WIDTH + GAP) if depth else 0) for depth, node in order}
    y = _middles(order, tall)
    width = max(x.values(), default=0) + WIDTH + 2
    height = max((y[id] + tall[id] / 2 for id in y), default=0) + 2
    edges = []
    for _, node in order:
        for place, parent in enumerate(node.broader):
            if parent in y:
                also = "" if place == 0 else " also"
                below = (x[parent] + INDENT / 2, y[parent] + tall[parent] / 2)
                start = below if x[parent] < INDENT else (x[parent] + WIDTH, y[parent])
                edges.append(f'<path class="edge{also}" d="{_line(*start, x[node.id], y[node.id])}"/>')
    boxes = [_box(node, labels[node.id], x[node.id], y[node.id], tall[node.id], folder) for _, node in order]
    told = (f"{count(len(order), 'box', 'boxes')}: the whole on top, below it its parts, and to the right of each what it is made of. "
            f"Each box is a link to the page of its node. {LEGEND}")
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mx-tree" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="group" aria-labelledby="mx-tree-title" aria-describedby="mx-tree-desc">',
        f'<title id="mx-tree-title">The tree of the taxonomy, version {escape(taxonomy.version)}</title>',
        f'<desc id="mx-tree-desc">{told}</desc>',
        f"<style>{STYLE}</style>", *edges, *boxes, "</svg>"]) + "\n"


def _middles(order: list[tuple[int, Node]], tall: dict[str, float]) -> dict[str, float]:
    """The middle of each box: a root above its tree, leaves one below the other, any other parent beside its children.

    Backwards through the tree, children come before their parent; each box is kept off those of its own column.
    """
    children: dict[str, list[str]] = {}
    for _, node in order:
        if node.broader:
            children.setdefault(node.broader[0], []).append(node.id)
    y: dict[str, float] = {}
    bottom = 1.5
    for depth, node in order:
        if node.id not in children or not depth:
            y[node.id] = bottom + tall[node.id] / 2
            bottom += tall[node.id] + SPACE * (1 if depth else 2)
    for depth, node in reversed(order):
        if node.id in children and depth:
            y[node.id] = (y[children[node.id][0]] + y[children[node.id][-1]]) / 2
    free: dict[int, float] = {}
    for depth, node in order:
        top = max(y[node.id] - tall[node.id] / 2, free.get(depth, 1.5))
        y[node.id], free[depth] = top + tall[node.id] / 2, top + tall[node.id] + SPACE
    return y


def _box(node: Node, lines: list[str], x: float, y: float, tall: float, folder: str) -> str:
    middle, top = x + WIDTH / 2 - (6 if node.runnable else 0), y - tall / 2      # room for the triangle
    texts = [f'<text x="{middle:g}" y="{top + PAD + LINE * (number + .76):g}">{escape(line)}</text>'
             for number, line in enumerate(lines)]
    if node.runnable:
        texts.append(f'<text class="run" aria-hidden="true" x="{x + WIDTH - 8:g}" y="{y + 4:g}">▸</text>')
    kind = OUTLINE[badge(node)] + (" gone" if node.status == "deprecated" else "")
    told = ["retired" if node.status == "deprecated" else badge(node), *(["has a chapter"] if node.runnable else [])]
    # The name begins with the words in the box, so that who speaks what they see reaches it.
    name = f"{_said(node)}{_works(node)}, {', '.join([node.id, *told])}"
    return (f'<a class="{kind}" href="{escape(folder)}{escape(node.id)}.html"><title>{escape(name)}</title>'
            f'<rect x="{x:g}" y="{top:g}" width="{WIDTH}" height="{tall:g}" rx="6"/>{" ".join(texts)}</a>')


def _said(node: Node) -> str:
    """The words in the box: the label and, where works belong, how many are filed there."""
    label = " ".join(node.label.split())
    # Blanks that do not break, so that the number stays with the last word.
    return f"{label}\u00a0·\u00a0{len(node.works)}" if applies(node) else label


def _works(node: Node) -> str:
    if not applies(node):
        return ", a heading" if node.usage == "navigation" else ""
    return " work" if len(node.works) == 1 else " works"


def _lines(said: str) -> list[str]:
    lines = wrap(said, LETTERS) or [""]
    if len(lines) > LINES:
        lines = [*lines[:LINES - 1], lines[LINES - 1][:LETTERS - 1] + "…"]
    return lines


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    if x2 - x1 < GAP:      # from under a root: down, then to the right
        return f"M{x1:g} {y1:g}V{y2:g}H{x2:g}"
    middle = x2 - GAP / 2
    return f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"
