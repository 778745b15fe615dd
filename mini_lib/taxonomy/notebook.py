"""How nodes, works and the whole look in a notebook: small HTML in which every text is escaped.

These functions read fields and import nothing of the package, so that the objects themselves can call them.
"""

from __future__ import annotations

from html import escape

MOST = 12      # works shown under a node; the rest is counted


def work_html(work) -> str:
    """One line: who, when, the title with its link, the venue."""
    return f"<p>{_line(work)}</p>"


def node_html(node) -> str:
    """Name, definition, names in other languages, and the works."""
    other = " · ".join(f'<span lang="{escape(language)}">{escape(said.label)}</span>'
                       for language, said in node.translations.items())
    gone = f"<p><b>Retired:</b> {escape(node.deprecation.reason)}</p>" if node.deprecation else ""
    works = "".join(f"<li>{_line(work)}</li>" for work in node.works[:MOST])
    more = f"<p>and {len(node.works) - MOST} more</p>" if len(node.works) > MOST else ""
    return (f"<div><p><b>{escape(node.label)}</b> <code>{escape(node.id)}</code> <code>{escape(node.slug)}</code></p>"
            f"{gone}<p>{escape(node.definition)}</p><p>{other}</p>"
            + (f"<ul>{works}</ul>{more}" if works else "") + "</div>")


def taxonomy_html(taxonomy) -> str:
    """Title, version, and a table of the nodes."""
    rows = "".join(f"<tr><td><code>{escape(node.id)}</code></td><td>{escape(node.label)}</td><td>{escape(node.slug)}</td>"
                   f"<td>{len(node.works)}</td></tr>" for node in taxonomy.nodes)
    return (f"<div><p><b>{escape(taxonomy.title)}</b>, version {escape(taxonomy.version)}, {escape(taxonomy.released)}</p>"
            "<table><thead><tr><th>id</th><th>label</th><th>slug</th><th>works</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></div>")


def _line(work) -> str:
    title = escape(work.title)
    # Whoever builds a Work by hand may give any address; only these two kinds are safe to click.
    if work.address and work.address.startswith(("https://", "http://")):
        title = f'<a href="{escape(work.address)}">{title}</a>'
    return f"{escape(work.by)} ({escape(work.year)}): {title}. {escape(work.venue)}."
