"""Shapeland: a picture world whose every question has a known right explanation.

    from mini_lib import world
    samples = world.sample(8, seed=0)
    samples[0].question, samples[0].answer, samples[0].patches
"""

from .questions import CAPTION, KINDS, Questions, ask, captions, truth_masks, truth_patches, twin
from .samples import Sample, Samples, sample, write
from .scenes import (
                     COLORS,
                     GRID,
                     MOST,
                     PATCH,
                     SHAPES,
                     SIDE,
                     Scenes,
                     concatenate,
                     object_masks,
                     patch_cover,
                     patch_labels,
                     render,
                     sample_scenes,
)

__all__ = ["CAPTION", "COLORS", "GRID", "KINDS", "MOST", "PATCH", "SHAPES", "SIDE", "Questions", "Sample", "Samples",
           "Scenes", "ask", "captions", "concatenate", "object_masks", "patch_cover", "patch_labels", "render",
           "sample", "sample_scenes", "truth_masks", "truth_patches", "twin", "write"]
