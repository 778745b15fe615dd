"""The cells of a chapter that are written by machine: the set-up cell and the line with the Colab link.

The set-up cell is the same, byte for byte, in every chapter. Only the address and the branch vary with the
book, and they come from `_config.yml`. It installs nothing, so Colab keeps its own torch.
"""

from . import site
from .lock import book_root

TAGS = ["hide-input", "nbval-ignore-output"]
FIRST_LINE = "# @title Set-up: run this cell first"
COLAB = "[Open in Colab]("

TEMPLATE = FIRST_LINE + '''
import os, pathlib, subprocess, sys
if "COLAB_RELEASE_TAG" in os.environ:                # nothing is installed, so torch stays Colab's own
    ROOT = pathlib.Path("/content/book")
    if not ROOT.exists():
        subprocess.run(["git", "clone", "-q", "--depth", "1", "--branch", "{branch}",
                        "{url}", str(ROOT)], check=True)
else:                                                # elsewhere: the checkout that this notebook lies in
    HERE = pathlib.Path.cwd().resolve()
    ROOT = next((folder for folder in (HERE, *HERE.parents) if (folder / "_config.yml").exists()), HERE)
sys.path.insert(0, str(ROOT))
from mini_lib import book; book.ready()              # one line: versions, device, what is missing and what to do'''


def setup_cell(folder=None) -> str:
    """The text of the set-up cell."""
    book = site(book_root(folder))
    return TEMPLATE.format(branch=book["branch"], url=book["url"])


def colab_line(slug: str, provenance: dict, folder=None) -> str:
    """The line under a chapter's title: the Colab link and, once it was run, what the run cost and when it was."""
    book = site(book_root(folder))
    path = book["url"].removeprefix("https://github.com/")
    line = f"{COLAB}https://colab.research.google.com/github/{path}/blob/{book['branch']}/chapters/{slug}.ipynb)"
    if provenance:
        line += f" · {provenance['seconds']} s on a {provenance['device']} · last run {provenance['date']}"
    return line


def stamp(notebook, slug: str, folder=None):
    """Write both into a notebook (an nbformat node, changed in place and returned)."""
    import nbformat

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code or not code[0].source.startswith(FIRST_LINE):
        position = 1 if notebook.cells and notebook.cells[0].cell_type == "markdown" else 0
        notebook.cells.insert(position, nbformat.v4.new_code_cell(id="set-up"))
        code = [notebook.cells[position]]
    code[0].source = setup_cell(folder)
    code[0].metadata["tags"] = list(TAGS)

    line = colab_line(slug, notebook.metadata.get("mini_lib", {}), folder)
    first = next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)
    if first is not None and first.source.startswith("# "):
        title, *rest = first.source.split("\n")
        body = "\n".join(text for text in rest if not text.startswith(COLAB)).strip("\n")
        first.source = f"{title}\n\n{line}\n\n{body}".rstrip("\n")
    return notebook
