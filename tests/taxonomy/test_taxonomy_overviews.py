"""The overview pages, the head of each page, and the issue forms: what they show is what the data say."""

import json
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
import yaml

from mini_lib import taxonomy
from mini_lib.book.sphinx_taxonomy import LINK
from mini_lib.taxonomy.coverage import applies, empty
from mini_lib.taxonomy.head import head
from mini_lib.taxonomy.pages import all_pages
from mini_lib.taxonomy.pages_coverage import EMPTY, render_coverage, year_columns
from mini_lib.taxonomy.pages_parts import web
from mini_lib.taxonomy.pages_reviewers import FORMS, render_reviewers
from mini_lib.taxonomy.pages_works import COLUMNS, render_works
from mini_lib.taxonomy.picture import draw_tree
from mini_lib.taxonomy.works import GROUNDS, MODALITIES, ROLES, Search

ROOT = Path(__file__).resolve().parents[2]
SITE = {"url": "https://example.org/code", "baseurl": "https://example.org/book/", "branch": "main", "author": "Its <authors>"}
TREE = taxonomy.load()
SVG = "{http://www.w3.org/2000/svg}"


class Table(HTMLParser):
    """The rows of the tables of a page: each cell as (tag, attributes, text, links)."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.open = [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "tr":
            self.rows.append((attributes, []))
        elif tag in ("td", "th"):
            self.rows[-1][1].append({"tag": tag, **attributes, "text": "", "links": []})
            self.open = True
        elif tag == "a" and self.open:
            self.rows[-1][1][-1]["links"].append(attributes["href"])

    def handle_endtag(self, tag):
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data):
        if self.open:
            self.rows[-1][1][-1]["text"] += data


def shown_by(link, tree=TREE):
    """The works that the table shows when it is opened by this link, by the rules of works.js."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert asked.keys() <= {"node", "modality", "role", "ground", "from", "to", "words"}
    return {work.key for work in tree.works for filing in work.filed
            if filing.node == asked.get("node", filing.node) and asked.get("modality", work.modalities[0]) in work.modalities
            and asked.get("from", work.year) <= work.year <= asked.get("to", work.year)}


# ---------------------------------------------------------------- the picture

def boxes(tree):
    root = ElementTree.fromstring(draw_tree(tree))
    return root, [(link, link.find(f"{SVG}rect")) for link in root.iter(f"{SVG}a")]


def test_the_picture_has_each_node_once_in_the_order_of_the_text_tree_and_says_what_it_is():
    root, found = boxes(TREE)
    listed = re.findall(r"\(nodes/(MX-\d+)\.md\)", all_pages(TREE, SITE)["taxonomy/index.md"])
    assert [link.get("href") for link, _ in found] == [f"nodes/{id}.html" for id in listed]
    names = {element.get("id"): element.text for element in root}
    assert names[root.get("aria-labelledby")] and names[root.get("aria-describedby")]
    for (link, _), id in zip(found, listed, strict=True):
        node, name = TREE.get(id), link.find(f"{SVG}title").text
        words = " ".join(text.text for text in link.iter(f"{SVG}text") if not text.get("aria-hidden"))
        assert name.startswith(words) and id in name
        outline = {"confirmed": "sure", "confirmed-substance": "sure", None: "ours"}.get(node.confirmation, "unsure")
        assert link.get("class") == outline and f", {node.confirmation or 'added by us'}" in name


def test_no_two_boxes_of_the_picture_overlap_and_all_lie_inside():
    root, found = boxes(TREE)
    _, _, width, height = map(float, root.get("viewBox").split())
    places = [tuple(float(box.get(name)) for name in ("x", "y", "width", "height")) for _, box in found]
    assert all(x > 0 and y > 0 and x + w < width and y + h < height for x, y, w, h in places)
    for (x, y, w, h), (x2, y2, w2, h2) in combinations(places, 2):
        assert x + w < x2 or x2 + w2 < x or y + h < y2 or y2 + h2 < y


