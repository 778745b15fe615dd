"""The coverage map: how many works are filed where, by modality and by year, and what an empty cell means."""

from __future__ import annotations

from html import escape

from .coverage import NONE_FOUND, NOT_APPLICABLE, NOT_CODED, applies, empty, years
from .nodes import Node, Taxonomy
from .pages_parts import count, in_tree_order, link, page, works_link
from .works import MODALITIES

EMPTY = {
    NONE_FOUND: "a search that is recorded looked for works of this node in this column, and showed none. "
                  "It does not prove that there is none.",
    NOT_CODED: "no recorded search covers this node in this column. Nobody has looked, as far as our records show, "
                 "so the empty cell says nothing.",
    NOT_APPLICABLE: "no work belongs at this node itself: it is a heading, it is retired, or its works go to its "
                      "narrower nodes.",
}
SINGLE_YEARS = 9        # the last ones, a column each; what is older shares one


def render_coverage(taxonomy: Taxonomy, site: dict) -> str:
    """The page with the two tables, node by modality and node by year."""
    takes = [node for node in taxonomy.nodes if applies(node)]
    bare = [node for node in takes if not node.works]
    return page([
        "# Coverage map",
        f"{count(len(taxonomy.works), 'work')} at {count(len(takes) - len(bare), 'node')}. Each number leads to the works "
        f"behind it, in the [table of all works](works.md). Taxonomy version {taxonomy.version}, {taxonomy.released}.",
        "The numbers count works in our list. They are no measure of a field: the list follows what we searched "
        "([how](reviewers.md)), and a work with two modalities counts in both columns.",
        "A cell without works says one of three things:",
        "\n".join(f"- **{name}**: {text}" for name, text in EMPTY.items()),
        f"{count(len(taxonomy.searches), 'search is', 'searches are')} recorded so far: [the list](reviewers.md#searches).",
        "Nodes that take works and have none yet: " + ", ".join(link(node, "nodes/") for node in bare) + "." if bare else "",
        "## Node by modality",
        "Modality: what the models that a work studies take in or give out.",
        _table("Works by node and modality", taxonomy, [
            (name, {"modality": name}, lambda work, name=name: name in work.modalities,
             {"modality": name}) for name in MODALITIES]),
        "## Node by year",
        "Year: when the work was first public. A search covers the years up to its own. Here *none found* asks for searches "
        "that cover every modality.",
        _table("Works by node and year", taxonomy, [
            (first if first == last else f"{first} to {last}", {"from": first, "to": last},
             lambda work, first=first, last=last: first <= work.year <= last,
             {"modality": None, "year": last}) for first, last in year_columns(taxonomy)]),
    ])


def year_columns(taxonomy: Taxonomy) -> list[tuple[str, str]]:
    """First and last year of each column: one for each of the last years, the older ones together."""
    all_years = years(taxonomy)
    old, single = all_years[:-SINGLE_YEARS], all_years[-SINGLE_YEARS:]
    return ([(old[0], old[-1])] if old else []) + [(year, year) for year in single]


def _table(caption: str, taxonomy: Taxonomy, columns: list) -> str:
    """columns: for each its name, the filter of the works table, whether a work is in it, and what `empty` asks of it."""
    totals = [sum(map(inside, taxonomy.works)) for _, _, inside, _ in columns]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name, _, _, _ in columns)
    rows = []
    for depth, node in in_tree_order(taxonomy):
        name = (f'<th scope="row" style="padding-inline-start: {.5 + .9 * depth:g}em">'
                f'<a href="nodes/{escape(node.id)}.md">{escape(node.label)}</a> '
                f'<span class="mx-id">{escape(node.id)}</span></th>')
        if applies(node):
            cells = "".join(_cell(node, filters, sum(map(inside, node.works)), empty(node, taxonomy=taxonomy, **asked))
                            for _, filters, inside, asked in columns)
        else:
            cells = f'<td class="mx-none" colspan="{len(columns)}">not applicable: {_why(node)}</td>'
        rows.append(f"<tr>{name}{cells}</tr>")
    # The numbers of the last row count works, each once, so they are no sums of the columns.
    foot = "".join(f"<td>{_linked(number, filters) if number else 'none'}</td>"
                   for (_, filters, _, _), number in zip(columns, totals, strict=True))
    label = "".join(letter for letter in caption.lower().replace(" ", "-") if letter.isalnum() or letter == "-")
    return "\n".join([f'<div class="mx-scroll" role="region" aria-labelledby="{label}" tabindex="0">',
                      '<table class="table mx-map">', f'<caption id="{label}">{escape(caption)}</caption>',
                      f'<thead><tr><th scope="col">Node</th>{head}</tr></thead>', "<tbody>", *rows, "</tbody>",
                      f'<tfoot><tr><th scope="row">All works, each once</th>{foot}</tr></tfoot>', "</table>", "</div>"])


def _cell(node: Node, filters: dict, number: int, without: str) -> str:
    if number:
        return f"<td>{_linked(number, {'node': node.id, **filters})}</td>"
    return f'<td class="{"mx-none" if without == NONE_FOUND else "mx-uncoded"}">{without}</td>'


def _linked(number: int, filters: dict) -> str:
    return works_link(str(number), **filters)


def _why(node: Node) -> str:
    if node.status == "deprecated":
        return "retired"
    return "a heading" if node.usage == "navigation" else "its works go to narrower nodes"
