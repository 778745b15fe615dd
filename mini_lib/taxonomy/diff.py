"""What changed between two versions of the taxonomy, as a section of its changelog.

    print(diff("taxonomy/releases/0.1.0.json", "taxonomy"))

A version is a folder with nodes.yaml and works.yaml, a nodes.yaml, or a file of `taxonomy/releases/`. Compared are the
plain data and not Nodes, so that an old version can be read after the form of the data has changed.

Each change asks for a new version: MAJOR where an id comes to mean something else or is retired, MINOR where an id is new,
PATCH for wording, evidence and works. A draft node counts like a stable one, and so does version 0.y, where semantic
versioning would promise nothing: whoever has cited an id must see from the version alone whether it still means the same.
`draft` says that a change is likely, not that it is free. So 1.0.0 is no mark of ripeness; the status of each node is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .escape import markdown
from .load import DATA, numbers
from .strict import read_yaml
from .works import WORKS

RELEASES = Path("taxonomy") / "releases"
LEVELS = ("PATCH", "MINOR", "MAJOR")
# What each kind of change is called, and which number of the version it raises. In the order of the section.
KINDS = {
    "removed": ("Gone, which must not be", "MAJOR"),
    "retired": ("Retired", "MAJOR"),
    "redefined": ("Redefined", "MAJOR"),
    "scope": ("Scope changed", "MAJOR"),
    "moved": ("Moved", "MAJOR"),          # its old and its new broader nodes now take in something else
    "usage": ("Filing changed", "MAJOR"),
    "added": ("Added", "MINOR"),
    "back": ("In use again", "MINOR"),
    "renamed": ("Renamed", "PATCH"),
    "wording": ("Wording only", "PATCH"),
    "other": ("Text and evidence changed", "PATCH"),
    "works": ("Works", "PATCH"),
    "work added": ("Work added", "PATCH"),
    "work removed": ("Work removed", "PATCH"),
    "work refiled": ("Work filed elsewhere", "PATCH"),
}
# The fields of a node with a kind of their own; a change of any other is "other".
OWN = ("id", "label", "definition", "scope", "broader", "usage", "status", "deprecation", "introduced_in")


@dataclass(frozen=True)
class Change:
    """One change: its kind, a key of `KINDS`, and what to say, in Markdown."""

    kind: str
    text: str

    @property
    def level(self) -> str:
        """MAJOR, MINOR or PATCH."""
        return KINDS[self.kind][1]

    def __str__(self) -> str:
        return f"- {KINDS[self.kind][0]}: {self.text}"


def diff(old: str | Path, new: str | Path, wording: tuple[str, ...] = ()) -> str:
    """The changelog section of the version `new`, against the version `old`.

    wording: ids whose definition or scope was only worded anew. Nobody but a person can tell this from a new meaning.
    Raises FileNotFoundError, and ValueError when a file cannot be read or no older version can have been made of it.
    """
    old, new = read_version(old), read_version(new)
    found = changes(old, new, wording)
    was, now = (data["scheme"]["version"] for data in (old, new))
    lines = [f"## {now} ({new['scheme']['released']})", ""]
    if not found:
        return "\n".join([*lines, f"Nothing changed since {was}.", ""])
    level = level_of(found)
    lines += [f"Since {was}. The changes ask for {level}: version {least(was, level)} or higher.", "", *map(str, found), ""]
    return "\n".join(lines)


def changes(old: dict, new: dict, wording: tuple[str, ...] = ()) -> list[Change]:
    """Every change from one version's plain data to another's, in the order of `KINDS`."""
    found = [*_node_changes(old, new, set(wording)), *_work_changes(old, new)]
    return sorted(found, key=lambda change: list(KINDS).index(change.kind))      # stable: else in the order of the file


def level_of(found: list[Change]) -> str:
    """The highest level among the changes."""
    return max((change.level for change in found), key=LEVELS.index, default="PATCH")


def least(version: str, level: str) -> str:
    """The lowest version that may follow `version` when the changes are of this level."""
    major, minor, patch = numbers(version)
    return {"MAJOR": f"{major + 1}.0.0", "MINOR": f"{major}.{minor + 1}.0", "PATCH": f"{major}.{minor}.{patch + 1}"}[level]


def read_version(path: str | Path) -> dict:
    """The plain data of a version: those of nodes.yaml, and the works under "works".

    Raises FileNotFoundError, and ValueError when a file cannot be read.
    """
    path = Path(path)
    if path.suffix == ".json" and path.is_file():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}. Restore it.") from None
        works = {}
    else:
        places = [path / DATA.name, path / DATA] if path.is_dir() else [path]
        place = next((place for place in places if place.is_file()), None)
        if place is None:
            raise FileNotFoundError(f"There is no version of the taxonomy at {path}. "
                                    f"Give a folder with nodes.yaml, or a file of {RELEASES}.")
        data, _ = read_yaml(place)
        beside = place.with_name(WORKS.name)
        works = read_yaml(beside)[0] if beside.is_file() else {}
    try:
        data = {**data, "works": works.get("works", data.get("works", []))}
        numbers(data["scheme"]["version"])
        for entry, fields in [(data["scheme"], ["released"]), *((node, ["id", "label"]) for node in data["nodes"]),
                              *((work, ["key", "title", "year", "filed"]) for work in data["works"])]:
            for field in fields:
                entry[field]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(f"{path} holds no version of the taxonomy: scheme.version, the id or label of a node, "
                         "or the key or title of a work is missing. Check it with `mini-lib taxonomy validate`.") from None
    return data


# ---------------------------------------------------------------- nodes

def _node_changes(old: dict, new: dict, wording: set[str]) -> Iterator[Change]:
    before, after = ({node["id"]: node for node in data["nodes"]} for data in (old, new))

    def name(id: str) -> str:
        node = after.get(id) or before.get(id)
        return f"{id} ({markdown(node['label'])})" if node else id

    def names(ids) -> str:
        return ", ".join(map(name, ids)) or "nothing"

    for id in before:
        if id not in after:
            yield Change("removed", f"{name(id)}. Put it back and retire it.")
    other = {}
    for id, node in after.items():
        was = before.get(id)
        if was is None:
            yield Change("added", f"{name(id)}, below {names(node.get('broader', ()))}.")
            continue
        yield from _standing(name, names, was, node)
        if node["label"] != was["label"]:
            yield Change("renamed", f"{name(id)}, before: {markdown(was['label'])}.")
        if node.get("broader") != was.get("broader"):
            yield Change("moved", f"{name(id)} is now below {names(node.get('broader', ()))}, "
                                  f"before: below {names(was.get('broader', ()))}.")
        if node.get("usage") != was.get("usage"):
            yield Change("usage", f"{name(id)} is now {node.get('usage')}, before: {was.get('usage')}.")
        reworded = [field for field in ("definition", "scope") if node.get(field) != was.get(field)]
        if id in wording and reworded:
            yield Change("wording", f"{name(id)}: {', '.join(reworded)}.")
        elif reworded:
            yield from _meaning(name, was, node)
        fields = tuple(field for field in sorted({*node, *was} - {*OWN}) if node.get(field) != was.get(field))
        other.setdefault(fields, []).append(id)
    for fields, ids in other.items():
        if fields:      # one line for all nodes with the same fields
            yield Change("other", f"{', '.join(fields).replace('_', ' ')} of {names(ids)}.")


def _standing(name, names, was: dict, node: dict) -> Iterator[Change]:
    gone, status = node.get("deprecation"), (was.get("status"), node.get("status"))
    if status[0] == status[1]:
        return
    if status[1] == "deprecated":
        instead = f" Use instead: {names(gone['replaced_by'])}." if gone and gone["replaced_by"] else ""
        yield Change("retired", f"{name(node['id'])}. {markdown(gone['reason']) if gone else ''}{instead}")
    elif status[0] == "deprecated":
        yield Change("back", f"{name(node['id'])}.")
    else:
        yield Change("other", f"{name(node['id'])}: status {status[1]}, before: {status[0]}.")


def _meaning(name, was: dict, node: dict) -> Iterator[Change]:
    if node.get("definition") != was.get("definition"):
        yield Change("redefined", f"{name(node['id'])}. Now: {markdown(node.get('definition', 'nothing'))} "
                                  f"Before: {markdown(was.get('definition', 'nothing'))}")
    scopes = [entry.get("scope", {}) for entry in (was, node)]
    said = []
    for field, verb in (("includes", "includes"), ("excludes", "excludes")):
        before, after = ([item if isinstance(item, str) else f"{item['text']} (see {item['see']})"
                          for item in scope.get(field, ())] for scope in scopes)
        said += [f"{word} {verb}: {markdown(item)}" for word, items in (
            ("now", [item for item in after if item not in before]),
            ("no longer", [item for item in before if item not in after])) for item in items]
    if said:
        yield Change("scope", f"{name(node['id'])}; {'; '.join(said)}.")


# ---------------------------------------------------------------- works, which carry no version of their own

def _work_changes(old: dict, new: dict) -> Iterator[Change]:
    before, after = ({work["key"]: work for work in data["works"]} for data in (old, new))

    def name(work: dict) -> str:
        return f"{markdown(work['title'])} ({work['key']}, {work['year']})"

    def places(work: dict) -> list[str]:
        return [f"{filing['node']}, {filing['role']}" for filing in work["filed"]]

    added = [after[key] for key in after if key not in before]
    removed = [before[key] for key in before if key not in after]
    both = [(before[key], after[key]) for key in after if key in before]
    refiled = [pair for pair in both if sorted(places(pair[0])) != sorted(places(pair[1]))]
    corrected = [pair for pair in both if pair[0] != pair[1] and pair not in refiled]
    counts = {"added": added, "removed": removed, "filed elsewhere": refiled, "corrected": corrected}
    if any(counts.values()):
        said = ", ".join(f"{len(works)} {what}" for what, works in counts.items())
        yield Change("works", f"{said}; {len(after)} in all.")
    for work in added:
        yield Change("work added", f"{name(work)} at {'; '.join(places(work))}.")
    for work in removed:
        yield Change("work removed", f"{name(work)}, before at {'; '.join(places(work))}.")
    for was, work in refiled:
        yield Change("work refiled", f"{name(work)} at {'; '.join(places(work))}; before at {'; '.join(places(was))}.")
