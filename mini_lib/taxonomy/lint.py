r"""Read a manuscript and find what it says wrongly about the taxonomy: ids that do not exist, are retired, are written
in a form that nobody finds again, stand beside the label of another node, or are cited in a version that never was.

    for fault in lint("review.tex", load()):
        print(fault)

The whole text is read, with its comments, addresses and code, as plain text: no TeX, no Markdown is run. What could as
well be right is left alone: the word "model" in front of an id is not taken for the label Model (`lint_labels.py` has
these rules), nor a Mazda MX-5 for a node.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .lint_labels import Names, labels_beside
from .load import numbers
from .nodes import Node, Taxonomy
from .strict import read_text

LARGEST = 50_000_000      # bytes; a manuscript is far below, a data dump is not
# Whatever may have been meant as an id or as the key of a BibTeX entry. All repeats have an end, so that no text is slow.
MENTION = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=\\n))(?P<mx>[Mm][Xx])"
                     r"(?P<sep>(?:\\nobreakdash-|\{-\}|\\?[-_]|%2[Dd]|[‐‑‒–—−~ \t\n]){0,3})"
                     r"(?P<digits>[0-9Oo]{1,9})(?P<version>[\\_.:-]{0,2}v[0-9][0-9\\_.]{0,20})?(?![A-Za-z0-9])")
WHOLE = re.compile(r"(?<![A-Za-z0-9])mx\\?_v([0-9]{1,4})\\?_([0-9]{1,4})\\?_([0-9]{1,4})(?![A-Za-z0-9])")
# But not where a manual shows it, as \mxnode{ID}.
MACRO = re.compile(r"\\(mxnode|mxrequire)\s{0,9}\{(?!(?:ID|VERSION)\})([^{}#]{0,200})\}")
ENTRY = re.compile(r"@[A-Za-z]{1,30}\s{0,9}[{(]\s{0,9}(mx([0-9]{4})_v([0-9_]{1,20}))\s{0,9},")
HYPHEN = ("-", r"\-", "{-}", r"\nobreakdash-")      # what prints as a plain hyphen
VERSION_BESIDE = re.compile(r",?[ ~\n]{1,3}(?:v|version[ ~])([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})(?![0-9.]?[0-9])")
# Places where an author may write a name of his own that is like an id: labels, files, anchors.
FREE = re.compile(r"(?:\\(?:label|[A-Za-z]*ref|includegraphics|input|include)\*?(?:\[[^\]\n]*\])?\{[^{}\n]*"
                  r"|#[\w-]*|\]\((?![^()\n]*nodes/)[^()\n]*"
                  r"|^\([^()\n]*)$")
FILE = re.compile(r"[\w-]*\.(?:png|jpe?g|pdf|svg|eps|tex|csv|tsv)\b")
CITED = re.compile(r"(?:\\[A-Za-z]*cite[A-Za-z]*\*?(?:\[[^\]\n]*\]){0,2}\{[^{}\n]*"
                   r"|@(?:[A-Za-z]+\{\s*)?|\{cite[a-z:]*\}`[^`\n]*)$")


@dataclass(frozen=True)
class Fault:
    """One thing to correct. kind: unknown, retired, malformed, label, key, version or macro."""

    file: str
    line: int
    column: int
    kind: str
    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.reason} {self.fix}"


def lint(path: str | Path, taxonomy: Taxonomy) -> list[Fault]:
    """Every fault of one file (.tex, .bib, .md or other text), in the order of the text.

    Raises OSError when it cannot be read, ValueError when it is not text in UTF-8 or is too large.
    """
    path = Path(path)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: it has more than {LARGEST // 1_000_000} MB, so it is no manuscript. "
                         "Give the text alone.")
    return lint_text(read_text(path), taxonomy, str(path))


def lint_text(text: str, taxonomy: Taxonomy, file: str = "text") -> list[Fault]:
    """The same for a text; `file` is what the faults call it."""
    text = text.replace("\r\n", "\n")
    breaks = [match.start() for match in re.finditer("\n", text)]
    reader = _Reader(text, taxonomy)
    faults = {}
    for start, kind, reason, fix in reader.faults():
        line = bisect_right(breaks, start - 1)
        column = start - (breaks[line - 1] + 1 if line else 0) + 1
        faults.setdefault(start, Fault(file, line + 1, column, kind, reason, fix))      # one place, one fault: the first
    return [faults[start] for start in sorted(faults)]


def well_formed(match: re.Match) -> bool:
    """Whether this mention reads as an id: MX, a hyphen and four digits."""
    return match["mx"] == "MX" and match["sep"] in HYPHEN and bool(re.fullmatch("[0-9]{4}", match["digits"]))


def padded(digits: str) -> str:
    """The id that these digits come nearest to; a letter O was meant as a zero.

        padded("42"), padded("00042"), padded("OO42")  ->  MX-0042
    """
    return f"MX-{int(re.sub('[Oo]', '0', digits)):04d}"


class _Reader:
    """The text and what it is compared with. Each method yields (place in the text, kind, reason, fix)."""

    def __init__(self, text: str, taxonomy: Taxonomy):
        self.text, self.taxonomy = text, taxonomy
        self.nodes = {node.id: node for node in taxonomy.nodes}
        self.names = Names(taxonomy)
        self.versions = {taxonomy.version, *taxonomy.versions, *(node.introduced_in for node in taxonomy.nodes),
                         *(node.deprecation.version for node in taxonomy.nodes if node.deprecation)}

    def faults(self) -> Iterator[tuple[int, str, str, str]]:
        for match in MENTION.finditer(self.text):
            if well_formed(match):
                yield from self.id(match)
            elif match["version"]:
                yield from self.key(match)
            elif self.meant(match):
                yield from self.malformed(match)
        for match in WHOLE.finditer(self.text):
            yield from self.known(match.start(), ".".join(match.groups()), match[0])
        for match in MACRO.finditer(self.text):
            yield from self.macro(match)
        for match in ENTRY.finditer(self.text):
            yield from self.entry(match)

    def id(self, match) -> Iterator[tuple]:
        id, place = "MX-" + match["digits"], match.start()
        start, end = place, match.end("digits")
        node = self.nodes.get(id)
        labels = labels_beside(self.text, start, end, self.names)
        if node is None:
            yield place, "unknown", f"{id} does not exist.", self.instead(labels)
            return
        beside = VERSION_BESIDE.match(self.text, end)
        pinned = beside[1] if beside else None
        if pinned and pinned not in self.versions:
            yield from self.known(beside.start(1), pinned, f"{id}, v{pinned}")
        elif self.gone(node, pinned):
            yield place, "retired", *self.retired(node)
        elif labels.link and labels.link != id:
            yield place, "label", f"The link says {labels.link} and leads to {id}.", "Make both the same."
        elif labels.wrong(id):
            other = self.nodes[labels.wrong(id)]
            yield (place, "label",
                   f"{id} is {node.label!r}, but the label beside it, {labels.said(id)!r}, is that of {other.id}.",
                   f"Write {other.id}, or the label {node.label!r}.")

    def gone(self, node: Node, version: str | None) -> bool:
        """Whether the node was retired already in this version, by itself the present one."""
        return node.deprecation is not None and (version is None or numbers(version) >= numbers(node.deprecation.version))

    def retired(self, node: Node) -> tuple[str, str]:
        instead = " or ".join(str(self.nodes.get(id, id)) for id in node.deprecation.replaced_by)
        return (f"{node} is retired since version {node.deprecation.version}: {node.deprecation.reason}",
                f"Use {instead}." if instead else "Nothing takes its place; leave it out.")

    def instead(self, labels) -> str:
        near = self.nodes.get(labels.nearest() or "")
        return f"Did you mean {near}?" if near else "Look for it with `mini-lib taxonomy search WORDS`."

    def meant(self, match) -> bool:
        r"""Whether what is no id in form was meant as one; what could as well be the name of something else was not.

        With a hyphen, two to six digits are an id with digits too few or too many: MX-42, MX-00042. One digit is one only
        beside the label of that node, "Visual token (MX-8)", for a Mazda MX-5 is a car; seven are a number of something
        else. Without a hyphen the digits must begin with a zero: MX0042, but not MX1000, mx-4 or "MX 10". What \mxnode is
        given was meant, whatever it is.
        """
        sep, digits = match["sep"], match["digits"]
        if self.text.endswith(r"\mxnode{", 0, match.start()):
            return True
        if not any(sign.isdigit() for sign in digits):
            return False
        if match["mx"] == "MX" and sep and not set(sep) & set("_~ \t\n"):
            if len(digits) == 1:
                return labels_beside(self.text, match.start(), match.end("digits"), self.names).name(padded(digits))
            return len(digits) <= 6
        if digits[0] not in "0Oo" or not 3 <= len(digits) <= 5:
            return False
        before = self.text[self.text.rfind("\n", 0, match.start()) + 1:match.start()][-300:]
        return not (FREE.search(before) or FILE.match(self.text, match.end()))

    def malformed(self, match) -> Iterator[tuple]:
        id, shown = padded(match["digits"]), " ".join(match[0].split())
        node = self.nodes.get(id)
        cited = CITED.search(self.text[max(0, match.start() - 300):match.start()])
        if node and cited:
            fix = f"Write the key with its version, {self.key_of(id)}."
        elif node:
            fix = f"Write {id} ({node.label})."
        else:
            end = match.end("digits")
            fix = self.instead(labels_beside(self.text, match.start(), end, self.names))
        yield match.start(), "malformed", f"{shown!r} is no id: an id is MX, a plain hyphen and four digits.", fix

    # ------------------------------------------------------------ keys of entries, and versions

    def key_of(self, id: str) -> str:
        return f"{id.replace('-', '').lower()}_v{self.taxonomy.version.replace('.', '_')}"

    def key(self, match) -> Iterator[tuple]:
        shown = match[0].replace("\\", "").rstrip("._")
        parts = re.fullmatch(r"mx([0-9]{4})_v([0-9]{1,4})_([0-9]{1,4})_([0-9]{1,4})", shown)
        id = "MX-" + parts[1] if parts else padded(match["digits"])
        node = self.nodes.get(id)
        if node is None:
            yield (match.start(), "key", f"The key {shown!r} is of {id}, which does not exist.",
                   self.instead(labels_beside(self.text, match.start(), match.end(), self.names)))
        elif parts is None:
            yield match.start(), "key", f"{shown!r} is no key of the taxonomy.", f"Write {self.key_of(id)}."
        else:
            version = ".".join(parts.groups()[1:])
            if version not in self.versions:
                yield from self.known(match.start(), version, shown, self.key_of(id))
            elif numbers(version) < numbers(node.introduced_in):
                yield (match.start(), "version", f"{shown}: {node} came only with version {node.introduced_in}.",
                       f"Write {self.key_of(id)}.")
            elif self.gone(node, version):
                yield match.start(), "retired", *self.retired(node)

    def known(self, place: int, version: str, shown: str, instead: str | None = None) -> Iterator[tuple]:
        if version not in self.versions:
            latest = self.taxonomy.version
            newer = numbers(version) > numbers(latest)
            yield (place, "version", f"{shown}: there is no version {version} of the taxonomy.",
                   f"Write {instead or latest}{', or compare with newer data' if newer else ''}.")

    def entry(self, match) -> Iterator[tuple]:
        """An entry of ours names no other node, and no other version, than its key."""
        key, id, version = match[1], "MX-" + match[2], match[3].replace("_", ".")
        body = re.split(r"\n[@}]|\n\s*\n", self.text[match.end():match.end() + 4000], maxsplit=1)[0]
        for field in re.finditer(r"\b(title|url|howpublished|shorttitle)\s{0,9}=((?:[^\n]|\n(?!\s*\w+\s*=))*)", body):
            for other in re.findall(r"(?<![A-Za-z0-9])MX-[0-9]{4}(?![0-9])", field[2]):
                if other != id:
                    yield (match.start(1), "key",
                           f"The key {key!r} is of {id}, but the {field[1]} of the entry names {other}.",
                           f"Write {self.key_of(other)}, or correct the {field[1]}.")
                    return
            for other in re.findall(r"\bversion\s+([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})", field[2], re.IGNORECASE):
                if other != version:
                    yield (match.start(1), "key",
                           f"The key {key!r} is of version {version}, but its {field[1]} says {other}.",
                           "Make both the same.")
                    return

    def macro(self, match) -> Iterator[tuple]:
        name, said = match[1], match[2]
        if name == "mxrequire":
            if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){2}", said):
                yield from self.known(match.start(), said, match[0])
            else:
                yield (match.start(), "version", f"{match[0]} names no version.",
                       rf"Write \mxrequire{{{self.taxonomy.version}}}.")
            return
        mentions = list(MENTION.finditer(self.text, *match.span(2)))
        if re.fullmatch("MX-[0-9]{4}", said):
            return      # it is right, or `id` has said what is wrong
        if any(not well_formed(found) and not found["version"] and self.meant(found) for found in mentions):
            return      # `malformed` has said so
        ids = [padded(found["digits"]) for found in mentions] or filter(None, [self.names.nearest(said)])
        fix = " and ".join(rf"\mxnode{{{id}}}" for id in ids) or r"one id, such as \mxnode{MX-0008}"
        yield match.start(), "macro", rf"{match[0]}: \mxnode takes one id and nothing else.", f"Write {fix}."
