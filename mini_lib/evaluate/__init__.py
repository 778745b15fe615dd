"""Is an explanation right? Scores against planted truth, their floors and intervals, and negative controls.

localisation: against the true mask.  faithfulness, erasing: against the model itself, by covering.  sanity: against models
that learnt nothing and other pictures.  robustness: against small changes.  intervals: what a mean is worth.
"""

from .erasing import erase
from .faithfulness import areas, curves, infidelity
from .intervals import interval, say
from .localisation import chance, iou, mass, pointing, rank_accuracy
from .robustness import noise, shift, stability
from .sanity import cascade, compare_pictures, random_map, redrawn, same_question
from .similarity import cosine_distance, rank_correlation

__all__ = ["areas", "cascade", "chance", "compare_pictures", "cosine_distance", "curves", "erase", "infidelity", "interval",
           "iou", "mass", "noise", "pointing", "random_map", "rank_accuracy", "rank_correlation", "redrawn", "same_question",
           "say", "shift", "stability"]
