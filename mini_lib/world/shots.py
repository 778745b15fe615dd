"""Few-shot episodes: pictures with made-up words whose meaning holds for one episode only.

In one episode red is called "bovik" and blue "quibo", in the next one stars are called "quibo" and rings "ranvi". So
what a word means can only be read from the shots before the query, never from training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .scenes import COLORS, SHAPES, SIDE, Scenes, render, sample_scenes

MADE_UP = ("bovik", "clemo", "dralu", "fenzo", "gimpa", "hodri", "jarpe", "kelvu", "lumza", "mipro", "nerdu", "ostip",
           "pluvo", "quibo", "ranvi", "sorbu", "tazik", "ulmek", "vosna", "wibna", "xando", "yelto", "zuppi", "drofa")
HELD_OUT = ("trenka", "spavo", "glarfo", "jomuk", "hesvi", "nimzab", "fubri", "wendok")    # never in training
RULES = ("color", "shape")
_NAMES = {"color": COLORS, "shape": SHAPES}


@dataclass(frozen=True)
class Episodes:
    """`N` episodes of `K` pictures, the last one being the query and the others its shots.

    scenes: the N * K scenes of one object each, episode by episode.
    rule: (N,) what the episode's words mean, an index into `RULES`.
    group: (N, K) which of its episode's meanings each picture has, from 0; there are two (in training also more).
    words: (N, meanings) the word of each meaning.
    labels: (N, K) the word shown with each picture; the last one is the right answer.
    """

    scenes: Scenes
    rule: np.ndarray
    group: np.ndarray
    words: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rule)

    def __getitem__(self, rows) -> Episodes:
        """The chosen episodes; an int gives a batch of one."""
        rows = [rows] if isinstance(rows, (int, np.integer)) else rows
        pictures = np.arange(len(self.scenes)).reshape(self.group.shape)[rows].ravel()
        return Episodes(self.scenes[pictures], self.rule[rows], self.group[rows], self.words[rows], self.labels[rows])

    def __repr__(self) -> str:
        return f"Episodes({len(self)} episodes of {self.group.shape[1] - 1} shots and a query)"

    @cached_property
    def pictures(self) -> np.ndarray:
        """(N, K, SIDE, SIDE, 3) uint8."""
        return render(self.scenes).reshape(*self.group.shape, SIDE, SIDE, 3)

    @property
    def question(self) -> np.ndarray:
        """(N,) what is said of every picture of the episode, up to its word."""
        return np.array([f"the {RULES[r]} is called" for r in self.rule], object)

    @property
    def told(self) -> np.ndarray:
        """(N, K) what each picture shows, in two words and in either order: "red star" or "star red"."""
        color, shape = self.scenes.color[:, 0], self.scenes.shape[:, 0]
        words = [(COLORS[c], SHAPES[s])[::1 if (c + s) % 2 else -1] for c, s in zip(color, shape)]
        return np.array([" ".join(two) for two in words], object).reshape(self.group.shape)

    @property
    def meaning(self) -> np.ndarray:
        """(N, K) the true name of what each picture's word means: "red"."""
        names = {rule: np.array(_NAMES[rule], object)[getattr(self.scenes, rule)[:, 0]].reshape(self.group.shape) for rule in RULES}
        return np.where((self.rule == 0)[:, None], *(names[rule] for rule in RULES))

    @property
    def answer(self) -> np.ndarray:
        """(N,) the right word for the query."""
        return self.labels[:, -1]

    @property
    def known(self) -> np.ndarray:
        """(N, K) bool: whether an earlier picture of the episode shows the word of this one."""
        same = self.group[:, :, None] == self.group[:, None, :]
        return np.tril(same, -1).any(2)

    @property
    def matters(self) -> np.ndarray:
        """(N, K) bool: the shots of the query's own meaning, which show its word; False for the query."""
        same = self.group == self.group[:, -1:]
        same[:, -1] = False
        return same


def ceiling(shots: int) -> float:
    """Share of queries that a perfect learner gets right, of two meanings: those of whose meaning at least one shot was."""
    return 1 - 0.5 ** shots


def sample_episodes(n: int, k: int, rng: np.random.Generator | int = 0, words: tuple[str, ...] = MADE_UP,
                    names: bool = False, meanings: int = 2) -> Episodes:
    """Draw `n` episodes of `k` pictures: `k` - 1 shots and the query.

    Two colours (or two shapes) have a word each; a coin decides which of the two each picture shows, and everything
    else about it is free. With s shots none is of the query's meaning once in 2**s, and then its word was never
    shown; so a perfect learner is right in 1 - 0.5**s of all queries (`ceiling`), and in a few more by a lucky guess.
    words: the words to draw from.  meanings: how many colours (or shapes) have a word; training uses more than two.
    names: the stepping stone, labels being the names of the colours (shapes) themselves, so that no shot is needed.
    Raises ValueError for less than one picture, fewer than two meanings, or fewer words or shapes than meanings.
    """
    words = list(dict.fromkeys(words))
    if k < 1 or not 2 <= meanings <= min(len(words), len(COLORS), len(SHAPES)):
        raise ValueError(f"k={k}, {meanings} meanings, {len(words)} words: give at least one picture, two meanings, and "
                         f"a different word for each; there are {len(COLORS)} colours and {len(SHAPES)} shapes.")
    rng, rows = np.random.default_rng(rng), np.arange(n)[:, None]
    scenes = sample_scenes(n * k, rng, (1, 1))
    rule, group = rng.integers(len(RULES), size=n), rng.integers(meanings, size=(n, k))
    said = np.array(words, object)[_different(n, meanings, len(words), rng)]
    free = {name: rng.integers(len(of), size=(n, k)) for name, of in _NAMES.items()}
    for index, (name, of) in enumerate(_NAMES.items()):
        ruled, meaning = (rule == index)[:, None], _different(n, meanings, len(of), rng)
        free[name] = np.where(ruled, meaning[rows, group], free[name])
        if names:
            said = np.where(ruled, np.array(of, object)[meaning], said)
    scenes.color[:, 0], scenes.shape[:, 0] = free["color"].ravel(), free["shape"].ravel()
    return Episodes(scenes, rule, group, said, said[rows, group])


def _different(n: int, count: int, size: int, rng) -> np.ndarray:
    """(n, count) different numbers below `size`."""
    return np.argsort(rng.random((n, size)), 1)[:, :count]


def shuffled(episodes: Episodes, rng: np.random.Generator | int = 0) -> Episodes:
    """The control: each shot gets any of its episode's words, so that the shots say nothing.

    Pictures, words and the right answer stay.
    """
    coins = np.random.default_rng(rng).integers(episodes.words.shape[1], size=episodes.group.shape)
    labels = episodes.words[np.arange(len(episodes))[:, None], coins]
    labels[:, -1] = episodes.answer
    return replace(episodes, labels=labels)
