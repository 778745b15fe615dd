"""The taxonomy in the forms that others read: one folder with files and their SHA-256 sums.

    export(load(), site(root), "site_root/taxonomy/v0.1.0")

The same data and the same `site` give the same bytes, so that a release can be checked by making it again.
Every writer takes the taxonomy and `site` (the book's addresses, from `mini_lib.book.site(root)`) and returns text.
"""

from __future__ import annotations

import csv
import json
import re
import secrets
import shutil
from hashlib import sha256
from io import StringIO
from pathlib import Path

import yaml

from .cite import MACROS, address, bibtex_entry, cite_bibtex, cite_csl, named, whole
from .escape import bibtex_name, bibtex_title, cell, tex
from .nodes import Node, Taxonomy
from .works import Work

SUMS = "SHA256SUMS"
PLACE = "taxonomy/export"       # of the files on the published site
COLUMNS = ("work", "title", "authors", "authors_complete", "year", "venue", "venue_verified", "arxiv", "doi", "url",
           "modalities", "seen", "record", "node", "node_label", "role", "ground", "locator", "reason", "taxonomy_version")
# The C writer where PyYAML has it: 10,000 works in seconds and not in a minute.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def export(taxonomy: Taxonomy, site: dict, out: str | Path) -> list[Path]:
    """Write all files into the folder `out` and return their paths; what an earlier export wrote there is replaced.

    The files are made first, then written to a new folder beside `out`, which takes its place at the end. So `out`
    holds either all of the new files or all of the old ones.

    Raises FileExistsError, and changes nothing, when `out` is no folder or holds what no export wrote;
    ImportError when rdflib is missing; ValueError when the data cannot be written: check them with `validate` first.
    """
    folder = Path(out)
    real = folder.resolve()      # where `out` is a link, what it leads to is replaced and the link stays
    _check_place(real)
    texts = {name: write(taxonomy, site) for name, write in WRITERS.items()}
    texts[SUMS] = "".join(f"{sha256(text.encode()).hexdigest()}  {name}\n" for name, text in sorted(texts.items()))
    _put(real, {name: text.encode() for name, text in texts.items()})
    return [folder / name for name in texts]


