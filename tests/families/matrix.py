"""Run every method on a family and say what came of it: data for the table of families."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mini_lib.mllm import Target
from mini_lib.refusal import Refusal
from mini_lib.registry import methods

QUESTION = "is the star red ?"
# Fewer samples than by default: what is asked is whether a method runs and its identities hold, not how finely.
FEW = {"occlusion": dict(size=4), "shapley": dict(samples=24, exact=False), "rise": dict(covers=8), "modality-shares": dict(samples=32), "integrated-gradients": dict(steps=8),
       "smoothgrad": dict(samples=2)}


def picture(size=(96, 64), seed: int = 0) -> Image.Image:
    """Noise in squares of 8 pixels, so that pictures differ wherever a model looks."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (-(-size[1] // 8), -(-size[0] // 8), 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def asked(mllm, size=(96, 64)):
    """A prompt on a picture that is not square, and one token of its answer."""
    prompt = mllm.prompt(picture(size), QUESTION)
    said = mllm.target(prompt)
    return prompt, Target(said.ids[:1], 0, mllm.tokenizer.decode(said.ids[:1]).strip())


def outcome(mllm, slug: str, prompt, target, identities: bool = True) -> dict:
    """What came of one method: {"works": True, …}, {"refused": reason} or {"fails": what does not hold}."""
    method = methods()[slug]
    try:
        result = method.explain(mllm, prompt, target, **FEW.get(slug, {}))
        numbers = getattr(result, "values", getattr(result, "word_chance", None))
        if not np.isfinite(numbers).all():
            return {"fails": "not every number is finite"}
        if hasattr(result, "boxes") and numbers.shape[-2:] != prompt.tokens.grid:
            return {"fails": f"its map is {numbers.shape} where the grid is {prompt.tokens.grid}"}
        if identities:
            failed = [str(one) for one in method.identity(mllm, prompt) if not one.passed]
            if failed:
                return {"fails": "; ".join(failed)}
    except Refusal as refusal:
        return {"refused": str(refusal)}
    except Exception as error:                                   # a row of the table says so, and the others are still run
        return {"fails": f"{type(error).__name__}: {error}"}
    return {"works": True}
