"""Run chapters: execute a notebook, check what it stored, and note what its outputs depend on.

One command makes all outputs: `mini-lib chapters run`. A chapter that fails, prints to stderr or stores too
much is reported and its file is left as it was; a chapter that ran is written in one step, together with its
line in `chapters.lock`. So interrupted work loses at most the chapter that was running.
"""

import copy
import datetime
import json
import os
import re
import time
from pathlib import Path

from . import lock, versions
from .stamp import stamp

LIMIT = 400_000            # bytes of a stored notebook
CELL_SECONDS = 600         # no cell may take longer
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "",
               "TQDM_DISABLE": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "MPLBACKEND": ""}

# Run in the chapter's own kernel after its last cell: which files of the book did it import?
# A line each: nbclient looks for carriage returns in time that is quadratic in the length of a line, minutes for one long one.
IMPORTED = """
import pathlib as _pathlib, sys as _sys
print(*sorted({str(_pathlib.Path(_m.__file__).resolve()) for _m in list(_sys.modules.values()) if getattr(_m, "__file__", None)}),
      sep="\\n")"""


class Failed(Exception):
    """A chapter that could not be stored; the message says which cell and why."""


def run(slugs: list[str] | None = None, only_stale: bool = False, folder=None) -> dict[str, str]:
    """Run chapters and store their outputs. Returns slug → what went wrong, empty if nothing did."""
    from tqdm import tqdm

    chapters = lock.find(folder)
    unknown = sorted(set(slugs or []) - set(chapters))
    if unknown:
        raise Failed(f"no such chapter: {', '.join(unknown)}. There are: {', '.join(chapters) or 'none yet'}")
    chosen = [slug for slug in chapters if not slugs or slug in slugs]
    if only_stale:
        stamp_all(chosen, folder)
        chosen = [slug for slug in chosen if lock.stale(slug, folder)]
    failures = {}
    bar = tqdm(chosen, unit="chapter", disable=None)
    for slug in bar:
        bar.set_description(slug)
        try:
            seconds = run_one(slug, folder)
            tqdm.write(f"ran {slug} in {seconds} s")
        except Failed as problem:
            failures[slug] = str(problem)
            tqdm.write(f"FAILED {slug}: {problem}\n  {chapters[slug]} was left as it was.")
    return failures


def run_one(slug: str, folder=None) -> int:
    """Execute one chapter, check it, store it and its lock entry. Returns the seconds it took."""
    import nbformat

    folder = lock.book_root(folder)
    path = lock.find(folder)[slug]
    notebook = normalise(stamp(nbformat.read(path, as_version=4), slug, folder))
    started = time.monotonic()
    files = execute(notebook, path, folder)
    seconds = max(1, round(time.monotonic() - started))
    check_streams(notebook)
    for cell in notebook.cells:
        describe_images(cell)
    notebook.metadata["mini_lib"] = {"versions": versions(), "device": "CPU", "seconds": seconds,
                                     "date": datetime.date.today().isoformat()}
    stamp(notebook, slug, folder)
    text = nbformat.writes(notebook) + "\n"
    if len(text) > LIMIT:
        raise Failed(f"it stores {len(text) // 1000} kB; at most {LIMIT // 1000} kB are allowed. "
                     "Use fewer or smaller frames.")
    lock.replace_file(path, text)
    lock.write({**lock.read(folder), slug: lock.entry(slug, files, folder)}, folder)
    return seconds


def execute(notebook, path: Path, folder: Path) -> list[str]:
    """Execute all cells, on the CPU, in a kernel of this very Python. Returns the book's files it imported."""
    import nbformat
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    class ThisPython(KernelSpecManager):
        """Whatever kernels are installed on the machine: use the interpreter that runs this."""

        def get_kernel_spec(self, kernel_name):
            return KernelSpec(**get_kernel_dict())

    client = NotebookClient(notebook, km=AsyncKernelManager(kernel_spec_manager=ThisPython()), timeout=CELL_SECONDS,
                            record_timing=False, store_widget_state=False, coalesce_streams=True,
                            resources={"metadata": {"path": str(path.parent)}})
    probe = nbformat.v4.new_code_cell(IMPORTED)
    notebook.cells.append(probe)
    count = 0
    try:
        # The kernel writes start-up notes straight to its stderr; they are no output of the chapter.
        with open(os.devnull, "w") as nowhere, client.setup_kernel(
                env={**os.environ, **ENVIRONMENT}, cleanup_kc=True, stderr=nowhere):
            for index, cell in enumerate(notebook.cells):
                if cell.cell_type == "code":
                    count += 1
                    client.execute_cell(cell, index, execution_count=count)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as problem:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(problem)).strip()
        raise Failed(f"code cell {count}: {message}") from None
    finally:
        notebook.cells.remove(probe)
    text = "".join(output.get("text", "") for output in probe.outputs)
    below = map(Path, text.strip().splitlines())
    return [file.relative_to(folder).as_posix() for file in below
            if file.is_relative_to(folder) and file.suffix == ".py" and ".venv" not in file.parts]


def normalise(notebook):
    """Drop what differs between machines and editors: metadata, widget state, old outputs."""
    kept = {key: copy.deepcopy(notebook.metadata[key]) for key in ("accelerator", "colab", "mini_lib")
            if key in notebook.metadata}
    notebook.metadata.clear()
    notebook.metadata.update({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"}, **kept})
    for cell in notebook.cells:
        cell.metadata = type(cell.metadata)({key: value for key, value in cell.metadata.items()
                                             if key in ("tags", "mystnb")})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def check_streams(notebook) -> None:
    """Refuse a chapter that wrote to stderr: a warning shown to every reader is a defect of the chapter."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                raise Failed(f"code cell {number} wrote to stderr: {output.text.strip()[:400]}")


def describe_images(cell) -> None:
    """Give a cell's picture its alternative text on the site: from a `# alt: …` line, or from the output itself."""
    if cell.cell_type != "code":
        return
    said = re.search(r"^# alt: *(.+)$", cell.source, re.MULTILINE)
    stored = [output.metadata.get("image/png", {}).get("alt") for output in cell.outputs if "metadata" in output]
    alt = said.group(1) if said else next(filter(None, stored), None)
    if alt:
        cell.metadata.setdefault("mystnb", {})["image"] = {"alt": alt}


def stamp_all(slugs: list[str] | None = None, folder=None) -> list[str]:
    """Write set-up cell and Colab line into chapters; a file that would not change is not touched."""
    import nbformat

    changed = []
    for slug, path in lock.find(folder).items():
        if slugs and slug not in slugs:
            continue
        old = path.read_text(encoding="utf-8")
        new = nbformat.writes(stamp(nbformat.reads(old, as_version=4), slug, folder)) + "\n"
        if new != old:
            lock.replace_file(path, new)
            changed.append(slug)
    return changed


def status(folder=None) -> list[dict]:
    """One row for each chapter: slug, state, seconds, date and size."""
    rows, entries = [], lock.read(folder)
    for slug, path in lock.find(folder).items():
        reasons = lock.stale(slug, folder, entries)
        provenance = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("mini_lib", {})
        rows.append({"chapter": slug, "state": f"stale: {reasons[0]}" if reasons else "up to date",
                     "seconds": provenance.get("seconds", ""), "last run": provenance.get("date", ""),
                     "kB": round(path.stat().st_size / 1000)})
    return rows
