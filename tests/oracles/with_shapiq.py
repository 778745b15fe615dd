"""shapiq: Shapley values and interactions, exact and sampled."""

import numpy as np
import torch

from mini_lib import games
from mini_lib.games import blocks
from mini_lib.registry import find

from .pairs import pair

REGIONS = 4


def of_regions(on):
    """The answer as a game of four regions of the picture: sets (K, 4) -> (K,)."""
    regions = blocks(on.prompt.tokens.grid, REGIONS)

    def game(sets):
        shown = np.ones((len(sets), len(on.prompt.tokens.boxes)))
        for region, there in zip(regions, np.asarray(sets).T):
            shown[:, region] = there[:, None]
        with torch.no_grad():
            return on.of_patches(torch.from_numpy(shown)).numpy().astype(float)
    return game, regions


@pair("shapiq", "shapley, exact", "ExactComputer, SV", 1e-3)
def shapley(on):
    """Four regions, all 16 sets."""
    import shapiq
    game, regions = of_regions(on)
    found = shapiq.ExactComputer(game, n_players=len(regions))("SV", 1)
    ours = find("shapley").explain(on.mllm, on.prompt, on.target, regions=regions, exact=True)
    return [ours.values.ravel()[region].sum() for region in regions], [found[(i,)] for i in range(len(regions))]


@pair("shapiq", "shapley, fitted on all sets", "KernelSHAP, all sets", 1e-3)
def kernel_shap(on):
    """With as many samples as there are sets both fits are exact."""
    import shapiq
    game, regions = of_regions(on)
    found = shapiq.KernelSHAP(n=len(regions), random_state=0).approximate(2 ** len(regions), game)
    ours = find("shapley").explain(on.mllm, on.prompt, on.target, regions=regions, exact=False)
    return [ours.values.ravel()[region].sum() for region in regions], [found[(i,)] for i in range(len(regions))]


@pair("shapiq", "games.by_definition", "ExactComputer, SV", 1e-9)
def shapley_of_a_random_game(on):
    """Eight players and a value of its own for each of the 256 sets."""
    import shapiq
    n, worth = 8, np.random.default_rng(0).normal(size=256)

    def game(sets):
        return worth[np.asarray(sets) @ (1 << np.arange(n))]

    found = shapiq.ExactComputer(game, n_players=n)("SV", 1)
    return games.shared(game, n, 0, exact=True)[0], [found[(i,)] for i in range(n)]


def of_both(on, regions):
    """The answer as a game of the question's words and regions of the picture: sets (K, words + regions) -> (K,)."""
    words = len(on.prompt.tokens.words)

    def game(sets):
        sets = np.asarray(sets, bool)
        shown = np.ones((len(sets), len(on.prompt.tokens.boxes)))
        for region, there in zip(regions, sets[:, words:].T):
            shown[:, region] = there[:, None]
        with torch.no_grad():
            return on.of_patches(torch.from_numpy(shown), ~sets[:, :words]).numpy().astype(float)
    return game, words


@pair("shapiq", "modality-shares, interaction", "ExactComputer, SII of two players", 1e-3)
def interaction(on):
    """Question and picture as two players: their Shapley interaction index, in all its kinds, is one and the same number."""
    import shapiq
    whole = [np.arange(len(on.prompt.tokens.boxes))]
    game, words = of_both(on, whole)
    computer = shapiq.ExactComputer(lambda sets: game(np.repeat(sets, [words, 1], 1)), n_players=2)
    ours = find("modality-shares").explain(on.mllm, on.prompt, on.target, regions=whole, samples=32)
    return [ours.interaction] * 3, [computer(index, 2)[(0, 1)] for index in ("SII", "k-SII", "STII")]


@pair("shapiq", "modality-shares, exact", "ExactComputer, SV of words and regions", 1e-3)
def modality_shares(on):
    """Six words and two halves of the picture: all eight values, and the share of the question."""
    import shapiq
    halves = np.split(np.arange(len(on.prompt.tokens.boxes)), 2)
    game, words = of_both(on, halves)
    found = shapiq.ExactComputer(game, n_players=words + 2)("SV", 1)
    theirs = np.array([found[(i,)] for i in range(words + 2)])
    ours = find("modality-shares").explain(on.mllm, on.prompt, on.target, regions=halves, exact=True)
    parts = [ours.values.ravel()[half].sum() for half in halves]
    return ([*(value for _, value in ours.words), *parts, ours.text_share],
            [*theirs, np.abs(theirs[:words]).sum() / np.abs(theirs).sum()])
