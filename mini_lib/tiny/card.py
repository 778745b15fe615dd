"""The model card of `tiny`: measure it again on fresh samples, and write the page from what was measured."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from .. import world
from ..evaluate import interval
from ..world.questions import CAPTION

CARD = Path(__file__).with_name("card.json")
LOG = Path(__file__).with_name("log.jsonl")              # the run that made the shipped weights, every 20 steps


def measure(mllm, samples: int = 2000, seed: int = 1) -> dict:
    """Accuracy per kind of question and number of objects, captions, and questions that have no one right answer.

    samples: fresh questions per kind.  seed: has to differ from the recipe's, which draws training data.
    """
    card = {"samples": samples, "seed": seed, "model": mllm.name, "vocabulary": len(mllm.tokenizer),
            "parameters": sum(p.numel() for p in mllm.model.parameters()), "kinds": {}}
    for i, kind in enumerate(world.KINDS):
        fresh = world.sample(samples, seed=[seed, i], kinds=(kind,))
        said = mllm.answers(fresh.pictures, fresh.questions.text, 3)
        right = np.array(said) == fresh.questions.answer
        card["kinds"][kind] = {**_share(right), "by_objects": _by_objects(right, fresh.scenes.count),
                               "always_the_commonest": round(Counter(fresh.questions.answer).most_common(1)[0][1] / samples, 4)}
    card["captions"] = _captions(mllm, samples, seed)
    card["no_such_object"], card["several"] = _ill_posed(mllm, samples, seed)
    return card


def _share(right) -> dict:
    mean, low, high = interval(right)
    return {"n": len(right), "accuracy": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


def _by_objects(right, count) -> dict:
    return {str(n): {"n": int((count == n).sum()), "accuracy": round(float(right[count == n].mean()), 4)}
            for n in sorted(set(count.tolist()))}


def _captions(mllm, samples: int, seed: int) -> dict:
    """A caption is right when it names exactly the objects of the picture, in any order."""
    scenes = world.sample_scenes(samples, np.random.default_rng([seed, 100]))
    said = mllm.answers(world.render(scenes), [CAPTION] * samples, 24)
    exact, precise, found = [], [], []
    for i, text in enumerate(said):
        truth = Counter((world.COLORS[c], world.SHAPES[s]) for c, s, p in
                        zip(scenes.color[i], scenes.shape[i], scenes.present[i]) if p)
        named = named_objects(text)
        both = (truth & named).total()
        exact.append(truth == named)
        precise.append(both / max(1, named.total()))
        found.append(both / truth.total())
    return {"exact": _share(exact), "precision": _share(precise), "recall": _share(found),
            "by_objects": _by_objects(np.array(exact), scenes.count)}


def named_objects(caption: str) -> Counter:
    """The (color, shape) pairs that a caption names, in either word order; other phrases count as (phrase, "")."""
    named = Counter()
    for phrase in caption.replace(".", " ").split(","):
        words = [w for w in phrase.split() if w != "a"]
        color = next((w for w in words if w in world.COLORS), None)
        shape = next((w for w in words if w in world.SHAPES), None)
        if words:
            named[(color, shape) if color and shape and len(words) == 2 else (" ".join(words), "")] += 1
    return named


def _ill_posed(mllm, samples: int, seed: int) -> tuple[dict, dict]:
    """"what color is the star ?" where there is no star, and where there are several of different colours."""
    scenes = world.sample_scenes(20 * samples, np.random.default_rng([seed, 200]), (2, world.MOST))
    rng = np.random.default_rng([seed, 201])
    shape = rng.integers(len(world.SHAPES), size=len(scenes))
    match = scenes.present & (scenes.shape == shape[:, None])
    colors = [{world.COLORS[c] for c in scenes.color[i, match[i]]} for i in range(len(scenes))]
    parts = []
    for rows in (np.flatnonzero(~match.any(1))[:samples], np.flatnonzero([len(c) > 1 for c in colors])[:samples]):
        chosen = scenes[rows]
        said = mllm.answers(world.render(chosen), [f"what color is the {world.SHAPES[s]} ?" for s in shape[rows]], 3)
        in_scene = [text in {world.COLORS[c] for c in chosen.color[i, chosen.present[i]]} for i, text in enumerate(said)]
        asked = [text in colors[row] for text, row in zip(said, rows)]
        parts.append((said, in_scene, asked))
    (absent, in_scene, _), (_, _, asked) = parts
    return ({"n": len(absent), "names_a_color_of_the_picture": _share(in_scene),
             "answers": {word: round(n / len(absent), 4) for word, n in Counter(absent).most_common(8)}},
            {"names_one_of_the_asked": _share(asked)})


def thin(log: Path, every: int = 20) -> list[dict]:
    """Means over every `every` steps of a training log; a kind that was not asked in those steps is left out."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    out = []
    for at in range(0, len(rows), every):
        some = rows[at:at + every]
        names = dict.fromkeys(name for row in some for name in row)
        means = {name: round(float(np.mean([row[name] for row in some if name in row])), 4) for name in names}
        out.append({**means, "step": some[-1]["step"], "seconds": some[-1]["seconds"]})
    return out


