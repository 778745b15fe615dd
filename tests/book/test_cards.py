"""The quiz and the citation card."""

import html.parser

import pytest

from mini_lib import book
from mini_lib.book import cards

QUESTIONS = [{"ask": "Is `a < b` & c?", "options": [
    {"text": '<script>alert("1")</script>', "why": "It's \"no\" <img src=x onerror=alert(1)>."},
    {"text": "Yes", "right": True, "why": "Because."}]}]


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def quiz(monkeypatch):
    monkeypatch.setattr(cards, "load_questions", lambda slug: QUESTIONS)
    return cards.check_yourself("any")


def test_all_text_of_a_quiz_is_escaped(quiz):
    page = Tags(quiz.html)
    assert page.tags.count("script") == 1 and "img" not in page.tags
    assert 'alert("1")' in page.words and "<img src=x" in page.words
    assert "<code>a &lt; b</code> &amp; c" in quiz.html


def test_options_are_native_radio_buttons_in_a_fieldset_with_a_live_region(quiz):
    page = Tags(quiz.html)
    assert [page.tags.count(tag) for tag in ("fieldset", "legend", "input", "label")] == [1, 1, 2, 2]
    assert 'aria-live="polite"' in quiz.html and 'type="radio"' in quiz.html


def test_ids_depend_on_the_content_and_on_nothing_else(quiz, monkeypatch):
    assert cards.check_yourself("any").html == quiz.html
    monkeypatch.setattr(cards, "load_questions", lambda slug: [dict(QUESTIONS[0], ask="Other?")])
    assert Tags(cards.check_yourself("any").html).ids != Tags(quiz.html).ids


def test_without_html_and_without_scripts_the_answers_are_listed(quiz):
    bundle = quiz._repr_mimebundle_()
    assert bundle["text/plain"].splitlines()[-1] == "Answers: 1b."
    assert "<noscript><p>Answers: 1b.</p></noscript>" in bundle["text/html"]


@pytest.mark.parametrize("text, said", [
    ("a:\n- ask: Q\n  options: [{text: x, why: y}]", "exactly one option with `right: true`"),
    ("a:\n- ask: Q\n  options: [{text: x, right: true}]", "an option without `why`"),
    ("b: []", "has no questions for 'a'; it has"),
])
def test_a_malformed_question_is_refused_with_a_sentence(tmp_path, text, said):
    (tmp_path / "q.yaml").write_text(text)
    with pytest.raises((ValueError, KeyError), match=said):
        cards.load_questions("a", tmp_path / "q.yaml")


def test_every_question_in_the_book_is_well_formed():
    import yaml
    path = book.root() / "chapters/questions.yaml"
    for slug in yaml.safe_load(path.read_text()):
        cards.load_questions(slug)


def test_the_citation_has_title_version_address_and_node(monkeypatch):
    monkeypatch.setattr(cards, "chapter_title", lambda path: "Occlusion & co.")
    monkeypatch.setattr(cards, "node_id", lambda slug: "MX-0042")
    card, site = book.cite("data/input-output"), book.site()
    for text in (card.text, card.html):
        assert site["version"] in text and "MX-0042" in text
        assert f"{site['baseurl']}chapters/data/input-output.html" in text
    assert "Occlusion &amp; co." in card.html
    assert "@incollection{minilib_data_input_output," in card.text


def test_a_chapter_without_a_node_is_cited_without_one(monkeypatch):
    monkeypatch.setattr(cards, "chapter_title", lambda path: "Title")
    monkeypatch.setattr(cards, "node_id", lambda slug: None)
    assert "axonomy node" not in book.cite("data/input-output").text


def test_importing_the_book_is_light():
    import subprocess
    import sys
    program = "import sys, mini_lib.book; print([m for m in ('torch', 'nbformat', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], cwd=book.root(), capture_output=True,
                          text=True).stdout == "[]\n"


@pytest.mark.parametrize("text", ["577.", "no"])
def test_an_answer_that_yaml_reads_as_something_else_is_refused(tmp_path, text):
    path = tmp_path / "questions.yaml"
    path.write_text(f"x:\n  - ask: How many?\n    options:\n      - {{text: {text}, right: true, why: so}}\n")
    with pytest.raises(ValueError, match="quote it"):
        cards.load_questions("x", path)
