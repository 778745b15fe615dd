"""Running chapters: what is stored, and that a failure stores nothing."""

import json
import subprocess
import sys
import time

import nbformat
import pytest

from mini_lib.book import chapters, lock, stamp
from mini_lib.book.lint import lint
from tests.book.sample import SLUG, make_book, make_chapter


def test_a_chapter_that_was_run_keeps_every_house_rule(run_book):
    assert lint(run_book / f"chapters/{SLUG}.ipynb", run_book) == []


def test_a_chapter_that_was_run_is_not_stale(run_book):
    assert lock.stale(SLUG, run_book) == []
    assert chapters.status(run_book)[0]["state"] == "up to date"


def test_provenance_says_what_made_the_outputs(run_book):
    metadata = nbformat.read(run_book / f"chapters/{SLUG}.ipynb", as_version=4).metadata
    assert metadata.kernelspec.name == "python3"
    assert set(metadata) == {"kernelspec", "language_info", "mini_lib"}
    assert metadata.mini_lib.device == "CPU" and metadata.mini_lib.seconds >= 1
    assert {"mini_lib", "python", "torch"} <= set(metadata.mini_lib.versions)


def test_the_picture_got_its_alternative_text(run_book):
    notebook = nbformat.read(run_book / f"chapters/{SLUG}.ipynb", as_version=4)
    alts = [cell.metadata.mystnb.image.alt for cell in notebook.cells if "mystnb" in cell.metadata]
    assert alts == ["One bar of height 0.87 beside one of 0.06"]


def test_the_lock_knows_which_modules_were_imported_and_no_others(run_book):
    files = lock.read(run_book)[SLUG]["files"]
    assert "mini_lib/book/cards.py" in files and "mini_lib/tiny/weights/config.json" in files
    assert "mini_lib/book/lint.py" not in files          # the chapter never imported it
    assert not any(name.startswith((".venv", "/")) for name in files)


@pytest.mark.parametrize("change, reason", [
    ("mini_lib/book/cards.py", "mini_lib/book/cards.py changed"),
    ("mini_lib/tiny/weights/config.json", "mini_lib/tiny/weights/config.json changed"),
])
def test_editing_a_file_that_the_chapter_used_makes_it_stale(done, change, reason):
    path = done / change
    path.write_text(path.read_text() + "\n# changed\n")
    assert lock.stale(SLUG, done) == [reason]


def test_editing_a_file_that_the_chapter_did_not_use_changes_nothing(done):
    (done / "mini_lib/book/lint.py").write_text("broken = ")
    config = done / "_config.yml"
    config.write_text(config.read_text() + "\n# a comment\n")
    questions = done / "chapters/questions.yaml"
    questions.write_text(questions.read_text() + "\nother/chapter: []\n")
    assert lock.stale(SLUG, done) == []


def test_new_weights_new_questions_a_new_address_and_a_lost_file_are_noticed(done):
    (done / "mini_lib/tiny/weights/new.safetensors").write_bytes(b"0")
    (done / "mini_lib/book/cards.py").unlink()
    questions = done / "chapters/questions.yaml"
    questions.write_text(questions.read_text().replace("And now?", "And then?"))
    config = done / "_config.yml"
    config.write_text(config.read_text().replace("ORG/REPO", "someone/book"))
    assert set(lock.stale(SLUG, done)) == {
        "mini_lib/tiny/weights/new.safetensors is new", "mini_lib/book/cards.py is gone",
        "chapters/questions.yaml changed", "_config.yml changed"}


def test_changed_code_and_edited_outputs_are_told_apart_and_prose_is_free(done):
    path = done / f"chapters/{SLUG}.ipynb"
    text = path.read_text()
    path.write_text(text.replace("Plain words.", "Other words."))
    assert lock.stale(SLUG, done) == []
    path.write_text(text.replace("x = 1\\n", "x = 2\\n"))
    assert lock.stale(SLUG, done) == ["its code cells changed"]
    path.write_text(text.replace("finds", "f").replace('"1\\n"', '"2\\n"'))
    assert lock.stale(SLUG, done) == ["its outputs were edited"]


def test_a_chapter_never_run_is_stale(book):
    assert lock.stale(SLUG, book) == ["never run"]
    assert chapters.status(book)[0]["state"] == "stale: never run"


@pytest.mark.parametrize("code, said", [
    ("1 / 0", "ZeroDivisionError"),
    ("import sys\nprint('a warning', file=sys.stderr)", "wrote to stderr: a warning"),
    ("print('x' * 500_000)", "at most 400 kB"),
])
def test_a_chapter_that_fails_is_left_exactly_as_it_was(tmp_path, monkeypatch, code, said):
    book = make_book(tmp_path, make_chapter(code=[code]))
    (book / "mini_lib/book/__init__.py").write_text("def ready(): pass\ncheck_yourself = cite = print\n")   # quick
    path = book / f"chapters/{SLUG}.ipynb"
    before = path.read_bytes()
    failures = chapters.run([SLUG], folder=book)
    assert said in failures[SLUG]
    assert path.read_bytes() == before
    assert not (book / lock.NAME).exists() and not list(path.parent.glob(".*"))


def test_an_unknown_chapter_is_refused_with_the_list_of_those_there_are(book):
    with pytest.raises(chapters.Failed, match="no such chapter: nonsense. There are: model/sample"):
        chapters.run(["nonsense"], folder=book)


def test_stamping_twice_changes_nothing_and_writes_the_address_of_the_book(book):
    config = book / "_config.yml"
    config.write_text(config.read_text().replace("ORG/REPO", "someone/book").replace("branch: main", "branch: v0.1.0"))
    assert chapters.stamp_all(folder=book) == [SLUG]
    assert chapters.stamp_all(folder=book) == []
    notebook = nbformat.read(book / f"chapters/{SLUG}.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert cell.source == stamp.setup_cell(book) and cell.metadata.tags == stamp.TAGS
    assert '"v0.1.0"' in cell.source and "https://github.com/someone/book" in cell.source
    assert "pip" not in cell.source and SLUG not in cell.source
    assert notebook.cells[0].source.splitlines()[2].startswith(
        "[Open in Colab](https://colab.research.google.com/github/someone/book/blob/v0.1.0/chapters/model/sample.ipynb)")


def test_listing_stale_chapters_takes_less_than_a_second_and_needs_no_torch(done):
    program = ("import sys, argparse; from mini_lib.book import commands; p = argparse.ArgumentParser();"
               "commands.add_parser(p.add_subparsers()); a = p.parse_args(['chapters', 'stale']);"
               "code = a.run(a); assert 'torch' not in sys.modules and 'nbformat' not in sys.modules; sys.exit(code)")
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", program], cwd=done, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert time.monotonic() - started < 1
    (done / lock.NAME).write_text(json.dumps({}))
    result = subprocess.run([sys.executable, "-c", program], cwd=done, capture_output=True, text=True)
    assert result.returncode == 1 and f"{SLUG}: never run" in result.stdout