def plot_log(rows: list[dict], tower_steps: int):
    """The training log as a figure: share of right answers for each kind of question, step by step."""
    from matplotlib.figure import Figure
    fig = Figure(figsize=(7.5, 3.2), layout="constrained", facecolor="white")
    ax = fig.subplots()
    for name in (*world.KINDS, "place", "tower_shape"):
        points = [(row["step"], row[name]) for row in rows if name in row]
        ax.plot(*zip(*points), label=name.replace("_", ": "), linewidth=1.2, linestyle=":" if name == "tower_shape" else "-")
    ax.axvline(tower_steps, color="grey", linewidth=0.8)
    ax.text(tower_steps, 0.02, " the decoder joins", fontsize=8, color="#444")
    ax.set(xlabel="step", ylabel="right in training", ylim=(0, 1.02))
    ax.legend(frameon=False, fontsize=8, ncols=2)
    return fig


def page(card: dict, recipe: dict, log: list[dict]) -> str:
    """The card as a Markdown page of the book. log: the thinned training log."""
    def line(name, row):
        cells = [f"{row['by_objects'][n]['accuracy']:.1%}" if n in row["by_objects"] else "–" for n in "1234"]
        return " | ".join([f"| {name}", f"**{row['accuracy']:.1%}** ({row['low']:.1%} to {row['high']:.1%})", *cells,
                           f"{row['always_the_commonest']:.1%} |"])

    tower, decoder, lessons = recipe["tower"], recipe["decoder"], recipe["lessons"]
    captions, several, absent = card["captions"], card["several"], card["no_such_object"]
    common = ", ".join(f"{word or '(nothing)'} {share:.1%}" for word, share in absent["answers"].items())
    chance = [kind for kind, row in card["kinds"].items() if row["low"] <= row["always_the_commonest"]]
    unlearnt = (f"\n**Not learnt:** {', '.join(chance)}. Its interval holds what the commonest answer scores, so nothing in this "
                "book rests on it.\n" if chance else "")
    rows = "\n".join(line(kind, row) for kind, row in card["kinds"].items())
    return f"""# `tiny`: the model card

<!-- Written by `mini-lib card --write` from mini_lib/tiny/card.json; edit mini_lib/tiny/card.py instead. -->

`tiny` is the model that this book explains.
It is a real multimodal LLM: transformers' own `LlavaForConditionalGeneration`, that is a CLIP-style vision tower, a two-layer connector and a Llama decoder.
It is small, {card['parameters'] / 1e6:.1f} million parameters, and was trained from nothing on Shapeland, a world of coloured shapes in which the right explanation of every answer is known.
It ships with the package and loads without any code of ours:

```python
from transformers import AutoModelForImageTextToText, AutoProcessor
model = AutoModelForImageTextToText.from_pretrained("mini_lib/tiny/weights")
processor = AutoProcessor.from_pretrained("mini_lib/tiny/weights")
```

## How well it answers

{card['samples']:,} fresh questions per kind, drawn with seed {card['seed']}; 95 % intervals in brackets; then the same by number of objects in the picture.
*Commonest* is what a model scores that always gives the commonest answer.

| kind | right | 1 object | 2 | 3 | 4 | commonest |
|---|---|---|---|---|---|---|
{rows}

A dash means that no such question exists: a relation needs two objects.
{unlearnt}
**Captions** ("describe the picture .") name exactly the objects of the picture in {captions['exact']['accuracy']:.1%} ({captions['exact']['low']:.1%} to {captions['exact']['high']:.1%}) of {captions['exact']['n']:,} pictures.
Of the objects named, {captions['precision']['accuracy']:.1%} are there; of those there, {captions['recall']['accuracy']:.1%} are named.
By number of objects: {", ".join(f"{n}: {row['accuracy']:.1%}" for n, row in captions['by_objects'].items())}.

## Questions without one right answer

**No such object.** Asked for the colour of a shape that is not in the picture ("what color is the star ?" where there is no star; {absent['n']:,} pictures), it cannot say so: it has no word for it.
In {absent['names_a_color_of_the_picture']['accuracy']:.1%} of the cases it names the colour of some other object in the picture.
Its commonest answers: {common}.

**Several such objects.** Where the picture holds two or more objects of the asked shape, in different colours, it names the colour of one of them in {several['names_one_of_the_asked']['accuracy']:.1%} of {several['names_one_of_the_asked']['n']:,} pictures.

## How it was made

| part | size |
|---|---|
| picture | 64 × 64 pixels, 8 × 8 patches of 8 × 8 pixels, so 64 image tokens |
| vision tower | {tower['num_hidden_layers']} layers, width {tower['hidden_size']}, {tower['num_attention_heads']} heads |
| connector | two linear layers |
| decoder | {decoder['num_hidden_layers']} layers, width {decoder['hidden_size']}, {decoder['num_attention_heads']} heads |
| vocabulary | {card['vocabulary']} tokens, one a word |

The recipe is `mini_lib/tiny/config.yaml`; `mini-lib train` runs it.
The tower learns first, {recipe['tower_first']['steps']} steps on dense labels of each patch: shape, colour, column and row.
Then the whole model learns {lessons[-1]['until']:,} steps of {recipe['pictures']} pictures, each with one caption and {recipe['questions']} questions.
The dense labels stay in the loss with weight {recipe['dense_weight']}: its patches are taught to hold what they show, unlike those of a model trained on text alone.
Questions about an object's place are trained too, and not scored here.
It took {log[-1]['seconds'] / 60:.0f} minutes on two CPU cores that also had other work to do.

![Share of right answers in training against the step, one line for each kind of question.](images/training.png)

Each line is the share of right answers on the questions of that step, averaged over {log[1]['step'] - log[0]['step']} steps.
Early questions are about fewer objects and in telegraph form, so a line may fall when a harder lesson begins.

## What it is not for

`tiny` knows {card['vocabulary']} words and one kind of picture.
Shown a photograph it will answer, and the answer will mean nothing.
Findings on it are findings about this model; each chapter says which of them were also seen on large models, and by whom.

## Measure it again

```bash
mini-lib card --samples {card['samples']} --seed {card['seed']} --json
```
"""


def write(card: dict, recipe: dict, root: Path) -> None:
    """Store the card beside the weights, and its page in the book at `root`."""
    log = [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]
    CARD.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (root / "chapters" / "tiny.md").write_text(page(card, recipe, log), encoding="utf-8")
    plot_log(log, recipe["tower_first"]["steps"]).savefig(root / "chapters" / "images" / "training.png", dpi=110)
