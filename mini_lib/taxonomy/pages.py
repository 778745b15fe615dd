"""Write the pages of the taxonomy: one per node, the tree, all works, the coverage map, and one for reviewers.

The pages are plain Markdown, the same on the site, on GitHub and in an editor. They are committed, and
`validate` fails when they differ from the data. The same data and the same `site` give the same bytes.

`site` is a dict with the book's addresses, from `mini_lib.book.site(root)`:

    url      the repository        baseurl  the published site
    branch   its branch            author   who made the book
"""

from __future__ import annotations

from pathlib import Path

from .escape import markdown
from .export import SUMS
from .load import DATA, load
from .nodes import Node, Rival, Taxonomy
from .pages_coverage import render_coverage
from .pages_node import render_page
from .pages_parts import (
    CONFIRMATION,
    NO_CLAIM,
    STATUS,
    USAGE,
    badge,
    cite_boxes,
    count,
    download,
    link,
    page,
    repository_file,
    source_line,
    web,
    works_link,
)
from .pages_reviewers import render_reviewers
from .pages_works import render_works
from .picture import LEGEND, draw_tree
from .works import PROTOCOL, WORKS

DOWNLOADS = {
    "all data": ("taxonomy.yaml", "taxonomy.json"),
    "the tree as SKOS": ("taxonomy.ttl", "taxonomy.jsonld"),
    "the works, a row for each place where one is filed": ("works.csv",),
    "the works, to cite them": ("works.bib",),
    "the nodes and the whole, to cite them": ("taxonomy.bib", "taxonomy.csl.json"),
    "macros for LaTeX": ("taxonomy.tex",),
    "checksums of these files": (SUMS,),
}

__all__ = ["CONFIRMATION", "all_pages", "book_site", "present_pages", "render_index", "render_page", "write_pages"]


def write_pages(root: str | Path, site: dict | None = None) -> list[Path]:
    """Write all pages under `taxonomy/`, and remove pages of nodes that are not in the data.

    root: the repository, the folder with `_config.yml`.
    site: the book's addresses; without it they are read from `_config.yml`.

    Returns the files that changed. Raises what `load` raises.
    """
    root = Path(root)
    changed = []
    pages = all_pages(load(root / DATA), book_site(root) if site is None else site)
    for name, text in pages.items():
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            changed.append(path)
    for name in present_pages(root) - pages.keys():
        (root / name).unlink()
        changed.append(root / name)
    return changed


def all_pages(taxonomy: Taxonomy, site: dict) -> dict[str, str]:
    """Every generated file: its path from the repository's root, and its text."""
    return {
        "taxonomy/index.md": render_index(taxonomy, site),
        "taxonomy/tree.svg": draw_tree(taxonomy),
        "taxonomy/works.md": render_works(taxonomy, site),
        "taxonomy/coverage.md": render_coverage(taxonomy, site),
        "taxonomy/reviewers.md": render_reviewers(taxonomy, site),
        **{f"taxonomy/nodes/{node.id}.md": render_page(node, taxonomy, site) for node in taxonomy.nodes},
    }


def present_pages(root: Path) -> set[str]:
    """The pages that lie on disk, as paths from the root. The folder holds generated pages only."""
    return {f"taxonomy/nodes/{path.name}" for path in (root / "taxonomy" / "nodes").glob("*.md")}


def book_site(root: Path) -> dict:
    """The book's addresses, from `_config.yml`."""
    from ..book import site  # only here, so that reading the taxonomy needs no book
    return site(root)


# ---------------------------------------------------------------- the index

