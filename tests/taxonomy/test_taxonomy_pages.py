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
from mini_lib.taxonomy.pages import CONFIRMATION, all_pages, cite_bibtex, cite_sentence, markdown, tex

ROOT = Path(__file__).resolve().parents[2]
SITE = {"url": "https://example.org/code", "baseurl": "https://example.org/book/", "branch": "v0.1.0",
        "title": "A book", "author": "Its authors"}
TREE = taxonomy.load()
NODES = {node.id: node for node in TREE.nodes}
PAGES = all_pages(TREE, SITE)

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
    """Targets of all links of a page that lead to files of the repository."""
    return [target for target in re.findall(r"\]\(([^)<]+)\)", page) if "://" not in target]


# ---------------------------------------------------------------- in step with the data

def test_the_committed_pages_are_what_the_data_give():
    for name, text in all_pages(TREE, site(ROOT)).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name}: run `mini-lib taxonomy pages`"


def test_writing_twice_changes_nothing_the_second_time(tmp_path):
    (tmp_path / "taxonomy").mkdir()
    (tmp_path / "taxonomy/nodes.yaml").write_bytes((ROOT / "taxonomy/nodes.yaml").read_bytes())
    assert len(taxonomy.write_pages(tmp_path, SITE)) == len(TREE.nodes) + 1
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
            assert path in PAGES or path in chapters, f"{name} links to {target}"
            seen.add(path)
    assert chapters <= seen


@pytest.mark.parametrize("id", NODES)
def test_a_page_says_all_that_the_data_say(id):
    node, page = NODES[id], PAGES[f"taxonomy/nodes/{id}.md"]
    shown = visible(to_html(without_front_matter(page)))
    said = [node.label, node.id, node.definition, node.usage_note or "", node.survey_note or "", *node.alt_labels,
            *node.includes, *(item.text for item in node.excludes), *node.strengths, *node.limitations,
            *node.open_problems, CONFIRMATION[node.confirmation or "added"],
            *(source.what for source in TREE.sources if source.code in node.seen)]
    for text in said:
        assert text in shown, f"{id}: {text!r} is not on its page"
    for other in [*node.broader, *node.see_also, *(item.see for item in node.excludes),
                  *(below.id for below in TREE.narrower(node))]:
        assert f"]({other}.md)" in page


def test_only_runnable_nodes_offer_a_chapter():
    for node in TREE.nodes:
        page = PAGES[f"taxonomy/nodes/{node.id}.md"]
        assert ("**Run it:**" in page) == node.runnable
        assert (f"(../../chapters/{node.slug}.ipynb)" in page) == node.runnable


def test_a_recalled_node_says_that_no_source_shows_it():
    page = PAGES[f"taxonomy/nodes/{TREE.find('interactive explanation').id}.md"]
    assert "**Recalled.** No source that we could read shows this node." in page and "Seen in:" not in page


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


def test_the_bibtex_key_names_id_and_version():
    assert cite_bibtex(NODES["MX-0008"], TREE, SITE).startswith("@misc{mx0008_v0_1_0,\n")
    assert cite_bibtex(NODES["MX-0008"], replace(TREE, version="1.12.3"), SITE).startswith("@misc{mx0008_v1_12_3,\n")


def test_the_address_comes_from_the_site_alone():
    moved = {**SITE, "baseurl": "https://elsewhere.net/b", "url": "https://elsewhere.net/c"}
    for text in all_pages(TREE, moved).values():
        assert "example.org" not in text and "https://elsewhere.net/b/taxonomy/" in text
        assert "https://elsewhere.net/c/blob/v0.1.0/taxonomy/CHANGELOG.md" in text


# ---------------------------------------------------------------- any character in the text

NASTY = [
    "a *star* and _under_ score", "`code` and ```fence```", "[link](http://x.y) ![img](z)", "<script>alert(1)</script>",
    "<b>bold</b> &amp; &lt;", "$x^2$ and $$y$$", "{term}`role` {{ substitution }}", "# not a heading", "- not a list",
    "+ not a list", "1. not a list", "12) not a list", "> not a quote", "% not a comment", "::: not a directive",
    "(target)=", "| a | b |", "back\\slash \\", "[^note]", "~~gone~~", "\\begin{equation}x\\end{equation}",
    "---", "===", "[x](y", "]] ((", "*", "text {.class}", "http://x.y/<z>", "\"quoted\" 'text'", "@key #tag %",
]


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_is_shown_as_it_was_written(text):
    assert visible(to_html(markdown(text))) == text
    assert visible(to_html(f"- {markdown(text)}")) == text
    assert visible(to_html(f"# {markdown(text)}")) == text
    html = to_html(f"[{markdown(text)}](MX-0001.md)")
    assert visible(html) == text and html.count("<a ") == 1 and 'href="MX-0001.md"' in html


@pytest.mark.parametrize("text", NASTY)
def test_a_nasty_label_cannot_break_its_page_or_the_index(text):
    node = replace(NODES["MX-0008"], label=text, definition=text, survey_note=text, strengths=(text,))
    tree = replace(TREE, nodes=tuple(node if other.id == node.id else other for other in TREE.nodes))
    page, plain = taxonomy.render_page(node, tree, SITE), PAGES["taxonomy/nodes/MX-0008.md"]
    html, plain_html = to_html(without_front_matter(page)), to_html(without_front_matter(plain))
    assert text in visible(html)
    for tag in ["<h1", "<h2", "<ul", "<ol", "<pre", "<blockquote", "<table", "<script", "<img", "<a ", "<hr"]:
        assert html.count(tag) == plain_html.count(tag), f"{text!r} changed the number of {tag}"
    head = yaml.safe_load(page.split("\n---\n", 1)[0].removeprefix("---\n"))
    assert head["myst"]["html_meta"]["description"] == f"{text} (MX-0008): {text}"
    index = to_html(taxonomy.render_index(tree, SITE))
    assert index.count("<li") == to_html(PAGES["taxonomy/index.md"]).count("<li")


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


def test_a_fence_in_a_label_cannot_close_the_bibtex_block():
    node = replace(NODES["MX-0008"], label="a ```` b")
    html = to_html(without_front_matter(taxonomy.render_page(node, TREE, SITE)))
    assert html.count("<pre") == 1 and "a ```` b" in visible(html[html.index("<pre"):])
