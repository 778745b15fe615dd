"""How much of the field the works cover, and how well each fact about them was checked.

An empty cell of the map node x modality x year says one of three things, and they are kept apart:
none found: a search that covers the node and the modality is on record in `protocol.yaml`, and no work came of it;
not coded: no such search is on record, so the empty cell says nothing; not applicable: no work belongs at the node itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from .nodes import Node, Taxonomy
from .works import MODALITIES, Work

NONE_FOUND, NOT_CODED, NOT_APPLICABLE = "none found", "not coded", "not applicable"


def coverage(taxonomy: Taxonomy) -> dict:
    """All counts as plain data, ready for JSON.

    A share is None where there is nothing to take a share of. In `cells`, node id -> modality -> year leads to the number
    of works, or to one of the three words; a whole node, modality or row of years with one word holds the word itself.
    """
    works, filings = taxonomy.works, [filing for work in taxonomy.works for filing in work.filed]
    return {
        "version": taxonomy.version,
        "nodes": len(taxonomy.nodes),
        "nodes_that_take_works": sum(applies(node) for node in taxonomy.nodes),
        "nodes_without_works": [node.id for node in taxonomy.nodes if applies(node) and not node.works],
        "works": len(works),
        "filings": len(filings),
        "searches": len(taxonomy.searches),
        "shares": {
            "works_with_all_authors": _share(work.authors_complete for work in works),
            "works_with_verified_venue": _share(work.venue_verified for work in works),
            "works_with_abstract_or_more_seen": _share(
                bool({"abstract", "body", "code"}.intersection(work.seen)) for work in works),
            "filings_with_evidence_beyond_the_title": _share(filing.locator != "title" for filing in filings),
        },
        "works_per_node": {node.id: len(node.works) for node in taxonomy.nodes},
        "years": years(taxonomy),
        "cells": {node.id: _row(node, taxonomy) for node in taxonomy.nodes},
    }


def applies(node: Node) -> bool:
    """Whether works belong at this node itself: it is no heading, is not retired, and does not pass them all on."""
    return not node.closed and (node.usage == "assign" or bool(node.works))


def empty(node: Node, modality: str | None, taxonomy: Taxonomy, year: str | None = None) -> str:
    """What it means that no work is filed at the node with this modality (None: with any) in this year (None: in any)."""
    if not applies(node):
        return NOT_APPLICABLE
    wanted = {modality} if modality else set(MODALITIES)
    covered = set()
    for search in taxonomy.searches:
        if node.id in search.nodes and (year is None or year <= search.date[:4]):
            covered.update(search.modalities)
    return NONE_FOUND if wanted <= covered else NOT_CODED


def years(taxonomy: Taxonomy) -> list[str]:
    """Every year from that of the oldest work to that of the release."""
    first = min((work.year for work in taxonomy.works), default=taxonomy.released[:4])
    return [str(year) for year in range(int(first), int(taxonomy.released[:4]) + 1)]


def as_text(counted: dict, taxonomy: Taxonomy) -> str:
    """What `coverage` counted, for the terminal: the shares, then a table of nodes and modalities."""
    lines = [f"taxonomy {counted['version']}: {counted['nodes']} nodes, "
             f"{counted['nodes_that_take_works']} of them take works; {counted['works']} works in {counted['filings']} filings; {counted['searches']} searches on record", ""]
    for name, share in counted["shares"].items():
        lines.append(f"{'none to count' if share is None else f'{share:.1%}':>13}  {name.replace('_', ' ')}")
    shown = [name for name in MODALITIES
             if any(name in thing.modalities for thing in (*taxonomy.works, *taxonomy.searches))]
    width = max((len(node.label) for node in taxonomy.nodes), default=0)
    lines += ["", f"{'':8} {'':{width}} {'works':>6}" + "".join(f"{name:>11}" for name in shown)]
    words = {NONE_FOUND: "none found", NOT_CODED: "·"}
    for node in taxonomy.nodes:
        if applies(node):
            counts = [_count(node.works, name) or words[empty(node, name, taxonomy)] for name in shown]
            lines.append(f"{node.id:8} {node.label:{width}} {len(node.works):>6}"
                         + "".join(f"{count:>11}" for count in counts))
    lines += ["", "· not coded: no search for such works is on record. Headings take no works and are left out."]
    return "\n".join(lines)


def _share(facts: Iterable[bool]) -> float | None:
    facts = list(facts)
    return round(sum(facts) / len(facts), 4) if facts else None


def _count(works: tuple[Work, ...], modality: str, year: str | None = None) -> int:
    return sum(modality in work.modalities and year in (None, work.year) for work in works)


def _row(node: Node, taxonomy: Taxonomy) -> dict | str:
    if not applies(node):
        return NOT_APPLICABLE
    row = {}
    for modality in MODALITIES:
        cells = {year: _count(node.works, modality, year) or empty(node, modality, taxonomy, year)
                 for year in years(taxonomy)}
        same = set(cells.values())
        row[modality] = same.pop() if len(same) == 1 and isinstance(next(iter(same)), str) else cells
    return row
