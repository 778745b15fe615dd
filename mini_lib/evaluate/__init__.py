"""Is an explanation right? Scores against planted truth, their floors and intervals, and negative controls."""

from .intervals import interval, say
from .localisation import chance, mass, pointing
from .sanity import random_map, redrawn

__all__ = ["chance", "interval", "mass", "pointing", "random_map", "redrawn", "say"]
