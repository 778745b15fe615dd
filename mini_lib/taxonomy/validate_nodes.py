"""Rules on nodes that a schema cannot say: each takes the Taxonomy and yields where and what (see `validate.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from .load import numbers
from .nodes import Taxonomy

Found = tuple[tuple, str]      # where: a path into the file whose first step may be a Node; and the sentence
WHERE = {"name": ("label",), "Chinese name": ("translations", "zh"), "Korean name": ("translations", "ko")}


def names_are_unique(taxonomy: Taxonomy) -> Iterator[Found]:
    """No two nodes share an id, a slug, or any of their names; otherwise `find` could not tell them apart."""
    for kind, names in {
        "id": lambda node: [node.id],
        "slug": lambda node: [node.slug],
        "name": lambda node: [node.label, *node.alt_labels],
        "Chinese name": lambda node: [node.translations["zh"].label],
        "Korean name": lambda node: [node.translations["ko"].label],
    }.items():
        first = {}
        for node in taxonomy.nodes:
            for name in names(node):
                key = name.casefold()
                if key in first:
                    yield (node, *WHERE.get(kind, (kind,))), (
                        f"{node}: its {kind} {name!r} is already used by {first[key]}. Give one of them another {kind}.")
                else:
                    first[key] = node


def links_resolve(taxonomy: Taxonomy) -> Iterator[Found]:
    """Every id a node points to exists, and is another node."""
    ids = {node.id for node in taxonomy.nodes}
    for node in taxonomy.nodes:
        for field, targets in {
            "broader": node.broader,
            "see_also": node.see_also,
            "scope.excludes": [item.see for item in node.excludes],
            "deprecation.replaced_by": node.deprecation.replaced_by if node.deprecation else [],
        }.items():
            for target in targets:
                where = (node, *field.split("."))
                if target == node.id:
                    yield where, f"{node}: {field} points to the node itself. Point to another node, or remove it."
                elif target not in ids:
                    yield where, f"{node}: {field} points to {target}, which does not exist. Correct the id."


def tree_hangs_together(taxonomy: Taxonomy) -> Iterator[Found]:
    """There is one root, no node is its own ancestor, and every node reaches the root."""
    above = {node.id: taxonomy.above(node) for node in taxonomy.nodes}
    circle = [id for id in above if id in above[id]]
    if circle:
        yield (taxonomy.get(circle[0]), "broader"), (
            f"{', '.join(circle)}: following `broader` from here leads back to the start. "
            "Take one `broader` out of the circle.")
    roots = [node for node in taxonomy.nodes if not node.broader]
    if len(roots) != 1:
        yield (roots[-1], "broader") if roots else (), (
            f"The tree has {len(roots)} roots ({', '.join(map(str, roots)) or 'none'}); it must have one. "
            "Give every other node a `broader`.")
        return
    for node in taxonomy.nodes:
        if node is not roots[0] and roots[0].id not in above[node.id]:
            yield (node, "broader"), (f"{node}: following `broader` from here never reaches the root {roots[0]}. "
                                      "Correct its `broader`.")


def slugs_follow_the_tree(taxonomy: Taxonomy) -> Iterator[Found]:
    """A slug is the slug of the first broader node, a slash, and one more word; the root lends no prefix.

    Code, chapter and test lie at the slug, so this keeps the folders the same as the tree.
    """
    nodes = {node.id: node for node in taxonomy.nodes}
    for node in taxonomy.nodes:
        parent = nodes.get(node.broader[0]) if node.broader else None
        if node.broader and parent is None:
            continue      # links_resolve says so
        prefix = f"{parent.slug}/" if parent and parent.broader else ""
        if not node.slug.startswith(prefix) or "/" in node.slug[len(prefix):]:
            yield (node, "slug"), (f"{node}: the slug {node.slug!r} does not follow the tree. "
                                   f"Make it {prefix + node.slug.split('/')[-1]!r}, or correct its `broader`.")


def matches_name_known_rivals(taxonomy: Taxonomy) -> Iterator[Found]:
    """A match names a taxonomy that is among the rivals."""
    codes = {rival.code for rival in taxonomy.rivals}
    for node in taxonomy.nodes:
        for number, match in enumerate(node.matches):
            if match.rival not in codes:
                yield (node, "matches", number), (f"{node}: the match {match.term!r} names {match.rival}, which is not "
                                                  "among `rivals`. Add the rival or correct the code.")


def survey_claims_are_backed(taxonomy: Taxonomy) -> Iterator[Found]:
    """A confirmation names its sources; what is recalled names none; what is ours claims nothing."""
    codes = {source.code for source in taxonomy.sources}
    for node in taxonomy.nodes:
        for code in node.seen:
            if code not in codes:
                yield (node, "survey", "seen"), (f"{node}: survey.seen names {code}, which is not among `sources`. "
                                                 "Add the source or correct it.")
        if node.relation == "added":
            if node.confirmation or node.seen:
                yield (node, "survey"), (f"{node}: it is ours (relation: added), so the survey cannot confirm it. "
                                         "Remove survey.confirmation and survey.seen.")
        elif node.confirmation is None:
            yield (node, "survey"), (f"{node}: survey.confirmation is missing. "
                                     "Say how well its place in the survey is confirmed.")
        elif node.confirmation == "recalled" and node.seen:
            yield (node, "survey"), (f"{node}: it is recalled, yet survey.seen is not empty. "
                                     "Remove the sources or raise the confirmation.")
        elif node.confirmation != "recalled" and not node.seen:
            yield (node, "survey"), (f"{node}: it is {node.confirmation}, yet no source shows it. "
                                     "Name one in survey.seen or set it to recalled.")


def use_is_explained(taxonomy: Taxonomy) -> Iterator[Found]:
    """Who may not file works under a node is told why; only a node that takes works can be run."""
    for node in taxonomy.nodes:
        if node.usage != "assign" and node.usage_note is None:
            yield (node, "usage"), f"{node}: usage is {node.usage} without a usage_note. Say why, and where to go instead."
        if node.usage != "assign" and node.runnable:
            yield (node, "runnable"), f"{node}: usage is {node.usage}, yet it is runnable. Make a narrower node runnable."


def deprecation_is_explained(taxonomy: Taxonomy) -> Iterator[Found]:
    """A deprecated node says since when, why and what instead; another node does not."""
    for node in taxonomy.nodes:
        if node.status == "deprecated" and node.deprecation is None:
            yield (node, "status"), f"{node}: it is deprecated without a deprecation. Add version, reason and replaced_by."
        if node.status != "deprecated" and node.deprecation is not None:
            yield (node, "deprecation"), (f"{node}: it has a deprecation but its status is {node.status}. "
                                          "Set the status or remove it.")
    gone = {node.id for node in taxonomy.nodes if node.status == "deprecated"}
    for node in taxonomy.nodes:
        leads_to = {"deprecation.replaced_by": node.deprecation.replaced_by if node.deprecation else (),
                    "broader": () if node.id in gone else node.broader}
        for field, targets in leads_to.items():
            for target in gone.intersection(targets) - {node.id}:
                yield (node, *field.split(".")), (f"{node}: {field} points to {target}, which is retired itself. "
                                                  "Point to a living node.")


def versions_are_in_order(taxonomy: Taxonomy) -> Iterator[Found]:
    """The release date is a date, and nothing was introduced or retired after this version."""
    try:
        date.fromisoformat(taxonomy.released)
    except ValueError:
        yield ("scheme", "released"), (f"The scheme: released is {taxonomy.released!r}, which is no date. "
                                       "Write year-month-day.")
    for node in taxonomy.nodes:
        dates = {("introduced_in",): node.introduced_in}
        if node.deprecation:
            dates["deprecation", "version"] = node.deprecation.version
        for where, version in dates.items():
            if numbers(version) > numbers(taxonomy.version):
                yield (node, *where), (f"{node}: {'.'.join(where)} is {version}, later than the taxonomy's version "
                                       f"{taxonomy.version}. Raise the version or correct it.")


NODE_RULES = [names_are_unique, links_resolve, matches_name_known_rivals, tree_hangs_together, slugs_follow_the_tree,
              survey_claims_are_backed, use_is_explained, deprecation_is_explained, versions_are_in_order]
