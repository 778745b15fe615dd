"""Check the taxonomy: `validate(root)` returns every problem as a sentence with node, reason and fix.

First the file's form (YAML look-alikes, JSON Schema), since nothing else can be asked of a broken file.
Then what a schema cannot say: one function per rule, each takes the Taxonomy and yields problems.
Then the files beside it: ids.lock, CHANGELOG.md, the generated pages.
Each rule is proven by a broken copy in tests/taxonomy/test_taxonomy_validate.py.
"""

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from jsonschema import Draft202012Validator

from .load import DATA, Taxonomy, build, load, name_of, read
from .pages import all_pages, book_site, present_pages

SCHEMA = Path("taxonomy") / "schema" / "nodes.schema.json"
LOCK = Path("taxonomy") / "ids.lock"
CHANGELOG = Path("taxonomy") / "CHANGELOG.md"


def validate(root: str | Path, site: dict | None = None) -> list[str]:
    """Every problem of the taxonomy under `root`; an empty list when it is sound.

    root: the repository, the folder with `_config.yml`.
    site: the book's addresses, which the generated pages show; without it they are read from `_config.yml`.

    Problems are returned and not raised, so that one run shows all of them. The pages are compared last, and
    only when the data are sound.
    """
    root = Path(root)
    return check_data(root) or [*pages_are_in_sync(root, load(root / DATA), site)]


def check_data(root: str | Path) -> list[str]:
    """Like `validate`, but leaves the generated pages out: may pages be written from these data?"""
    root = Path(root)
    missing = [str(name) for name in (DATA, SCHEMA, LOCK, CHANGELOG) if not (root / name).is_file()]
    if missing:
        return [f"{name} is missing under {root}. Restore it." for name in missing]
    try:
        data = read(root / DATA)
        schema = json.loads((root / SCHEMA).read_text(encoding="utf-8"))
    except ValueError as error:      # look-alikes, YAML that does not parse, JSON that does not parse
        return [str(error)]
    # Each step needs the one before: data of the wrong form cannot be built, and cannot be asked anything else.
    problems = [*schema_is_sound(schema)] or [*follows_schema(data, schema)]
    if problems:
        return problems
    taxonomy = build(data)
    problems = [problem for rule in RULES for problem in rule(taxonomy)]
    problems += agrees_with_lock(taxonomy, (root / LOCK).read_text(encoding="utf-8"))
    problems += agrees_with_changelog(taxonomy, (root / CHANGELOG).read_text(encoding="utf-8"))
    return problems


# ---------------------------------------------------------------- the form of the file

def schema_is_sound(schema: dict) -> Iterator[str]:
    """What a schema requires it must also describe, and it must refuse what it does not describe."""
    parts = [("the top", schema), *schema.get("$defs", {}).items()]
    while parts:
        name, part = parts.pop()
        properties = part.get("properties", {})
        for key in part.get("required", []):
            if key not in properties:
                yield f"{SCHEMA}: {name} requires {key!r} but does not describe it. Add it to its properties."
        if properties and part.get("additionalProperties") is not False:
            yield f"{SCHEMA}: {name} accepts any field. Set additionalProperties to false."
        inner = [*properties.items(), ("items of " + name, part.get("items"))]
        parts += [(key, value) for key, value in inner if isinstance(value, dict)]


def follows_schema(data: dict, schema: dict) -> Iterator[str]:
    """The data have the fields, types and forms that the schema asks for."""
    for error in sorted(Draft202012Validator(schema).iter_errors(data), key=lambda error: list(map(str, error.path))):
        path = list(error.absolute_path)
        if path[:1] == ["nodes"] and len(path) > 1:
            where, path = name_of(data["nodes"][path[1]], path[1] + 1), path[2:]
        else:
            where = "The file"
        field = ".".join(map(str, path)) or "the entry"
        yield f"{where}: {field}: {error.message}. Change it to what {SCHEMA} asks for."


# ---------------------------------------------------------------- rules on the nodes

