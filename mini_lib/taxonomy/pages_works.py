"""The page with all works: one plain table, which a small script on the site can sort and filter.

Without the script, or on GitHub, it is a table to read. What the script needs beyond the table's own text (the nodes in
the order of the tree) is in a block of JSON behind it. The script is `site_root/_static/taxonomy/works.js`.
"""

from __future__ import annotations

from html import escape

from .escape import script_safe
from .nodes import Node, Taxonomy
from .pages_parts import count, download, in_tree_order, page, web
from .works import GROUNDS, MODALITIES, ROLES, Filing, Work

COLUMNS = ("Work", "Year", "Node", "Modalities", "Role", "Ground", "Evidence")


def render_works(taxonomy: Taxonomy, site: dict) -> str:
    """The page of all works: one row for each work at each node where it is filed."""
    filings = sum(len(work.filed) for work in taxonomy.works)
    return page([
        "# All works",
        f"{count(len(taxonomy.works), 'work')}, {count(filings, 'filing')}: each row is one work at one node, and a work "
        f"that is filed at two nodes has two rows. Taxonomy version {taxonomy.version}, {taxonomy.released}.",
        "**Role** says what the work does with what the node names. **Ground** says why it stands there: "
        f"{', or '.join(f'“{text}”' for text in GROUNDS.values())}. **Evidence** says in which part "
        "of the work we saw it, and what it does, in our words. That a work is listed does not mean that we endorse it. "
        "[How the works were found and filed](reviewers.md).",
        f"To download: {download('works.csv', site)}, {download('works.bib', site)}, and [all other forms](index.md#downloads).",
        _table(taxonomy),
        _script_data(taxonomy),
    ])


def _table(taxonomy: Taxonomy) -> str:
    nodes = {node.id: node for node in taxonomy.nodes}
    # For each node its own id and those of all nodes above it, by which the script finds what lies below a node.
    above = {node.id: {node.id, *taxonomy.above(node)} for node in taxonomy.nodes}
    above = {id: " ".join(other.id for other in taxonomy.nodes if other.id in ids) for id, ids in above.items()}
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rows = [_row(work, filing, nodes[filing.node], above[filing.node])
            for work in sorted(taxonomy.works, key=lambda work: (work.title.casefold(), work.key)) for filing in work.filed]
    # One block of HTML ends at the first empty line, so there is none.
    return "\n".join(['<div class="mx-scroll mx-wide" role="region" aria-labelledby="works-caption" tabindex="0">',
                      '<table class="table mx-works" id="works">', '<caption id="works-caption">All works</caption>',
                      f"<thead><tr>{head}</tr></thead>", "<tbody>", *rows, "</tbody>", "</table>", "</div>"])


def _row(work: Work, filing: Filing, node: Node, above: str) -> str:
    title = escape(" ".join(work.title.split()))
    linked = f'<a href="{escape(web(work.address))}">{title}</a>' if work.address else title
    venue = escape(work.venue) + ("" if work.venue_verified else " (from memory)")
    cells = [
        f'<th scope="row">{linked}<br>{escape(work.by.rstrip("."))}. {venue}.</th>',
        f"<td>{escape(work.year)}</td>",
        f'<td><a href="nodes/{escape(node.id)}.md">{escape(node.label)}</a> '
        f'<span class="mx-id">{escape(node.id)}</span></td>',
        f"<td>{escape(', '.join(work.modalities))}</td>",
        f"<td>{ROLES[filing.role]}</td>",
        f"<td>{GROUNDS[filing.ground]}</td>",
        f"<td>{escape(filing.locator)}: {escape(filing.reason)}</td>",
    ]
    data = {"work": work.key, "node": node.id, "above": above, "modalities": " ".join(work.modalities),
            "role": filing.role, "ground": filing.ground, "year": work.year}
    marks = " ".join(f'data-{name}="{escape(value)}"' for name, value in data.items())
    return f"<tr {marks}>{''.join(cells)}</tr>".replace("\n", " ")


def _script_data(taxonomy: Taxonomy) -> str:
    used = {filing.node for work in taxonomy.works for filing in work.filed}
    nodes = []
    for depth, node in in_tree_order(taxonomy):
        own, below = node.id in used, bool(used & taxonomy.below(node))
        if own or below:
            nodes.append({"id": node.id, "label": node.label, "depth": depth, "own": own, "below": below})
    present = {modality for work in taxonomy.works for modality in work.modalities}
    data = {"nodes": nodes, "modalities": [name for name in MODALITIES if name in present],
            "roles": ROLES, "grounds": GROUNDS, "years": sorted({work.year for work in taxonomy.works})}
    return f'<script type="application/json" id="works-data">{script_safe(data)}</script>'
