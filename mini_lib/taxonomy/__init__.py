"""The taxonomy: the survey's tree as data with stable ids, the works filed in it, its checks and its pages.

    from mini_lib import taxonomy
    taxonomy.node("MX-0042").works             # a node of the shipped taxonomy, read once
    tree = taxonomy.load()                     # all of it
    tree.find("visual token").definition
    tree.narrower(tree.find("MX-0007"))
    taxonomy.search("patch of the picture", tree)
    taxonomy.lint("review.tex", tree)

The data lie in `taxonomy/` at the top of the repository. `load` reads them, `validate` checks them, `write_pages` writes
one page per node, `diff` compares two versions, `coverage` counts. Nothing here imports torch.
"""

from .coverage import coverage
from .diff import diff
from .lint import Fault, lint
from .load import load, node, shipped
from .nodes import Node, Taxonomy
from .pages import render_index, render_page, write_pages
from .search import search
from .validate import check_work, validate
from .works import Filing, Search, Work

__all__ = ["Fault", "Filing", "Node", "Search", "Taxonomy", "Work", "check_work", "coverage", "diff", "lint", "load",
           "node", "render_index", "render_page", "search", "shipped", "validate", "write_pages"]
