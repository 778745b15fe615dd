"""What chapters use of the book: a light module, imported in Colab too.

    from mini_lib import book
    book.ready()                                  # the set-up cell: versions, device, what is missing
    book.check_yourself("data/input-output")      # the quiz at the end of a chapter
    book.cite("data/input-output")                # "Cite this chapter"

The rest of the package serves those who make the book: `chapters` (run notebooks), `lock` (which are
out of date), `stamp` (the set-up cell), `lint` (the house rules), `sphinx_ext` (the site).
"""

import os
import platform
import random
from functools import cache
from importlib import metadata
from pathlib import Path

import yaml

from .. import __version__
from .cards import check_yourself, cite

__all__ = ["check_yourself", "cite", "ready", "root", "site"]

NEEDED = {"torch": "torch", "transformers": "transformers", "numpy": "numpy", "matplotlib": "matplotlib",
          "PIL": "pillow", "yaml": "pyyaml", "safetensors": "safetensors", "tokenizers": "tokenizers"}
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false",
         "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}


@cache
def root(start: Path | None = None) -> Path:
    """The repository's root: the nearest folder, from here upwards, that holds `_config.yml`.

    `start` is where to begin. Without it: this file's own checkout, then the working directory.
    """
    places = [start] if start else [Path(__file__), Path.cwd()]
    for place in places:
        for folder in (place.resolve(), *place.resolve().parents):
            if (folder / "_config.yml").exists() and (folder / "chapters").is_dir():
                return folder
    raise FileNotFoundError(f"no book found: neither {places[0]} nor a folder above it holds _config.yml. "
                            "Run this inside a clone of the book's repository.")


def site(folder: Path | None = None) -> dict[str, str]:
    """The book's title, author, year, address and version. The address is set in `_config.yml` only."""
    config = yaml.safe_load(((folder or root()) / "_config.yml").read_text(encoding="utf-8"))
    return {"title": config["title"], "author": config["author"], "year": str(config["copyright"]),
            "url": config["repository"]["url"].rstrip("/"), "branch": config["repository"]["branch"],
            "baseurl": config["html"]["baseurl"].rstrip("/") + "/", "version": __version__}


def versions() -> dict[str, str]:
    """Versions of what decides a chapter's numbers; a package that is not installed is left out."""
    found = {"mini_lib": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "numpy"):
        try:
            found[package] = metadata.version(package).split("+")[0]
        except metadata.PackageNotFoundError:
            pass
    return found


def ready() -> None:
    """Prepare a notebook: quiet libraries, fixed seeds, plain figures; say in one line what runs here."""
    os.environ.update(QUIET)
    missing = [package for module, package in NEEDED.items() if not _importable(module)]
    if missing:
        print(f"Missing: {', '.join(missing)}. Install with: pip install {' '.join(missing)}")
        return
    import matplotlib
    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)
    matplotlib.rcParams.update({
        "figure.dpi": 110, "figure.figsize": (6.4, 3.6), "figure.constrained_layout.use": True,
        "image.interpolation": "nearest", "axes.spines.top": False, "axes.spines.right": False,
        "font.size": 10, "svg.hashsalt": "mini_lib"})
    _show_figures()
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    shown = ("mini_lib", "torch", "transformers", "python")
    print(" · ".join(f"{name} {versions()[name]}" for name in shown) + f" · {device}")


def _show_figures() -> None:
    """Show a Figure that ends a cell as a PNG. Notebooks do so by themselves only once pyplot was imported."""
    from IPython import get_ipython
    from IPython.core.pylabtools import select_figure_formats
    if get_ipython() is not None:
        select_figure_formats(get_ipython(), {"png"})


def _importable(module: str) -> bool:
    from importlib.util import find_spec
    return find_spec(module) is not None
