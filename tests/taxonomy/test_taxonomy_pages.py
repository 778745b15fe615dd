"""The generated pages: in step with the data, whole, and safe against any character in the text."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from mini_lib import taxonomy
from mini_lib.book import site
from mini_lib.taxonomy.cite import cite_bibtex, cite_latex, cite_sentence
from mini_lib.taxonomy.escape import markdown, tex
from mini_lib.taxonomy.nodes import Deprecation
from mini_lib.taxonomy.pages import CONFIRMATION, all_pages
from mini_lib.taxonomy.pages_coverage import render_coverage
from mini_lib.taxonomy.pages_works import render_works
from mini_lib.taxonomy.picture import draw_tree
from mini_lib.taxonomy.works import GROUNDS, ROLES

ROOT = Path(__file__).resolve().parents[2]
SITE = {"url": "https://example.org/code", "baseurl": "https://example.org/book/", "branch": "v0.1.0",
        "title": "A book", "author": "Its authors"}
TREE = taxonomy.load()
NODES = {node.id: node for node in TREE.nodes}
PAGES = all_pages(TREE, SITE)
FILED = next(node.id for node in TREE.nodes if node.works and node.matches)      # a node with works and with matches

# The extensions that Jupyter Book 1 switches on by itself, and the riskier ones it may be given.
EXTENSIONS = ["colon_fence", "dollarmath", "linkify", "substitution", "tasklist", "amsmath", "deflist",
              "html_image", "attrs_inline"]
PARSER = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)


def to_html(text):
    return PARSER.render(text)


def visible(html):
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html)).split())


def without_front_matter(page):
    return page.split("\n---\n", 1)[1]


def links(page):
    """Targets of all links of a page, in Markdown or HTML, that lead to files of the repository."""
    found = re.findall(r"\]\(([^)<]+)\)", page) + [unescape(link) for link in re.findall(r'href="([^"]*)"', page)]
    return [re.split("[?#]", target)[0] for target in found if "://" not in target]


def with_node(node, **works):
    """The tree with this node instead of the one with its id."""
    return replace(TREE, nodes=tuple(node if other.id == node.id else other for other in TREE.nodes), **works)


# ---------------------------------------------------------------- in step with the data

def test_the_committed_pages_are_what_the_data_give():
    for name, text in all_pages(TREE, site(ROOT)).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name}: run `mini-lib taxonomy pages`"


def test_writing_twice_changes_nothing_the_second_time(tmp_path):
    (tmp_path / "taxonomy").mkdir()
    (tmp_path / "taxonomy/nodes.yaml").write_bytes((ROOT / "taxonomy/nodes.yaml").read_bytes())
    assert len(taxonomy.write_pages(tmp_path, SITE)) == len(PAGES)
    assert taxonomy.write_pages(tmp_path, SITE) == []


def test_each_node_has_one_page_and_one_place_in_the_index():
    index = PAGES["taxonomy/index.md"]
    for node in TREE.nodes:
        assert f"taxonomy/nodes/{node.id}.md" in PAGES
        assert index.count(f"(nodes/{node.id}.md)") == len(TREE.paths(node))


def test_every_relative_link_leads_to_a_page_or_to_the_chapter_of_a_runnable_node():
    chapters = {f"chapters/{node.slug}.ipynb" for node in TREE.nodes if node.runnable}
    seen = set()
    for name, text in PAGES.items():
        for target in links(text):
            path = ((ROOT / name).parent / target).resolve().relative_to(ROOT).as_posix()
            if name.endswith(".svg"):      # drawn into a page of the site, whose pages end so
                path = path.replace(".html", ".md")
            assert path in PAGES or path in chapters, f"{name} links to {target}"
            seen.add(path)
    assert chapters <= seen
    assert {name for name in PAGES if "/nodes/" not in name and name != "taxonomy/index.md"} <= seen


@pytest.mark.parametrize("id", NODES)
def test_a_page_says_all_that_the_data_say(id):
    node, page = NODES[id], PAGES[f"taxonomy/nodes/{id}.md"]
    shown = visible(to_html(without_front_matter(page)))
    said = [node.label, node.id, node.definition, node.usage_note or "", node.survey_note or "", *node.alt_labels,
            *node.includes, *(item.text for item in node.excludes), *node.strengths, *node.limitations,
            *node.open_problems, CONFIRMATION[node.confirmation or "added"],
            *(source.what for source in TREE.sources if source.code in node.seen),
            *(text for other in node.translations.values() for text in (other.label, other.definition)),
            *(text for match in node.matches for text in (match.term, match.where or "", match.rival)),
            *(text for work in node.works for text in (
                f"{work.by} ({work.year}). {work.title}. {work.venue}", work.at(id).reason,
                f"{ROLES[work.at(id).role].capitalize()} · ground: {GROUNDS[work.at(id).ground]} "
                f"· evidence in: {work.at(id).locator}."))]
    for text in said:
        assert " ".join(text.split()) in shown, f"{id}: {text!r} is not on its page"
    for other in [*node.broader, *node.see_also, *(item.see for item in node.excludes),
                  *(below.id for below in TREE.narrower(node))]:
        assert f"]({other}.md)" in page


def test_each_language_is_marked_so_that_a_screen_reader_changes_its_voice():
    for node in TREE.nodes:
        html = to_html(without_front_matter(PAGES[f"taxonomy/nodes/{node.id}.md"]))
        for language, other in node.translations.items():
            marked = [visible(part) for part in re.findall(rf'<span lang="{language}">(.*?)</span>', html)]
            assert marked == [other.label, other.definition], node.id


def test_works_stand_on_the_pages_of_their_nodes_only_and_link_to_their_records():
    for node in TREE.nodes:
        page = PAGES[f"taxonomy/nodes/{node.id}.md"]
        for work in node.works:
            assert f"](<{work.address}>)" in page, f"{work.key} is not linked on {node.id}"
        part = page.split("## Works filed here", 1)[1].split("\n## ", 1)[0]
        assert part.count(" · ground: ") == len(node.works)
        if node.works:
            assert f'<a href="../works.md?node={node.id}">' in part
        else:
            assert ("No work found yet." in part) != (node.usage == "navigation")


def test_a_node_without_works_says_so_and_where_works_are():
    tree = with_node(replace(NODES["MX-0008"], works=()), works=())
    assert "\n\nNo work found yet.\n\n" in taxonomy.render_page(tree.get("MX-0008"), tree, SITE)
    heading = PAGES["taxonomy/nodes/MX-0002.md"]
    assert 'A heading takes no works. <a href="../works.md?node=MX-0002-below">' in heading


def test_a_venue_from_memory_is_marked():
    work = replace(NODES[FILED].works[0], venue_verified=False)
    assert f"{work.venue} (venue from memory)" in visible(to_html(_page_with(work)))
    assert "from memory" not in visible(to_html(_page_with(replace(work, venue_verified=True))))


def _page_with(work):
    node = replace(NODES[FILED], works=(work,))
    return without_front_matter(taxonomy.render_page(node, with_node(node, works=(work,)), SITE))


def test_only_runnable_nodes_offer_a_chapter():
    for node in TREE.nodes:
        page = PAGES[f"taxonomy/nodes/{node.id}.md"]
        assert ("**Run it:**" in page) == node.runnable
        assert (f"(../../chapters/{node.slug}.ipynb)" in page) == node.runnable


def test_a_recalled_node_says_that_no_source_shows_it():
    page = PAGES[f"taxonomy/nodes/{TREE.find('interactive explanation').id}.md"]
    assert "**Recalled.** No source that we could read shows this node." in page and "Seen in:" not in page


def test_a_retired_node_says_so_first_and_names_its_successor():
    gone = replace(NODES["MX-0008"], status="deprecated", deprecation=Deprecation("0.2.0", "It was split.", ("MX-0009",)))
    page = taxonomy.render_page(gone, with_node(gone), SITE)
    assert "\n> **Caution.** Retired since version 0.2.0. It was split. Use instead: [Visual-textual token](MX-0009.md).\n" in page
    assert page.index("**Caution.**") < page.index(markdown(gone.definition) + "\n\nAlso called")
    assert "Retired in version 0.2.0." in page.split("## History")[1]
    assert all("**Caution.**" not in text for text in PAGES.values())


def test_a_node_of_ours_does_not_say_after_the_survey():
    ours, theirs = TREE.find("connector"), TREE.find("visual token")
    assert ", an addition to the tree of Dang et al., arXiv:2412.02104." in cite_sentence(ours, TREE, SITE)
    assert ", after Dang et al., arXiv:2412.02104." in cite_sentence(theirs, TREE, SITE)


# ---------------------------------------------------------------- citing

@pytest.mark.parametrize("cite", [cite_sentence, cite_bibtex])
def test_both_citations_hold_id_version_and_address(cite):
    text = cite(NODES["MX-0008"], TREE, SITE)
    assert "MX-0008" in text and "https://example.org/book/taxonomy/nodes/MX-0008.html" in text
    assert f"version {TREE.version}" in " ".join(text.split())


@pytest.mark.parametrize("cite", [cite_sentence, cite_bibtex, cite_latex])
def test_each_citation_stands_in_a_block_of_its_own_to_be_copied_as_it_is(cite):
    blocks = re.findall(r"<pre[^>]*><code[^>]*>(.*?)</code></pre>", to_html(without_front_matter(PAGES["taxonomy/nodes/MX-0008.md"])), re.S)
    assert cite(NODES["MX-0008"], TREE, SITE) in [unescape(block).strip() for block in blocks]


def test_the_bibtex_key_names_id_and_version():
    assert cite_bibtex(NODES["MX-0008"], TREE, SITE).startswith(f"@misc{{mx0008_v{TREE.version.replace('.', '_')},\n")
    assert cite_bibtex(NODES["MX-0008"], replace(TREE, version="1.12.3"), SITE).startswith("@misc{mx0008_v1_12_3,\n")


def test_the_address_comes_from_the_site_alone():
    moved = {**SITE, "baseurl": "https://elsewhere.net/b", "url": "https://elsewhere.net/c"}
    for name, text in all_pages(TREE, moved).items():
        assert "example.org" not in text
        if "/nodes/" in name or name in ("taxonomy/index.md", "taxonomy/reviewers.md"):
            assert "https://elsewhere.net/b/taxonomy/" in text
            assert "https://elsewhere.net/c/blob/v0.1.0/taxonomy/CHANGELOG.md" in text


# ---------------------------------------------------------------- any character in the text

NASTY = [
    "a *star* and _under_ score", "`code` and ```fence```", "[link](http://x.y) ![img](z)", "<script>alert(1)</script>",
    "<b>bold</b> &amp; &lt;", "$x^2$ and $$y$$", "{term}`role` {{ substitution }}", "# not a heading", "- not a list",
    "+ not a list", "1. not a list", "12) not a list", "> not a quote", "% not a comment", "::: not a directive",
    "(target)=", "| a | b |", "back\\slash \\", "[^note]", "~~gone~~", "\\begin{equation}x\\end{equation}",
    "---", "===", "[x](y", "]] ((", "*", "text {.class}", "http://x.y/<z>", "\"quoted\" 'text'", "@key #tag %",
    "</script><!-- -->", "</table></div>", "]]>", "<!-- comment", "</span lang=\"x\">",
]
TAGS = ["<h1", "<h2", "<ul", "<ol", "<li", "<pre", "<blockquote", "<table", "<tr", "<td", "<th", "<script", "<img", "<a ", "<hr", "<span", "<!--"]


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_is_shown_as_it_was_written(text):
    assert visible(to_html(markdown(text))) == text
    assert visible(to_html(f"- {markdown(text)}")) == text
    assert visible(to_html(f"# {markdown(text)}")) == text
    html = to_html(f"[{markdown(text)}](MX-0001.md)")
    assert visible(html) == text and html.count("<a ") == 1 and 'href="MX-0001.md"' in html


def nasty_tree(text):
    """The tree with this text wherever text of the data reaches the page of one node."""
    first = NODES[FILED].works[0]
    filing = replace(first.at(FILED), locator=text, reason=text)
    work = replace(first, title=text, authors=(text, *first.authors[1:]), venue=text, filed=(filing,))
    node = replace(NODES[FILED], label=text, definition=text, survey_note=text, strengths=(text,), works=(work,),
                   translations={tag: replace(other, label=text, definition=text) for tag, other in NODES[FILED].translations.items()},
                   matches=tuple(replace(match, term=text, where=text) for match in NODES[FILED].matches))
    rivals = tuple(replace(rival, title=text, organised_by=text, read=text) for rival in TREE.rivals)
    nodes = tuple(node if other.id == FILED else replace(other, works=()) for other in TREE.nodes)
    return replace(TREE, nodes=nodes, works=(work,), rivals=rivals)


def body(page):
    return without_front_matter(page) if page.startswith("---\n") else page


def reached(tree):
    """The pages that this text reaches, as HTML."""
    pages = {"node": taxonomy.render_page(tree.get(FILED), tree, SITE), "index": taxonomy.render_index(tree, SITE),
             "works": render_works(tree, SITE), "coverage": render_coverage(tree, SITE)}
    return {name: to_html(body(page)) for name, page in pages.items()} | {"picture": draw_tree(tree)}


TAME = reached(nasty_tree("tame"))


@pytest.mark.parametrize("text", NASTY)
def test_nasty_text_cannot_break_any_page(text):
    tree = nasty_tree(text)
    for name, html in reached(tree).items():
        for tag in TAGS:
            assert html.count(tag) == TAME[name].count(tag), f"{text!r} changed the number of {tag} on {name}"
        assert text in visible(re.sub(r"<script.*?</script>", "", html, flags=re.S)), name
    head = yaml.safe_load(taxonomy.render_page(tree.get(FILED), tree, SITE).split("\n---\n", 1)[0].removeprefix("---\n"))
    assert head["myst"]["html_meta"]["description"] == f"{text} ({FILED}): {text}"


@pytest.mark.parametrize("text", NASTY)
def test_bibtex_stays_balanced_whatever_the_label(text):
    # BibTeX counts every brace, also an escaped one.
    entry = cite_bibtex(replace(NODES["MX-0008"], label=text), TREE, SITE)
    depth = 0
    for character in entry:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"(?<!\\)[&%$#]", tex(text))


def test_a_fence_in_a_label_cannot_close_a_block_of_code():
    node, plain = replace(NODES["MX-0008"], label="a ```` b"), NODES["MX-0008"]
    html, plain_html = (to_html(without_front_matter(taxonomy.render_page(each, TREE, SITE))) for each in (node, plain))
    assert html.count("<pre") == plain_html.count("<pre") == 3
    assert all("a ```` b" in unescape(block) for block in re.findall(r"<pre.*?</pre>", html, re.S)[:1])
