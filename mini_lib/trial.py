"""A few prompts made from one, for trying methods that compare many: `variants(mllm, prompt, 8)`.

No truth is known of them and none is needed: the battery asks whether a method is exact, repeatable and leaves no trace.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def variants(mllm, prompt, count: int) -> list:
    """`count` prompts with the question of one, on its picture shifted sideways and with colour channels turned; the first as it is."""
    pixels = np.asarray(prompt.picture)
    made = []
    for k in range(count):
        changed = np.roll(pixels, k * pixels.shape[1] // count, axis=1)
        made.append(Image.fromarray(np.roll(changed, k, axis=2)))
    return [mllm.prompt(picture, prompt.question) for picture in made]
