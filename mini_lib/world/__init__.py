"""Shapeland: a picture world whose every question has a known right explanation.

    from mini_lib import world
    samples = world.sample(8, seed=0)
    samples[0].question, samples[0].answer, samples[0].patches

Beside single pictures: `rationales` (multi-hop questions with written steps), `shots` (made-up words whose meaning is
set in the prompt), `clips` (four frames), `sounds` (tones as spectrograms) and `plants` (what training data has wrong
on purpose).
"""

from . import clips, digits, plants, rationales, shots, sounds
from .captions import CAPTION, COMPARE, LIST, captions, comparisons, lists
from .questions import (
    KINDS,
    MORE_KINDS,
    Questions,
    ask,
    truth_masks,
    truth_patches,
    twin,
)
from .samples import Sample, Samples, sample, write
from .scenes import (
    COLORS,
    DIGIT,
    GRID,
    MOST,
    NOUNS,
    PATCH,
    SHAPES,
    SIDE,
    SIZES,
    TINTS,
    Scenes,
    concatenate,
    object_masks,
    patch_cover,
    patch_labels,
    patch_owners,
    render,
    sample_scenes,
)

__all__ = ["CAPTION", "COLORS", "COMPARE", "DIGIT", "GRID", "KINDS", "LIST", "MORE_KINDS", "MOST", "NOUNS", "PATCH", "SHAPES", "SIDE", "SIZES",
           "TINTS", "Questions", "Sample", "Samples", "Scenes", "ask", "captions", "clips", "comparisons", "concatenate", "digits", "lists",
           "object_masks", "patch_cover", "patch_labels", "patch_owners", "plants", "rationales", "render", "sample",
           "sample_scenes", "shots", "sounds", "truth_masks", "truth_patches", "twin", "write"]