def test_a_node_with_two_parents_is_drawn_once_with_two_lines():
    node = replace(TREE.get("MX-0009"), broader=("MX-0007", "MX-0010"))
    tree = replace(TREE, nodes=tuple(node if other.id == node.id else other for other in TREE.nodes))
    assert draw_tree(tree).count("nodes/MX-0009.html") == 1
    assert draw_tree(tree).count('class="edge also"') == 1 and 'class="edge also"' not in draw_tree(TREE)


def test_a_very_long_label_stays_in_its_box_and_whole_in_its_name():
    long = "many words " * 30 + "x" * 200
    tree = replace(TREE, nodes=(replace(TREE.nodes[0], label=long), *TREE.nodes[1:]))
    link = boxes(tree)[1][0][0]
    assert max(len(text.text) for text in link.iter(f"{SVG}text")) <= 22 and long in link.find(f"{SVG}title").text


# ---------------------------------------------------------------- the table of works

def test_the_table_has_a_row_for_each_work_at_each_node():
    rows = Table(render_works(TREE, SITE)).rows
    assert [cell["text"] for cell in rows[0][1]] == list(COLUMNS) and all(cell["scope"] == "col" for cell in rows[0][1])
    expected = [(work, filing) for work in sorted(TREE.works, key=lambda work: (work.title.casefold(), work.key)) for filing in work.filed]
    assert len(rows) - 1 == len(expected) > 200
    for (marks, cells), (work, filing) in zip(rows[1:], expected, strict=True):
        node = TREE.get(filing.node)
        assert cells[0]["tag"] == "th" and cells[0]["scope"] == "row" and cells[0]["links"] == [web(work.address)]
        texts = [" ".join(cell["text"].split()) for cell in cells]
        assert texts[0].startswith(work.title) and work.by in texts[0]
        assert texts[1:] == [work.year, f"{node.label} {node.id}", ", ".join(work.modalities), ROLES[filing.role],
                             GROUNDS[filing.ground], f"{filing.locator}: {filing.reason}"]
        assert marks["data-above"].split()[0] == "MX-0001" and marks["data-above"].split().count(node.id) == 1
        assert (marks["data-work"], marks["data-node"], marks["data-year"]) == (work.key, node.id, work.year)


def test_what_the_script_reads_can_be_read_and_offers_only_what_finds_something():
    text = re.search(r'<script type="application/json" id="works-data">(.*?)</script>', render_works(TREE, SITE))[1]
    data = json.loads(text)
    assert data["roles"] == ROLES and data["grounds"] == GROUNDS
    rows = [marks for marks, _ in Table(render_works(TREE, SITE)).rows[1:]]
    assert {node["id"] for node in data["nodes"] if node["own"]} == {row["data-node"] for row in rows}
    assert {node["id"] for node in data["nodes"] if node["below"]} == {
        id for row in rows for id in row["data-above"].split() if id != row["data-node"]}
    assert data["years"] == sorted({work.year for work in TREE.works})


def test_the_modalities_are_those_of_the_schema():
    schema = json.loads((ROOT / "taxonomy/schema/works.schema.json").read_text(encoding="utf-8"))
    assert list(MODALITIES) == schema["$defs"]["work"]["properties"]["modalities"]["items"]["enum"]


@pytest.mark.parametrize(("address", "kept"), [
    ("https://doi.org/10.1000/(x)[1]<2>", "https://doi.org/10.1000/(x)%5B1%5D%3C2%3E"), ("javascript:alert(1)", ""),
    ("https://a.b/c d\"e", "https://a.b/c%20d%22e"), ("https://arxiv.org/abs/2412.02104", "https://arxiv.org/abs/2412.02104"),
])
def test_an_address_cannot_break_out_of_its_link(address, kept):
    assert web(address) == kept


# ---------------------------------------------------------------- the coverage map

def test_each_number_of_the_coverage_map_is_what_its_link_shows():
    numbers = 0
    for _, cells in Table(render_coverage(TREE, SITE)).rows:
        for cell in cells:
            if cell["text"].isdigit() and cell["tag"] == "td":
                assert int(cell["text"]) == len(shown_by(cell["links"][0]))
                numbers += 1
    assert numbers > 100


