"""The taxonomy: the survey's tree as data with stable ids, its checks and its pages.

    from mini_lib import taxonomy
    tree = taxonomy.load()
    tree.find("visual token").definition
    tree.narrower(tree.find("MX-0007"))

The data lie in `taxonomy/` at the top of the repository. `load` reads them, `validate` checks them,
`write_pages` writes one page per node. Nothing here imports torch.
"""

from .load import Node, Taxonomy, load
from .pages import render_index, render_page, write_pages
from .validate import validate

__all__ = ["Node", "Taxonomy", "load", "render_index", "render_page", "validate", "write_pages"]
