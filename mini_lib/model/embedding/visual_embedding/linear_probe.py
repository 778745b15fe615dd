"""Linear probes with control tasks: what can be read off the image tokens, point by point, and how much of that is the probe's own work.

Probe. Fit a linear classifier to the vectors of many tokens, and judge it on pictures that it has not seen:

    W, b = argmin  |W|^2 / 2 - sum_i log softmax(W x_i + b)[y_i]        accuracy(y) = mean over unseen tokens of [ argmax(W x_i + b) = y_i ]

x_i: (d,) the vector of image token i at one point, on the principal axes of all of them and of even spread, so that |W|^2 means
the same everywhere.  y_i: its label.  W: (labels, d), b: (labels,).

Control task. Give each type of token a label of its own, drawn at random; a type is what a token is, whatever picture it is in
(of a coloured shape: this shape in this colour). Nothing in the model is about that, so a probe can only learn it by heart:

    selectivity = accuracy(labels) - accuracy(control task)

Removing a label. Q: (k, d) orthonormal, the directions in which the means of the labels differ; c: (d,) the mean of those means.

    x  ->  x - Q^T Q (x - c)

After it all labels have the same mean, so that no linear classifier beats guessing on these tokens (Belrose et al. 2023,
arXiv:2306.03819); what the model then answers tells whether it used what the probe read.

Sources: Alain and Bengio 2016, arXiv:1610.01644 (linear probes); Hewitt and Liang 2019, arXiv:1909.03368 (control tasks);
Elazar et al. 2020, arXiv:2006.00995 (remove and ask again).
Misleads when accuracy is taken for use; when random weights or plain pixels read as much; when patches of one picture are on
both sides of the split; and when a type gives the label away, which makes the control task as easy as the true one.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch

from ....batches import in_batches
from ....evaluate.intervals import interval
from ....hooks import edit, points, record
from ....inputs import alike, joined, repeat_all
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Curves
from ....trial import variants

PAPER = "Hewitt and Liang 2019, arXiv:1909.03368"
DRAWS = 3               # control tasks; one alone may be easy by luck
FLOOR = 1e-2            # of the mean power: directions much fainter than that are not blown up


def probe_identity(mllm, prompt) -> list[Identity]:
    """The vectors are the model's own; the probe is linear, needs no lucky axes, and is judged on other pictures."""
    prompts = variants(mllm, prompt, 6)
    labels = [np.arange(len(one.tokens.image)) % 3 for one in prompts]
    last, picture = points(mllm)[-1], np.repeat(np.arange(6), [len(one) for one in labels])
    found, y, unseen = vectors(mllm, prompts, labels), np.concatenate(labels), held_out(picture, 0)
    logits = mllm.logits(prompt.inputs, last=prompt.inputs["input_ids"].shape[1])[0, prompt.tokens.image].cpu()
    with torch.no_grad():
        again = mllm.parts.head(mllm.parts.norm(found[last][picture == 0].to(mllm.device, mllm.model.dtype))).float().cpu()
    x, told = np.asarray(found[last], float), np.eye(3)[y]
    plain, mirrored = (fitted(one, y, unseen).decision_function(one[unseen]) for one in (evened(x, ~unseen), evened(reflected(x), ~unseen)))
    means = [removed(x, *directions(x, y))[y == k].mean(0) for k in range(3)]
    size = np.abs(x).max()
    return [Identity("the vectors after the last block give the model's own logits at the image tokens", float((again - logits).abs().max()),
                     mllm.slack * float(logits.abs().max().clamp(min=1))),
            Identity("a label that is written into the vectors is read without error",
                     1 - float((predicted(np.hstack([x / size, 9 * told]), y, unseen) == y[unseen]).mean()), 0.0),
            Identity("turning all vectors alike changes no score of the probe", float(np.abs(plain - mirrored).max()), 1e-4),
            Identity("no picture is on both sides of the split", float(len(np.intersect1d(picture[unseen], picture[~unseen]))), 0.0),
            Identity("once a label's directions are removed, its means are equal",
                     float(np.ptp(means, 0).max() / max(np.abs(x).mean(), 1e-12)), 1e-6)]


def reflected(x: np.ndarray) -> np.ndarray:
    """The vectors mirrored at a random plane: every axis is mixed with every other, and no length or angle changes."""
    normal = np.random.default_rng(0).normal(size=x.shape[1])
    return x - 2 * (x @ normal)[:, None] * normal / (normal @ normal)