SEARCH = Search("S1", "2022-03-04", ("a | list",), ("some *words*",), "40", ("MX-0008", "MX-0039"), ("audio", "image"), "Two <new> works.")
ALL = replace(SEARCH, code="S2", nodes=("MX-0040",), modalities=MODALITIES)


def test_the_empty_cells_say_three_different_things():
    tree = replace(TREE, searches=(SEARCH, ALL))
    page, columns = render_coverage(tree, SITE), [(first, last) for first, last in year_columns(tree)]
    rows = [cells for _, cells in Table(page).rows if cells[0].get("scope") == "row" and cells[0]["text"].startswith("All") is False]
    assert len(rows) == 2 * len(tree.nodes)
    states = Counter()
    for number, cells in enumerate(rows):
        node = tree.get(cells[0]["text"].split()[-1])
        if not applies(node):
            assert len(cells) == 2 and cells[1]["text"].startswith("not applicable: ")
            states["not applicable"] += 1
            continue
        for cell, column in zip(cells[1:], MODALITIES if number < len(tree.nodes) else columns, strict=True):
            by_year = isinstance(column, tuple)
            here = sum(column[0] <= work.year <= column[1] if by_year else column in work.modalities for work in node.works)
            told = empty(node, None, tree, column[1]) if by_year else empty(node, column, tree)
            assert cell["text"] == (str(here) if here else told)
            states[cell["text"]] += 1
    assert all(f"**{name}**: {text}" in page and states[name] for name, text in EMPTY.items())


def test_without_a_recorded_search_no_cell_says_that_nothing_was_found():
    bare = replace(TREE, searches=())
    cells = [cell["text"] for _, row in Table(render_coverage(bare, SITE)).rows for cell in row]
    assert "none found" not in cells and "not coded" in cells
    assert "No search is recorded in full yet" in render_reviewers(bare, SITE)


def test_each_recorded_search_is_on_the_page_for_reviewers():
    page = render_reviewers(replace(TREE, searches=(SEARCH,)), SITE)
    assert ("- S1, 2022-03-04: *some \\*words\\**, in a \\| list. Results read: 40. For MX-0008, MX-0039, with audio, image. "
            "Two \\<new\\> works.\n") in page and "[the list](reviewers.md#searches)" in render_coverage(TREE, SITE)


def test_the_columns_of_years_hold_every_year_once():
    columns = year_columns(TREE)
    for work in TREE.works:
        assert sum(first <= work.year <= last for first, last in columns) == 1
    assert [last for _, last in columns] == sorted({last for _, last in columns}) and columns[-1][1] == TREE.released[:4]
    assert year_columns(replace(TREE, works=(), released="2026-01-01")) == [("2026", "2026")]
    assert year_columns(replace(TREE, works=(replace(TREE.works[0], year="2016"),), released="2026-01-01"))[:2] == [
        ("2016", "2017"), ("2018", "2018")]


def test_the_overviews_of_a_taxonomy_without_works_can_be_written():
    bare = replace(TREE, works=(), nodes=tuple(replace(node, works=()) for node in TREE.nodes))
    assert "0 works at 0 nodes" in render_coverage(bare, SITE) and "0 works" in render_works(bare, SITE)
    assert "0 filings of 0 works" in render_reviewers(bare, SITE)


# ---------------------------------------------------------------- for reviewers

def test_the_page_for_reviewers_counts_from_the_data_and_claims_no_agreement():
    page = render_reviewers(TREE, SITE)
    filings = [filing for work in TREE.works for filing in work.filed]
    for number in (f"{len(filings)} filings of {len(TREE.works)} works", f"{len(TREE.nodes)} nodes",
                   f"the abstract of {sum('abstract' in work.seen for work in TREE.works)}",
                   *(f"- {text}: {sum(filing.ground == ground for filing in filings)} filing" for ground, text in GROUNDS.items())):
        assert number in page
    assert "No work has two codings, so statistics of agreement are not available yet" in page and "No second person has coded" in page
    assert not re.search(r"kappa[^.]*\d|\d[^.]*kappa", page, re.I)
    for name in ("lint", "check-work", "cite", "export"):
        assert f"mini-lib taxonomy {name} " in page


