"""quantus: scores of maps.

Not compared: its `Infidelity`, which keeps each block it has covered while it covers the next and multiplies the map by the
change of the input; its `Completeness`, which compares floats with `==`, so that no map of a network passes; its `MPRT`, which draws
anew only modules with `reset_parameters`: norms of Llama and the class token of CLIP stay trained.
"""

import numpy as np
import torch

from mini_lib.evaluate import curves, mass, pointing, rank_accuracy

from .pairs import pair

PLAIN = dict(disable_warnings=True, display_progressbar=False, abs=False, normalise=False)


def scored(name, maps, truth):
    """Score of each map, by quantus' metric of this name."""
    import quantus
    maps, truth = maps[:, None], truth[:, None].astype(int)
    return np.array(getattr(quantus, name)(**PLAIN)(model=None, x_batch=np.zeros(maps.shape), y_batch=np.zeros(len(maps), int),
                                                    a_batch=maps, s_batch=truth), float)


def maps_and_truth(least=0.0):
    """Twenty maps without ties, and a truth of some patches for each."""
    rng = np.random.default_rng(0)
    maps, truth = rng.normal(size=(20, 8, 8)).clip(least), rng.random((20, 8, 8)) < 0.3
    return np.where(maps > least, maps, least + rng.random(maps.shape) * 1e-3), truth


@pair("quantus", "pointing", "PointingGame", 1e-12)
def pointing_game(on):
    """Maps with a single peak."""
    maps, truth = maps_and_truth()
    return pointing(maps, truth), scored("PointingGame", maps, truth)


@pair("quantus", "pointing, a map of ties", "PointingGame", differs=0.5)
def pointing_game_of_ties(on):
    """quantus calls it a hit where any one of the patches that tie lies in the truth, so a map that says nothing scores 1; ours
    scores the share of them, which is chance."""
    _, truth = maps_and_truth()
    maps = np.ones(truth.shape)
    maps[:, 0, 0] = 0                                            # quantus refuses a map that is constant everywhere
    return pointing(maps, truth), scored("PointingGame", maps, truth)


@pair("quantus", "mass", "RelevanceMassAccuracy", 1e-12)
def relevance_mass(on):
    """Maps that are never negative."""
    maps, truth = maps_and_truth()
    return mass(maps, truth), scored("RelevanceMassAccuracy", maps, truth)


@pair("quantus", "mass, signed maps", "RelevanceMassAccuracy", differs=1.0)
def relevance_mass_of_signed_maps(on):
    """quantus divides by the sum over both signs, which leaves 0 to 1 and can be near 0; ours counts positive relevance alone."""
    maps, truth = maps_and_truth(least=-np.inf)
    found = scored("RelevanceMassAccuracy", maps, truth)
    assert found.min() < 0 or found.max() > 1
    return mass(maps, truth), found


@pair("quantus", "rank_accuracy", "RelevanceRankAccuracy", 1e-12)
def relevance_rank(on):
    """Maps without ties; those, quantus leaves to its sort."""
    maps, truth = maps_and_truth(least=-np.inf)
    return rank_accuracy(maps, truth), scored("RelevanceRankAccuracy", maps, truth)


@pair("quantus", "curves: deletion, 16 steps", "PixelFlipping", 1e-3)
def pixel_flipping(on):
    """Four patches a step. quantus leaves the whole picture out of its curve, and gives what the model gives, not normalised."""
    import quantus

    class Switches(torch.nn.Module):
        def forward(self, shown):
            return torch.stack([on.of_patches(shown)] * 2, 1)

    one = np.random.default_rng(0).random(on.prompt.tokens.grid)
    ours = curves(on.mllm, on.prompt, on.target, one[None], steps=16)
    theirs = quantus.PixelFlipping(features_in_step=4, perturb_baseline=0.0, **PLAIN)(
        model=Switches().eval(), x_batch=np.ones((1, 1, *one.shape)), y_batch=np.zeros(1, int), a_batch=one[None, None], softmax=False,
        channel_first=True)
    return ours.deletion[0, 1:], np.ravel(theirs)
