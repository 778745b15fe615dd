"""Books in temporary folders: one not run, one run, one to break."""

import shutil
from pathlib import Path

import pytest

from tests.book.sample import make_book


@pytest.fixture
def book(tmp_path) -> Path:
    """A book whose one chapter was not run yet."""
    return make_book(tmp_path)


@pytest.fixture(scope="session")
def run_book(tmp_path_factory) -> Path:
    """A book whose one chapter was run. Shared: copy it before changing anything."""
    from mini_lib.book import chapters
    folder = make_book(tmp_path_factory.mktemp("run-book"))
    assert chapters.run(folder=folder) == {}
    return folder


@pytest.fixture
def done(run_book, tmp_path) -> Path:
    """A copy of the book that was run, free to be broken."""
    shutil.copytree(run_book, tmp_path / "copy")
    return tmp_path / "copy"
