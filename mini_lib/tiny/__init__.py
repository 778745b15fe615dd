"""`tiny`: a LLaVA of two million parameters, trained on Shapeland and shipped with the package."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
