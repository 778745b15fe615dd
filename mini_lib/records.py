"""Records of long work in a folder: resumable after a kill, and shared among processes.

    done = read(folder, head)                               # {(row, case): record}, each once
    with appending(folder / "records-0.jsonl", head) as file:
        file.write(line(record))

Each process writes a file of its own, `records-K.jsonl`: a header that says what the work is, then one line a record, appended in
one write as soon as it is known. Records are put together by their key, so that one that stands in two files counts once, and a
line that was torn off is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import timedelta
from pathlib import Path

from .refusal import Refusal

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")     # where launchers say how many processes run


def read(out: Path, head: dict, key: tuple[str, ...] = ("row", "case"), what: str = "scoreboard") -> dict[tuple, dict]:
    """All whole records in a folder by their key, each once; `find` for more than memory holds."""
    return {one: at(*where) for one, where in find(out, head, key, what).items()}


def find(out: Path, head: dict, key: tuple[str, ...], what: str) -> dict[tuple, tuple[Path, int]]:
    """Where each whole record lies, by its key: (file, offset), for `at`.

    Raises Refusal for a file whose header differs from `head`: it holds other work.
    """
    found: dict[tuple, tuple[Path, int]] = {}
    for path in sorted(out.glob("records-*.jsonl")):
        offset = 0
        with open(path, "rb") as file:
            for number, raw in enumerate(file):
                if not raw.endswith(b"\n"):
                    break                                       # torn off; or another process is just writing it
                record = _parsed(raw)
                if number == 0:
                    _check(record, head, out, what)
                elif record is not None:
                    found.setdefault(tuple(record[one] for one in key), (path, offset))
                offset += len(raw)
    return found


def at(path: Path, offset: int) -> dict:
    """The record that lies there."""
    with open(path, "rb") as file:
        file.seek(offset)
        return json.loads(file.readline())


def appending(path: Path, head: dict):
    """The file opened for unbuffered appending: a torn last line cut off, the header in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes() if path.exists() else b""
    file = open(path, "ab", buffering=0)
    file.truncate(data.rfind(b"\n") + 1)
    if b"\n" not in data:
        file.write(line(head))
    return file


def line(record: dict) -> bytes:
    return (json.dumps(record) + "\n").encode()


def fingerprint(network) -> str:
    """A hash of names, types, shapes and up to 1,024 evenly spaced numbers of every tensor: enough to tell two trainings
    apart in a second, not to prove that nothing was touched."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not tensor.is_meta:                                  # offloaded weights are not here to be read
            flat = tensor.detach().flatten()
            digest.update(flat[::max(1, len(flat) // 1024)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def team(device: str | None = None):
    """accelerate's state where a launcher started several processes, else None.

    `accelerate launch` starts one process a GPU; on CPUs `torchrun` does. Raises Refusal when accelerate is missing.
    """
    if not any(int(os.environ.get(name) or 1) > 1 for name in SIZES):
        return None
    try:
        from accelerate import PartialState
    except ImportError:
        raise Refusal("Several processes were started, and sharing the work needs a package that is missing: "
                      "pip install accelerate") from None
    import torch
    # Shares end at different times, on a slow model hours apart; the usual limit on waiting is minutes.
    return PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=timedelta(days=7))


def place(state) -> tuple[tuple[int, int], object]:
    """The number of this process and how many there are, and what to call once its share is done."""
    if state is None:
        return (0, 1), lambda: None
    return (state.process_index, state.num_processes), state.wait_for_everyone


def _check(first, head: dict, out: Path, what: str) -> None:
    for name in head:
        if not isinstance(first, dict) or first.get(name) != head[name]:
            raise Refusal(f"{str(out)!r} holds a {what} with {_said(name, first)}, not {_said(name, head)}; "
                          "give another --out, or delete that folder.")


def _parsed(raw: bytes) -> dict | None:
    """None for a damaged line, which is done again."""
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _said(name: str, head) -> str:
    value = head.get(name) if isinstance(head, dict) else None
    return f"the methods {', '.join(value)}" if name in ("rows", "methods") and value else f"{name} {value!r}"
