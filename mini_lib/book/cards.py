"""The two cards at the end of a chapter: the quiz, and "Cite this chapter".

Both are plain HTML that needs no kernel and no style sheet, so that they work on the built site and in a
Colab output alike; with no JavaScript the answers are simply listed. Ids come from the content, never from
a random number, because nbval compares stored HTML letter by letter. All text is escaped.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from html import escape

import yaml

SCRIPT = """<script>
document.querySelectorAll("#%s input").forEach(input => input.addEventListener("change", () => {
  const question = input.closest("fieldset");
  question.querySelector(".feedback").innerHTML = input.parentElement.querySelector(".why").innerHTML;
  question.dataset.answered = input.value;
}));
</script>"""


@dataclass(frozen=True)
class Card:
    """Something to show at the end of a cell: HTML where HTML can be shown, else plain text."""

    html: str
    text: str

    def _repr_mimebundle_(self, **_) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}

    def __repr__(self) -> str:
        return self.text


def check_yourself(slug: str) -> Card:
    """The quiz of a chapter, from `chapters/questions.yaml`: native radio buttons, feedback on choice."""
    questions = load_questions(slug)
    name = "quiz-" + hashlib.sha256(json.dumps(questions).encode()).hexdigest()[:8]
    fields, lines, answers = [], [], []
    for number, question in enumerate(questions, 1):
        options = []
        lines.append(f"{number}. {question['ask']}")
        for letter, option in zip("abcdefgh", question["options"], strict=False):
            right = option.get("right", False)
            verdict = "Right." if right else "Not quite."
            why = f"<strong>{verdict}</strong> {markup(option['why'])}"
            options.append(f'<label><input type="radio" name="{name}-{number}" value="{"right" if right else "wrong"}">'
                           f' <span>{markup(option["text"])}</span><span class="why" hidden>{why}</span></label>')
            lines.append(f"   {letter}) {option['text']}")
            if right:
                answers.append(f"{number}{letter}")
        fields.append(f"<fieldset><legend>{number}. {markup(question['ask'])}</legend>\n" + "<br>\n".join(options)
                      + '\n<p class="feedback" aria-live="polite"></p></fieldset>')
    key = f"Answers: {', '.join(answers)}."
    return Card(f'<form class="quiz" id="{name}" onsubmit="return false">\n' + "\n".join(fields)
                + f"\n<noscript><p>{key}</p></noscript></form>\n" + SCRIPT % name,
                "\n".join([*lines, key]))


def load_questions(slug: str, path=None) -> list[dict]:
    """The questions of one chapter, checked: one right option each, and a reason for every option."""
    from . import root
    everything = yaml.safe_load((path or root() / "chapters/questions.yaml").read_text(encoding="utf-8")) or {}
    if slug not in everything:
        raise KeyError(f"chapters/questions.yaml has no questions for {slug!r}; it has {sorted(everything)}")
    for question in everything[slug]:
        options = question["options"]
        if sum(option.get("right", False) for option in options) != 1:
            raise ValueError(f"{slug}: {question['ask']!r} needs exactly one option with `right: true`")
        if not all(option.get("why") for option in options):
            raise ValueError(f"{slug}: {question['ask']!r} has an option without `why`")
        # Unquoted, `577.` is the number 577.0 and `no` is False.
        unquoted = [value for option in options for value in option.values() if not isinstance(value, (str, bool))]
        if unquoted or any(isinstance(option["text"], bool) for option in options):
            raise ValueError(f"{slug}: {question['ask']!r} has an option that YAML reads as a number or as yes/no; quote it")
    return everything[slug]


def markup(text: str) -> str:
    """Escape everything; `backticks` become <code>, nothing else has a meaning."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(str(text)))


def cite(slug: str) -> Card:
    """How to cite a chapter: one sentence and a BibTeX entry, with the version and the taxonomy node's id."""
    from . import root, site
    book = site()
    title = chapter_title(root() / "chapters" / f"{slug}.ipynb")
    address = f"{book['baseurl']}chapters/{slug}.html"
    node = node_id(slug)
    where = f"{address} (taxonomy node {node})" if node else address
    plain = f"{book['author']} ({book['year']}). {title}. In: {book['title']}, version {book['version']}. {where}"
    key = "minilib_" + re.sub(r"\W+", "_", slug)
    fields = {"author": "{" + book["author"].replace("_", r"\_") + "}", "title": title, "booktitle": book["title"],
              "year": book["year"], "edition": f"version {book['version']}", "url": address}
    if node:
        fields["note"] = f"Taxonomy node {node}"
    bibtex = f"@incollection{{{key},\n" + ",\n".join(f"  {k} = {{{v}}}" for k, v in fields.items()) + "\n}"
    html = (f'<div class="cite-card"><p>{escape(plain)}</p>\n'
            f"<pre><code>{escape(bibtex)}</code></pre></div>")
    return Card(html, plain + "\n\n" + bibtex)


def chapter_title(path) -> str:
    """The first heading of a chapter."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:].strip()
    raise ValueError(f"{path} has no heading of level one")


def node_id(slug: str) -> str | None:
    """The stable id of the chapter's node, or None where the taxonomy knows no such slug."""
    from .. import taxonomy
    try:
        return taxonomy.load().find(slug).id
    except (LookupError, FileNotFoundError):
        return None