# ---------------------------------------------------------------- the head

def tags(node, tree=TREE):
    text = head(node, tree, SITE)
    metas = {name: unescape(content) for name, content in re.findall(r'<meta name="([^"]*)" content="([^"]*)" />', text)}
    return metas, json.loads(re.search(r'<script type="application/ld\+json">(.*?)</script>', text)[1]), text


def test_the_head_of_a_node_page_names_it_for_search_engines_and_reference_managers():
    node = TREE.get("MX-0008")
    metas, term, _ = tags(node)
    assert metas["citation_title"] == "Visual token (MX-0008)" and metas["citation_author"] == SITE["author"]
    assert metas["citation_public_url"] == term["url"] == "https://example.org/book/taxonomy/nodes/MX-0008.html"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d", metas["citation_publication_date"]) and f"version {TREE.version}" in metas["citation_inbook_title"]
    assert term["@type"] == "DefinedTerm" and (term["termCode"], term["name"]) == ("MX-0008", "Visual token")
    assert term["inDefinedTermSet"]["@type"] == "DefinedTermSet" and term["inDefinedTermSet"]["version"] == TREE.version
    assert {"@value": node.translations["zh"].label, "@language": "zh"} in term["alternateName"]
    assert "robots" not in metas
    assert tags(None)[1]["@type"] == "DefinedTermSet" and tags(None)[0]["citation_title"] == TREE.title


def test_search_engines_are_told_to_leave_a_retired_page_out():
    assert tags(replace(TREE.get("MX-0008"), status="deprecated"))[0]["robots"] == "noindex"


@pytest.mark.parametrize("text", ['</script><script>alert(1)', '"><b', "<!--", "a & b's", "\\", "\u2028"])
def test_no_text_breaks_out_of_the_head(text):
    metas, term, whole = tags(replace(TREE.get("MX-0008"), label=text, definition=text, alt_labels=(text,)))
    assert metas["citation_title"] == f"{text} (MX-0008)" and term["name"] == term["description"] == text
    assert whole.count("<") == tags(TREE.get("MX-0008"))[2].count("<")


# ---------------------------------------------------------------- on the site, and in the issue forms

@pytest.mark.parametrize(("html", "made"), [
    ('<a href="nodes/MX-0008.md">', '<a href="nodes/MX-0008.html">'), ('<a href="../works.md?node=MX-1">', '<a href="../works.html?node=MX-1">'),
    ('<a href="index.md#tree">', '<a href="index.html#tree">'), ('<a href="https://x.org/README.md">', '<a href="https://x.org/README.md">'),
    ('<a href="//x.org/a.md">', '<a href="//x.org/a.md">'), ("text about works.md?", "text about works.md?"),
])
def test_links_to_pages_in_html_lead_to_pages_of_the_site(html, made):
    assert LINK.sub(lambda match: f"{match[1]}{match[2]}.html", html) == made


def test_the_issue_forms_ask_for_what_an_entry_needs():
    forms = {kind: yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / name).read_text(encoding="utf-8")) for kind, name in FORMS.items()}
    for kind, form in forms.items():
        assert form["name"] and form["description"] and f"template={FORMS[kind]}" in render_reviewers(TREE, SITE)
        fields = [part for part in form["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in fields}) == len(fields) and all(part["attributes"]["label"] for part in fields)
    options = {part["id"]: part["attributes"]["options"] for part in forms["work"]["body"] if part["type"] == "dropdown"}
    assert options == {"modalities": list(MODALITIES), "role": list(ROLES)}
    schema = json.loads((ROOT / "taxonomy/schema/works.schema.json").read_text(encoding="utf-8"))["$defs"]
    asked = {part.get("id") for part in forms["work"]["body"]}
    # What the coder adds: the key, what was seen in which record, and on what ground it is filed.
    ours = {"key", "seen", "record", "filed", "authors_complete", "venue_verified", "arxiv", "doi", "url", "ground"}
    assert set(schema["work"]["required"]) | set(schema["filing"]["required"]) <= asked | ours and "address" in asked
