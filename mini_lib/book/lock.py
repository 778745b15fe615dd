"""Which chapters are out of date, and why: `chapters.lock`.

A chapter's outputs were made by its code cells and by files: modules it imported, the weights of `tiny`, its
questions, the book's address. `chapters.lock` keeps a hash of each. Comparing them needs neither torch nor a
kernel, so the answer comes in well under a second.

Only standard library and yaml here: `mini-lib chapters stale` and the site build both wait for it.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

import yaml

from . import root, site

NAME = "chapters.lock"
CONFIG, QUESTIONS, WEIGHTS = "_config.yml", "chapters/questions.yaml", "mini_lib/tiny/weights"


def book_root(folder=None) -> Path:
    """`folder`, or the root of this checkout."""
    return Path(folder) if folder else root()


def find(folder=None) -> dict[str, Path]:
    """All chapters: slug → notebook, in a fixed order."""
    chapters = book_root(folder) / "chapters"
    return {path.relative_to(chapters).with_suffix("").as_posix(): path
            for path in sorted(chapters.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts}


def read(folder=None) -> dict[str, dict]:
    """The lock: slug → {code, outputs, files: {path: hash}}; empty where there is none."""
    path = book_root(folder) / NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(entries: dict[str, dict], folder=None) -> None:
    """Replace the lock. Chapters that are gone are dropped."""
    known = find(folder)
    kept = {slug: entry for slug, entry in sorted(entries.items()) if slug in known}
    replace_file(book_root(folder) / NAME, json.dumps(kept, indent=1, sort_keys=True) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Write a file in one step: whoever interrupts finds the old text or the new, never half of it."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def entry(slug: str, files: list[str], folder=None) -> dict:
    """What the lock says of a chapter that was just run and saved; `files` are paths below the root."""
    folder = book_root(folder)
    names = {*files, *weights(folder), CONFIG, QUESTIONS}
    return {**notebook_hashes(find(folder)[slug]),
            "files": {name: fingerprint(name, slug, folder) for name in sorted(names)}}


def stale(slug: str, folder=None, entries: dict | None = None) -> list[str]:
    """Why a chapter's outputs are out of date; an empty list if they are not."""
    folder = book_root(folder)
    known = (read(folder) if entries is None else entries).get(slug)
    if known is None:
        return ["never run"]
    now = notebook_hashes(find(folder)[slug])
    reasons = [text for part, text in (("code", "its code cells changed"), ("outputs", "its outputs were edited"))
               if now[part] != known[part]]
    for name in sorted({*known["files"], *weights(folder)}):
        print_now = fingerprint(name, slug, folder)
        if name not in known["files"]:
            reasons.append(f"{name} is new")
        elif print_now != known["files"][name]:
            reasons.append(f"{name} is gone" if print_now == "absent" else f"{name} changed")
    return reasons


def notebook_hashes(path: Path) -> dict[str, str]:
    """Hashes of a notebook's code and of its stored outputs. Prose is free to change."""
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    outputs = [[cell.get("execution_count"), cell.get("outputs", [])] for cell in cells]
    return {"code": digest(json.dumps(["".join(cell["source"]) for cell in cells]).encode()),
            "outputs": digest(json.dumps(outputs, sort_keys=True).encode())}


def weights(folder: Path) -> list[str]:
    """The files of `tiny`, which no import shows."""
    return [path.relative_to(folder).as_posix() for path in sorted((folder / WEIGHTS).glob("*")) if path.is_file()]


def fingerprint(name: str, slug: str, folder: Path) -> str:
    """The hash of a file; of `_config.yml` and the questions, only of the part that reaches this chapter."""
    path = folder / name
    if not path.exists():
        return "absent"
    if name == CONFIG:
        return digest(json.dumps(site(folder), sort_keys=True).encode())
    if name == QUESTIONS:
        return question_hashes(path, path.stat().st_mtime_ns).get(slug, "none")
    return file_hash(path, path.stat().st_mtime_ns, path.stat().st_size)


@cache
def question_hashes(path: Path, modified: int) -> dict[str, str]:
    """Read the questions once for all chapters."""
    questions = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {slug: digest(json.dumps(asked, sort_keys=True).encode()) for slug, asked in questions.items()}


@cache
def file_hash(path: Path, modified: int, size: int) -> str:
    """Hash a file once, however many chapters use it."""
    return digest(path.read_bytes())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
