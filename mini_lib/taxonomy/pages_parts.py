"""What the generated pages share: the words for each standing, links, lists, and the box that says how to cite."""

from __future__ import annotations

import re
from html import escape

from .cite import MACROS, cite_bibtex, cite_latex, cite_sentence
from .escape import fence, markdown
from .export import PLACE
from .nodes import Node, Taxonomy
from .works import Work

CONFIRMATION = {
    "confirmed": "A source outside this project names this node. One such source, E3, has no lasting public address.",
    "confirmed-substance": "A public source shows the content of this node. Its exact name in the survey was not seen.",
    "likely": "We recall this node, and a public source supports it indirectly. Its name or place may differ in "
              "the survey.",
    "recalled": "No source that we could read shows this node. We recall it from the field; the survey may name "
                "it or place it differently, or lack it.",
    "added": "This node is ours. The survey's tree, as far as we know it, has no such node.",
}
RELATION = {
    "exact": "It stands for one node of the survey, as far as we know.",
    "split": "It is part of one node of the survey, as far as we know.",
    "merged": "It keeps together what the sources name separately.",
    "added": "So there is nothing in the survey to confirm.",
}
USAGE = {
    "assign": "Works may be filed here.",
    "discouraged": "Filing works here is discouraged.",
    "navigation": "This is a heading. No work is filed here.",
}
STATUS = {
    "stable": "Its wording and place are meant to last.",
    "draft": "Its wording and place may still change. Its id will not.",
    "deprecated": "It is retired. Its id and this page stay.",
}
NO_CLAIM = ("We had not read the body of the survey when this version was made. "
            "So no page here says that the survey files a work under a node.")
LANGUAGES = {"zh": "Chinese", "ko": "Korean"}


def page(blocks: list[str]) -> str:
    """The blocks that say something, an empty line between, as one page."""
    return "\n\n".join(block for block in blocks if block) + "\n"


def badge(node: Node) -> str:
    """How well its place in the survey is confirmed, in a word."""
    return "added by us" if node.relation == "added" else node.confirmation


def link(node: Node, folder: str = "") -> str:
    """A Markdown link to the page of a node."""
    return f"[{markdown(node.label)}]({folder}{node.id}.md)"


def links(ids, taxonomy: Taxonomy) -> str:
    """Links to the pages of these nodes, commas between."""
    return ", ".join(link(taxonomy.get(id)) for id in ids)


def listing(title: str, items) -> str:
    """A line and a list below it; nothing when there are no items."""
    return f"{title}\n\n" + "\n".join(f"- {markdown(item)}" for item in items) if items else ""


def count(number: int, one: str, many: str | None = None) -> str:
    """"1 work", "3 works"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def spoken(text: str, language: str) -> str:
    """Text in another language, marked so that a screen reader changes its voice."""
    return f'<span lang="{escape(language)}">{markdown(text)}</span>'


def linked_title(work: Work) -> str:
    """The title of a work as a Markdown link to where it can be found."""
    title = markdown(work.title)
    # Angle brackets, since a DOI may hold round ones; what would end them was refused by the schema, or is encoded here.
    return f"[{title}](<{web(work.address)}>)" if work.address else title


def web(address: str) -> str:
    """An address that can stand in Markdown and in HTML whatever is in it; only http and https are let through."""
    if not re.match(r"https?://", address):
        return ""
    return re.sub(r"[^\w:/?#@!$'()*+,;=.~%&-]|[\\`]", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), address)


def cite_boxes(node: Node | None, taxonomy: Taxonomy, site: dict) -> str:
    """How to cite, as blocks of code: the site puts a button for copying on each."""
    return "\n\n".join(["As a sentence:", fence(cite_sentence(node, taxonomy, site), "text"),
                        "As BibTeX:", fence(cite_bibtex(node, taxonomy, site), "bibtex"),
                        f"In LaTeX, with the macros of {download(MACROS, site)}:",
                        fence(cite_latex(node, taxonomy, site), "latex")])


def source_line(source) -> str:
    """One source of confirmations, how much of it was read, and its addresses."""
    urls = " ".join(f"<{url}>" for url in source.urls)
    return f"- {source.code}: {markdown(source.what)}. Read: {markdown(source.extent)}. {urls}".rstrip()


def repository_file(site: dict, path: str) -> str:
    """The address of a file of the repository, on the branch or tag that the site was made from."""
    return f"{site['url'].rstrip('/')}/blob/{site['branch']}/{path}"


def download(name: str, site: dict) -> str:
    """A link to a file of the export on the published site. The site itself makes it a short one, so that it leads there
    from any copy (`mini_lib.book.sphinx_taxonomy`)."""
    return f"[{markdown(name)}](<{site['baseurl'].rstrip('/')}/{PLACE}/{name}>)"


def works_link(text: str, folder: str = "", **filters: str) -> str:
    """An HTML link to the table of works with these filters set. The text must be escaped already.

    Markdown cannot hold it: Sphinx takes a link with a query for no page of the book. `mini_lib.book.sphinx_taxonomy`
    turns `.md` into `.html` on the site; on GitHub the link leads to the plain table.
    """
    query = "&amp;".join(f"{escape(name)}={escape(value)}" for name, value in filters.items())
    return f'<a href="{folder}works.md?{query}">{text}</a>'


def in_tree_order(taxonomy: Taxonomy) -> list[tuple[int, Node]]:
    """Every node once, parents before children, with its depth; a node with two parents stands under its first."""
    children: dict[str | None, list[Node]] = {}
    for node in taxonomy.nodes:
        children.setdefault(node.broader[0] if node.broader else None, []).append(node)

    def walk(node: Node, depth: int):
        yield depth, node
        for child in children.get(node.id, ()):
            yield from walk(child, depth + 1)

    return [step for root in children.get(None, ()) for step in walk(root, 0)]