def _check_place(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Name a folder for the export.")
    if not folder.is_dir():
        return
    sums = folder / SUMS
    ours = {SUMS, *re.findall(r"^[0-9a-f]{64}  (.+)$", sums.read_text(encoding="utf-8"), re.M)} if sums.is_file() else set()
    strange = sorted({path.name for path in folder.iterdir()} - ours)
    if strange:
        raise FileExistsError(f"{folder} holds {strange[0]!r}, which no export wrote, and an export replaces the whole "
                              "folder. Name a folder that is new, empty, or holds an export only.")


def _put(folder: Path, files: dict[str, bytes]) -> None:
    """Fill a new folder beside this one and swap the two."""
    token = secrets.token_hex(4)
    new, old = (folder.with_name(f".{folder.name}.{token}.{which}") for which in ("new", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except BaseException:      # an interruption too must not leave the place empty
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


# ---------------------------------------------------------------- the data as they are

def plain(taxonomy: Taxonomy) -> dict:
    """All data as one document of plain values: the fields of nodes.yaml, works.yaml and protocol.yaml side by side."""
    return {
        "scheme": {
            "id": taxonomy.id, "title": taxonomy.title, "version": taxonomy.version, "released": taxonomy.released,
            "licence": taxonomy.licence,
            "source": {"authors": taxonomy.survey_authors, "title": taxonomy.survey_title, "arxiv": taxonomy.arxiv,
                       "figure": taxonomy.figure},
        },
        "sources": {source.code: _fields(source, without=["code"]) for source in taxonomy.sources},
        "rivals": {rival.code: _fields(rival, without=["code"]) for rival in taxonomy.rivals},
        "nodes": [_plain_node(node) for node in taxonomy.nodes],
        "works": [_fields(work) | {"filed": [_fields(filing) for filing in work.filed]} for work in taxonomy.works],
        "searches": {search.code: _fields(search, without=["code"]) for search in taxonomy.searches},
    }


def _fields(item, without=()) -> dict:
    """The fields of a dataclass, tuples as lists, without what is None."""
    fields = {name: getattr(item, name) for name in item.__dataclass_fields__ if name not in without}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items() if value is not None}


def _plain_node(node: Node) -> dict:
    # In the YAML entry `scope` and `survey` are nested; in a Node they lie flat.
    survey = {"relation": node.relation, "confirmation": node.confirmation, "seen": list(node.seen) or None,
              "note": node.survey_note}
    entry = {
        "id": node.id, "slug": node.slug, "label": node.label, "alt_labels": list(node.alt_labels),
        "definition": node.definition,
        "scope": {"includes": list(node.includes), "excludes": [_fields(item) for item in node.excludes]},
        "usage": node.usage, "usage_note": node.usage_note, "broader": list(node.broader), "see_also": list(node.see_also),
        "status": node.status, "deprecation": node.deprecation and _fields(node.deprecation),
        "introduced_in": node.introduced_in,
        "survey": {name: value for name, value in survey.items() if value is not None},
        "strengths": list(node.strengths), "limitations": list(node.limitations), "open_problems": list(node.open_problems),
        "translations": {language: _fields(said) for language, said in node.translations.items()},
        "matches": [_fields(match) for match in node.matches], "runnable": node.runnable,
    }
    return {name: value for name, value in entry.items() if value is not None}


def as_yaml(taxonomy: Taxonomy, site: dict) -> str:
    """The whole as one YAML document; what YAML would read as something else than text is quoted."""
    return yaml.dump(plain(taxonomy), Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=1 << 20)


def as_json(taxonomy: Taxonomy, site: dict) -> str:
    """The same document as JSON."""
    return json.dumps(plain(taxonomy), ensure_ascii=False, indent=1) + "\n"


def as_turtle(taxonomy: Taxonomy, site: dict) -> str:
    """The tree as SKOS in Turtle, see `skos.py`. Raises ImportError when rdflib is missing."""
    # Only here: rdflib is heavy, and reading the taxonomy does without it.
    from . import skos
    return skos.turtle(taxonomy, site)


def as_json_ld(taxonomy: Taxonomy, site: dict) -> str:
    """The same graph as JSON-LD. Raises ImportError when rdflib is missing."""
    from . import skos
    return skos.json_ld(taxonomy, site)


# ---------------------------------------------------------------- the works

def as_csv(taxonomy: Taxonomy, site: dict) -> str:
    """One row for each work at each node, with all that is known of the evidence; columns as in `COLUMNS`.

    Lists have "; " between their parts. In pandas: `read_csv(path, dtype=str, keep_default_na=False)`, since
    otherwise a title such as "None" becomes a gap. Raises ValueError when an author's name holds "; ".
    """
    labels = {node.id: node.label for node in taxonomy.nodes}
    out = StringIO()
    # All quoted: the csv module leaves a cell with a bare carriage return open, and no reader takes that.
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for work in taxonomy.works:
        for filing in work.filed:
            row = (work.key, work.title, _list(work, work.authors), _yes_no(work.authors_complete), work.year, work.venue,
                   _yes_no(work.venue_verified), work.arxiv or "", work.doi or "", work.url or "",
                   _list(work, work.modalities), _list(work, work.seen), work.record or "",
                   filing.node, labels.get(filing.node, ""), filing.role, filing.ground, filing.locator, filing.reason, taxonomy.version)
            writer.writerow(map(cell, row))
    return out.getvalue()


def _list(work: Work, items: tuple[str, ...]) -> str:
    for item in items:
        if "; " in item:
            raise ValueError(f"{work.key}: {item!r} holds a semicolon and a space, which part names in works.csv. "
                             "Write it without.")
    return "; ".join(items)


def _yes_no(value: bool) -> str:
    return "true" if value else "false"


def works_bibtex(taxonomy: Taxonomy, site: dict) -> str:
    """The works as BibTeX, in the order of the data.

    The year is that of the venue, since the entry is of what stands there: "CVPR 2016" gives CVPR and 2016, also for a
    work that was first public in 2015. Only where the venue has none is it the year in which the work was first public.
    """
    return _head(taxonomy, "The works", site) + "".join(f"\n{_work_entry(work)}\n" for work in taxonomy.works)


# A venue is one string. Where its name tells what it is, the entry has that type; else it is @misc, which fits all.
_JOURNAL = re.compile(
    r"\b(?:TMLR|TPAMI|RA-L|TACL|IJCV|JMLR|NEJM AI|PNAS|Journal|Transactions|Letters|Nature|Distill|Science)\b")
_MEETING = re.compile(
    r"\b(?:AAAI|ACCV|ACL|ACM MM|AIES|AISTATS|BMVC|BlackboxNLP|CHI|COLING|COLM|CVPR|CoNLL|CoRL|EACL|ECCV|EMNLP|FAccT|"
    r"ICASSP|ICCV|ICLR|ICML|ICRA|IJCAI|IROS|Interspeech|KDD|LREC|MICCAI|NAACL|NeurIPS|UAI|WACV|[Ww]orkshops?)\b")


def _work_entry(work: Work) -> str:
    venue, year = work.published
    venue, _, other_title = venue.partition(", as ")      # it stands there under another title
    kind, place = ("article", "journal") if _JOURNAL.search(venue) else ("inproceedings", "booktitle")
    if kind == "inproceedings" and not _MEETING.search(venue):
        kind, place = "misc", "howpublished"
    notes = [f"published as: {tex(other_title)}" if other_title else "",
             "" if work.venue_verified else "venue from memory, not checked"]
    authors = [bibtex_name(name) for name in work.authors] + ([] if work.authors_complete else ["others"])
    fields = {
        "author": " and ".join(authors), "title": bibtex_title(work.title), place: tex(venue), "year": year,
        "eprint": work.arxiv, "archiveprefix": "arXiv" if work.arxiv else None, "doi": work.doi, "url": work.address,
        "note": "; ".join(filter(None, notes)),
        # Where we file it: ours to say, see works.csv for role and ground.
        "keywords": ", ".join(filing.node for filing in work.filed),
    }
    return bibtex_entry(kind, work.key, {name: value for name, value in fields.items() if value})


# ---------------------------------------------------------------- to cite

def as_bibtex(taxonomy: Taxonomy, site: dict) -> str:
    """One entry for the whole and one for each node, each with the version in its key."""
    entries = [cite_bibtex(node, taxonomy, site) for node in (None, *taxonomy.nodes)]
    return _head(taxonomy, "To cite", site) + "".join(f"\n{entry}\n" for entry in entries)


def as_csl(taxonomy: Taxonomy, site: dict) -> str:
    """The same entries as CSL-JSON."""
    items = [cite_csl(node, taxonomy, site) for node in (None, *taxonomy.nodes)]
    return json.dumps(items, ensure_ascii=False, indent=1) + "\n"


def as_latex(taxonomy: Taxonomy, site: dict) -> str:
    r"""Macros: `\mxnode{ID}` prints label, id and version; an unknown id is an error, a retired one a warning."""
    lines = [_line(node, taxonomy) for node in taxonomy.nodes]
    return _head(taxonomy, r"LaTeX macros: \mxnode{ID}, \mxtaxonomy, \mxversion, \mxrequire{VERSION}", site) + _MACROS % {
        "version": taxonomy.version, "whole": tex(whole(taxonomy)), "nodes": "\n".join(lines)}


def _line(node: Node, taxonomy: Taxonomy) -> str:
    gone = node.deprecation
    warning = rf"\mx@retired{{{node.id}}}{{{gone.version}}}{{{', '.join(gone.replaced_by) or 'nothing'}}}" if gone else ""
    return rf"\@namedef{{mx@{node.id}}}{{{warning}{tex(named(node, taxonomy))}}}"


# \mxnode expands to plain text, so that it may stand in headings, captions and PDF bookmarks; what speaks to the
# author is \protected and waits until the text is set.
_MACROS = r"""
\makeatletter
\newcommand*{\mxversion}{%(version)s}
\newcommand*{\mxtaxonomy}{%(whole)s}
\newcommand*{\mxnode}[1]{\ifcsname mx@#1\endcsname\csname mx@#1\endcsname\else\mx@unknown{#1}\fi}
\newcommand*{\mxrequire}[1]{\edef\mx@wanted{#1}\ifx\mx@wanted\mxversion\else
  \PackageError{mx}{This file is version \mxversion, but version \mx@wanted\space was asked for}{Use the macro file of that version.}\fi}
\protected\def\mx@unknown#1{\PackageError{mx}{No node \detokenize{#1} in version \mxversion}{Look it up: mini-lib taxonomy search WORDS}}
\protected\def\mx@retired#1#2#3{\PackageWarning{mx}{#1 is retired since version #2; use instead: #3}}
%(nodes)s
\makeatother
"""


def _head(taxonomy: Taxonomy, what: str, site: dict) -> str:
    """Comment lines for BibTeX and TeX. To BibTeX all between entries is comment, but an @ opens an entry anywhere."""
    said = [what, whole(taxonomy) + f", {taxonomy.released}", f"Licence: {taxonomy.licence}", address(None, site)]
    return "".join(f"% {' '.join(line.split())}\n" for line in said).replace("@", "(at)")


WRITERS = {
    "taxonomy.yaml": as_yaml, "taxonomy.json": as_json, "taxonomy.jsonld": as_json_ld, "taxonomy.ttl": as_turtle,
    "works.csv": as_csv, "taxonomy.bib": as_bibtex, "works.bib": works_bibtex, MACROS: as_latex,
    "taxonomy.csl.json": as_csl,
}