def names_are_unique(taxonomy: Taxonomy) -> Iterator[str]:
    """No two nodes share an id, a slug, or any of their names; otherwise `find` could not tell them apart."""
    for kind, names in {
        "id": lambda node: [node.id],
        "slug": lambda node: [node.slug],
        "name": lambda node: [node.label, *node.alt_labels],
    }.items():
        first = {}
        for node in taxonomy.nodes:
            for name in names(node):
                key = name.casefold()
                if key in first:
                    yield (f"{node}: its {kind} {name!r} is already used by {first[key]}. "
                           f"Give one of them another {kind}.")
                else:
                    first[key] = node


def links_resolve(taxonomy: Taxonomy) -> Iterator[str]:
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
                if target == node.id:
                    yield f"{node}: {field} points to the node itself. Point to another node, or remove it."
                elif target not in ids:
                    yield f"{node}: {field} points to {target}, which does not exist. Correct the id."


def tree_hangs_together(taxonomy: Taxonomy) -> Iterator[str]:
    """There is one root, no node is its own ancestor, and every node reaches the root."""
    parents = {node.id: node.broader for node in taxonomy.nodes}
    above = {id: _ancestors(id, parents) for id in parents}
    circle = [id for id in parents if id in above[id]]
    if circle:
        yield (f"{', '.join(circle)}: following `broader` from here leads back to the start. "
               "Take one `broader` out of the circle.")
    roots = [node for node in taxonomy.nodes if not node.broader]
    if len(roots) != 1:
        yield (f"The tree has {len(roots)} roots ({', '.join(map(str, roots)) or 'none'}); it must have one. "
               "Give every other node a `broader`.")
        return
    for node in taxonomy.nodes:
        if node is not roots[0] and roots[0].id not in above[node.id]:
            yield f"{node}: following `broader` from here never reaches the root {roots[0]}. Correct its `broader`."


def _ancestors(id: str, parents: dict[str, tuple[str, ...]]) -> set[str]:
    found, waiting = set(), [*parents[id]]
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += parents.get(parent, ())
    return found


def slugs_follow_the_tree(taxonomy: Taxonomy) -> Iterator[str]:
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
            yield (f"{node}: the slug {node.slug!r} does not follow the tree. "
                   f"Make it {prefix + node.slug.split('/')[-1]!r}, or correct its `broader`.")


def survey_claims_are_backed(taxonomy: Taxonomy) -> Iterator[str]:
    """A confirmation names its sources; what is recalled names none; what is ours claims nothing."""
    codes = {source.code for source in taxonomy.sources}
    for node in taxonomy.nodes:
        for code in node.seen:
            if code not in codes:
                yield f"{node}: survey.seen names {code}, which is not among `sources`. Add the source or correct it."
        if node.relation == "added":
            if node.confirmation or node.seen:
                yield (f"{node}: it is ours (relation: added), so the survey cannot confirm it. "
                       "Remove survey.confirmation and survey.seen.")
        elif node.confirmation is None:
            yield f"{node}: survey.confirmation is missing. Say how well its place in the survey is confirmed."
        elif node.confirmation == "recalled" and node.seen:
            yield f"{node}: it is recalled, yet survey.seen is not empty. Remove the sources or raise the confirmation."
        elif node.confirmation != "recalled" and not node.seen:
            yield (f"{node}: it is {node.confirmation}, yet no source shows it. "
                   "Name one in survey.seen or set it to recalled.")


def use_is_explained(taxonomy: Taxonomy) -> Iterator[str]:
    """Who may not file works under a node is told why; only a node that takes works can be run."""
    for node in taxonomy.nodes:
        if node.usage != "assign" and node.usage_note is None:
            yield f"{node}: usage is {node.usage} without a usage_note. Say why, and where to go instead."
        if node.usage != "assign" and node.runnable:
            yield f"{node}: usage is {node.usage}, yet it is runnable. Make a narrower node runnable."


