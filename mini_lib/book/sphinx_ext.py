"""What the site adds to Jupyter Book: callouts from plain quotes, the note on how outputs were made, and names
that the theme leaves out.

Chapters are written in plain Markdown, because Colab and GitHub show directives as raw text. A quote that opens
with a known bold label becomes a callout on the site and stays a readable quote everywhere else:

    > **Key takeaway.** The last layer is not where the answer is decided.
"""

import json
import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from . import lock
from .sphinx_taxonomy import TaxonomyPages, add_to_head, write_exports

TEMPLATES = Path(__file__).parent / "templates"

# An equation that is wider than the page scrolls, and what scrolls has to be reached by keyboard. MathJax's own way is in its menu.
EQUATIONS = """addEventListener("load", function () {
  function reach() {
    document.querySelectorAll('mjx-container[display="true"]').forEach(function (equation) {
      if (equation.scrollWidth <= equation.clientWidth) return;
      equation.tabIndex = 0;
      equation.setAttribute("role", "group");
      equation.setAttribute("aria-label", "equation");
    });
  }
  if (!window.MathJax || !MathJax.startup) return;
  MathJax.startup.promise.then(reach);
  addEventListener("resize", reach);
});"""

# Label → the admonition kind whose colour and icon it takes.
KINDS = {"the claim": "important", "learning goals": "seealso", "prerequisites": "note", "key takeaway": "tip",
         "caution": "warning", "our extension": "hint"}


class Callouts(SphinxTransform):
    """Quotes that open with a known bold label become admonitions."""

    default_priority = 210

    def apply(self, **kwargs) -> None:
        for quote in list(self.document.findall(nodes.block_quote)):
            first = quote.next_node(nodes.paragraph)
            if first is None or first.parent is not quote:
                continue
            # MyST leaves empty Text nodes in front of <strong>; without this nothing would match.
            while first.children and isinstance(first[0], nodes.Text) and not first[0].astext().strip():
                first.pop(0)
            if not first.children or not isinstance(first[0], nodes.strong):
                continue
            title = first[0].astext().rstrip(".:")
            kind = KINDS.get(title.lower())
            if kind is None:
                continue
            first.pop(0)
            if not first.astext().strip():
                quote.remove(first)
            quote.replace_self(nodes.admonition("", nodes.title("", title), *quote.children,
                                                classes=[kind, "callout"]))


class HideDescriptions(SphinxTransform):
    """A cell's `# alt: …` line is for the picture's alternative text; on the page it would only be a long comment."""

    default_priority = 211

    def apply(self, **kwargs) -> None:
        for code in self.document.findall(nodes.literal_block):
            lines = code.astext().split("\n")
            kept = "\n".join(line for line in lines if not line.startswith("# alt: "))
            if len(kept) < len(code.astext()):
                code.rawsource, code.children = kept, [nodes.Text(kept)]


def add_provenance(app: Sphinx, doctree: nodes.document) -> None:
    """Close a chapter with a line on the run that made its outputs."""
    path, folder = Path(app.env.doc2path(app.env.docname)), Path(app.srcdir)
    if path.suffix != ".ipynb" or not path.is_relative_to(folder / "chapters"):
        return
    made = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("mini_lib")
    section = next(iter(doctree.findall(nodes.section)), None)
    if made and section is not None:
        slug = path.relative_to(folder / "chapters").with_suffix("").as_posix()
        # The state depends on other files, so the page is read again whenever the lock changes.
        app.env.note_dependency(str(folder / lock.NAME))
        section += nodes.paragraph("", provenance(made, lock.stale(slug, folder)), classes=["provenance"])


def provenance(made: dict, reasons: list[str]) -> str:
    """Last run 2026-11-21 · 23 s on CPU · mini_lib 0.1.0 · torch 2.13.0 · outputs verified."""
    state = "outputs older than the code that makes them" if reasons else "outputs verified"
    packages = " · ".join(f"{name} {version}" for name, version in sorted(made["versions"].items()))
    return f"Last run {made['date']} · {made['seconds']} s on {made['device']} · {packages} · {state}"


def name_toggles(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Give each fold in the sidebar a name: the theme's button has an icon and no words for a screen reader."""
    make = context.get("generate_toctree_html")
    if make is None:
        return

    def with_names(*args, **kwargs):
        toc = make(*args, **kwargs)
        return FOLD.sub(lambda m: f'{m[1]}<summary aria-label="Pages below {escape(m[2])}">', str(toc)) if toc else toc

    context["generate_toctree_html"] = with_names


# A link of the table of contents, its text, and the fold that follows it.
FOLD = re.compile(r'(<a class="[^"]*reference[^>]*>\s*([^<]*?)\s*</a>\s*<details[^>]*>\s*)<summary>')


def setup(app: Sphinx) -> dict:
    app.add_transform(Callouts)
    app.add_transform(HideDescriptions)
    app.add_transform(TaxonomyPages)
    app.add_js_file(None, body=EQUATIONS)
    app.connect("config-inited", lambda app, config: config.templates_path.append(str(TEMPLATES)))
    app.connect("doctree-read", add_provenance)
    app.connect("html-page-context", name_toggles, priority=900)      # after the theme has set its function
    app.connect("html-page-context", add_to_head)
    app.connect("build-finished", write_exports)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
