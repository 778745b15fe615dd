"""Explain every picture of a folder written by `mini-lib world sample`, and score the maps against its masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..refusal import Refusal
from ..results import PatchMap
from ..world.scenes import COVER
from .intervals import interval
from .localisation import pointing
from .sanity import random_map, redrawn


def score_folder(mllm, method, folder: str | Path, seed: int = 0) -> dict:
    """Answer and explain each sample of the folder.

    A map's peak counts as right when the objects' mask covers at least `COVER` of that patch. Only right answers are
    explained (a map of a wrong answer has another truth), and only those that rest on an object: a "no" to "is there a
    red star ?" rests on none. All maps of a picture explain the same words.
    Returns answers (share right) and pointing (share of peaks on the asked object) for the method, for a random map and
    for the same method on the model with re-drawn weights, each as mean, low, high and n.
    Raises Refusal when the folder holds no truth, or the method gives no patch map.
    """
    folder = Path(folder)
    lines = (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines() if (folder / "truth.jsonl").exists() else []
    if not lines:
        raise Refusal(f"{str(folder)!r} holds no truth.jsonl; make such a folder with: mini-lib world sample --out DIR")
    records = [json.loads(line) for line in lines]
    rng, control = np.random.default_rng(seed), redrawn(mllm, seed)
    right, hits = [], {method.slug: [], "random map": [], "re-drawn weights": []}
    for record in tqdm(records, desc=f"{method.slug} on {folder.name}", unit="picture"):
        prompt = mllm.prompt(folder / record["picture"], record["question"])
        said = mllm.answer(prompt)
        right.append(_plain(said) == _plain(record["answer"]))
        if not right[-1] or not record["patches"]:
            continue
        target = mllm.target(prompt)
        result = method.explain(mllm, prompt, target)
        if not isinstance(result, PatchMap):
            raise Refusal(f"{method.slug} gives no patch map, so there is no peak to score; try occlusion.")
        truth = _truth(np.asarray(Image.open(folder / record["mask"])) > 127, result)[None]
        maps = {method.slug: result.values, "random map": random_map(result.values.shape, rng),
                "re-drawn weights": method.explain(control, prompt, target).values}
        for name, values in maps.items():
            hits[name].append(float(pointing(values[None], truth)[0]))
    return {"answers": _summary(right), "pointing": {name: _summary(values) for name, values in hits.items()}}


def check_truth(path: Path) -> None:
    """Refuse a truth file with a line that does not say what scoring needs; `score_folder` refuses a missing one."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            missing = [key for key in ("picture", "question", "answer", "mask", "patches") if key not in record]
        except (json.JSONDecodeError, TypeError):
            raise Refusal(f"{str(path)!r}, line {number}, is not a JSON object; write the folder again with: "
                          "mini-lib world sample --out DIR") from None
        if missing:
            raise Refusal(f"{str(path)!r}, line {number}, holds no {missing[0]!r}; write the folder again with: "
                          "mini-lib world sample --out DIR")


def _plain(answer: str) -> str:
    """ "Red." counts as "red"."""
    return answer.strip().rstrip(".!").lower()


def _truth(mask: np.ndarray, result: PatchMap) -> np.ndarray:
    boxes = np.round(result.boxes).astype(int)
    return np.array([mask[top:bottom, left:right].mean() >= COVER for left, top, right, bottom in boxes]).reshape(result.values.shape)


def _summary(values) -> dict:
    if not values:
        return {"n": 0}
    mean, low, high = interval(values)
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4), "n": len(values)}
