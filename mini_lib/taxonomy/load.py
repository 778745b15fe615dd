"""Read `taxonomy/nodes.yaml` into small frozen objects.

Data move one way: YAML text -> `read` (plain dicts, look-alikes refused) -> `build` (Node, Taxonomy).
`load` does both. Whether the data make sense is the business of `validate.py`.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path("taxonomy") / "nodes.yaml"


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
class Node:
    """One node. The fields are those of the YAML entry; `scope` and `survey` are laid flat."""

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

    def __str__(self) -> str:
        return f"{self.id} ({self.label})"


@dataclass(frozen=True)
class Taxonomy:
    """All nodes of one version, in the order of the file."""

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
    nodes: tuple[Node, ...]

    def __repr__(self) -> str:
        return f"Taxonomy({self.id} {self.version}, {len(self.nodes)} nodes)"

    def find(self, query: str) -> Node:
        """The node with this id, slug, label or other name; upper and lower case are the same.

            tree.find("MX-0008")
            tree.find("model/token/visual-token")
            tree.find("visual token")
            tree.find("image token")              # another name of the same node

        Raises LookupError, with the nearest names, when there is none.
        """
        wanted = query.strip().casefold()
        names = {}
        # Ids, slugs and labels come last, so that they win over another node's alternative name.
        for kind in (lambda n: n.alt_labels, lambda n: (n.label, n.slug, n.id)):
            for node in self.nodes:
                for name in kind(node):
                    names[name.casefold()] = (name, node)
        if wanted in names:
            return names[wanted][1]
        # The last word of a slug is what people remember of it.
        ends = {node.slug.split("/")[-1].casefold(): (node.slug, node) for node in self.nodes}
        near = get_close_matches(wanted, [*names, *ends], n=5, cutoff=0.5)
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
    """Load the taxonomy.

    path: the YAML file. Without it, `taxonomy/nodes.yaml` of the repository this package lies in.

    Raises FileNotFoundError when there is no such file, and ValueError, with a sentence naming node and
    field, when a field is missing or YAML read something else than text (see `read`).
    """
    return build(read(path))


def read(path: str | Path | None = None) -> dict:
    """The YAML as plain dicts and lists; every value is text, except `runnable`.

    YAML guesses types: a bare 0042 becomes 34, 0.1 a float, 2412.02104 a float, 2026-11-21 a date, no the
    value False. An id or version changed that way looks right in the file and is wrong everywhere else,
    so it is refused.

    Raises FileNotFoundError and ValueError like `load`.
    """
    path = REPOSITORY / DATA if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no taxonomy at {path}. Run this inside a checkout of the repository.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}.") from None
    forms = {"scheme": dict, "sources": dict, "nodes": list}
    if not isinstance(data, dict) or not all(isinstance(data.get(key), form) for key, form in forms.items()):
        raise ValueError(f"{path.name} must hold scheme and sources (each with named fields) and nodes (a list).")
    _refuse_look_alikes(data["scheme"], "The scheme", "")
    _refuse_look_alikes(data["sources"], "The sources", "")
    for number, node in enumerate(data["nodes"], start=1):
        _refuse_look_alikes(node, name_of(node, number), "")
    return data


def name_of(node: object, number: int) -> str:
    """How messages call a raw entry: by its id, or by its place when the id cannot be read."""
    id = node.get("id") if isinstance(node, dict) else None
    return id if isinstance(id, str) else f"Node number {number}"


def _refuse_look_alikes(value: object, where: str, field: str) -> None:
    """Raise ValueError if a single value is not text. `runnable` alone is a yes or no."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where}: the field name {key!r} is not text. Put it in quotes.")
            if not (key == "runnable" and isinstance(item, bool)):
                _refuse_look_alikes(item, where, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for item in value:
            _refuse_look_alikes(item, where, field)
    elif not isinstance(value, str):
        kind = "yes or no" if field == "runnable" else "text"
        fix = "Write true or false." if field == "runnable" else "Put it in quotes."
        raise ValueError(f"{where}: {field or 'the entry'} must be {kind}, but YAML reads it as "
                         f"{value!r} ({type(value).__name__}). {fix}")


def build(data: dict) -> Taxonomy:
    """Make the Taxonomy from what `read` gives. Raises ValueError when a field is missing."""
    nodes = tuple(_checked(_node, entry, name_of(entry, number)) for number, entry in enumerate(data["nodes"], 1))
    sources = tuple(_checked(_source, (code, entry), f"Source {code}") for code, entry in data["sources"].items())
    return _checked(lambda scheme: Taxonomy(
        id=scheme["id"], title=scheme["title"], version=scheme["version"], released=scheme["released"],
        licence=scheme["licence"], survey_authors=scheme["source"]["authors"],
        survey_title=scheme["source"]["title"], arxiv=scheme["source"]["arxiv"],
        figure=scheme["source"]["figure"], sources=sources, nodes=nodes,
    ), data["scheme"], "The scheme")


def _checked(make, entry, where: str):
    try:
        return make(entry)
    except KeyError as error:
        raise ValueError(f"{where}: the field {error.args[0]!r} is missing. Add it.") from None


def _source(item: tuple[str, dict]) -> Source:
    code, entry = item
    return Source(code, entry["what"], entry["supports"], entry["extent"], tuple(entry["urls"]))


def _node(entry: dict) -> Node:
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
    )