def render_index(taxonomy: Taxonomy, site: dict) -> str:
    """The page of the whole tree: every node with its standing, what the words mean, and how to cite."""
    runnable = sum(node.runnable for node in taxonomy.nodes)
    ours = sum(node.relation == "added" for node in taxonomy.nodes)
    roots = [node for node in taxonomy.nodes if not node.broader]
    legend = [f"- {'added by us' if key == 'added' else key}: {text}" for key, text in CONFIRMATION.items()]
    return page([
        "# Taxonomy",
        f"Version {taxonomy.version}, {taxonomy.released}. {len(taxonomy.nodes)} nodes: "
        f"{len(taxonomy.nodes) - ours} meant to follow Figure {markdown(taxonomy.figure)} of the survey "
        f"[arXiv:{taxonomy.arxiv}](https://arxiv.org/abs/{taxonomy.arxiv}), {ours} added by us. "
        f"{runnable} have a chapter to run. Each id is permanent.",
        "\n".join([
            f"- [All works](works.md): {count(len(taxonomy.works), 'work')}, to sort and filter",
            "- [Coverage map](coverage.md): where works are filed, and what an empty place means",
            "- [For reviewers](reviewers.md): how this was made, how to cite it, how to propose a work or a node",
            "- [Downloads](index.md#downloads): the data for other programs, with checksums",
        ]),
        NO_CLAIM,
        "## The tree",
        "The picture and the list below it show the same. In the picture, the Tab key and the arrow keys go from box to box.",
        "![The tree of the taxonomy; the list below shows the same.](tree.svg)",
        LEGEND,
        "In the list, after each id stands how well its place in the survey is confirmed, and how many works are filed there:",
        "\n".join(line for root in roots for line in _branch(root, taxonomy, depth=0)),
        "## What the words mean",
        "How well the place of a node in the survey is confirmed:",
        "\n".join(legend),
        "A node can be:",
        "\n".join(f"- {key}: {text}" for key, text in STATUS.items()),
        "Filing works under a node:",
        "\n".join(f"- {key}: {text}" for key, text in USAGE.items()),
        "## Sources of the confirmations",
        "\n".join(source_line(source) for source in taxonomy.sources),
        "## Other taxonomies" if taxonomy.rivals else "",
        "Node pages name terms of these that stand for something near." if taxonomy.rivals else "",
        "\n".join(map(_rival, taxonomy.rivals)),
        "## How to cite",
        "To cite one node, copy the entry at the foot of its page. It names the version, since wording may change "
        "while the id stays. To cite the whole:",
        cite_boxes(None, taxonomy, site),
        "## Downloads",
        f"Version {taxonomy.version}, under the licence {markdown(taxonomy.licence)}:",
        "\n".join(f"- {', '.join(download(name, site) for name in names)}: {what}" for what, names in DOWNLOADS.items()),
        f"`mini-lib taxonomy export --out DIR` writes the same files, byte for byte. In their folder, `sha256sum -c {SUMS}` "
        "checks them. All of them are made from "
        f"[nodes.yaml](<{repository_file(site, DATA.as_posix())}>), [works.yaml](<{repository_file(site, WORKS.as_posix())}>) "
        f"and [protocol.yaml](<{repository_file(site, PROTOCOL.as_posix())}>). "
        f"[All changes](<{repository_file(site, 'taxonomy/CHANGELOG.md')}>).",
    ])


def _branch(node: Node, taxonomy: Taxonomy, depth: int) -> list[str]:
    parts = [link(node, "nodes/"), node.id, f"*{badge(node)}*"]
    if node.works:
        parts.append(works_link(count(len(node.works), "work"), node=node.id))
    if node.status == "deprecated":
        parts.append("retired")
    if node.runnable:
        parts.append(f"[run *{markdown(node.label)}*](../chapters/{node.slug}.ipynb)")
    lines = ["  " * depth + "- " + " · ".join(parts)]
    for child in taxonomy.narrower(node):
        lines += _branch(child, taxonomy, depth + 1)
    return lines


def _rival(rival: Rival) -> str:
    title = f"[{markdown(rival.title)}](<{web(rival.address)}>)" if rival.address else markdown(rival.title)
    return (f"- {rival.code}: {markdown(rival.by)} ({rival.year}). {title}. {markdown(rival.organised_by)} "
            f"Read: {markdown(rival.read)}")