def trial(mllm, prompt, token=None) -> Curves:
    """The probe on pictures made from one: which colour channel is the strongest at each token, and in which half of them it lies."""
    target, before, prompts = mllm.target(prompt, token), mllm.passes, variants(mllm, prompt, 8)
    shown = [pixels(one).reshape(len(one.tokens.image), -1, 3) for one in prompts]
    result = linear_probe(mllm, prompts, [one.mean(1).argmax(1) + 3 * (np.arange(len(one)) * 2 // len(one)) for one in shown],
                          [(one.mean((1, 2)) // 16).astype(int) for one in shown])
    return Curves(**{**vars(result), "question": prompt.question, "target": target.text,
                     "measured": {**result.measured, "forward_passes": mllm.passes - before}})


@method("linear-probe", node="model/embedding/visual-embedding", paper=PAPER, trial=trial, identity=probe_identity,
        cost="one forward pass a picture, for all points and labels; no backward pass")
def linear_probe(mllm, prompts, labels, types, found: dict | None = None, name: str = "label", seed: int = 0) -> Curves:
    """How well a label can be read off the image tokens, at each point from the pixels to the last block.

    labels: for each prompt (P,) whole numbers, one for each of its image tokens; -1 leaves a token out.
    types: the same for the control task: tokens of one type get one random label.
    found: what `vectors` gave for these prompts and tokens, so that several labels take one run of the model.
    Returns Curves of accuracy, the control task's accuracy, selectivity and the commonest label's share, each a mean over the
    pictures held out, with 95 % intervals. Raises Refusal when the tokens have one label only.
    """
    before, count = mllm.passes, [int((np.asarray(one) >= 0).sum()) for one in labels]
    found = vectors(mllm, prompts, labels) if found is None else found
    picture = np.repeat(np.arange(len(prompts)), count)
    y, kind = (np.concatenate([np.asarray(one)[np.asarray(label) >= 0] for one, label in zip(given, labels)]) for given in (labels, types))
    unseen = held_out(picture, seed)
    if len(np.unique(y[~unseen])) < 2 or not unseen.any():
        raise Refusal("A probe needs at least two labels among its tokens, and pictures to hold out; give more pictures.")
    tasks = [y, *(control(y, kind, draw) for draw in range(DRAWS))]

    def by_picture(right):
        return [right[picture[unseen] == one].mean() for one in np.unique(picture[unseen])]
    rows = {}
    common = by_picture(np.bincount(y[~unseen]).argmax() == y[unseen])
    for point, x in found.items():
        x = evened(np.asarray(x, np.float64), ~unseen)                              # once for all tasks
        right = [by_picture(guessed(x, task, unseen) == task[unseen]) for task in tasks]
        true, chance = np.array(right[0]), np.mean(right[1:], 0)
        rows[point] = [interval(one) for one in (true, chance, true - chance, common)]
    values, low, high = np.array(list(rows.values())).transpose(2, 1, 0)
    return Curves(values, ["accuracy", "control task", "selectivity", "commonest label"], list(rows), "point", f"accuracy of {name}",
                  "linear probe", low, high, measured={"forward_passes": mllm.passes - before, "tokens": len(y),
                                                        "pictures_held_out": len(common)})


def vectors(mllm, prompts, labels) -> dict[str, torch.Tensor]:
    """Point -> (n, width) float32 on the CPU: the vectors of all image tokens whose label is not -1, prompt by prompt.

    "pixels" is no point of the model but the plain baseline. "vision.K" enters block K of the tower, "vision.out" leaves its last
    one; "embed" leaves the connector. The tower is left out where its vectors are not one for each image token (merged, tiled).
    """
    kept = [np.flatnonzero(np.asarray(one) >= 0) for one in labels]
    if [len(np.asarray(one)) for one in labels] != [len(one.tokens.image) for one in prompts]:
        raise Refusal("Each prompt needs one label for each of its image tokens; -1 leaves a token out.")
    found = {"pixels": {k: torch.from_numpy(pixels(one)[rows]) for k, (one, rows) in enumerate(zip(prompts, kept))}}

    def run(batch):
        with record(mllm, *points(mllm)) as seen, tower(mllm) as shown:
            mllm.logits(joined([prompts[k].inputs for k in batch]))
        for row, k in enumerate(batch):
            count = len(prompts[k].tokens.image)
            for name, stream in (*shown.items(), *seen.items()):
                if name.startswith("vision"):
                    if stream.dim() != 3 or len(stream) != len(batch) or stream.shape[1] - count not in (0, 1):
                        continue
                    own = stream[row, -count:]                                     # (P, width): a class token comes first
                else:
                    own = stream[row, prompts[k].tokens.image.to(stream.device)]    # (P, d)
                found.setdefault(name, {})[k] = own[kept[k]].float().cpu()

    for group in alike([one.inputs for one in prompts]):
        in_batches(mllm, group, run)
    return {name: torch.cat([parts[k] for k in range(len(prompts))]) for name, parts in found.items() if len(parts) == len(prompts)}


@contextmanager
def tower(mllm):
    """Keep what enters each block of the vision tower, and what leaves the last one, which is to be read but is no point to edit."""
    names, blocks = [f"vision.{k}" for k in range(len(mllm.parts.vision))], mllm.parts.vision
    if not names:
        yield {}
        return
    with record(mllm, *names) as seen:
        def keep(module, args, output):
            seen["vision.out"] = (output[0] if isinstance(output, tuple) else output).detach()
        handle = blocks[-1].register_forward_hook(keep)
        try:
            yield seen
        finally:
            handle.remove()


def pixels(prompt, side: int = 8) -> np.ndarray:
    """(P, side * side * 3) float32, -1 to 1: what each image token covers of the picture; zeros where it covers nothing."""
    grid, out = prompt.tokens.one, np.zeros((len(prompt.tokens.image), side * side * 3), np.float32)
    for token in range(len(out)):
        boxes = grid.boxes[grid.cells(token)]
        if len(boxes):
            box = (*boxes[:, :2].min(0), *boxes[:, 2:].max(0))
            small = prompt.picture.convert("RGB").resize((side, side), box=tuple(map(float, box)))
            out[token] = np.asarray(small, np.float32).ravel() / 127.5 - 1
    return out


def held_out(picture: np.ndarray, seed: int, share: float = 0.3) -> np.ndarray:
    """(n,) bool: tokens of the pictures to judge by. Neighbouring patches look alike, so a picture is held out as a whole."""
    names = np.random.default_rng(seed).permutation(np.unique(picture))
    return np.isin(picture, names[:max(1, round(share * len(names)))])


def control(labels: np.ndarray, types: np.ndarray, seed: int) -> np.ndarray:
    """(n,) labels of a control task: each type gets one at random, as often as labels occur."""
    _, kind = np.unique(types, return_inverse=True)
    return np.random.default_rng(seed).choice(labels, kind.max() + 1)[kind]


def predicted(x, labels: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """What a probe, fitted to the tokens that are not in `unseen`, says of those that are."""
    return guessed(evened(np.asarray(x, np.float64), ~unseen), labels, unseen)


def guessed(x: np.ndarray, labels: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """The same for vectors that are evened already."""
    if len(np.unique(labels[~unseen])) == 1:                   # a control task of few types may give all of them one label
        return np.full(unseen.sum(), labels[~unseen][0])
    return fitted(x, labels, unseen).predict(x[unseen])


def fitted(x: np.ndarray, labels: np.ndarray, unseen: np.ndarray):
    """The probe: multinomial logistic regression with a ridge, fitted to the tokens that are not in `unseen`."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(tol=1e-3, max_iter=500).fit(x[~unseen], labels[~unseen])


def evened(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The vectors on the principal axes of the training tokens, all axes of about the same spread; the faintest stay fainter."""
    x = x - x[train].mean(0)
    if train.sum() < x.shape[1]:                               # fewer tokens than axes: only the axes that they span
        x = x @ np.linalg.svd(x[train], full_matrices=False)[2].T
    power, axes = np.linalg.eigh(x[train].T @ x[train] / train.sum())
    return x @ axes / np.sqrt(power.clip(0) + FLOOR * power.sum() / x.shape[1] + 1e-30)


def directions(x, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The directions in which the means of the labels differ, orthonormal rows (k - 1, d), and the mean of those means (d,)."""
    means = np.stack([np.asarray(x, np.float64)[labels == one].mean(0) for one in np.unique(labels)])
    centre = means.mean(0)
    return np.linalg.svd(means - centre, full_matrices=False)[2][:len(means) - 1], centre


def removed(x, axes, centre):
    """x - Q^T Q (x - c) for vectors (…, d), arrays or tensors: what is left of them without these directions."""
    return x - (x - centre) @ axes.T @ axes


def answers_without(mllm, prompt, tokens: np.ndarray, spaces) -> torch.Tensor:
    """Log-probabilities of the next word, (S + 1, V), when directions are removed from some image tokens behind the connector.

    tokens: which of the image tokens.  spaces: S pairs as `directions` gives them. The first row is the model as it is.
    """
    at = prompt.tokens.image[np.flatnonzero(np.asarray(tokens).ravel())]

    def run(batch):
        def changed(stream):
            stream = stream.clone()
            for row, space in enumerate(batch):
                if space is not None:
                    axes, centre = (torch.as_tensor(np.asarray(one), dtype=torch.float32, device=stream.device) for one in space)
                    stream[row, at] = removed(stream[row, at].float(), axes, centre).to(stream)
            return stream
        with edit(mllm, {"embed": changed}):
            return mllm.logits(repeat_all(prompt.inputs, len(batch)))[:, -1].log_softmax(-1).cpu()

    return torch.cat(in_batches(mllm, [None, *spaces], run))