def deprecation_is_explained(taxonomy: Taxonomy) -> Iterator[str]:
    """A deprecated node says since when, why and what instead; another node does not."""
    for node in taxonomy.nodes:
        if node.status == "deprecated" and node.deprecation is None:
            yield f"{node}: it is deprecated without a deprecation. Add version, reason and replaced_by."
        if node.status != "deprecated" and node.deprecation is not None:
            yield f"{node}: it has a deprecation but its status is {node.status}. Set the status or remove it."


def versions_are_in_order(taxonomy: Taxonomy) -> Iterator[str]:
    """The release date is a date, and no node is younger than the taxonomy."""
    try:
        date.fromisoformat(taxonomy.released)
    except ValueError:
        yield f"The scheme: released is {taxonomy.released!r}, which is no date. Write year-month-day."
    for node in taxonomy.nodes:
        if _numbers(node.introduced_in) > _numbers(taxonomy.version):
            yield (f"{node}: introduced_in is {node.introduced_in}, later than the taxonomy's version "
                   f"{taxonomy.version}. Raise the version or correct it.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


RULES = [names_are_unique, links_resolve, tree_hangs_together, slugs_follow_the_tree, survey_claims_are_backed,
         use_is_explained, deprecation_is_explained, versions_are_in_order]


# ---------------------------------------------------------------- the files beside it

def agrees_with_lock(taxonomy: Taxonomy, text: str) -> Iterator[str]:
    """ids.lock and the data know the same ids, since the same version, under a name that still leads there.

    The file only grows. Each line holds an id, its first version and its first label, two spaces between.
    Ids rise by one, so a line that was taken out of the middle is noticed.
    """
    nodes = {node.id: node for node in taxonomy.nodes}
    locked = set()
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("  ", maxsplit=2)
        if len(fields) != 3:
            yield f"{LOCK}, line {number}: {line!r} is not an id, a version and a label. Put two spaces between them."
            continue
        id, version, label = fields
        if id != f"MX-{number:04d}":
            yield f"{LOCK}, line {number}: the id is {id}, not MX-{number:04d}. Lines are only added, at the end."
        locked.add(id)
        node = nodes.get(id)
        if node is None:
            yield f"{id} ({label}): it is in {LOCK} but not in the data. Put it back, with the status deprecated."
        elif version != node.introduced_in:
            yield f"{node}: introduced_in is {node.introduced_in}, but {LOCK} says {version}. Correct the data."
        elif label not in (node.label, *node.alt_labels):
            yield f"{node}: its first label was {label!r}. Keep it among alt_labels, so that it can still be found."
    for node in taxonomy.nodes:
        if node.id not in locked:
            yield f"{node}: it is not in {LOCK}. Add the line '{node.id}  {node.introduced_in}  {node.label}' at its end."


def agrees_with_changelog(taxonomy: Taxonomy, text: str) -> Iterator[str]:
    """The newest heading of the changelog is this version with its date."""
    heading = re.search(r"^## (.*)$", text, flags=re.MULTILINE)
    wanted = f"{taxonomy.version} ({taxonomy.released})"
    if heading is None or heading[1] != wanted:
        found = repr(heading[1]) if heading else "missing"
        yield f"{CHANGELOG}: its first heading is {found}, but the data are {wanted}. Add the heading '## {wanted}'."


def pages_are_in_sync(root: Path, taxonomy: Taxonomy, site: dict | None) -> Iterator[str]:
    """The committed pages are those that the data give."""
    fix = "Run `mini-lib taxonomy pages`."
    pages = all_pages(taxonomy, book_site(root) if site is None else site)
    for name, text in pages.items():
        path = root / name
        if not path.is_file():
            yield f"{name} is missing. {fix}"
        elif path.read_text(encoding="utf-8") != text:
            yield f"{name} is not what the data give. {fix}"
    for name in sorted(present_pages(root) - pages.keys()):
        yield f"{name} belongs to no node. {fix}"
