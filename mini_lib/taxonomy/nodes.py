"""The taxonomy, its nodes, and what they point to: `taxonomy/nodes.yaml` as small frozen objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from . import notebook
from .works import Search, Work

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

    @property
    def by(self) -> str:
        """"Ada Lovelace et al.", as short as it is usually said."""
        return self.authors[0] + (" et al." if len(self.authors) > 1 else "")

    @property
    def address(self) -> str | None:
        """Where to find it: arXiv, else the address given."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url


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

    @property
    def closed(self) -> bool:
        """Whether no work may be filed here: it is a heading, or retired."""
        return self.usage == "navigation" or self.status == "deprecated"

    def __str__(self) -> str:
        return f"{self.id} ({self.label})"

    def __repr__(self) -> str:
        retired = " (retired)" if self.status == "deprecated" else ""
        works = f"{len(self.works)} work{'s' * (len(self.works) != 1)}"
        return f"Node({self.id}: {self.label!r}{retired}, {self.slug}, {works})"

    def _repr_html_(self) -> str:
        return notebook.node_html(self)


@dataclass(frozen=True)
class Taxonomy:
    """All nodes of one version, in the order of the file.

    versions: every version there has been, newest first, from the changelog.  searches: see `works.Search`.
    """

    id: str
    title: str
    version: str
    released: str
    licence: str
    survey_authors: str
    survey_title: str
    arxiv: str
    figure: str
    sources: tuple[Source, ...]
    rivals: tuple[Rival, ...]
    nodes: tuple[Node, ...]
    works: tuple[Work, ...]
    searches: tuple[Search, ...] = ()
    versions: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Taxonomy({self.id} {self.version}, {len(self.nodes)} nodes, {len(self.works)} works)"

    def _repr_html_(self) -> str:
        return notebook.taxonomy_html(self)

    def find(self, query: str) -> Node:
        """The node with this id, slug, label or other name, in any of its languages; upper and lower case are the same.

            tree.find("MX-0008")
            tree.find("model/token/visual-token")
            tree.find("visual token")
            tree.find("image token")              # another name of the same node
            tree.find("시각 토큰")                # its name in Korean

        Raises LookupError, with the nearest names, when there is none.
        """
        wanted = query.strip().casefold()
        names = {}
        # Ids, slugs and labels come last, so that they win over another node's alternative name.
        for kind in (lambda n: [said.label for said in n.translations.values()], lambda n: n.alt_labels,
                     lambda n: (n.label, n.slug, n.id)):
            for node in self.nodes:
                for name in kind(node):
                    names[name.casefold()] = (name, node)
        if wanted in names:
            return names[wanted][1]
        # The last word of a slug is what people remember of it.
        ends = {node.slug.split("/")[-1].casefold(): (node.slug, node) for node in self.nodes}
        near = get_close_matches(wanted[:200], [*names, *ends], n=5, cutoff=0.5)
        hints = {node.id: f"{node.label} ({node.id})" for _, node in ((names | ends)[key] for key in near)}
        tail = f"Nearest: {', '.join(list(hints.values())[:3])}." if hints else "Nothing has a similar name."
        raise LookupError(f"No node has the id, slug or label {query!r}. {tail}")

    def get(self, id: str) -> Node:
        """The node with exactly this id. Raises KeyError when there is none."""
        for node in self.nodes:
            if node.id == id:
                return node
        raise KeyError(id)

    def narrower(self, node: Node) -> tuple[Node, ...]:
        """The nodes directly below `node`, in the order of the file."""
        return tuple(other for other in self.nodes if node.id in other.broader)

    def above(self, node: Node) -> set[str]:
        """The ids of all nodes above `node`, up to the root; its own is among them only where the data run in a circle."""
        return reached(node.id, {other.id: other.broader for other in self.nodes})

    def below(self, node: Node) -> set[str]:
        """The ids of all nodes below `node`, down to the leaves."""
        parts = {}
        for other in self.nodes:
            for parent in other.broader:
                parts.setdefault(parent, []).append(other.id)
        return reached(node.id, parts)

    def paths(self, node: Node) -> tuple[tuple[Node, ...], ...]:
        """Every way from the root to `node`, root first, `node` last; the data must be acyclic."""
        if not node.broader:
            return ((node,),)
        return tuple((*path, node) for parent in node.broader for path in self.paths(self.get(parent)))


def reached(start: str, leads_to: Mapping[str, Iterable[str]]) -> set[str]:
    """All that one comes to from `start` by going on and on; `start` itself only where a circle leads back to it."""
    found, waiting = set(), list(leads_to.get(start, ()))
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += leads_to.get(place, ())
    return found
