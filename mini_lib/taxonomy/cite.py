"""How to cite a node, or the whole taxonomy; always with the version, since wording may change while the id stays."""

from __future__ import annotations

import json
import re
from textwrap import fill

from .escape import tex
from .nodes import Node, Taxonomy

MACROS = "taxonomy.tex"      # the file that `export` writes


def cite(node: Node | None, taxonomy: Taxonomy, site: dict, format: str = "text") -> str:
    """How to cite a node, or without one the whole taxonomy, as text to copy; every format names the version.

    format: text, bibtex, latex, or csl (a CSL-JSON file with one item).
    Raises ValueError for another format.
    """
    if format not in FORMATS:
        raise ValueError(f"There is no citation format {format!r}. Choose one of: {', '.join(FORMATS)}.")
    return FORMATS[format](node, taxonomy, site)


def cite_sentence(node: Node | None, taxonomy: Taxonomy, site: dict) -> str:
    """How to cite a node (or, without one, the whole taxonomy) in running text, with version and address."""
    what = f"{node.label} ({node.id}), in: {taxonomy.title}" if node else taxonomy.title
    return f"{what}, version {taxonomy.version}, {taxonomy.released}, {debt(node, taxonomy)}. {address(node, site)}"


def cite_bibtex(node: Node | None, taxonomy: Taxonomy, site: dict) -> str:
    """The same as a BibTeX entry. The key holds id and version, such as mx0042_v0_1_0."""
    title = f"{node.label} ({node.id})" if node else taxonomy.title
    edition = whole(taxonomy) if node else f"Version {taxonomy.version}"
    return bibtex_entry("misc", key(node, taxonomy), {
        "author": f"{{{tex(site['author'])}}}",      # two braces in the entry: a group, not first and last name
        "title": f"{{{tex(title)}}}",
        "howpublished": tex(edition),
        "year": taxonomy.released[:4],
        "note": tex(debt(node, taxonomy)),
        "url": address(node, site),
    })


def cite_latex(node: Node | None, taxonomy: Taxonomy, site: dict) -> str:
    """The lines for a LaTeX manuscript: the macro file, which version of it, and the macro with what it prints."""
    use, shown = (rf"\mxnode{{{node.id}}}", named(node, taxonomy)) if node else (r"\mxtaxonomy", whole(taxonomy))
    lines = {
        rf"\input{{{MACROS}}}": "once, in the preamble: the macros of this version, from the exports",
        rf"\mxrequire{{{taxonomy.version}}}": "stops when the file is of another version",
        use: f"prints: {' '.join(shown.split())}",
    }
    width = max(map(len, lines))
    return "\n".join(f"{code:{width}}  % {said}" for code, said in lines.items())


def cite_csl(node: Node | None, taxonomy: Taxonomy, site: dict) -> dict:
    """The same as a CSL-JSON item, which reference managers and citation processors read."""
    item = {"id": key(node, taxonomy), "type": "dataset", "title": taxonomy.title}
    if node:
        item |= {"type": "entry-dictionary", "title": f"{node.label} ({node.id})", "container-title": taxonomy.title}
    return item | {
        "author": [{"literal": site["author"]}],
        "issued": {"date-parts": [[int(part) for part in taxonomy.released.split("-")]]},
        "version": taxonomy.version,
        "URL": address(node, site),
        "language": "en",
        "note": debt(node, taxonomy),
    }


FORMATS = {
    "text": cite_sentence, "bibtex": cite_bibtex, "latex": cite_latex,
    "csl": lambda node, taxonomy, site: json.dumps([cite_csl(node, taxonomy, site)], ensure_ascii=False, indent=2),
}


def key(node: Node | None, taxonomy: Taxonomy) -> str:
    """The name of the entry: the id and the version, without the signs that BibTeX gives a meaning."""
    name = re.sub(r"[^a-z0-9]", "", (node or taxonomy).id.lower())
    return f"{name}_v{taxonomy.version.replace('.', '_')}"


def named(node: Node, taxonomy: Taxonomy) -> str:
    r"""A node with id and version, as `\mxnode` prints it."""
    return f"{node.label} ({node.id}, v{taxonomy.version})"


def whole(taxonomy: Taxonomy) -> str:
    r"""The taxonomy with its version, as `\mxtaxonomy` prints it."""
    return f"{taxonomy.title}, version {taxonomy.version}"


def bibtex_entry(kind: str, key: str, fields: dict[str, str]) -> str:
    """A BibTeX entry; the fields must be escaped already."""
    lines = [fill(f"{name} = {{{value}}},", 76, initial_indent="  ", subsequent_indent="    ",
                  break_long_words=False, break_on_hyphens=False) for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def debt(node: Node | None, taxonomy: Taxonomy) -> str:
    """What it owes to the survey: a node of ours is an addition to the survey's tree, all else is after it."""
    survey = f"{taxonomy.survey_authors}, arXiv:{taxonomy.arxiv}"
    return f"an addition to the tree of {survey}" if node and node.relation == "added" else f"after {survey}"


def address(node: Node | None, site: dict) -> str:
    """The address of the page of a node or, without one, of the whole; without a version, since ids last."""
    return f"{site['baseurl'].rstrip('/')}/taxonomy/" + (f"nodes/{node.id}.html" if node else "index.html")
