"""Find nodes by words, in English, Chinese and Korean.

    search("patch of the picture", load())
    search("神经元", load())

Every word counts where it is found: a name weighs more than a definition, a definition more than the scope. English is
compared by words without their plural; Chinese is written without spaces and Korean glues particles to its words, so
there a part of a word is enough, and a longer query is taken apart into pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from .nodes import Node, Taxonomy

# What is searched: how it is called, its weight, and its texts.
FIELDS = (
    ("id", 20, lambda node: [node.id]),
    ("slug", 4, lambda node: [node.slug.split("/")[-1]]),      # its beginning is that of the broader nodes
    ("label", 10, lambda node: [node.label]),
    ("other name", 8, lambda node: node.alt_labels),
    ("label in Chinese or Korean", 10, lambda node: [said.label for said in node.translations.values()]),
    ("definition", 3, lambda node: [node.definition]),
    ("definition in Chinese or Korean", 3, lambda node: [said.definition for said in node.translations.values()]),
    ("scope", 2, lambda node: node.includes),
    ("does not belong there", 0.5, lambda node: [item.text for item in node.excludes]),
)
WORKS = ("title of a work", 1, lambda node: [work.title for work in node.works])
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"      # kana, Chinese, Korean
_LITTLE = set("a an and are as at be by can do does for from how in into is it of on or that the their this to what which "
              "who with".split())


@dataclass(frozen=True)
class Hit:
    """A node that was found. why: (which field, the text in it that matched), the best first."""

    node: Node
    score: float
    why: tuple[tuple[str, str], ...]


def search(words: str, taxonomy: Taxonomy, works: bool = False) -> list[Node]:
    """The nodes that fit the words, the best first. works: look through the titles of the works, too."""
    return [hit.node for hit in hits(words, taxonomy, works)]


def hits(words: str, taxonomy: Taxonomy, works: bool = False) -> list[Hit]:
    """Like `search`, with the reason for each node. Retired nodes come last."""
    wanted = list(dict.fromkeys(_terms(words)))
    if not wanted:
        return []
    found = []
    for node in taxonomy.nodes:
        best, why = dict.fromkeys(wanted, 0.0), []
        for name, weight, texts in (*FIELDS, WORKS) if works else FIELDS:
            for text in texts(node):
                shares = {term: _share(term, text) for term in wanted}
                gained = weight * sum(shares.values())
                if not gained:
                    continue
                if _terms(text) == wanted:
                    gained += 10 * weight         # all that was asked for, and nothing else
                why.append((gained, name, text))
                best = {term: max(best[term], weight * shares[term]) for term in wanted}
        if why:
            why.sort(key=lambda reason: -reason[0])
            # The best place of each word, and a little for the place where most of them stand together.
            score = sum(best.values()) * sum(map(bool, best.values())) / len(wanted) + why[0][0] / 4
            if _plain(words) in (node.id.casefold(), node.slug):
                score += 100
            found.append(Hit(node, score, tuple((name, text) for _, name, text in why[:3])))
    return sorted(found, key=lambda hit: (hit.node.status == "deprecated", -hit.score))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _terms(text: str) -> list[str]:
    """What to look for: words without plural, and runs of Chinese or Korean as they are."""
    runs = re.findall(rf"[{_WIDE}]+|[^\W_]+(?:-[0-9]+)?", _plain(text)[:1000])
    terms = [run if _wide(run) else singular(run) for run in runs]
    return [term for term in terms if term not in _LITTLE] or terms


def _wide(text: str) -> bool:
    return bool(re.match(f"[{_WIDE}]", text))


def singular(word: str) -> str:
    """The word without the s of its plural, as far as spelling tells: "tokens" -> "token", but "class" and "gas" stay."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _share(term: str, text: str) -> float:
    """How much of a term is in a text, from 0 to 1."""
    if not _wide(term):
        words = [singular(word) for word in re.findall(r"[^\W_]+(?:-[0-9]+)?", _plain(text))]
        return 1.0 if term in words else 0.6 if len(term) > 3 and any(word.startswith(term) for word in words) else 0.0
    text = re.sub(r"\s", "", _plain(text))
    if term in text:
        return 1.0
    pairs = [term[at:at + 2] for at in range(len(term) - 1)]
    share = sum(pair in text for pair in pairs) / len(pairs) if pairs else 0.0
    return 0.8 * share if share >= 0.5 else 0.0
