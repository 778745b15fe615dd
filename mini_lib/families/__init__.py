"""Which models work with which methods, and a small untrained model of each: `families.small("Qwen2.5-VL")`.

commands: `mini-lib families`.  table: the families as data.  build: a small model of the true classes from such data.
table.json: what came of running every method on each, written by `python -m tests.families`.
"""

from .commands import find, lines, read

__all__ = ["find", "lines", "read", "small"]


def small(name: str):
    """The handle of a family's small untrained model, on the CPU; built once a process and loaded from a folder as a user's own.

    name: as in `mini-lib families`, "Qwen2.5-VL".  Raises Refusal for a family that is not there, or cannot be built or loaded here.
    """
    from .build import small  # here, because the commands need no torch
    return small(name)
