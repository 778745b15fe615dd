"""What a check finds, what it is given, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from ..registry import Identity
from . import models
from .witness import kept, watched

CAPTION = "describe the picture ."                     # tiny answers with many words and is not sure of each


@dataclass(frozen=True)
class Finding(Identity):
    """One claim of a check: it passes while `error` is not above `limit`.

    note: what stood behind the numbers, such as what was raised.  check: name of the function that found it.
    excuse: why the method may fail here; then it counts neither as passed nor as failed.
    """

    note: str = ""
    check: str = ""
    excuse: str = ""

    @property
    def excused(self) -> bool:
        return not self.passed and bool(self.excuse)

    @property
    def failed(self) -> bool:
        return not self.passed and not self.excuse

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "excused" if self.excused else "FAILED"
        numbers = "" if self.error in (0, float("inf")) else f": {self.error:.2g} where at most {self.limit:.2g} is allowed"
        return f"{verdict} {self.check}: {self.claim}{numbers}" + "".join(f"; {text}" for text in (self.note, self.excuse) if text)


@dataclass
class Case:
    """A method on a model and a prompt.

    explain: `explain(mllm, prompt, token)`.  target: the word to explain.  identity: the method's own, or None.
    """

    name: str
    explain: Callable
    mllm: object
    prompt: object
    target: object
    identity: Callable | None = None

    @cached_property
    def observed(self) -> tuple:
        """What the method gives for the prompt, and what the model saw of it: (result, Traffic)."""
        with watched(self.mllm) as seen:
            return self.explain(self.mllm, self.prompt, self.target), seen

    @property
    def result(self):
        """What the method gives for the prompt: the one that others are compared with."""
        return self.observed[0]

    @cached_property
    def captioned(self):
        """What it gives on `tiny` for an answer of several words."""
        return self.caption(models.tiny())

    def caption(self, mllm):
        """The same on another `tiny`. The words are those of the one in full precision, whatever this one would say."""
        tiny = models.tiny()
        target = tiny.target(tiny.prompt(self.prompt.picture, CAPTION))
        return self.explain(mllm, mllm.prompt(self.prompt.picture, CAPTION), target)


def holds(claim: str, right: bool, note: str = "") -> Finding:
    """A claim that is right or wrong, without a number between."""
    return Finding(claim, 0.0 if right else float("inf"), 0.0, note)


def said(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no text').splitlines()[0]}"


def run(check: Callable, given) -> list[Finding]:
    """What one check finds of a Case or an MLLM. What it raises is a finding too, under the first line of its docstring.

    Whatever the check leaves behind on a model is put back, except weights.
    """
    found, mllm = [], getattr(given, "mllm", given)
    with kept(mllm, models.small(), *models.tinies()):
        try:
            for finding in check(given):
                found.append(replace(finding, error=float(finding.error), limit=float(finding.limit), check=check.__name__))
        except Exception as error:
            found.append(replace(holds(check.__doc__.strip().splitlines()[0], False, said(error)), check=check.__name__))
    return found
