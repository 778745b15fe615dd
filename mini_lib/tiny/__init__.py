"""`tiny`: a LLaVA of two million parameters, trained on Shapeland and shipped with the package.

`load("tiny")` loads it; `mini_lib.tiny.store` knows its siblings and the checkpoints of its training.
"""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
