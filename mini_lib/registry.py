"""The register of methods: ties a function to its taxonomy node, its source and its proof.

    @method("occlusion", node="data/input-output", paper=..., cost=..., identity=...)
    def occlusion(mllm, prompt, token=None): ...

Importing a method's module registers it; `methods()` imports them all by walking the three branch packages.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps

from .refusal import Refusal, nearest

BRANCHES = ("data", "model", "training_inference")


@dataclass(frozen=True)
class Identity:
    """An executable identity: `error` is how far the method is from what must hold; it passes up to `limit`."""

    claim: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.error <= self.limit          # a NaN does not pass

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'}: {self.claim} (error {self.error:.1e}, limit {self.limit:.0e})"


@dataclass(frozen=True)
class Method:
    """One explanation method. `explain(mllm, prompt, token=None)` returns a result that can be plotted and saved."""

    slug: str
    node: str
    paper: str
    cost: str
    explain: Callable
    identity: Callable
    excuses: dict[str, str] = field(default_factory=dict)
    many: bool = False                           # whether it compares many prompts; then `explain` is its trial on one


_METHODS: dict[str, Method] = {}


def method(slug: str, *, node: str, paper: str, cost: str, identity: Callable, excuses: dict[str, str] | None = None,
           pixels: bool = False, trial: Callable | None = None):
    """Register the decorated function.

    node: slug of the taxonomy node.  paper: author, year, arXiv id.  cost: forward and backward passes, in words.
    identity: `identity(mllm, prompt) -> list[Identity]`, what must hold exactly on any model.
    excuses: check of `mini_lib.conformance` -> why the method cannot pass it by its nature; one that is not needed fails.
    pixels: whether it only covers parts of the picture and asks nothing of image tokens.
    trial: for a method that compares many prompts: `trial(mllm, prompt, token=None)` runs it on a few made from one
    (`mini_lib.trial.variants`), so that the battery and the table of families can put it through what they put all through.
    The method raises Refusal for a prompt of several pictures, as its map would have one grid for all of them; and, but for
    `pixels`, where image tokens stand for no place in the picture, before any work is done.
    """
    def register(function):
        alone = trial or function
        explain = one_picture(slug, alone if pixels else placed(alone))
        _METHODS[slug] = Method(slug, node, paper, cost, explain, identity, excuses or {}, trial is not None)
        return function if trial else explain
    return register


def one_picture(name: str, function: Callable) -> Callable:
    """The function as it is, but for a prompt of several pictures, which is refused under this name."""
    @wraps(function)
    def explain(mllm, prompt, *args, **kwargs):
        pictures = getattr(prompt, "pictures", ())               # a toy prompt, as tests make them, may not say
        if len(pictures) > 1:
            raise Refusal(f"{name} explains one picture; this prompt has {len(pictures)}: "
                          "ask about one, without shots.")
        return function(mllm, prompt, *args, **kwargs)
    return explain


def placed(function: Callable) -> Callable:
    """The function as it is, but for a prompt whose image tokens stand for no place in the picture."""
    @wraps(function)
    def explain(mllm, prompt, *args, **kwargs):
        for grid in getattr(prompt.tokens, "grids", ()):
            grid.placed()
        return function(mllm, prompt, *args, **kwargs)
    return explain


def methods() -> dict[str, Method]:
    """All methods by slug, in the order of the tree."""
    for branch in BRANCHES:
        try:
            package = importlib.import_module(f"mini_lib.{branch}")
        except ModuleNotFoundError:
            continue                             # a branch without a method yet
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    return dict(sorted(_METHODS.items(), key=lambda item: (item[1].node, item[0])))


def find(name: str) -> Method:
    """A method by its slug, or the first method of a node by the node's slug; raises Refusal with the nearest names."""
    known = methods()
    by_node = {m.node: m for m in reversed(known.values())}
    if name in known:
        return known[name]
    if name in by_node:
        return by_node[name]
    raise Refusal(f"There is no method or node {name!r}{nearest(name, [*known, *by_node])}")
