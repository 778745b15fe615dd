"""The Sphinx extension, through a small real build."""

import pytest
from docutils import nodes

from mini_lib.book import lock, sphinx_ext
from tests.book.sample import SLUG

PAGE = """# Title

> **The claim.** It holds.

> **Learning goals.**
>
> - one
> - two

> **Our extension.** Not in the survey.

> **Whatever.** An ordinary quote.

> No label, **The claim.** in the middle.
"""


def build(source, out, extensions=("myst_nb", "mini_lib.book.sphinx_ext")):
    """Build a folder with Sphinx; returns the application, after a build without warnings."""
    import io

    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(str(source), None, str(out), str(out / "trees"), "html", status=None, warning=warnings,
                     confoverrides={"extensions": list(extensions), "nb_execution_mode": "off", "root_doc": "index",
                                    "exclude_patterns": ["mini_lib", "_build"]})
        app.build()
    assert warnings.getvalue() == ""
    return app


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    source = tmp_path_factory.mktemp("pages")
    (source / "index.md").write_text(PAGE)
    return build(source, source / "_build/html").env.get_doctree("index")


def test_quotes_with_a_known_label_become_callouts(tree):
    found = {box[0].astext(): box["classes"] for box in tree.findall(nodes.admonition)}
    assert found == {"The claim": ["important", "callout"], "Learning goals": ["seealso", "callout"],
                     "Our extension": ["hint", "callout"]}


def test_other_quotes_stay_quotes(tree):
    assert [quote.astext() for quote in tree.findall(nodes.block_quote)] == [
        "Whatever. An ordinary quote.", "No label, The claim. in the middle."]


def test_a_callout_keeps_its_list_and_loses_its_label(tree):
    goals = next(box for box in tree.findall(nodes.admonition) if box[0].astext() == "Learning goals")
    assert [item.astext() for item in goals.findall(nodes.list_item)] == ["one", "two"]
    assert len(goals.children) == 2


def test_every_kind_has_a_colour_of_the_theme():
    assert set(sphinx_ext.KINDS.values()) <= {"important", "seealso", "note", "tip", "warning", "hint"}


def test_the_page_says_when_outputs_were_made_and_whether_they_still_hold(done):
    (done / "index.md").write_text(f"# Book\n\n```{{toctree}}\nchapters/{SLUG}\n```\n")

    def note():
        tree = build(done, done / "_build/html").env.get_doctree(f"chapters/{SLUG}")
        return next(node for node in tree.findall(nodes.paragraph) if "provenance" in node["classes"]).astext()

    assert note().startswith("Last run 20") and " s on CPU · " in note() and note().endswith("outputs verified")
    (done / "mini_lib/book/cards.py").write_text("# changed")
    (done / lock.NAME).touch()
    assert note().endswith("outputs older than the code that makes them")
