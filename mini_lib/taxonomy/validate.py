"""Check the taxonomy: `validate(root)` returns every problem as a sentence with file, line, reason and fix.

First the form of each file (`validate_form.py`), since nothing else can be asked of a broken file. Then what a schema
cannot say: one function per rule, each takes the Taxonomy and yields what it found and where (`validate_nodes.py`,
`validate_works.py`). Then the files beside the data: ids.lock, CHANGELOG.md, the releases, the generated pages.
Each rule is proven by a broken copy in tests/taxonomy/.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .load import CHANGELOG, DATA, build, build_works, load
from .nodes import Node, Taxonomy
from .pages import all_pages, book_site, present_pages
from .release import agrees_with_releases
from .strict import Lines, Malformed, at, read_yaml
from .validate_form import SCHEMAS, follows_schema, read_form, read_schema
from .validate_nodes import NODE_RULES, Found
from .validate_works import SEARCH_RULES, WORK_RULES
from .works import PROTOCOL, WORKS

LOCK = Path("taxonomy") / "ids.lock"
RULES = {DATA: NODE_RULES, WORKS: WORK_RULES, PROTOCOL: SEARCH_RULES}


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
    missing = [str(name) for name in (LOCK, CHANGELOG) if not (root / name).is_file()]
    if missing:
        return [f"{name} is missing under {root}. Restore it." for name in missing]
    taxonomy, problems = read_sound(root)
    if taxonomy is None:
        return problems
    changelog = (root / CHANGELOG).read_text(encoding="utf-8")
    problems += agrees_with_lock(taxonomy, (root / LOCK).read_text(encoding="utf-8"))
    problems += agrees_with_changelog(taxonomy, changelog)
    problems += agrees_with_releases(root, changelog)
    return problems


def read_sound(root: str | Path) -> tuple[Taxonomy | None, list[str]]:
    """The taxonomy, and every problem of its data; None when a file cannot be read at all."""
    root = Path(root)
    missing = [str(name) for name in (*SCHEMAS, *SCHEMAS.values()) if not (root / name).is_file()]
    if missing:
        return None, [f"{name} is missing under {root}. Restore it." for name in missing]
    data, lines, problems = read_form(root)
    if problems:
        return None, problems
    taxonomy = build(data[DATA], data[WORKS], data[PROTOCOL])
    return taxonomy, [_placed(found, taxonomy, name, lines[name])
                      for name, rules in RULES.items() for rule in rules for found in rule(taxonomy)]


def check_work(path: str | Path, root: str | Path) -> list[str]:
    """Every problem of one proposed work: a file with one entry of works.yaml, alone or after `works:`.

    It is held to the schema and the rules, and must not be listed already.
    Raises FileNotFoundError when there is no such file, and ValueError when the taxonomy itself is not sound.
    """
    taxonomy, problems = read_sound(root)
    if problems:
        raise ValueError(f"The taxonomy itself is not sound, so nothing can be checked against it: {problems[0]}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}. Write the entry of the work into it.")
    name = str(path)
    try:
        data, lines = read_yaml(path, name)
    except Malformed as error:
        return str(error).splitlines()
    if "works" not in data:
        data, lines = {"works": [data]}, Lines({("works", 0, *where): line for where, line in lines.items()})
    if not isinstance(data["works"], list) or len(data["works"]) != 1:
        return [f"{name}: it must hold one work. Give each its own file."]
    schema, _ = read_schema(Path(root), WORKS)
    problems = [*follows_schema(data, schema, WORKS, lines, name)]
    if problems:
        return problems
    work, = build_works(data)
    listed = replace(taxonomy, works=(*taxonomy.works, work))
    # The listed works are sound, so whatever is found now concerns the new one, which comes last.
    return [at(name, lines.nearest(("works", 0, *where[2:])), sentence)
            for rule in WORK_RULES for where, sentence in rule(listed)]


def _placed(found: Found, taxonomy: Taxonomy, name: Path, lines: Lines) -> str:
    """The sentence with file and line before it."""
    path, sentence = found
    if path and isinstance(path[0], Node):
        number = next(number for number, node in enumerate(taxonomy.nodes) if node is path[0])
        path = ("nodes", number, *path[1:])
    return at(name.as_posix(), lines.nearest(path), sentence)


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
