"""Nodes, and what they point to: `taxonomy/nodes.yaml` as small frozen objects."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import notebook
from .works import Work

FIT = {
    "exact": "the same class",
    "close": "nearly the same class",
    "broad": "theirs is wider and takes in most of ours",
    "narrow": "theirs is narrower and lies within ours",
    "related": "they overlap in part, or theirs is a technique where ours is a unit of analysis",
}


@dataclass(frozen=True)
class Exclusion:
    """Something that does not belong to a node, and the id of the node where it does."""

    text: str
    see: str


@dataclass(frozen=True)
class Deprecation:
    """Since which version a node is retired, why, and the ids to use instead."""

    version: str
    reason: str
    replaced_by: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A public source that shows part of the survey's tree."""

    code: str
    what: str
    supports: str
    extent: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Translation:
    """Label and definition in another language."""

    label: str
    definition: str


@dataclass(frozen=True)
class Rival:
    """Another taxonomy of the field; `read` says how much of it was read."""

    code: str
    title: str
    authors: tuple[str, ...]
    year: str
    arxiv: str | None
    url: str | None
    organised_by: str
    read: str
    verified: bool


@dataclass(frozen=True)
class Match:
    """A term of a rival taxonomy that stands for something near to a node; fit is a key of `FIT`."""

    rival: str
    term: str
    fit: str
    where: str | None


@dataclass(frozen=True)
class Node:
    """One node. The fields are those of the YAML entry; `scope` and `survey` are laid flat.

    translations: by language tag, "zh" and "ko".  matches: terms of rival taxonomies.  works: those filed here.
    """

    id: str
    slug: str
    label: str
    alt_labels: tuple[str, ...]
    definition: str
    includes: tuple[str, ...]
    excludes: tuple[Exclusion, ...]
    usage: str
    usage_note: str | None
    broader: tuple[str, ...]
    see_also: tuple[str, ...]
    status: str
    deprecation: Deprecation | None
    introduced_in: str
    relation: str
    confirmation: str | None      # None exactly when relation is "added": what is ours needs no confirmation
    seen: tuple[str, ...]
    survey_note: str | None
    strengths: tuple[str, ...]
    limitations: tuple[str, ...]
    open_problems: tuple[str, ...]
    runnable: bool
    translations: dict[str, Translation] = field(hash=False)      # a dict has no hash, and the id is enough for one
    matches: tuple[Match, ...]
    works: tuple[Work, ...]

    def __str__(self) -> str:
        return f"{self.id} ({self.label})"

    def __repr__(self) -> str:
        retired = " (retired)" if self.status == "deprecated" else ""
        return f"Node({self.id}: {self.label!r}{retired}, {self.slug}, {len(self.works)} work{'s' * (len(self.works) != 1)})"

    def _repr_html_(self) -> str:
        return notebook.node_html(self)


def build_nodes(data: dict, works: tuple[Work, ...]) -> tuple[tuple[Node, ...], tuple[Source, ...], tuple[Rival, ...]]:
    """Make nodes, sources and rivals from plain data; each node gets those of `works` that are filed at it.

    Raises ValueError naming the entry when a field is missing.
    """
    filed = {}
    for work in works:
        for filing in work.filed:
            filed.setdefault(filing.node, []).append(work)
    nodes = tuple(whole(lambda entry: _node(entry, tuple(filed.get(entry["id"], ()))), entry, entry.get("id", f"Node number {number}"))
                  for number, entry in enumerate(data["nodes"], 1))
    sources = tuple(whole(_source, (code, entry), f"Source {code}") for code, entry in data["sources"].items())
    rivals = tuple(whole(_rival, (code, entry), f"Rival {code}") for code, entry in data["rivals"].items())
    return nodes, sources, rivals


def whole(make, entry, where: str):
    """`make(entry)`; a field that it misses becomes a ValueError that says where."""
    try:
        return make(entry)
    except KeyError as error:
        raise ValueError(f"{where}: the field {error.args[0]!r} is missing. Add it.") from None


def _source(item: tuple[str, dict]) -> Source:
    code, entry = item
    return Source(code, entry["what"], entry["supports"], entry["extent"], tuple(entry["urls"]))


def _rival(item: tuple[str, dict]) -> Rival:
    code, entry = item
    return Rival(code, entry["title"], tuple(entry["authors"]), entry["year"], entry.get("arxiv"), entry.get("url"),
                 entry["organised_by"], entry["read"], entry["verified"])


def _node(entry: dict, works: tuple[Work, ...]) -> Node:
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
        translations={language: Translation(said["label"], said["definition"]) for language, said in entry["translations"].items()},
        matches=tuple(Match(match["rival"], match["term"], match["fit"], match.get("where")) for match in entry["matches"]),
        works=works,
    )
