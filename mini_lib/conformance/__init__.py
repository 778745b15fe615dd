"""The battery that every method has to pass, in the spirit of scikit-learn's `check_estimator`.

A method of your own goes through it in three lines, without being registered:

    from mini_lib import conformance

    def mine(mllm, prompt, token=None): ...             # returns a PatchMap, or another result of mini_lib.results

    print(*conformance.conform(mine), sep="\\n")

`conform` gives a list of findings: each says which check made it, what must hold, how far it is off, and how far it may
be. `verify` does the same for a model handle, on which all methods rest. `mini-lib check` runs both.

Source: scikit-learn, `sklearn.utils.estimator_checks`. What a battery cannot show is that a method is right about a model:
a map may conform and point at the wrong thing. That is what planted truth and controls are for (`mini_lib.evaluate`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..mllm import Target
from ..registry import Method, find, one_picture
from . import checks, handle, models
from .finding import Case, Finding, holds, run

__all__ = ["Case", "Finding", "case", "conform", "run", "verify"]


def conform(method: Method | str | Callable, mllm=None, prompt=None) -> list[Finding]:
    """Put a method through all checks: a registered one (or its slug), or a plain function (mllm, prompt, token=None).

    mllm: `tiny` by itself. What needs another kind of model (half precision, eager attention, another grid) is tried on
    `tiny` and on a small untrained one in any case.  prompt: a scene of Shapeland and a question on it by itself.
    What a method cannot satisfy by its nature it says when it is registered (`excuses`); there it is not counted.
    Cost: about fifteen calls of the method on `mllm` and ten on smaller ones.  Returns the findings, those that failed among
    them; nothing is raised for these.
    """
    method = find(method) if isinstance(method, str) else method
    excuses, given = dict(getattr(method, "excuses", {})), case(method, mllm, prompt)
    found = [replace(finding, excuse="" if finding.passed else excuses.get(finding.check, ""))
             for check in checks.CHECKS for finding in run(check, given)]
    stale = set(excuses) - {finding.check for finding in found if finding.excuse}
    return found + [holds(f"the excuse for {name} is needed", False, "it passes") for name in sorted(stale)]


def case(method: Method | str | Callable, mllm=None, prompt=None) -> Case:
    """What a single check is given: `run(checks.check_identities, case("occlusion"))`. Arguments as of `conform`.

    A plain function is given what `@method` gives all of them: it refuses a prompt of several pictures.
    """
    method, mllm = find(method) if isinstance(method, str) else method, mllm or models.tiny()
    prompt = prompt or _question(mllm)
    said = mllm.target(prompt)
    # One token, so that a model that answers at length does not cost more than one that does not.
    target = Target(said.ids[:1], 0, mllm.tokenizer.decode(said.ids[:1]).strip())
    if isinstance(method, Method):
        return Case(method.slug, method.explain, mllm, prompt, target, method.identity)
    name = getattr(method, "__name__", "the method")
    return Case(name, one_picture(name, method), mllm, prompt, target)


def verify(mllm=None) -> list[Finding]:
    """Put a model handle through its checks; `tiny` by itself. Cost: some sixty forward passes and a few answers."""
    return [finding for check in handle.CHECKS for finding in run(check, mllm or models.tiny())]


def _question(mllm):
    """The prompt that a method is tried on: a scene of Shapeland and a question on one of its objects."""
    from .. import world
    sample = world.sample(1, seed=0, kinds=("color",))[0]
    return mllm.prompt(sample.picture, sample.question)
