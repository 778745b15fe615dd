"""Modality shares: how much of the answer rests on the question's words and how much on the picture, and on both at once.

Shares. Words and regions of the picture are the players of one game; phi are their Shapley values (`mini_lib.games`).

    T-SHAP = sum over words |phi|  /  sum over words and regions |phi|          V-SHAP = 1 - T-SHAP

Interaction. The whole question T and the whole picture V play a game of two:

    f(TV) - f() = [f(T) - f()]  +  [f(V) - f()]  +  I           I = f(TV) - f(T) - f(V) + f()

f(S): log-probability of the answer, in nats, when only S is there. A region is taken away by a cover, a word by an embedding of
zeros before block 0.  I is the Shapley interaction index of the two: 0 where each adds its own (an additive task), positive
where one says nothing without the other (the XOR of a bit in the picture and a bit in the question), negative where either is
enough.  All three kinds can have shares of one half each, so that the shares alone tell none of them apart.

Sources: Parcalabescu and Frank 2023, arXiv:2212.08158, with their number of regions, about that of the words; the index:
Grabisch and Roubens 1999, Int. J. of Game Theory 28.
Misleads when effects cancel or are small: a share is of effects without their sign, so that two words that cancel count twice, and
noise counts as effect, so that few samples draw both shares towards the numbers of players. Shares and interaction depend on what
stands for "away". And a log-probability ends at 0: where each side alone makes the answer nearly sure, I is negative whatever the
model does with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan, sqrt

import numpy as np
from PIL import Image

from .....covers import filling, score, seen, showing
from .....games import blocks, redrawn, shared
from .....refusal import Refusal
from .....registry import Identity, method
from .....results import PatchMap

DRAWS = 100                         # of the sets, for the error of the share


@dataclass(frozen=True, kw_only=True)
class ModalityShares(PatchMap):
    """Shapley values of regions (`values`, a region's shared equally among its patches) and of words (`words`), in nats.

    game: (2, 2) nats, f() and f(V) in the first row, f(T) and f(TV) in the second: rows say whether the question is there,
    columns whether the picture is.
    """

    game: np.ndarray

    @property
    def text_share(self) -> float:
        """T-SHAP, 0 to 1; NaN where nothing matters more than rounding. The picture's share is the rest."""
        text, picture = sum(abs(value) for _, value in self.words), float(np.abs(self.values).sum())
        return text / (text + picture) if text + picture > self.measured["slack"] else nan

    @property
    def text_alone(self) -> float:
        """f(T) - f(), in nats: what the question brings without the picture."""
        return float(self.game[1, 0] - self.game[0, 0])

    @property
    def picture_alone(self) -> float:
        """f(V) - f(), in nats: what the picture brings without the question."""
        return float(self.game[0, 1] - self.game[0, 0])

    @property
    def interaction(self) -> float:
        """I, in nats: what the two bring together beyond what each brings alone."""
        return float(self.game[1, 1] - self.game[1, 0] - self.game[0, 1] + self.game[0, 0])

    @property
    def interaction_share(self) -> float:
        """|I| as a share of |text alone| + |picture alone| + |I|, 0 to 1; NaN where nothing matters more than rounding."""
        parts = np.abs([self.interaction, self.text_alone, self.picture_alone])
        return float(parts[0] / parts.sum()) if parts.sum() > self.measured["slack"] else nan

    def __repr__(self) -> str:
        return (f"ModalityShares({self.target!r}: {self.text_share:.0%} text (standard error {self.measured['text_share_error']:.1%}); "
                f"question alone {self.text_alone:+.3g}, picture alone {self.picture_alone:+.3g}, interaction {self.interaction:+.3g} nats)")

    def plot(self, truth: np.ndarray | None = None):
        """A figure: the picture, its map (`truth` (H, W) bool is outlined), and what each side brings alone and together."""
        from .....show import static
        fig, (left, middle, right) = static.figure(3)
        left.imshow(self.picture)
        static.title(left, f"{self.question}\n{self.target}")
        static.draw_map(middle, self, truth)
        static.title(middle, f"{self.method}\n{self.unit}, peak {self.values.max():.3g}")
        right.set_axis_on()
        right.bar(["question\nalone", "picture\nalone", "inter-\naction"], [self.text_alone, self.picture_alone, self.interaction],
                  color=static.INK)
        right.axhline(0, color=static.INK, linewidth=0.8)
        static.title(right, f"{self.text_share:.0%} text, {1 - self.text_share:.0%} picture\nnats")
        return fig

    def to_dict(self) -> dict:
        """Plain data for JSON; a share that is not defined is None."""
        shares = {"text_share": self.text_share, "interaction_share": self.interaction_share}
        return {**super().to_dict(), "game": [[float(f"{value:.6g}") for value in row] for row in self.game],
                "interaction": float(f"{self.interaction:.4g}"),
                **{name: None if isnan(share) else float(f"{share:.4g}") for name, share in shares.items()}}


def identity(mllm, prompt) -> list[Identity]:
    """Efficiency, and both ends and one side of the game are what the model says of such prompts."""
    target = mllm.target(prompt)
    halves = blocks(prompt.tokens.grid, -(-max(prompt.tokens.grid) // 2))
    found = modality_shares(mllm, prompt, target, regions=halves, samples=64 + 2 * len(prompt.tokens.words))
    total = found.values.sum() + sum(value for _, value in found.words)
    plain = mllm.score(prompt, target, [prompt.picture, filling(prompt.picture, "mean")]).numpy()
    everything = blocks(prompt.tokens.grid, max(prompt.tokens.grid))
    return [Identity("the values add up to f(prompt) - f(neither)", abs(total - found.measured["gap"]), mllm.slack),
            Identity("with nothing taken away the prompt is itself", abs(float(found.game[1, 1] - plain[0])), mllm.slack),
            Identity("the question alone is the question about the cover", abs(float(
                values(mllm, prompt, target, everything, "mean", _sides(len(prompt.tokens.words), 1))[2] - plain[1])), mllm.slack)]


@method("modality-shares", node="model/architecture/analysis/feature-attribution", paper="Parcalabescu and Frank 2023, arXiv:2212.08158",
        cost="one forward pass a set of words and regions, 512 by itself, and two more, once the answer is known; no backward pass",
        identity=identity)
def modality_shares(mllm, prompt, token: str | None = None, *, regions: Sequence[np.ndarray] | None = None, samples: int = 512,
                    exact: bool = False, cover: str | Image.Image = "mean", seed: int = 0) -> ModalityShares:
    """Shares of question and picture in the answer, and their interaction.

    token: explain this word instead of the whole answer.  regions: arrays of patch indices, no patch in two of them; by itself square
    blocks, about as many as the question has words. Patches in none of them are always seen.  samples: sets that KernelSHAP asks.
    exact: ask all 2^n sets of n words and regions instead.  cover: "mean" colour, "blur", "black", or a picture of the same size.
    measured["text_share_error"] is the standard error of the text share by the choice of sets: 0 where all were asked.
    Raises Refusal for no region, regions that overlap, and fewer samples than twice the players.
    """
    words, side = len(prompt.tokens.words), max(prompt.tokens.grid)
    regions = blocks(prompt.tokens.grid, ceil(side / min(side, ceil(sqrt(words))))) if regions is None else regions
    n = words + len(regions)
    if not len(regions) or len(np.unique(np.concatenate(regions))) < sum(map(len, regions)):
        raise Refusal("The regions of the picture have to be one or more, and no patch may be in two of them.")
    if not exact and samples < 2 * n + 2:
        raise Refusal(f"{samples} sets cannot tell {words} words and {len(regions)} regions apart; give samples={2 * n + 2} or more.")
    target, before = mllm.target(prompt, token), (mllm.passes, mllm.backward_passes)

    def value(sets):
        return values(mllm, prompt, target, regions, cover, sets)

    phi, sets, scores = shared(value, n, samples, exact, seed)
    picture, question = value(_sides(words, len(regions))[1:3])
    game = np.array([[scores[0], picture], [question, scores[-1]]])
    error = 0.0 if len(sets) == 2 ** n else float(_share(redrawn(sets, scores, DRAWS, seed), words).std())
    patches = np.zeros(len(prompt.tokens.boxes))
    for region, part in zip(regions, phi[words:]):
        patches[region] = part / len(region)
    return ModalityShares(
        patches.reshape(prompt.tokens.grid), "nats", prompt.picture, prompt.tokens.boxes, prompt.question, target.text,
        "modality shares", mllm.spent(before) | {"gap": float(scores[-1] - scores[0]), "regions": [float(f"{v:.4g}") for v in phi[words:]],
                                                 "text_share_error": float(f"{error:.4g}"), "slack": mllm.slack},
        tuple((word, float(part)) for (word, _), part in zip(prompt.tokens.words, phi)), game=game)


def values(mllm, prompt, target, regions, cover, sets: np.ndarray) -> np.ndarray:
    """f(S) for sets (K, words + regions) bool of what is there: (K,), in nats. Cost: one forward pass a set."""
    words = sets.shape[1] - len(regions)
    shown = showing(prompt, cover, seen(prompt, regions, sets[:, words:]))
    return score(mllm, prompt, target, shown, ~sets[:, :words])


def _sides(words: int, regions: int) -> np.ndarray:
    """(4, words + regions) bool: neither, the picture alone, the question alone, both."""
    return np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [words, regions], 1).astype(bool)


def _share(phi: np.ndarray, words: int) -> np.ndarray:
    """T-SHAP of each row of phi (K, n), the words first: (K,), 0 where all are 0."""
    text, total = np.abs(phi[:, :words]).sum(1), np.abs(phi).sum(1)
    return np.divide(text, total, out=np.zeros(len(phi)), where=total > 0)
