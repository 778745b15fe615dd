"""What the site adds to the pages of the taxonomy: the picture of the tree as a drawing with links, addresses of pages in
HTML, tags in the head for search engines and reference managers, and the exports to download.

The pages themselves are plain Markdown (see `mini_lib/taxonomy/pages.py`), so that they also read well on GitHub: there
the picture is an image, a link in an HTML table leads to `.md`, and a link to an export leads to the published site.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.osutil import relative_uri

from ..taxonomy.export import PLACE, export
from ..taxonomy.head import head
from ..taxonomy.load import load
from . import site

logger = logging.getLogger(__name__)
PICTURE = "tree.svg"
OVERVIEWS = {"taxonomy/index": "tree.js", "taxonomy/works": "works.js", "taxonomy/coverage": None, "taxonomy/reviewers": None}
# A link to a page of the book in HTML. An address with a scheme or a host has a colon or begins with a slash.
LINK = re.compile(r'(href=")([^":/][^":]*?)\.md(?=["?#])')


class TaxonomyPages(SphinxTransform):
    """Draw the tree into its page, and let links in HTML lead to pages of the site."""

    default_priority = 212

    def apply(self, **kwargs) -> None:
        if not self.env.docname.startswith("taxonomy/"):
            return
        for raw in list(self.document.findall(nodes.raw)):
            if raw.get("format") == "html" and ".md" in raw.astext():
                raw.replace_self(nodes.raw("", LINK.sub(self.page, raw.astext()), format="html"))
        for image in list(self.document.findall(nodes.image)):
            if image["uri"] == PICTURE:
                self.draw(image)
        published = site(Path(self.env.srcdir))["baseurl"]
        for link in self.document.findall(nodes.reference):
            place = link.get("refuri", "").removeprefix(published)
            if place.startswith(f"{PLACE}/"):
                link["refuri"], link["internal"] = relative_uri(f"{self.env.docname}.html", place), True

    def page(self, match: re.Match) -> str:
        name = (Path("/") / self.env.docname).parent / match[2]
        found = name.resolve().relative_to("/").as_posix()
        if found not in self.env.found_docs:
            logger.warning("no page %r", found, location=self.env.docname)
        return f"{match[1]}{match[2]}.html"

    def draw(self, image: nodes.image) -> None:
        path = Path(self.env.doc2path(self.env.docname)).with_name(PICTURE)
        self.env.note_dependency(str(path))
        drawing = nodes.raw("", f'<div class="mx-picture mx-scroll">{path.read_text(encoding="utf-8")}</div>', format="html")
        # A drawing cannot stand inside a paragraph.
        whole = image.parent if isinstance(image.parent, nodes.paragraph) and len(image.parent) == 1 else image
        whole.replace_self(drawing)


def add_to_head(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Tags in the head of the pages of the taxonomy, and their style and scripts, which no other page needs."""
    node = re.fullmatch(r"taxonomy/nodes/(MX-\d+)", pagename)
    if pagename not in OVERVIEWS and not node:
        return
    taxonomy = _current(app)
    app.add_css_file("taxonomy/taxonomy.css")
    if OVERVIEWS.get(pagename):
        app.add_js_file(f"taxonomy/{OVERVIEWS[pagename]}", loading_method="defer")
    if node or pagename == "taxonomy/index":
        tags = head(taxonomy.get(node[1]) if node else None, taxonomy, site(Path(app.srcdir)))
        context["metatags"] = f"{context.get('metatags', '')}\n{tags}"


def write_exports(app: Sphinx, exception: Exception | None) -> None:
    """Put the exports beside the page that leads to them."""
    if exception is None and app.builder.format == "html" and "taxonomy/index" in app.env.found_docs:
        export(_current(app), site(Path(app.srcdir)), Path(app.outdir) / PLACE)


def _current(app: Sphinx):
    return _taxonomy(app.srcdir, *(_changed(Path(app.srcdir), name) for name in ("nodes.yaml", "works.yaml", "protocol.yaml")))


def _changed(folder: Path, name: str) -> int:
    path = folder / "taxonomy" / name
    return path.stat().st_mtime_ns if path.is_file() else 0


@lru_cache(maxsize=1)
def _taxonomy(folder, *changed: int):
    return load(Path(folder) / "taxonomy" / "nodes.yaml")
