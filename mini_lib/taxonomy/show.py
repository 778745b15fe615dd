"""What the commands print: one node with all that the data say of it, and the hits of a search."""

from __future__ import annotations

from textwrap import fill, indent, shorten

from .nodes import FIT, Node, Taxonomy
from .pages_parts import CONFIRMATION, LANGUAGES
from .search import Hit
from .works import GROUNDS, Work

WIDTH = 92


def describe(node: Node, taxonomy: Taxonomy) -> str:
    """One node as plain text for the terminal, in its other languages too, with its works and why they are there."""
    key = node.confirmation or "added"
    path = " › ".join(step.label for step in taxonomy.paths(node)[0])
    gone = node.deprecation
    blocks = [
        f"{node.id}  {node.label}\n  {path}\n  slug: {node.slug}"
        + ("\n  also: " + ", ".join(node.alt_labels) if node.alt_labels else "")
        + "".join(f"\n  {LANGUAGES.get(language, language)}: {said.label}" for language, said in node.translations.items()),
        f"RETIRED since version {gone.version}: {gone.reason}"
        + (f" Use instead: {', '.join(_names(gone.replaced_by, taxonomy))}." if gone.replaced_by else "") if gone else "",
        _wrapped(node.definition),
        _bullets("Belongs here", node.includes),
        _bullets("Does not belong here", [f"{item.text} -> {taxonomy.get(item.see)}" for item in node.excludes]),
        _bullets("Strengths", node.strengths),
        _bullets("Limitations", node.limitations),
        _bullets("Open problems", node.open_problems),
        _bullets("Broader", _names(node.broader, taxonomy)),
        _bullets("Narrower", _names((other.id for other in taxonomy.narrower(node)), taxonomy)),
        _bullets("See also", _names(node.see_also, taxonomy)),
        _bullets("In other taxonomies", _matches(node, taxonomy)),
        f"In the survey: {key}{' (' + ', '.join(node.seen) + ')' if node.seen else ''}\n" + _wrapped(CONFIRMATION[key]),
        f"Usage: {node.usage}" + ("\n" + _wrapped(node.usage_note) if node.usage_note else ""),
        _bullets(f"Works ({len(node.works)})", [_work(work, node) for work in node.works]) or "Works: none yet.",
        f"Status: {node.status}, since version {node.introduced_in}. "
        + (f"Chapter: chapters/{node.slug}.ipynb" if node.runnable else "No chapter yet."),
    ]
    return "\n\n".join(block for block in blocks if block)


def describe_hit(hit: Hit) -> str:
    """A node that a search found: its id, its label, and the two best reasons."""
    why = [f"    {field}: {shorten(text, WIDTH - 6 - len(field), placeholder=' …')}" for field, text in hit.why[:2]]
    retired = " (retired)" if hit.node.status == "deprecated" else ""
    return "\n".join([f"{hit.node.id}  {hit.node.label}{retired}", *why])


def _work(work: Work, node: Node) -> str:
    filing = work.at(node.id)
    return (f"{work.by} ({work.year}): {work.title}. {work.venue}. {work.address or 'no address'}\n"
            f"{filing.role} ({GROUNDS[filing.ground]}); {filing.locator}: {filing.reason}")


def _matches(node: Node, taxonomy: Taxonomy) -> list[str]:
    rivals = {rival.code: rival for rival in taxonomy.rivals}
    return [f"{match.term}{f', {match.where}' if match.where else ''} "
            f"({rivals[match.rival].by} {rivals[match.rival].year}): {FIT[match.fit]}" for match in node.matches]


def _names(ids, taxonomy: Taxonomy) -> list[str]:
    return [str(taxonomy.get(id)) for id in ids]


def _wrapped(text: str) -> str:
    return indent(fill(text, WIDTH - 2, break_on_hyphens=False), "  ")


def _bullets(title: str, items) -> str:
    lines = [fill(line, WIDTH, initial_indent="  - " if first else "    ", subsequent_indent="    ", break_on_hyphens=False)
             for item in items for first, line in ((number == 0, line) for number, line in enumerate(item.split("\n")))]
    return "\n".join([title, *lines]) if lines else ""
