"""Rules on works and searches that a schema cannot say: each yields where and what, as those of `validate_nodes.py`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from .nodes import Taxonomy

MOST_WORDS = 30      # of a reason: one sentence, not an abstract


def works_are_listed_once(taxonomy: Taxonomy) -> Iterator[tuple]:
    """No key, title, arXiv id or DOI stands twice."""
    for what, value in {"key": lambda w: w.key, "title": lambda w: w.title.casefold(), "arxiv": lambda w: w.arxiv,
                        "doi": lambda w: w.doi and w.doi.casefold()}.items():
        first = {}
        for number, work in enumerate(taxonomy.works):
            name = value(work)
            if name is not None and name in first:
                yield ("works", number, what), (f"{work.key}: its {what} {name!r} is already that of {first[name]}. "
                                                "Remove one of the two.")
            elif name is not None:
                first[name] = work.key


def authors_stand_one_by_one(taxonomy: Taxonomy) -> Iterator[tuple]:
    """No name would part in two where names stand in one cell, as in works.csv."""
    for number, work in enumerate(taxonomy.works):
        for place, name in enumerate(work.authors):
            if "; " in name:
                yield ("works", number, "authors", place), (
                    f"{work.key}: the author {name!r} holds a semicolon and a space, which part names in works.csv. "
                    "Give each author an entry of their own.")


def works_are_filed_where_works_may_be(taxonomy: Taxonomy) -> Iterator[tuple]:
    """Each placement is at a living node that takes works, and no work stands twice at one node."""
    nodes = {node.id: node for node in taxonomy.nodes}
    for number, work in enumerate(taxonomy.works):
        taken = set()
        for place, filing in enumerate(work.filed):
            where, node = ("works", number, "filed", place, "node"), nodes.get(filing.node)
            if node is None:
                yield where, f"{work.key}: it is filed at {filing.node}, which does not exist. Correct the id."
            elif node.closed:
                why = "is retired" if node.status == "deprecated" else "is a heading"
                yield where, f"{work.key}: it is filed at {node}, which {why}. Choose another node."
            if filing.node in taken:
                yield where, f"{work.key}: it is filed at {filing.node} twice. Keep one placement."
            taken.add(filing.node)


def works_can_be_found(taxonomy: Taxonomy) -> Iterator[tuple]:
    """A work has an address, and its year fits its arXiv id, its venue and the release."""
    for number, work in enumerate(taxonomy.works):
        if work.address is None:
            yield ("works", number), f"{work.key}: it has no arxiv, doi or url. Add one, or nobody can find it."
        if work.arxiv and work.arxiv[:4].isdigit() and int(work.arxiv[:2]) + 2000 < int(work.year):
            yield ("works", number, "year"), (f"{work.key}: the year is {work.year}, but arXiv:{work.arxiv} was posted in "
                                              f"20{work.arxiv[:2]}. Give the year in which it was first public.")
        if work.published[1] < work.year:
            yield ("works", number, "year"), (f"{work.key}: the year is {work.year}, after that of its venue, "
                                              f"{work.venue!r}. Give the year in which it was first public.")
        if work.year > taxonomy.released[:4]:
            yield ("works", number, "year"), (f"{work.key}: the year is {work.year}, after the release of "
                                              f"{taxonomy.released}. Correct the year, or the date of the release.")


def claims_are_backed(taxonomy: Taxonomy) -> Iterator[tuple]:
    """What was seen names its record; evidence lies in a part that was seen; a reason is one short sentence."""
    for number, work in enumerate(taxonomy.works):
        if bool(work.seen) != bool(work.record):
            fix = "Name the record." if work.seen else "Say what of it was seen, or remove it."
            yield ("works", number, "seen"), f"{work.key}: seen and record go together. {fix}"
        for place, filing in enumerate(work.filed):
            where = ("works", number, "filed", place)
            if filing.locator in ("title", "abstract") and work.seen and filing.locator not in work.seen:
                yield (*where, "locator"), (f"{work.key}: the evidence is in the {filing.locator}, which was not seen. "
                                            "Correct locator or seen.")
            words = len(filing.reason.split())
            if words > MOST_WORDS:
                yield (*where, "reason"), f"{work.key}: the reason has {words} words. Keep it to {MOST_WORDS}."


def searches_say_what_they_cover(taxonomy: Taxonomy) -> Iterator[tuple]:
    """A search was made on a day before the release, for living nodes that take works."""
    nodes = {node.id: node for node in taxonomy.nodes}
    for search in taxonomy.searches:
        where = ("searches", search.code)
        try:
            date.fromisoformat(search.date)
        except ValueError:
            yield (*where, "date"), f"{search.code}: the date is {search.date!r}, which is no date. Write year-month-day."
        else:
            if search.date > taxonomy.released:
                yield (*where, "date"), (f"{search.code}: the date is {search.date}, after the release of "
                                         f"{taxonomy.released}. Correct it, or the date of the release.")
        for place, id in enumerate(search.nodes):
            node = nodes.get(id)
            if node is None:
                yield (*where, "nodes", place), f"{search.code}: it covers {id}, which does not exist. Correct the id."
            elif node.closed:
                yield (*where, "nodes", place), f"{search.code}: it covers {node}, where no work is filed. Take it out."


WORK_RULES = [works_are_listed_once, authors_stand_one_by_one, works_are_filed_where_works_may_be, works_can_be_found,
              claims_are_backed]
SEARCH_RULES = [searches_say_what_they_cover]
