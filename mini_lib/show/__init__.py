"""Figures: static ones in matplotlib, interactive ones that need no kernel. They know the result types, not the methods."""

from .interactive import Scrubber
from .static import lens_grid, patch_map, png

__all__ = ["Scrubber", "lens_grid", "patch_map", "png"]
