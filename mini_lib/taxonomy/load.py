"""Read the files of `taxonomy/` into small frozen objects.

Data move one way: YAML text -> `strict.read_yaml` (plain dicts, look-alikes refused) -> `build` (Node, Work, Taxonomy).
`load` does both. Whether the data make sense is the business of `validate.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from . import notebook
from .nodes import (
    FIT,
    Deprecation,
    Exclusion,
    Match,
    Node,
    Rival,
    Source,
    Translation,
    build_nodes,
    whole,
)
from .strict import read_yaml
from .works import PROTOCOL, WORKS, Search, Work, build_searches, build_works

__all__ = ["CHANGELOG", "DATA", "FIT", "REPOSITORY", "Deprecation", "Exclusion", "Match", "Node", "Rival", "Source", "Taxonomy",
           "Translation", "build", "load", "node", "shipped"]

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path("taxonomy") / "nodes.yaml"
CHANGELOG = Path("taxonomy") / "CHANGELOG.md"


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

    def paths(self, node: Node) -> tuple[tuple[Node, ...], ...]:
        """Every way from the root to `node`, root first, `node` last; the data must be acyclic."""
        if not node.broader:
            return ((node,),)
        return tuple((*path, node) for parent in node.broader for path in self.paths(self.get(parent)))


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


def build(data: dict, works: dict, protocol: dict | None = None, versions: tuple[str, ...] = ()) -> Taxonomy:
    """Make the Taxonomy from plain data. Raises ValueError when a field is missing."""
    listed = build_works(works)
    nodes, sources, rivals = build_nodes(data, listed)
    return whole(lambda scheme: Taxonomy(
        id=scheme["id"], title=scheme["title"], version=scheme["version"], released=scheme["released"],
        licence=scheme["licence"], survey_authors=scheme["source"]["authors"],
        survey_title=scheme["source"]["title"], arxiv=scheme["source"]["arxiv"],
        figure=scheme["source"]["figure"], sources=sources, rivals=rivals, nodes=nodes, works=listed,
        searches=build_searches(protocol) if protocol else (), versions=versions,
    ), data["scheme"], "The scheme")


def versions_in(changelog: str) -> tuple[str, ...]:
    """The versions that the headings of the changelog name, in its order: newest first."""
    return tuple(re.findall(r"^## ([0-9]+\.[0-9]+\.[0-9]+)\b", changelog, flags=re.MULTILINE))


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, so that 0.10.0 comes after 0.9.0."""
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
