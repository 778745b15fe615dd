"""The built site, as a reader's browser sees it."""

import html.parser
import re
from urllib.parse import unquote, urlsplit

import pytest

from mini_lib.book import lock
from tests.site.conftest import chosen_pages, pages

pytestmark = pytest.mark.site

NOTEBOOKS = [f"chapters/{slug}" for slug in lock.find()]
CHAPTERS = [name for name in NOTEBOOKS if name.count("/") > 1]              # of the tree; *Your model* has another form
LOOKS = {"wide": (1280, False), "narrow": (390, False), "dark": (1280, True)}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.mark.parametrize("name", pages())
def test_a_page_asks_no_other_server_and_nothing_fails_on_it(visit, name):
    assert visit(name, wait_until="networkidle").problems == []


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", chosen_pages())
def test_a_page_has_no_accessibility_violation_and_fits_the_screen(visit, name, look):
    from axe_playwright_python.sync_playwright import Axe
    width, dark = LOOKS[look]
    page = visit(name, width, dark)
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    found = Axe().run(page, options=RULES).response["violations"]
    assert [f"{rule['id']} ({rule['impact']}): {node['html'][:200]} {node['failureSummary'][:200]}"
            for rule in found for node in rule["nodes"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width + 1


@pytest.mark.parametrize("name", CHAPTERS)
def test_callouts_are_boxes_and_no_markdown_is_left_over(visit, name):
    page = visit(name)
    titles = page.locator(".admonition.callout > .admonition-title").all_inner_texts()
    assert {"The claim", "Learning goals", "Prerequisites"} <= set(titles)
    text = page.locator("article").inner_text()
    assert not re.search(r"^(:::|> \*\*|```)", text, re.MULTILINE)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_interactive_figure_answers_to_the_keyboard(visit, name):
    page = visit(name)
    figures = page.locator("figure.scrubber")
    assert figures.count() >= 1, "a chapter has at least one interactive figure"
    for figure in figures.all():
        frames = figure.locator(".frame").all()
        assert len(frames) >= 2 and sum(frame.is_visible() for frame in frames) == 1
        figure.locator("input[type=range]").focus()
        said = []
        for key, expected in (("Home", 0), ("ArrowRight", 1), ("End", len(frames) - 1)):
            page.keyboard.press(key)
            assert [k for k, frame in enumerate(frames) if frame.is_visible()] == [expected], f"after {key}"
            said.append(figure.locator("output").inner_text())
        assert len(set(said)) == len({0, 1, len(frames) - 1}), said
    assert page.problems == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_quiz_answers_to_the_keyboard(visit, name):
    page = visit(name)
    questions = page.locator("form.quiz fieldset")
    assert questions.count() >= 1
    for question in questions.all():
        feedback = question.locator(".feedback")
        assert feedback.inner_text() == ""
        question.locator("input").first.focus()
        page.keyboard.press("Space")
        first = feedback.inner_text()
        page.keyboard.press("ArrowDown")
        second = feedback.inner_text()
        assert first and second and first != second
        assert all(text.startswith(("Right.", "Not quite.")) for text in (first, second))
    assert page.problems == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_equations_are_set_and_the_last_run_is_shown(visit, name):
    page = visit(name)
    equations = page.locator("article .math").count()
    page.wait_for_function("n => document.querySelectorAll('.math mjx-container').length === n", arg=equations)
    assert "outputs verified" in page.locator("p.provenance").inner_text()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_print_shows_one_frame_of_each_figure(visit, name):
    page = visit(name)
    page.emulate_media(media="print")
    for figure in page.locator("figure.scrubber").all():
        assert sum(frame.is_visible() for frame in figure.locator(".frame").all()) == 1


class Links(html.parser.HTMLParser):
    """Addresses a page points to, and the ids it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def test_every_internal_link_leads_to_a_file_and_to_a_heading_that_exist(html):
    parsed = {path: Links(path.read_text(encoding="utf-8")) for path in html.rglob("*.html")
              if "_static" not in path.parts}
    assert len(parsed) >= len(pages())
    dead = []
    for path, page in parsed.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                dead.append(f"{path.name} -> {link}")
            elif parts.fragment and target in parsed and unquote(parts.fragment) not in parsed[target].ids:
                dead.append(f"{path.name} -> {link} (no such heading)")
    assert dead == []
