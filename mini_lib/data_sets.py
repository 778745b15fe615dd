"""The rows of a data set, one at a time: a picture and a question each.

    rows("my-folder")                            # pictures, and a .jsonl file with a line for each question
    rows("hf:org/name:validation")               # a data set of the Hub, streamed; needs the package `datasets`
    rows(dataset)                                # what `datasets.load_dataset` gave, streaming or not

A line of the file, or a row of the data set, has the keys `question` and `picture` (or `image`, `file_name`: a path within the folder);
what else it has is left alone. Pictures are opened when their turn comes, so that memory holds one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .refusal import Refusal

FILES = ("questions.jsonl", "metadata.jsonl", "truth.jsonl")     # ours, Hugging Face's for folders of pictures, `mini-lib world sample`'s
PICTURES, QUESTIONS = ("picture", "image", "file_name"), ("question", "prompt", "text")


@dataclass(frozen=True)
class Asked:
    """index: number of the row, from 0.  name: of the picture, or of the row.  picture: gives what `mllm.prompt` takes, when called."""

    index: int
    name: str
    question: str
    picture: Callable


def rows(source) -> Iterator[Asked]:
    """The rows in order, as a generator.

    Raises Refusal for a folder that is not there or holds no such file, a line that lacks a key, or when `datasets` is missing.
    """
    if not isinstance(source, (str, Path)):
        return _of_data_set(source)
    if str(source).startswith("hf:"):
        return _of_data_set(_streamed(str(source)[3:]))
    folder = Path(source)
    if not folder.is_dir():
        raise Refusal(f"There is no folder {str(source)!r}; give one, or hf:NAME for a data set of the Hub.")
    named = [folder / name for name in FILES if (folder / name).exists()]
    others = sorted(folder.glob("*.jsonl"))
    if not named and len(others) != 1:
        raise Refusal(f"{str(source)!r} holds {len(others) or 'no'} .jsonl files; put a questions.jsonl there, with a line such as "
                      '{"picture": "cat.png", "question": "what is this ?"}')
    return _of_file((named or others)[0])


def _of_file(path: Path) -> Iterator[Asked]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for index, text in enumerate(line for line in file if line.strip()):
            where = f"{str(path)!r}, line {index + 1},"
            try:
                row = json.loads(text)
                picture, question = _key(row, PICTURES, where), _key(row, QUESTIONS, where)
            except (json.JSONDecodeError, AttributeError, TypeError):
                raise Refusal(f"{where} is not a JSON object.") from None
            name = str(row[picture])
            yield Asked(index, name, str(row[question]), lambda name=name: path.parent / name)


def _of_data_set(data) -> Iterator[Asked]:
    for index, row in enumerate(data):
        picture, question = (_key(row, keys, f"Row {index} of the data set") for keys in (PICTURES, QUESTIONS))
        yield Asked(index, str(index), str(row[question]), lambda row=row, picture=picture: row[picture])


def _key(row, keys: tuple[str, ...], where: str) -> str:
    found = next((key for key in keys if row.get(key) is not None), None)
    if found is None:
        raise Refusal(f"{where} has no {keys[0]!r} ({', '.join(map(repr, keys[1:]))} would do); it has {', '.join(map(repr, row)) or 'nothing'}.")
    return found


def _streamed(name: str):
    try:
        from datasets import load_dataset
    except ImportError:
        raise Refusal(f"hf:{name} needs a package that is missing: pip install datasets") from None
    name, _, split = name.partition(":")
    try:
        return load_dataset(name, split=split or "train", streaming=True)
    except (OSError, ValueError) as error:               # not there, not reachable, or without such a split
        raise Refusal(f"hf:{name} cannot be read: {str(error).strip().splitlines()[0]}") from None
