"""The form of the data files: strict YAML, then JSON Schema. Nothing else can be asked of a file that is broken here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from .load import DATA
from .nodes import reached
from .strict import Lines, Malformed, at, read_yaml
from .works import PROTOCOL, WORKS

_FOLDER = Path("taxonomy") / "schema"
SCHEMAS = {name: _FOLDER / f"{name.stem}.schema.json" for name in (DATA, WORKS, PROTOCOL)}
LONGEST = 300      # characters of a message of jsonschema, which quotes the whole value


def read_form(root: Path) -> tuple[dict[Path, dict], dict[Path, Lines], list[str]]:
    """Read every data file: the data and lines by file name, and every problem of their form."""
    data, lines, problems = {}, {}, []
    for name in SCHEMAS:
        schema, wrong = read_schema(root, name)
        problems += wrong
        try:
            data[name], lines[name] = read_yaml(root / name, name.as_posix())
        except Malformed as error:
            problems += str(error).splitlines()
        else:
            if schema is not None:
                problems += follows_schema(data[name], schema, name, lines[name])
    return data, lines, problems


def read_schema(root: Path, name: Path) -> tuple[dict | None, list[str]]:
    """The schema of a data file, or None when it is not sound, for then it cannot be asked; and what is wrong with it."""
    path = SCHEMAS[name]
    try:
        schema = json.loads((root / path).read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return None, [f"{path} is not a JSON Schema: {error.message[:LONGEST]}. Correct it."]
    except ValueError as error:
        return None, [f"{path} is not valid JSON: {error}. Correct it."]
    problems = list(schema_is_sound(schema, path))
    return (None if problems else _without_refs(schema, schema.get("$defs", {}))), problems


def schema_is_sound(schema: dict, name: Path) -> Iterator[str]:
    """What a schema requires it also describes, it refuses what it does not describe, and its parts end somewhere."""
    parts = {"the top": {key: value for key, value in schema.items() if key != "$defs"}, **schema.get("$defs", {})}
    points_to = {part: [ref.removeprefix("#/$defs/") for ref in _refs(content)] for part, content in parts.items()}
    for part, targets in points_to.items():
        for target in targets:
            if target not in parts:
                yield f"{name}: {part} points to {target!r}, which is not among $defs. Correct it."
        if part in reached(part, points_to):
            yield f"{name}: {part} contains itself. Take it apart."
    waiting = list(parts.items())
    while waiting:
        part_name, part = waiting.pop()
        properties = part.get("properties", {})
        for key in part.get("required", []):
            if key not in properties:
                yield f"{name}: {part_name} requires {key!r} but does not describe it. Add it to its properties."
        if properties and part.get("additionalProperties") is not False:
            yield f"{name}: {part_name} accepts any field. Set additionalProperties to false."
        inner = [*properties.items(), ("items of " + part_name, part.get("items"))]
        waiting += [(key, value) for key, value in inner if isinstance(value, dict)]


def _refs(part) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for value in part:
            yield from _refs(value)


def _without_refs(part, defs: dict):
    """The schema with every $ref replaced by what it points to: looking it up each time nearly doubles the work."""
    if isinstance(part, dict):
        if "$ref" in part:
            own = {key: value for key, value in part.items() if key != "$ref"}
            part = {**defs[part["$ref"].removeprefix("#/$defs/")], **own}
        return {key: _without_refs(value, defs) for key, value in part.items() if key != "$defs"}
    return [_without_refs(value, defs) for value in part] if isinstance(part, list) else part


def follows_schema(data: dict, schema: dict, name: Path, lines: Lines, called: str | None = None) -> Iterator[str]:
    """The data have the fields, types and forms that the schema asks for.

    called: what messages call the file, where it is not `name`.
    """
    for error in sorted(Draft202012Validator(schema).iter_errors(data), key=lambda error: list(map(str, error.path))):
        path = list(error.absolute_path)
        where, field = "The file", path
        place = tuple(path)
        if error.validator == "additionalProperties" and isinstance(error.validator_value, bool):
            # The field's own line.
            place += tuple(sorted(set(error.instance) - set(error.schema.get("properties", {})))[:1])
        elif error.parent is None and isinstance(error.instance, str) and (*place, error.instance) in lines:
            place += (error.instance,)                            # a name of a field that has the wrong form
        if path[:1] in (["nodes"], ["works"]) and len(path) > 1:
            entry, field = data[path[0]][path[1]], path[2:]
            key = entry.get("id" if path[0] == "nodes" else "key") if isinstance(entry, dict) else None
            where = key if isinstance(key, str) else f"{path[0].removesuffix('s').capitalize()} number {path[1] + 1}"
        message = error.message if len(error.message) <= LONGEST else error.message[:LONGEST] + " …"
        shown = ".".join(map(str, field)) or "the entry"
        said = f"{where}: {shown}: {message}. Change it to what {SCHEMAS[name]} asks for."
        yield at(called or name.as_posix(), lines.nearest(place), said)
