"""The page of one node."""

from __future__ import annotations

import json

from .escape import markdown
from .nodes import FIT, Match, Node, Taxonomy
from .pages_parts import (
    CONFIRMATION,
    LANGUAGES,
    NO_CLAIM,
    RELATION,
    STATUS,
    USAGE,
    badge,
    cite_boxes,
    count,
    link,
    linked_title,
    links,
    listing,
    page,
    repository_file,
    source_line,
    spoken,
    works_link,
)
from .works import GROUNDS, ROLES, Work


def render_page(node: Node, taxonomy: Taxonomy, site: dict) -> str:
    """The page of one node, as Markdown.

    site: the book's addresses (see `pages.py`). Raises KeyError when the node points to an id
    that is not in the taxonomy; `validate` finds that first.
    """
    return page([
        _front_matter(node),
        f"# {markdown(node.label)}",
        f"**{node.id}** · taxonomy version {taxonomy.version} · {node.status} · {badge(node)}",
        *(" › ".join([*(link(step) for step in path[:-1]), markdown(node.label)])
          for path in taxonomy.paths(node)),
        _retired(node, taxonomy),
        markdown(node.definition),
        f"Also called: {', '.join(map(markdown, node.alt_labels))}." if node.alt_labels else "",
        f"**Run it:** [the chapter *{markdown(node.label)}*](../../chapters/{node.slug}.ipynb)" if node.runnable else "",
        _translations(node),
        "## Scope" if node.includes or node.excludes else "",
        listing("Belongs here:", node.includes),
        _not_this(node, taxonomy),
        *_usage(node),
        listing("## Strengths", node.strengths),
        listing("## Limitations", node.limitations),
        listing("## Open problems", node.open_problems),
        "## Works filed here",
        _works(node, taxonomy),
        "## Neighbours",
        _neighbours(node, taxonomy),
        "## In the survey",
        _survey(node, taxonomy),
        "## In other taxonomies" if node.matches else "",
        _matches(node, taxonomy),
        "## History",
        _history(node, site),
        "## Cite this node",
        "Name the version: wording may change while the id stays.",
        cite_boxes(node, taxonomy, site),
    ])


def _front_matter(node: Node) -> str:
    # A JSON string is a YAML string, so no character of the text can break out of it.
    description = json.dumps(f"{node.label} ({node.id}): {node.definition}", ensure_ascii=False)
    return f"---\nmyst:\n  html_meta:\n    description: {description}\n---"


def _retired(node: Node, taxonomy: Taxonomy) -> str:
    if node.deprecation is None:
        return ""
    instead = links(node.deprecation.replaced_by, taxonomy)
    # A quote that opens so becomes a warning box on the site (mini_lib/book/sphinx_ext.py).
    return (f"> **Caution.** Retired since version {node.deprecation.version}. {markdown(node.deprecation.reason)}"
            + (f" Use instead: {instead}." if instead else ""))


def _translations(node: Node) -> str:
    lines = [f"- {LANGUAGES.get(tag, markdown(tag))}: **{spoken(said.label, tag)}**. {spoken(said.definition, tag)}"
             for tag, said in node.translations.items()]
    return "\n".join(["In other languages; where they differ, the English counts:\n", *lines]) if lines else ""


def _not_this(node: Node, taxonomy: Taxonomy) -> str:
    if not node.excludes:
        return ""
    lines = [f"- {markdown(item.text)} → {link(taxonomy.get(item.see))}" for item in node.excludes]
    return "Does not belong here:\n\n" + "\n".join(lines)


def _usage(node: Node) -> list[str]:
    """What is special about filing works here; nothing where they may simply be filed."""
    if node.usage == "assign" and not node.usage_note:
        return []
    return ["## Filing works here", f"{USAGE[node.usage]} {markdown(node.usage_note or '')}".strip()]


def _works(node: Node, taxonomy: Taxonomy) -> str:
    inside = taxonomy.below(node)
    under = len({work.key for other in taxonomy.nodes if other.id in inside for work in other.works})
    narrower = ""
    if under:
        shown = works_link(f"{count(under, 'work')} at narrower nodes", "../", node=f"{node.id}-below")
        narrower = f"{shown[0].upper()}{shown[1:]}." if not node.works else f"And {shown}."
    if not node.works:
        alone = "A heading takes no works." if node.usage == "navigation" else "No work found yet."
        return f"{alone} {narrower}".strip()
    lines = [_work(work, node) for work in sorted(node.works, key=lambda work: (work.year, work.title.casefold()))]
    told = f"{count(len(node.works), 'work')}, by year. {works_link('Sort and filter them', '../', node=node.id)}. {narrower}"
    return f"{told.strip()}\n\n" + "\n".join(lines)


def _work(work: Work, node: Node) -> str:
    filing = work.at(node.id)
    venue = markdown(work.venue) + ("" if work.venue_verified else " (venue from memory)")
    # A backslash at the end of a line is a line break inside the item.
    return (f"- {markdown(work.by)} ({work.year}). {linked_title(work)}. {venue}.\\\n"
            f"  {ROLES[filing.role].capitalize()} · ground: {GROUNDS[filing.ground]} "
            f"· evidence in: {markdown(filing.locator)}.\\\n"
            f"  {markdown(filing.reason)}")


def _neighbours(node: Node, taxonomy: Taxonomy) -> str:
    narrower = [other.id for other in taxonomy.narrower(node)]
    rows = {"Broader": node.broader, "Narrower": narrower, "See also": node.see_also}
    return "\n".join(f"- {title}: {links(ids, taxonomy)}" for title, ids in rows.items() if ids)


def _survey(node: Node, taxonomy: Taxonomy) -> str:
    key = node.confirmation or "added"
    shown = [source_line(source) for source in taxonomy.sources if source.code in node.seen]
    paragraphs = [f"**{badge(node).capitalize()}.** {CONFIRMATION[key]} {RELATION[node.relation]}",
                  markdown(node.survey_note or ""), "Seen in:\n\n" + "\n".join(shown) if shown else "", NO_CLAIM]
    return "\n\n".join(filter(None, paragraphs))


def _matches(node: Node, taxonomy: Taxonomy) -> str:
    lines = []
    for fit, said in FIT.items():
        terms = [_match(match, taxonomy) for match in node.matches if match.fit == fit]
        if terms:
            lines.append(f"- {said[0].upper()}{said[1:]}: {'; '.join(terms)}.")
    return "\n".join(lines)


def _match(match: Match, taxonomy: Taxonomy) -> str:
    rival = next((rival for rival in taxonomy.rivals if rival.code == match.rival), None)
    where = f" ({markdown(match.where)})" if match.where else ""
    by = f"{markdown(rival.by)} {rival.year}" if rival else markdown(match.rival)
    return f"*{markdown(match.term)}*{where}, in {markdown(match.rival)} ([{by}](../index.md#other-taxonomies))"


def _history(node: Node, site: dict) -> str:
    gone = f" Retired in version {node.deprecation.version}." if node.deprecation else ""
    return (f"In the taxonomy since version {node.introduced_in}.{gone} Status: {node.status}. {STATUS[node.status]} "
            f"[All changes](<{repository_file(site, 'taxonomy/CHANGELOG.md')}>).")
