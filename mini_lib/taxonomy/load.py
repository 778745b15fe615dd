"""Read the files of `taxonomy/` into small frozen objects.

Data move one way: YAML text -> `strict.read_yaml` (plain dicts, look-alikes refused) -> `build` (the objects of `nodes.py`
and `works.py`). `load` does both. Whether the data make sense is the business of `validate.py`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from .nodes import Deprecation, Exclusion, Match, Node, Rival, Source, Taxonomy, Translation
from .strict import read_yaml
from .works import PROTOCOL, WORKS, Filing, Search, Work

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path("taxonomy") / "nodes.yaml"
CHANGELOG = Path("taxonomy") / "CHANGELOG.md"


def load(path: str | Path | None = None) -> Taxonomy:
    """Load the taxonomy, with `works.yaml`, `protocol.yaml` and `CHANGELOG.md` where they lie beside it.

    path: the YAML file of the nodes. Without it, `taxonomy/nodes.yaml` of the repository this package lies in.

    Raises FileNotFoundError when there is no such file, and ValueError, with sentences naming file, line and
    field, when a field is missing or YAML read something else than text (see `strict.py`).
    """
    path = REPOSITORY / DATA if path is None else Path(path)
    nodes, _ = read_yaml(path)
    works, protocol, changelog = (path.with_name(name.name) for name in (WORKS, PROTOCOL, CHANGELOG))
    return build(nodes,
                 read_yaml(works)[0] if works.is_file() else {"works": []},
                 read_yaml(protocol)[0] if protocol.is_file() else {"searches": {}},
                 versions_in(changelog.read_text(encoding="utf-8")) if changelog.is_file() else ())


def versions_in(changelog: str) -> tuple[str, ...]:
    """The versions that the headings of the changelog name, in its order: newest first."""
    return tuple(re.findall(r"^## ([0-9]+\.[0-9]+\.[0-9]+)\b", changelog, flags=re.MULTILINE))


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, so that 0.10.0 comes after 0.9.0. Raises ValueError when a part is no number."""
    return tuple(map(int, version.split(".")))


@cache
def shipped() -> Taxonomy:
    """The taxonomy of this repository, read once. Raises what `load` raises."""
    return load()


def node(name: str) -> Node:
    """A node of the shipped taxonomy by id, slug or name; its works are in `.works`.

        taxonomy.node("MX-0042").works

    Raises LookupError, with the nearest names, when there is none, and what `load` raises.
    """
    return shipped().find(name)


# ---------------------------------------------------------------- plain data -> objects; `export.plain` is the way back

def build(data: dict, works: dict, protocol: dict | None = None, versions: tuple[str, ...] = ()) -> Taxonomy:
    """Make the Taxonomy from plain data, as in the files; without a protocol it has no searches.

    Raises ValueError, naming the entry, when a field is missing.
    """
    return _made("The data", _taxonomy, data, build_works(works), protocol or {"searches": {}}, versions)


def build_works(data: dict) -> tuple[Work, ...]:
    """Make the works from plain data. Raises ValueError, naming the work, when a field is missing."""
    return tuple(_made(entry.get("key", f"Work number {number}"), _work, entry)
                 for number, entry in enumerate(data["works"], 1))


def _made(where: str, make, *parts):
    """`make(*parts)`; a field that they miss becomes a ValueError that says where."""
    try:
        return make(*parts)
    except KeyError as error:
        raise ValueError(f"{where}: the field {error.args[0]!r} is missing. Add it.") from None


def _taxonomy(data: dict, works: tuple[Work, ...], protocol: dict, versions: tuple[str, ...]) -> Taxonomy:
    filed = {}
    for work in works:
        for filing in work.filed:
            filed.setdefault(filing.node, []).append(work)
    return Taxonomy(
        **_made("The scheme", _scheme, data["scheme"]),
        sources=tuple(_made(f"Source {code}", _source, code, entry) for code, entry in data["sources"].items()),
        rivals=tuple(_made(f"Rival {code}", _rival, code, entry) for code, entry in data["rivals"].items()),
        nodes=tuple(_made(entry.get("id", f"Node number {number}"), _node, entry, filed)
                    for number, entry in enumerate(data["nodes"], 1)),
        works=works,
        searches=tuple(_made(f"Search {code}", _search, code, entry) for code, entry in protocol["searches"].items()),
        versions=versions,
    )


def _scheme(entry: dict) -> dict:
    survey = entry["source"]
    return {name: entry[name] for name in ("id", "title", "version", "released", "licence")} | {
        "survey_authors": survey["authors"], "survey_title": survey["title"], "arxiv": survey["arxiv"],
        "figure": survey["figure"]}


def _source(code: str, entry: dict) -> Source:
    return Source(code, entry["what"], entry["supports"], entry["extent"], tuple(entry["urls"]))


def _rival(code: str, entry: dict) -> Rival:
    return Rival(code, entry["title"], tuple(entry["authors"]), entry["year"], entry.get("arxiv"), entry.get("url"),
                 entry["organised_by"], entry["read"], entry["verified"])


def _node(entry: dict, filed: dict[str, list[Work]]) -> Node:
    survey, scope, gone = entry["survey"], entry["scope"], entry.get("deprecation")
    return Node(
        id=entry["id"],
        slug=entry["slug"],
        label=entry["label"],
        alt_labels=tuple(entry["alt_labels"]),
        definition=entry["definition"],
        includes=tuple(scope["includes"]),
        excludes=tuple(Exclusion(item["text"], item["see"]) for item in scope["excludes"]),
        usage=entry["usage"],
        usage_note=entry.get("usage_note"),
        broader=tuple(entry["broader"]),
        see_also=tuple(entry["see_also"]),
        status=entry["status"],
        deprecation=gone and Deprecation(gone["version"], gone["reason"], tuple(gone["replaced_by"])),
        introduced_in=entry["introduced_in"],
        relation=survey["relation"],
        confirmation=survey.get("confirmation"),
        seen=tuple(survey.get("seen", ())),
        survey_note=survey.get("note"),
        strengths=tuple(entry["strengths"]),
        limitations=tuple(entry["limitations"]),
        open_problems=tuple(entry["open_problems"]),
        runnable=entry["runnable"],
        translations={tag: Translation(said["label"], said["definition"]) for tag, said in entry["translations"].items()},
        matches=tuple(Match(match["rival"], match["term"], match["fit"], match.get("where")) for match in entry["matches"]),
        works=tuple(filed.get(entry["id"], ())),
    )


def _work(entry: dict) -> Work:
    return Work(
        key=entry["key"],
        title=entry["title"],
        authors=tuple(entry["authors"]),
        authors_complete=entry["authors_complete"],
        year=entry["year"],
        venue=entry["venue"],
        venue_verified=entry["venue_verified"],
        arxiv=entry.get("arxiv"),
        doi=entry.get("doi"),
        url=entry.get("url"),
        modalities=tuple(entry["modalities"]),
        seen=tuple(entry["seen"]),
        record=entry.get("record"),
        filed=tuple(Filing(**{name: filing[name] for name in Filing.__dataclass_fields__}) for filing in entry["filed"]),
    )


def _search(code: str, entry: dict) -> Search:
    return Search(code, entry["date"], tuple(entry["corpora"]), tuple(entry["words"]), entry["looked_at"],
                  tuple(entry["nodes"]), tuple(entry["modalities"]), entry["outcome"])
