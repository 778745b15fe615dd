"""Works, and where each is filed and why: `taxonomy/works.yaml` as small frozen objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from . import notebook

WORKS = Path("taxonomy") / "works.yaml"
PROTOCOL = Path("taxonomy") / "protocol.yaml"
MODALITIES = ("image", "text", "video", "audio", "depth", "sensor", "action", "structured")
ROLES = {"introduces": "introduces", "applies": "applies", "evaluates": "evaluates", "criticises": "shows limits of"}
GROUNDS = {
    "survey-seen": "named in a public digest of the survey",
    "likely": "we think that the survey files it there; it was not seen",
    "ours": "our choice",
}
_YEAR = re.compile(r"(?:^| )((?:19|20)[0-9]{2})(?=,| |$)")      # a word of its own: no part of a date or a number


@dataclass(frozen=True)
class Filing:
    """One placement of a work: at which node, in which role, on what ground, and the evidence for it.

    role: introduces, applies, evaluates or criticises what the node names.
    ground: survey-seen, likely or ours, see `GROUNDS`.  locator: where in the work the evidence stands.
    """

    node: str
    role: str
    ground: str
    locator: str
    reason: str


@dataclass(frozen=True)
class Work:
    """A paper or other work. `seen` says which parts of it, or of its public record, were read."""

    key: str
    title: str
    authors: tuple[str, ...]
    authors_complete: bool
    year: str
    venue: str
    venue_verified: bool
    arxiv: str | None
    doi: str | None
    url: str | None
    modalities: tuple[str, ...]
    seen: tuple[str, ...]
    record: str | None
    filed: tuple[Filing, ...]

    @property
    def address(self) -> str | None:
        """Where to find it: arXiv, else the DOI, else the address given."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else self.url

    @property
    def by(self) -> str:
        """"Ada Lovelace et al.", as short as it is usually said."""
        more = len(self.authors) > 2 or not self.authors_complete
        return f"{self.authors[0]} et al." if more else " and ".join(self.authors)

    @property
    def published(self) -> tuple[str, str]:
        """Where and when, apart: ("CVPR", "2016") for the venue "CVPR 2016". Where the venue has no year, or more than one,
        it is whole, with the year in which the work was first public."""
        parts = _YEAR.split(self.venue)
        place = (parts[0] + parts[-1]).strip(" ,")
        return (place, parts[1]) if len(parts) == 3 and place else (self.venue, self.year)

    def at(self, node: str) -> Filing | None:
        """Its placement at the node with this id, if it has one."""
        return next((filing for filing in self.filed if filing.node == node), None)

    def __repr__(self) -> str:
        return f"Work({self.key}: {self.by}, {self.year}, {self.title!r})"

    def _repr_html_(self) -> str:
        return notebook.work_html(self)


@dataclass(frozen=True)
class Search:
    """A search for works, all of whose finds are filed: what is still empty in what it covers was looked for.

    words: what was typed.  corpora: where.  looked_at: how many results were read.  outcome: what came of it.
    It covers each of `nodes` with each of `modalities`, in all years up to its date.
    """

    code: str
    date: str
    corpora: tuple[str, ...]
    words: tuple[str, ...]
    looked_at: str
    nodes: tuple[str, ...]
    modalities: tuple[str, ...]
    outcome: str
