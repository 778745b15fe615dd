"""Write one page per node, and the index of the whole tree.

The pages are plain Markdown, the same on the site, on GitHub and in an editor. They are committed, and
`validate` fails when they differ from the data. The same data and the same `site` give the same bytes.

`site` is a dict with the book's addresses, from `mini_lib.book.site(root)`:

    url      the repository        baseurl  the published site
    branch   its branch            author   who made the book
"""

import json
import re
from pathlib import Path
from textwrap import fill

from .load import DATA, Node, Taxonomy, load

CONFIRMATION = {
    "confirmed": "A source outside this project names this node; where that is E3 alone, it has no lasting public address.",
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


def write_pages(root: str | Path, site: dict | None = None) -> list[Path]:
    """Write `taxonomy/index.md` and `taxonomy/nodes/*.md`, and remove pages of nodes that are not in the data.

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
    """Every generated page: its path from the repository's root, and its text."""
    pages = {"taxonomy/index.md": render_index(taxonomy, site)}
    for node in taxonomy.nodes:
        pages[f"taxonomy/nodes/{node.id}.md"] = render_page(node, taxonomy, site)
    return pages


def present_pages(root: Path) -> set[str]:
    """The pages that lie on disk, as paths from the root. The folder holds generated pages only."""
    return {f"taxonomy/nodes/{path.name}" for path in (root / "taxonomy" / "nodes").glob("*.md")}


def book_site(root: Path) -> dict:
    """The book's addresses, from `_config.yml`."""
    from ..book import site  # only here, so that reading the taxonomy needs no book
    return site(root)


# ---------------------------------------------------------------- one node

def render_page(node: Node, taxonomy: Taxonomy, site: dict) -> str:
    """The page of one node, as Markdown.

    site: the book's addresses (see the top of this file). Raises KeyError when the node points to an id
    that is not in the taxonomy; `validate` finds that first.
    """
    blocks = [
        _front_matter(node),
        f"# {markdown(node.label)}",
        f"**{node.id}** · taxonomy version {taxonomy.version} · {node.status} · {_badge(node)}",
        *(" › ".join([*(_link(step) for step in path[:-1]), markdown(node.label)])
          for path in taxonomy.paths(node)),
        _retired(node, taxonomy),
        markdown(node.definition),
        _also_called(node),
        _run(node, "../../chapters"),
        "## Scope" if node.includes or node.excludes else "",
        _listing("Belongs here:", node.includes),
        _not_this(node, taxonomy),
        "## Filing works here",
        f"{USAGE[node.usage]} {markdown(node.usage_note or '')}".strip(),
        _section("Strengths", node.strengths),
        _section("Limitations", node.limitations),
        _section("Open problems", node.open_problems),
        "## Neighbours",
        _neighbours(node, taxonomy),
        "## In the survey",
        _survey(node, taxonomy),
        "## History",
        f"In the taxonomy since version {node.introduced_in}. Status: {node.status}. {STATUS[node.status]} "
        f"[All changes](<{_repository_file(site, 'taxonomy/CHANGELOG.md')}>).",
        "## Cite this node",
        _cite(node, taxonomy, site),
    ]
    return _page(blocks)


def _page(blocks: list[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def _front_matter(node: Node) -> str:
    # A JSON string is a YAML string, so no character of the text can break out of it.
    description = json.dumps(f"{node.label} ({node.id}): {node.definition}", ensure_ascii=False)
    return f"---\nmyst:\n  html_meta:\n    description: {description}\n---"


def _badge(node: Node) -> str:
    return "added by us" if node.relation == "added" else node.confirmation


def _link(node: Node, folder: str = "") -> str:
    return f"[{markdown(node.label)}]({folder}{node.id}.md)"


def _links(ids, taxonomy: Taxonomy) -> str:
    return ", ".join(_link(taxonomy.get(id)) for id in ids)


def _listing(title: str, items) -> str:
    return f"{title}\n\n" + "\n".join(f"- {markdown(item)}" for item in items) if items else ""


def _section(title: str, items) -> str:
    return _listing(f"## {title}", items)


def _also_called(node: Node) -> str:
    return f"Also called: {', '.join(map(markdown, node.alt_labels))}." if node.alt_labels else ""


def _retired(node: Node, taxonomy: Taxonomy) -> str:
    if node.deprecation is None:
        return ""
    instead = _links(node.deprecation.replaced_by, taxonomy)
    return (f"**Retired since version {node.deprecation.version}.** {markdown(node.deprecation.reason)}"
            + (f" Use instead: {instead}." if instead else ""))


def _run(node: Node, chapters: str) -> str:
    return f"**Run it:** [the chapter *{markdown(node.label)}*]({chapters}/{node.slug}.ipynb)" if node.runnable else ""


def _not_this(node: Node, taxonomy: Taxonomy) -> str:
    if not node.excludes:
        return ""
    lines = [f"- {markdown(item.text)} → {_link(taxonomy.get(item.see))}" for item in node.excludes]
    return "Does not belong here:\n\n" + "\n".join(lines)


def _neighbours(node: Node, taxonomy: Taxonomy) -> str:
    narrower = [other.id for other in taxonomy.narrower(node)]
    rows = {"Broader": node.broader, "Narrower": narrower, "See also": node.see_also}
    return "\n".join(f"- {title}: {_links(ids, taxonomy)}" for title, ids in rows.items() if ids)


def _survey(node: Node, taxonomy: Taxonomy) -> str:
    key = node.confirmation or "added"
    shown = [_source_line(source) for source in taxonomy.sources if source.code in node.seen]
    paragraphs = [f"**{_badge(node).capitalize()}.** {CONFIRMATION[key]} {RELATION[node.relation]}",
                  markdown(node.survey_note or ""), "Seen in:\n\n" + "\n".join(shown) if shown else "", NO_CLAIM]
    return "\n\n".join(filter(None, paragraphs))


def _source_line(source) -> str:
    links = " ".join(f"<{url}>" for url in source.urls)
    return f"- {source.code}: {markdown(source.what)}. Read: {markdown(source.extent)}. {links}".rstrip()


# ---------------------------------------------------------------- the index

def render_index(taxonomy: Taxonomy, site: dict) -> str:
    """The page of the whole tree: every node with its standing, what the words mean, and how to cite."""
    runnable = sum(node.runnable for node in taxonomy.nodes)
    ours = sum(node.relation == "added" for node in taxonomy.nodes)
    roots = [node for node in taxonomy.nodes if not node.broader]
    legend = [f"- {'added by us' if key == 'added' else key}: {text}" for key, text in CONFIRMATION.items()]
    blocks = [
        "# Taxonomy",
        f"Version {taxonomy.version}, {taxonomy.released}. {len(taxonomy.nodes)} nodes: "
        f"{len(taxonomy.nodes) - ours} meant to follow Figure {markdown(taxonomy.figure)} of the survey "
        f"[arXiv:{taxonomy.arxiv}](https://arxiv.org/abs/{taxonomy.arxiv}), {ours} added by us. "
        f"{runnable} have a chapter to run. Each id is permanent.",
        NO_CLAIM,
        "## The tree",
        "\n".join(line for root in roots for line in _branch(root, taxonomy, depth=0)),
        "## What the words mean",
        "After each id stands how well its place in the survey is confirmed:",
        "\n".join(legend),
        "A node can be:",
        "\n".join(f"- {key}: {text}" for key, text in STATUS.items()),
        "Filing works under a node:",
        "\n".join(f"- {key}: {text}" for key, text in USAGE.items()),
        "## Sources of the confirmations",
        "\n".join(_source_line(source) for source in taxonomy.sources),
        "## How to cite",
        "To cite one node, copy the entry at the foot of its page. It names the version, since wording may change "
        "while the id stays. To cite the whole:",
        _cite(None, taxonomy, site),
        f"The data are one file, [nodes.yaml](<{_repository_file(site, DATA.as_posix())}>), under the licence "
        f"{markdown(taxonomy.licence)}. [All changes](<{_repository_file(site, 'taxonomy/CHANGELOG.md')}>).",
    ]
    return _page(blocks)


def _branch(node: Node, taxonomy: Taxonomy, depth: int) -> list[str]:
    parts = [_link(node, "nodes/"), node.id, f"*{_badge(node)}*"]
    if node.status == "deprecated":
        parts.append("retired")
    if node.runnable:
        parts.append(f"[run *{markdown(node.label)}*](../chapters/{node.slug}.ipynb)")
    lines = ["  " * depth + "- " + " · ".join(parts)]
    for child in taxonomy.narrower(node):
        lines += _branch(child, taxonomy, depth + 1)
    return lines


# ---------------------------------------------------------------- citing

def cite_sentence(node: Node | None, taxonomy: Taxonomy, site: dict) -> str:
    """How to cite a node (or, without one, the whole taxonomy) in running text, with version and address."""
    what = f"{node.label} ({node.id}), in: {taxonomy.title}" if node else taxonomy.title
    return f"{what}, version {taxonomy.version}, {taxonomy.released}, {_debt(node, taxonomy)}. {_address(node, site)}"


def cite_bibtex(node: Node | None, taxonomy: Taxonomy, site: dict) -> str:
    """The same as a BibTeX entry. The key holds id and version, such as mx0042_v0_1_0."""
    key = re.sub(r"[^a-z0-9]", "", node.id.lower()) if node else taxonomy.id.lower()
    title = f"{node.label} ({node.id})" if node else taxonomy.title
    whole = f"{taxonomy.title}, version {taxonomy.version}" if node else f"Version {taxonomy.version}"
    fields = {
        "author": f"{{{tex(site['author'])}}}",      # two braces in the entry: a group, not first and last name
        "title": f"{{{tex(title)}}}",
        "howpublished": tex(whole),
        "year": taxonomy.released[:4],
        "note": tex(_debt(node, taxonomy)),
        "url": _address(node, site),
    }
    lines = [fill(f"{name} = {{{value}}},", 76, initial_indent="  ", subsequent_indent="    ",
                  break_long_words=False, break_on_hyphens=False) for name, value in fields.items()]
    return "\n".join([f"@misc{{{key}_v{taxonomy.version.replace('.', '_')},", *lines, "}"])


def _cite(node: Node | None, taxonomy: Taxonomy, site: dict) -> str:
    address = _address(node, site)
    words = cite_sentence(node, taxonomy, site).removesuffix(address)
    return f"{markdown(words)} <{address}>\n\n" + _fence(cite_bibtex(node, taxonomy, site), "bibtex")


def _debt(node: Node | None, taxonomy: Taxonomy) -> str:
    survey = f"{taxonomy.survey_authors}, arXiv:{taxonomy.arxiv}"
    return f"an addition to the tree of {survey}" if node and node.relation == "added" else f"after {survey}"


def _address(node: Node | None, site: dict) -> str:
    return f"{site['baseurl'].rstrip('/')}/taxonomy/" + (f"nodes/{node.id}.html" if node else "index.html")


def _repository_file(site: dict, path: str) -> str:
    return f"{site['url'].rstrip('/')}/blob/{site['branch']}/{path}"


# ---------------------------------------------------------------- escaping

def markdown(text: str) -> str:
    """Text that Markdown (with MyST's roles, maths and substitutions) shows as it is.

        markdown("a*b <c>")  ->  a\\*b \\<c\\>
    """
    text = " ".join(text.split())
    # The colon of an address too: MyST would make a link of it that swallows the escapes behind it.
    text = re.sub(r"([\\`*_{}\[\]<>#|$~&^!]|:(?=//))", r"\\\1", text)
    # At the start of a line these would open a list, a comment, a directive or a target.
    text = re.sub(r"^([-+%:=(])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", text)


def tex(text: str) -> str:
    """Text that is safe inside a BibTeX field, where even an escaped brace counts as a brace."""
    named = {"\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}",
             "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\{}~^&%$#_]", lambda m: named.get(m[0], "\\" + m[0]), " ".join(text.split()))


def _fence(text: str, language: str) -> str:
    # Longer than any run of backticks inside, so that nothing in the text can close it.
    ticks = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"
