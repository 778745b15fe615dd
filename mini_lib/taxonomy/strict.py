"""Read YAML so strictly that nothing in it can mean something else than it shows, and remember every line.

YAML guesses types: a bare 0042 becomes 34, 0.1 a float, 2412.02104 a float, 2026-11-21 a date, no the value False. An id
or version changed that way looks right in the file and is wrong everywhere else. So every value has to be text, except
where a name is listed in `YES_OR_NO`; the same name twice, anchors, aliases, tags, merges, line breaks and characters
that cannot be seen are refused.

The file is read as a stream of events and not with `yaml.compose`: that is four times faster on ten thousand works, and
`compose` calls itself for every bracket, so that a file of many brackets would crash Python.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import yaml

YES_OR_NO = ("runnable", "authors_complete", "venue_verified", "verified")
DEEPEST = 30          # the schemas ask for six levels
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)         # the C reader where PyYAML has it: ten times faster
_STR, _BOOL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:bool"
# Control characters, line breaks, and what turns the direction of writing: an editor does not show them.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


class Malformed(ValueError):
    """A file that cannot be read; `problems` are (line or None, sentence) pairs."""

    def __init__(self, name: str, problems: list[tuple[int | None, str]]):
        self.name, self.problems = name, problems
        super().__init__("\n".join(at(name, line, text) for line, text in problems))


class Lines(dict):
    """Where each part of a file stands: path, such as ("nodes", 3, "slug"), to line number."""

    def nearest(self, path: tuple) -> int | None:
        """The line of this part, or of the smallest part around it that is there."""
        while path and path not in self:
            path = path[:-1]
        return self.get(path)


def at(name: str, line: int | None, text: str) -> str:
    """A problem with its place: "taxonomy/works.yaml, line 12: …"."""
    return f"{name}, line {line}: {text}" if line else f"{name}: {text}"


def read_text(path: str | Path, name: str | None = None) -> str:
    """The text of a UTF-8 file.

    Raises FileNotFoundError, and Malformed when it is not UTF-8 or holds zero bytes, as no text does.
    """
    path, name = Path(path), name or str(path)
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Malformed(name, [(line, f"The byte {raw[error.start]:#04x} is not UTF-8. Save the file as UTF-8.")]) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Malformed(name, [(line, "It holds a zero byte, so it is not text. Give a text file, saved as UTF-8.")])
    return text


def read_yaml(path: str | Path, name: str | None = None) -> tuple[dict, Lines]:
    """The file as plain dicts and lists of text, and the line of every part.

    name: what messages call the file; by itself its path.
    Raises FileNotFoundError, and Malformed with every problem of the file.
    """
    path, name = Path(path), name or str(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no taxonomy at {path}. Run this inside a checkout of the repository.")
    text = read_text(path, name)
    if forbidden := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, forbidden.start()) + 1
        raise Malformed(name, [(line, f"It holds a character that YAML forbids (U+{ord(forbidden[0]):04X}). Remove it.")])
    reader = _Reader()
    try:
        data = reader.document(yaml.parse(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = " ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))) or str(error)
        said = f"It is not valid YAML: {' '.join(why.split())}. Correct it."
        raise Malformed(name, [(mark and mark.line + 1, said)]) from None
    if not isinstance(data, dict) and not reader.problems:
        reader.wrong(1, "The file must be a mapping: names, each with a colon. Correct it.")
    if reader.problems:
        raise Malformed(name, reader.problems)
    return data, reader.lines


class _Reader:
    """Turns events into plain data. It goes on after a problem, so that one run shows all."""

    def __init__(self):
        self.lines, self.problems = Lines(), []

    def document(self, events):
        self.events = events
        data = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and data is not None:
                self.wrong(_line(event), "A second document starts here (---). Keep one document in the file.")
                break
            if isinstance(event, yaml.NodeEvent):
                data = self.plain(event, ())
        return data

    def plain(self, event, path: tuple):
        self.lines[path] = _line(event)
        if isinstance(event, yaml.AliasEvent):
            return self.wrong(_line(event), f"{_named(path)} repeats another part by an alias (*). Write it out.")
        if event.anchor:
            self.wrong(_line(event), f"{_named(path)} has an anchor (&{event.anchor}). Remove it.")
        if event.tag:
            self.wrong(_line(event), f"{_named(path)} has a tag ({event.tag}). Remove it, and put text in quotes.")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, path)
        if len(path) >= DEEPEST:
            # Nothing below can be kept, and going on would call this function once for each level.
            raise yaml.MarkedYAMLError(problem=f"more than {DEEPEST} levels inside each other",
                                       problem_mark=event.start_mark)
        return self.mapping(path) if isinstance(event, yaml.MappingStartEvent) else self.sequence(path)

    def scalar(self, event, path):
        line, text = _line(event), event.value
        tag = _STR if event.style else _guess(text)
        yes_or_no = path[-1:] and path[-1] in YES_OR_NO
        if tag == _BOOL and yes_or_no:
            return text.lower() in ("true", "yes", "on")
        if tag != _STR and not event.tag:
            kind, fix = ("yes or no", "Write true or false.") if yes_or_no else ("text", "Put it in quotes.")
            self.wrong(line, f"{_named(path)} must be {kind}, but YAML reads it as {_shown(text, tag)}. {fix}")
        unseen = UNSEEN.search(text)
        if unseen:
            what = "a line break" if unseen[0] == "\n" else f"a character that is not seen (U+{ord(unseen[0]):04X})"
            fix = "Write it on one line, or after >-." if unseen[0] == "\n" else "Remove it."
            self.wrong(line, f"{_named(path)} holds {what}. {fix}")
        return text

    def sequence(self, path):
        out = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            out.append(self.plain(event, (*path, len(out))))
        return out

    def mapping(self, path):
        out = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line, name = _line(event), getattr(event, "value", None)
            if name is None or event.tag or not event.style and _guess(name) != _STR:
                self.wrong(line, f"The field name {name or 'here'!r} in {_named(path)} is not text. Put it in quotes.")
                if name is None and not isinstance(event, yaml.AliasEvent):
                    self.plain(event, (*path, "?"))      # a list or mapping as a name: read past it
                self.plain(next(self.events), (*path, "?"))
            elif name in out:
                self.wrong(line, f"{_named((*path, name))} stands here a second time; "
                                 f"the first is in line {self.lines[(*path, name)]}. Remove one.")
                self.plain(next(self.events), (*path, "?"))
            else:
                out[name] = self.plain(next(self.events), (*path, name))
                self.lines[(*path, name)] = line          # of the name, which is where one would look
        return out

    def wrong(self, line: int, text: str):
        self.problems.append((line, text))


def _line(event) -> int:
    return event.start_mark.line + 1


@lru_cache(maxsize=4096)
def _guess(text: str) -> str:
    """The type that YAML gives to a bare word."""
    for tag, form in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if form.match(text):
            return tag
    return _STR


def _named(path: tuple) -> str:
    return ".".join(map(str, path)) or "the file"


def _shown(text: str, tag: str) -> str:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return f"{text!r} ({tag.rsplit(':', 1)[-1]})"
    return f"{value!r} ({type(value).__name__})"
