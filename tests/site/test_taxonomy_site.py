"""The pages of the taxonomy in a reader's browser: filter and sort the works, walk the tree, copy a citation, download."""

import json
import re
from hashlib import sha256
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest

from mini_lib import taxonomy
from mini_lib.book import site
from mini_lib.taxonomy.cite import cite_bibtex, cite_sentence
from mini_lib.taxonomy.export import SUMS, WRITERS, export

pytestmark = pytest.mark.site
TREE = taxonomy.load()
EVERYTHING = sum(len(work.filed) for work in TREE.works)
FIRST = 60      # rows that the table shows at first


def shown(page):
    """The visible rows of the table, each as the texts of its cells."""
    return page.locator("#works tbody tr:visible").evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))")


def told(page):
    """How many rows and works fit, and how many rows are shown, by the line above the table."""
    said = page.locator(".mx-count").inner_text()
    works, rows, shown = re.fullmatch(rf"(\d+) works? in (\d+) of {EVERYTHING} rows\.(?: The first (\d+) rows are shown\.)?", said).groups()
    return int(rows), int(works), int(shown or rows)


def asked(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_the_filters_of_the_works_table_show_what_the_data_say(visit):
    page = visit("taxonomy/works")
    assert len(shown(page)) == FIRST and told(page) == (EVERYTHING, len(TREE.works), FIRST)
    page.get_by_label("Node", exact=True).select_option("MX-0004")
    page.get_by_label("Modality").select_option("video")
    expected = [work for work in TREE.works if work.at("MX-0004") and "video" in work.modalities]
    assert len(shown(page)) == len(expected) > 0 and told(page) == (len(expected),) * 3
    assert page.locator(".mx-more").is_hidden()
    assert asked(page) == {"node": "MX-0004", "modality": "video"}
    page.get_by_role("button", name="Clear the filters").click()
    page.wait_for_function("n => document.querySelectorAll('#works tbody tr:not([hidden])').length === n", arg=FIRST)
    assert asked(page) == {}
    page.get_by_label("From year").select_option("2020")
    page.get_by_label("To year").select_option("2020")
    assert {row[1] for row in shown(page)} == {"2020"}
    page.get_by_label("Role").select_option("evaluates")
    assert {row[4] for row in shown(page)} <= {"evaluates"}
    assert page.problems == []


def test_a_long_table_shows_its_first_rows_and_the_rest_on_demand(visit):
    page = visit("taxonomy/works")
    button = page.get_by_role("button", name=f"Show all {EVERYTHING} rows")
    button.focus()
    page.keyboard.press("Enter")
    assert len(shown(page)) == EVERYTHING and told(page) == (EVERYTHING, len(TREE.works), EVERYTHING) and button.is_hidden()
    assert page.evaluate("[...document.querySelectorAll('#works tbody tr')].indexOf(document.activeElement.closest('tr'))") == FIRST
    assert page.problems == []


def test_words_are_found_without_accents_and_the_count_is_said_aloud(visit):
    page = visit("taxonomy/works")
    page.get_by_label("Words in the row").press_sequentially("ATTENTION deiseroth bjorn")
    page.wait_for_function("document.querySelectorAll('#works tbody tr:not([hidden])').length < 20")
    assert shown(page) and all("Deiseroth" in row[0] for row in shown(page))
    assert page.locator(".mx-count").get_attribute("role") == "status"
    page.get_by_label("Words in the row").fill("no such words anywhere")
    page.wait_for_function("document.querySelector('.mx-count').textContent.startsWith('0 works in 0 of')")
    assert shown(page) == []


def test_a_column_is_sorted_from_the_keyboard_and_says_so(visit):
    page = visit("taxonomy/works")
    button = page.locator("#works thead").get_by_role("button", name="Year")
    for expected in ("ascending", "descending"):
        button.focus()
        page.keyboard.press("Enter")
        years = [row[1] for row in shown(page)]
        assert years == sorted((work.year for work in TREE.works for _ in work.filed), reverse=expected == "descending")[:FIRST]
        assert page.locator("#works thead th[aria-sort]").evaluate_all("all => all.map(e => [e.innerText.trim(), e.ariaSort])") == [["Year", expected]]
    assert asked(page) == {"sort": "-year"}
    page.reload()
    assert [row[1] for row in shown(page)] == years


def test_a_number_of_the_coverage_map_opens_the_works_it_counts(visit):
    page = visit("taxonomy/coverage")
    for place in (0, 40, -1):
        link = page.locator(".mx-map tbody td a").nth(place)
        number = int(link.inner_text())
        link.click()
        page.wait_for_selector(".mx-count")
        assert told(page)[:2] == (number, number)
        page.go_back()
    assert page.problems == []


def test_the_table_is_whole_without_the_script(visit, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(visit("taxonomy/works").url)
    assert page.locator("#works tbody tr:visible").count() == EVERYTHING
    assert page.locator("form.mx-filter, .mx-more").count() == 0
    context.close()


def test_a_link_with_unknown_filters_shows_everything_and_breaks_nothing(visit):
    page = visit("taxonomy/works", wait_until="networkidle")      # what the next page cuts off would count as failed
    page.goto(page.url + "?node=MX-9999&modality=smell&from=x&sort=-nothing&words=%3Cb%3E%27%22")
    assert page.get_by_label("Node", exact=True).input_value() == "" and told(page)[0] == 0
    page.wait_for_load_state("networkidle")
    page.goto(page.url.split("?")[0] + "?node=MX-9999&from=x&sort=toString")
    assert told(page)[0] == EVERYTHING
    assert page.problems == []


def test_the_tree_is_one_stop_of_the_tab_key_and_the_arrows_walk_it(visit):
    page = visit("taxonomy/index")
    boxes = page.locator("svg.mx-tree a")
    assert boxes.count() == len(TREE.nodes) and page.locator("svg.mx-tree a[tabindex='0']").count() == 1
    here = "document.activeElement.closest('svg.mx-tree a')?.getAttribute('href')"
    page.evaluate("heading => { heading.tabIndex = -1; heading.focus(); }", page.locator("#the-tree h2").element_handle())
    page.keyboard.press("Tab")
    seen = [page.evaluate(here)]
    for key in ("ArrowDown", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(page.evaluate(here))
    parents = {f"nodes/{node.id}.html": [f"nodes/{above}.html" for above in node.broader] for node in TREE.nodes}
    root, branch, leaf, beside, *back = seen
    assert parents[branch] == [root] and parents[leaf] == parents[beside] == [branch] and leaf != beside
    assert back == [branch, root, root]
    page.keyboard.press("Tab")
    assert page.evaluate(here) is None
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/taxonomy/nodes/*.html")
    assert page.problems == []


def test_a_citation_is_copied_as_it_is(visit):
    page = visit("taxonomy/nodes/MX-0008")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    node, here = TREE.get("MX-0008"), site()
    page.wait_for_selector("button.copybtn")
    for kind, text in {"text": cite_sentence(node, TREE, here), "bibtex": cite_bibtex(node, TREE, here)}.items():
        block = page.locator(f"div.highlight-{kind}")
        block.hover()
        block.locator("button.copybtn").click()
        page.wait_for_function("async wanted => (await navigator.clipboard.readText()).trim() === wanted", arg=text)


def test_the_head_of_a_node_page_reaches_the_browser(visit):
    page = visit("taxonomy/nodes/MX-0008")
    term = json.loads(page.locator('script[type="application/ld+json"]').inner_text())
    assert term["@type"] == "DefinedTerm" and term["termCode"] == "MX-0008"
    assert page.locator('meta[name="citation_title"]').get_attribute("content") == "Visual token (MX-0008)"
    assert page.locator('link[rel="canonical"]').get_attribute("href") == term["url"]
    assert page.locator("article [lang=zh]").count() == 2 and page.locator("article [lang=ko]").count() == 2


def test_what_the_taxonomy_needs_is_loaded_on_its_pages_only(visit):
    page = visit("chapters/intro")
    assert page.locator("[href*='taxonomy.css'], [src*='works.js'], [src*='tree.js']").count() == 0


def test_the_exports_can_be_downloaded_and_are_those_that_the_command_writes(visit, html, tmp_path):
    links = set()
    for name in ("taxonomy/reviewers", "taxonomy/works", "taxonomy/nodes/MX-0008", "taxonomy/index"):
        page = visit(name)
        found = page.locator("article a[href*='export/']").evaluate_all("all => all.map(link => link.href)")
        assert found, name
        links.update(found)
    folder = urljoin(page.url, "export/")
    assert links == {folder + name for name in (SUMS, *WRITERS)}
    got = {link.removeprefix(folder): page.request.get(link) for link in links}
    assert all(answer.status == 200 for answer in got.values())
    sums = dict(reversed(line.split("  ")) for line in got.pop(SUMS).text().splitlines())
    assert sums == {name: sha256(answer.body()).hexdigest() for name, answer in got.items()}
    for path in export(TREE, site(), tmp_path / "export"):
        assert path.read_bytes() == (html / "taxonomy/export" / path.name).read_bytes()
