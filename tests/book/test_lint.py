"""Each house rule, proven by a chapter that breaks it."""

import json
import re

import nbformat
import pytest

from mini_lib.book.lint import SPINE, lint
from tests.book.sample import SLUG

LAST_YEAR = "https://arxiv.org/abs/2412.02104"


def breaks(done, change) -> list[str]:
    """Apply `change(notebook)` to the sample chapter and lint it."""
    path = done / f"chapters/{SLUG}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    path.write_text(json.dumps(notebook))
    return lint(path, done)


def code(notebook, number):
    return [cell for cell in notebook.cells if cell.cell_type == "code"][number]


def words(text):
    """A change that adds prose to the first cell."""
    def change(notebook):
        notebook.cells[0].source += f"\n\n{text}"
    return change


def replace(old, new):
    def change(notebook):
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)
    return change


def set_on(number, **values):
    def change(notebook):
        code(notebook, number).update(values)
    return change


def add_output(number, **output):
    def change(notebook):
        code(notebook, number).outputs.append(nbformat.from_dict(output))
    return change


def swap_headings(notebook):
    one, two = (next(cell for cell in notebook.cells if cell.source.startswith(f"## {name}"))
                for name in ("Strengths", "Limitations"))
    one.source, two.source = two.source, one.source


def no_alternative_text(notebook):
    for cell in notebook.cells:
        cell.metadata.pop("mystnb", None)


def too_large(notebook):
    notebook.cells[-1].source += "\n# " + "x" * 400_000


BROKEN = {
    "never run": (set_on(2, execution_count=None), "were not run once each from top to bottom"),
    "run out of order": (set_on(2, execution_count=7), "were not run once each from top to bottom"),
    "stored error": (add_output(1, output_type="error", ename="ValueError", evalue="", traceback=[]),
                     "code cell 2 stores an error: ValueError"),
    "stored stderr": (add_output(1, output_type="stream", name="stderr", text="Warning"), "code cell 2 stores stderr"),
    "directive": (words("```{note}\nText\n```"), "directive ```{note}"),
    "colon directive": (words(":::{tip}\nText\n:::"), "directive :::{tip}"),
    "role": (words("See {doc}`intro`."), "role {doc}`intro`"),
    "set-up cell edited": (set_on(0, source="# @title Set-up: run this cell first\n1"), "the set-up cell differs"),
    "set-up cell gone": (set_on(0, source="1"), "the first code cell is not the set-up cell"),
    "set-up cell without tags": (set_on(0, metadata={}), "must carry the tags"),
    "heading gone": (replace("## When it misleads", "Words"), "missing: When it misleads"),
    "heading added": (words("## Appendix"), "not in the spine: Appendix"),
    "headings swapped": (swap_headings, "must be the chapter spine, in its order"),
    "two titles": (words("# Another title"), "exactly one heading of level one"),
    "no claim": (replace("> **The claim.**", "> The claim."), "no callout `> **The claim.** …`"),
    "no goals": (replace("> **Learning goals.**", "> Goals."), "no callout `> **Learning goals.** …`"),
    "no prerequisites": (replace("> **Prerequisites.**", "> Before."), "no callout `> **Prerequisites.** …`"),
    "image without alt": (words("![](picture.png)"), "image picture.png has no alternative text"),
    "image elsewhere": (words("![A badge](https://example.org/badge.svg)"), "lies on another server"),
    "img elsewhere": (words('<img src="//example.org/a.png" alt="A">'), "lies on another server"),
    "img without alt": (words('<img src="a.png">'), "an image has no alternative text"),
    "figure without alt": (no_alternative_text, "add a line `# alt: …`"),
    "html figure without alt": (add_output(1, output_type="display_data", metadata={},
                                           data={"text/html": '<img src="data:image/png;base64,">'}),
                                "shows an <img> without alternative text"),
    "too large": (too_large, "at most 400 are allowed"),
    "widget state": (lambda notebook: notebook.metadata.update(widgets={}), "stores widget state"),
    "unknown import": (set_on(1, source="import captum.attr"), "imports captum.attr, which Colab does not have"),
    "unknown from-import": (set_on(1, source="from sklearn import svm"), "imports sklearn, which Colab"),
    "pip": (set_on(1, source="%pip install shap"), "runs pip"),
    "pip in a shell": (set_on(1, source="!pip install shap"), "runs pip"),
    "not Python": (set_on(1, source="x ="), "is not Python"),
    "unknown arXiv id": (words("[A](https://arxiv.org/abs/2101.00001)"), "2101.00001 is linked but is not in"),
    "unknown DOI": (words("[A](https://doi.org/10.1000/182)"), "10.1000/182 is linked but is not in"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_chapter_is_told_what_is_broken(done, name):
    change, sentence = BROKEN[name]
    found = breaks(done, change)
    assert any(sentence in line for line in found), found
    assert len(found) == 1, found


@pytest.mark.parametrize("text", [
    f"[Dang et al., 2024]({LAST_YEAR})",
    "```python\n## not a heading\nx = {}\n```",
    "![A lit star](star.png) and <details><summary>Hint</summary>Look twice.</details>",
])
def test_good_prose_passes(done, text):
    assert breaks(done, words(text)) == []


def test_the_spine_has_the_three_headings_that_make_chapters_comparable():
    assert re.search("Strengths,Limitations,When it misleads", ",".join(SPINE))
