"""What the head of a page tells machines: schema.org for search engines, Highwire tags for reference managers."""

from __future__ import annotations

from html import escape

from .cite import address
from .escape import script_safe
from .nodes import Node, Taxonomy


def head(node: Node | None, taxonomy: Taxonomy, site: dict) -> str:
    """The tags for the page of a node or, without one, of the whole taxonomy."""
    title = f"{node.label} ({node.id})" if node else taxonomy.title
    where = address(node, site)
    tags = {
        "citation_title": title,
        "citation_author": site["author"],
        "citation_publication_date": taxonomy.released.replace("-", "/"),
        "citation_language": "en",
        "citation_public_url": where,
        "citation_keywords": "; ".join(node.alt_labels) if node else "",
        # Zotero files what has it as a section of a book; the version belongs to it.
        "citation_inbook_title": f"{taxonomy.title}, version {taxonomy.version}" if node else "",
    }
    lines = [f'<meta name="{name}" content="{escape(content)}" />' for name, content in tags.items() if content]
    if node and node.status == "deprecated":
        lines.append('<meta name="robots" content="noindex" />')
    return "\n".join([*lines, _script(term(node, taxonomy, site) if node else term_set(taxonomy, site))])


def term(node: Node, taxonomy: Taxonomy, site: dict) -> dict:
    """A node as a schema.org DefinedTerm."""
    where = address(node, site)
    return {
        "@context": "https://schema.org", "@type": "DefinedTerm", "@id": where, "url": where,
        "termCode": node.id, "name": node.label, "description": node.definition,
        "alternateName": [*node.alt_labels, *({"@value": said.label, "@language": language}
                                              for language, said in node.translations.items())],
        "inDefinedTermSet": {key: value for key, value in term_set(taxonomy, site).items() if key != "@context"},
    }


def term_set(taxonomy: Taxonomy, site: dict) -> dict:
    """The whole taxonomy as a schema.org DefinedTermSet."""
    where = address(None, site)
    return {
        "@context": "https://schema.org", "@type": "DefinedTermSet", "@id": where, "url": where, "name": taxonomy.title,
        "version": taxonomy.version, "datePublished": taxonomy.released,
        "license": f"https://spdx.org/licenses/{taxonomy.licence}",
        "isBasedOn": f"https://arxiv.org/abs/{taxonomy.arxiv}",
    }


def _script(data: dict) -> str:
    return f'<script type="application/ld+json">{script_safe(data)}</script>'
