"""Which label stands beside an id in a text, as "Visual token (MX-0008)" or a cell of a table, and whose label that is.

Only two things count as a label: a whole piece of text (a cell, what is in brackets or quotes, a link's text, the start of
a sentence or of a list item) that is a node's name; and in running text the last words before an id, where they
are a name of several words, or one with a capital. So "in the layer (MX-0018)" is left alone: that is prose.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from difflib import get_close_matches

from .nodes import Taxonomy
from .search import singular

REACH = 300      # characters looked at on either side
_OPEN = re.compile(r"(?:\\[A-Za-z]{1,20}\*?\{|`+|\*+|(?<![A-Za-z0-9])_+|<[A-Za-z][^<>]{0,99}>|[\"'“‘«「『{$])$")
_CLOSE = re.compile(r"(?:\}|`+|\*+|_+(?![A-Za-z0-9])|</?[A-Za-z][^<>]{0,99}>|[\"'”’»」』$])$")
_CLOSE_AFTER = re.compile(r"^(?:\}|`+|\*+|_+(?![A-Za-z0-9])|</[A-Za-z][^<>]{0,99}>|[\"'”’»」』$])")
_LINK = re.compile(r"\[([^\[\]\n]{1,200})\]\(<?[^()\s<>]{0,250}$")
_HREF = re.compile(r"\\href\{[^{}]{0,250}$")
# Where a piece of running text begins: a paragraph, an item, a heading, a cell, a bracket, a sentence, behind another id.
_START = re.compile(r"\n\s*\n|`{3,}[^\n`]{0,40}\n|(?:^|\n)\s*(?:[-*+>]|\d{1,3}[.)]|#{1,6})\s"
                    r"|\\item\b|\\[a-z]{0,20}(?:section|caption|paragraph|title)\*?\{"
                    r"|[(（\[【{|&=\"“„「]|\\\\"
                    r"|[.;:!?。；：！？](?=[\s}\"”])|[。；：！？]|MX-[0-9]{4}")
_AND = re.compile(r"^[\s~,)\]}.]*(?:(?:and|or)\s+)?")


@dataclass
class Beside:
    """What was found. labels: (text, ids that have this name); link: an id that is the text of a link to this one."""

    names: Names
    labels: list[tuple[str, set[str]]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    link: str | None = None

    def name(self, id: str) -> bool:
        """Whether the label of this id stands here."""
        return any(id in ids for _, ids in self.labels)

    def wrong(self, id: str) -> str | None:
        """The node whose label stands here instead of that of `id`; None when it is right, or nothing is said."""
        if self.name(id):
            return None
        return next((min(ids) for _, ids in self.labels), None)

    def said(self, id: str) -> str:
        """The label that is not that of `id`, as written."""
        return next(text for text, ids in self.labels if id not in ids)

    def nearest(self) -> str | None:
        """The node that the words here name best."""
        if self.labels:
            return min(self.labels[0][1])
        return next(filter(None, map(self.names.nearest, self.pieces)), None)


class Names:
    """All names of all nodes, in every language, by their words."""

    def __init__(self, taxonomy: Taxonomy):
        self.ids, self.words, self.above = {}, {}, {}
        for node in taxonomy.nodes:
            # A retired node may share its name with the one in its place; the living one is meant.
            for name in (node.label, *node.alt_labels, *(said.label for said in node.translations.values())):
                self.ids.setdefault(words_of(name), set()).add(node.id)
            english = (word for name in (node.label, *node.alt_labels) for word in words_of(name))
            self.words[node.id] = {word for word in english if len(word) > 3}
            self.above[node.id] = taxonomy.above(node)
        self.longest = max(map(len, self.ids), default=1)
        self.written = {" ".join(name): ids for name, ids in self.ids.items()}
        self.near = {}      # what was looked for already: it is slow, and a wrong id tends to stand in a text many times

    def of(self, text: str) -> set[str]:
        """The nodes with exactly this name."""
        return self.ids.get(words_of(text), set())

    def ending(self, text: str) -> tuple[int, set[str]]:
        """The longest name at the end of the text: its number of words and its nodes."""
        words = words_of(text)
        for count in range(min(self.longest, len(words)), 0, -1):
            if words[-count:] in self.ids:
                return count, self.ids[words[-count:]]
        return 0, set()

    def nearest(self, text: str) -> str | None:
        """The node whose name is most like the text, or like its last words."""
        words = words_of(text)[-4:]
        if words not in self.near:
            ends = (" ".join(words[first:]) for first in range(len(words)))
            near = (get_close_matches(end, self.written, n=1, cutoff=0.8) for end in ends)
            self.near[words] = next((min(self.written[found[0]]) for found in near if found), None)
        return self.near[words]


def words_of(text: str) -> tuple[str, ...]:
    """The words to compare: without markup and case, hyphens as spaces, each in the singular.

        words_of(r"\\emph{Visual-textual} tokens")  ->  ("visual", "textual", "token")
    """
    text = re.sub(r"\\[A-Za-z]{1,30}\*?|[{}`*\"'“”‘’«»]|<[^<>]{0,99}>", " ", unicodedata.normalize("NFKC", text[-REACH:]))
    text = re.sub(r"[-‐‑‒–—_~/\\]+", " ", text).casefold()
    return tuple(singular(word) for word in (word.strip(".,;:!?()[]") for word in text.split()) if word)


def labels_beside(text: str, start: int, end: int, names: Names) -> Beside:
    """What stands beside the id at text[start:end]."""
    before, after = text[max(0, start - REACH):start], text[end:end + REACH]
    found = Beside(names)
    linked = _linked(before, after)
    if linked is not None:
        ids = re.findall(r"MX-[0-9]{4}", linked)
        found.link = ids[0] if len(ids) == 1 and linked.strip() == ids[0] else None
        _whole(linked, names, found)
        return found
    # In a cell of its own an id belongs to its neighbours; with more text in it a label may stand beside it there, too.
    alone = re.search(r"(?:^|[|&\n])[\s`*_~]*$", before) and re.match(r"[\s`*_~]*(?:$|[|&\n]|\\\\)", after)
    if alone and _row(before, text[start:end], after, names, found):
        return found
    if not re.search(r"[\w/#.@:-]$", before):          # else it is part of an address, a file or a key
        _before(before, text[start:end], names, found)
    if not re.match(r"[\w/#@-]|\.\w", after):
        _after(after, before, names, found)
    return found


def _linked(before: str, after: str) -> str | None:
    """The text of the link in whose address the id is."""
    link = _LINK.search(before)
    if link:
        return link[1]
    href = _HREF.search(before) and re.match(r"[^{}]{0,250}\}\s?\{((?:[^{}]|\{[^{}]*\}){1,200})\}", after)
    return href[1] if href else None


def _whole(piece: str, names: Names, found: Beside) -> bool:
    """Take a piece of text as a label, if all of it is one."""
    found.pieces.append(piece)
    ids = names.of(piece)
    if ids:
        found.labels.append((" ".join(piece.split()), ids))
    return bool(ids)


def _strip(pattern: re.Pattern, text: str) -> tuple[str, bool]:
    stripped = text
    while pattern.search(stripped):
        stripped = pattern.sub("", stripped, count=1)
    return stripped, stripped != text


def _before(before: str, id: str, names: Names, found: Beside) -> None:
    lead, _ = _strip(_OPEN, before)
    opener = re.search(r"([\s~]*[(（\[【][\s~]*|[\s~]*(?:[:：—–,]|---?)[\s~]*|[\s~]+)$", lead)
    if not opener:
        return
    joint, lead = opener[0].strip(" \t\n~"), lead[:opener.start()]
    bare, quoted = _strip(_CLOSE, lead)
    if quoted:
        # What is marked in the text is a label as a whole; it begins where the mark does.
        mark = re.search(r"(?:\\[A-Za-z]{1,20}\*?\{|[`*_\"'“‘«「『>\[])([^`*\"“”‘«»<>{}\[\]]{1,120})$", bare)
        if mark and _whole(mark[1], names, found):
            return
    pieces = _START.split(lead)
    piece = _AND.sub("", pieces[-1], count=1)
    # "(Neuron, MX-0014)" is a label; "Neuron, MX-0014" may be an enumeration.
    if joint == "," and not re.search(r"[(（\[]\s*$", lead[:len(lead) - len(pieces[-1])]):
        return
    if _whole(piece, names, found) or joint not in ("", "(", "（", "[", "【"):
        return
    count, ids = names.ending(piece)
    own = "MX-" + id[-4:]
    if own in ids:
        found.labels.append((piece, ids))
    elif ids and _reads_as_a_label(piece, count) and not _names_own(piece, count, own, names):
        found.labels.append((" ".join(piece.split()[-count:]), ids))


def _reads_as_a_label(piece: str, count: int) -> bool:
    """Several words, or one with a capital that is not the end of a longer name ("Transformer Model")."""
    words = re.findall(r"[^\s~]+", piece.replace("-", " "))
    if count > 1 or len(words) <= count:
        return True
    return words[-1].lstrip("\\{*_`\"'")[:1].isupper() and not words[-2][:1].isupper()


def _names_own(piece: str, count: int, own: str, names: Names) -> bool:
    """Whether the words further to the left name the node after all: "components of the Layer (MX-0018)"."""
    return bool(names.words.get(own, set()) & set(words_of(piece)[:-count][-12:]))


def _row(before: str, id: str, after: str, names: Names, found: Beside) -> bool:
    """The cells next to an id in a row of a table; True when it is in one.

    A cell with the label of a broader node is a column of its own, and one with the label of another id of the row
    is that id's.
    """
    left = re.split(r"[|&]", before[before.rfind("\n") + 1:].rsplit("\\\\", 1)[-1])
    right = re.split(r"[|&]", re.split(r"\n|\\\\", after, maxsplit=1)[0])
    if len(left) + len(right) < 3:
        return False
    own = "MX-" + id[-4:]
    others = set(re.findall(r"MX-[0-9]{4}", " ".join([*left, *right]))) | names.above.get(own, set())
    if any(own in names.of(cell) for cell in [*left[:-1], *right[1:]]):
        found.labels.append((own, {own}))
        return True
    for cell in (*left[:-1][-1:], *right[1:][:1]):
        if not names.of(cell) & others:
            _whole(cell, names, found)
    return True


def _after(after: str, before: str, names: Names, found: Beside) -> None:
    rest = after
    while _CLOSE_AFTER.match(rest):
        rest = _CLOSE_AFTER.sub("", rest, count=1)
    if bracket := re.match(r"[\s~]{0,3}[(（\[]\s*([^()（）\[\]\n]{1,120}(?:\n[^()（）\[\]\n]{1,120})?)[)）\]]", rest):
        _whole(re.split(r",\s*v(?:ersion\s)?\d", bracket[1])[0], names, found)
    elif inside := re.match(r",\s*([^(),;\n]{1,120})[)）\]]", rest):
        if re.search(r"[(（\[][^()（）\[\]]{0,9}$", before):
            _whole(inside[1], names, found)
    elif piece := re.match(r"(?:[ \t~]*(?:[:：—–]|---?)[ \t~]*|[ \t~]+)"
                           r"([^\n|&.,;:()\\\[\]]{1,120})(?=$|[\n|&.,;:()\\\[\]])", rest):
        _whole(piece[1], names, found)
