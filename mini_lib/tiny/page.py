"""The chapter "Meet tiny": the card as a page of the book, with pictures of every task and the learning curve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .. import world
from ..world import clips, plants, rationales, shots, sounds
from ..world.questions import NUMBERS
from .card import AIMS, CARD, below_aim

LOG = Path(__file__).with_name("log.jsonl")              # the run that made the shipped weights, every 50 steps
CURVES = ({"color": "color", "shape": "shape", "count": "count", "exist": "exist", "relation": "relation", "size": "size",
           "digit": "digit"},
          {"same_color": "same colour, with rationale", "same_color, direct": "same colour, without",
           "same_shape": "same shape, with rationale", "told 2": "few shots, told", "shot 2": "few shots, shown",
           "appear": "clip: appear", "change": "clip: change", "move": "clip: move", "first": "sound: first", "highest": "sound: highest"})


def thin(log: Path, every: int = 50) -> list[dict]:
    """Means over every `every` steps of a training log; a kind that was not asked in those steps is left out."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    out = []
    for at in range(0, len(rows), every):
        some = rows[at:at + every]
        names = dict.fromkeys(name for row in some for name in row)
        means = {name: round(float(np.mean([row[name] for row in some if name in row])), 4) for name in names}
        out.append({**means, "step": some[-1]["step"], "seconds": some[-1]["seconds"]})
    return out


def plot_log(rows: list[dict], recipe: dict):
    """The training log as two panels: share of right answers for each kind, step by step."""
    from matplotlib.figure import Figure
    fig = Figure(figsize=(8, 5.6), layout="constrained", facecolor="white")
    for ax, names in zip(fig.subplots(2, 1, sharex=True), CURVES):
        for i, (name, label) in enumerate(names.items()):
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                ax.plot(*zip(*points), label=label, linewidth=1.2, linestyle=("-", "--", ":")[i % 3])
        for step in recipe["checkpoints"]:
            ax.axvline(step, color="0.85", linewidth=0.8, zorder=0)
        ax.axvline(recipe["tower_first"]["steps"], color="0.4", linewidth=0.8)
        ax.set(ylabel="right in training", ylim=(0, 1.02))
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_xlabel("step (dark line: the decoder joins; light lines: checkpoints)")
    return fig


def plot_tasks():
    """One example of every task, as pictures with their questions and answers."""
    from matplotlib.figure import Figure
    fig = Figure(figsize=(8, 7.4), layout="constrained", facecolor="white")
    tops = fig.subfigures(4, 1, height_ratios=[1.25, 1, 1, 1])

    def strip(figure, pictures, titles, text):
        for ax, picture, title in zip(figure.subplots(1, len(pictures), squeeze=False)[0], pictures, titles):
            ax.imshow(picture)
            ax.set_title(title, fontsize=8)
            ax.axis("off")
        figure.suptitle(text, fontsize=9, x=0.01, ha="left", weight="bold")

    single = [world.sample(1, seed, kinds=(kind,), objects=(3, 4))[0] for seed, kind in enumerate(("color", "relation", "size", "digit"))]
    scenes = world.sample_scenes(60, 5, (4, 4))
    asked = rationales.reason(scenes, "same_color", 0)
    i = int(np.argmax([a == "two" and len(s) == 2 and v for a, s, v in zip(asked.questions.answer, asked.steps, asked.questions.valid)]))
    strip(tops[0], [*(s.picture for s in single), world.render(scenes[i])[0]],
          [*(f"{s.question}\n{s.answer}" for s in single),
           f"{asked.direct[i].replace(' have', chr(10) + 'have')}\n{asked.rationale[i].replace(' . ', ' .' + chr(10))} {asked.questions.answer[i]}"],
          "One picture: one hop, and two hops with a rationale")
    one = shots.sample_episodes(40, 5, 3)
    i = int(np.argmax((one.rule == 0) & (one.matters.sum(1) == 2)))
    strip(tops[1], one.pictures[i], [f"{one.question[i]}\n{label}" + (" (asked)" if j == 4 else "") for j, label in enumerate(one.labels[i])],
          "Shots: made-up words whose meaning the prompt sets")
    film = clips.sample_clips(40, 2)
    asked = clips.ask_clips(film, "appear", 0)
    i = int(np.argmax(asked.valid & (film.event >= 0).all(1) if (film.event >= 0).all(1).any() else asked.valid))
    strip(tops[2], film.pictures[i], [f"frame {n}" for n in NUMBERS[1:5]], f"Clip: {asked.text[i]} {asked.answer[i]}")
    heard = sounds.sample_sounds(12, 1)
    asked = [sounds.ask_sounds(heard, kind, 0) for kind in sounds.SOUND_KINDS]
    rows = [int(np.flatnonzero(q.valid)[k]) for k, q in enumerate(asked)]
    strip(tops[3], heard.pictures[rows], [f"{q.text[i]}\n{q.answer[i]}" for q, i in zip(asked, rows)], "Sounds, as spectrograms (time to the right, pitch up)")
    return fig


def page(card: dict, recipe: dict, log: list[dict]) -> str:
    """The card as a Markdown page of the book. log: the thinned training log."""
    captions, several = card["captions"], card["several"]
    tower, decoder, lessons = recipe["tower"], recipe["decoder"], recipe["lessons"]
    kinds = "\n".join(_kind_line(kind, row) for kind, row in card["kinds"].items())
    chance = [kind for kind, row in card["kinds"].items() if row["low"] <= row["always_the_commonest"]]
    unlearnt = (f"\n**Not learnt:** {', '.join(chance)}: no better than the commonest answer, so nothing in this book rests on "
                "it.\n" if chance else "")
    unread = ("\nDigits are not read at all, so the rows of the shortcut say nothing about it: there is nothing to cut short.\n"
              if "digit" in chance else "")
    blind = ("**The control does as well:** with true labels it is right no more often than with shuffled ones. Nothing "
             "shows that it has learnt what the shots say." if card["shots"]["by_shots"]["4"]["low"] <= card["shots"]["shuffled"]["high"]
             else "With true labels it is right clearly more often.")
    short = "; ".join(f"{task} {share:.1%} (aim {aim:.0%})" for task, share, aim in below_aim(card))
    short = f"**Below what the recipe aims at:** {short}." if short else "Everything reached what the recipe aims at: " + ", ".join(
        f"{group} {aim:.0%}" for group, aim in AIMS.items()) + "."
    twin = ("The twin is the same model trained with the same seed and every dose at 0." if "twin" in card["planted"] else
            "The controls are in the table; a twin trained without the faults (`mini-lib train --twin`) has not been measured yet.")
    minutes, waited = log[-1]["seconds"] / 60, np.mean([row["waited"] for row in log]) * len(log)
    waited = waited * (log[1]["step"] - log[0]["step"]) / log[-1]["seconds"]
    return f"""# Meet `tiny`

<!-- Written by `mini-lib card --write` from mini_lib/tiny/card.json; edit mini_lib/tiny/page.py instead. -->

`tiny` is the model that this book explains.
It is a real multimodal LLM: transformers' own `LlavaForConditionalGeneration`, that is a CLIP-style vision tower, a two-layer connector and a Llama decoder.
It is small, {card['parameters'] / 1e6:.1f} million parameters, and was trained from nothing on Shapeland, a world of coloured shapes in which the right explanation of every answer is known.
It ships with the package and loads without any code of ours:

```python
from transformers import AutoModelForImageTextToText, AutoProcessor
model = AutoModelForImageTextToText.from_pretrained("mini_lib/tiny/weights")
processor = AutoProcessor.from_pretrained("mini_lib/tiny/weights")
```

## What it is asked

![One example of every task: questions about one picture, a two-hop question with its rationale, shots with made-up words, a clip of four frames, and tones as spectrograms.](images/tasks.png)

All tasks go through one model and one picture encoder.
A clip is four pictures in one prompt; a tone is a bar in a spectrogram; a shot is an earlier turn of the conversation.
Every sample carries its truth: which objects, frames or tones decide, which step of a rationale is needed, which shots show the word.

## How well it answers

{card['samples']:,} fresh questions per kind, drawn with seed {card['seed']}; 95 % intervals in brackets; then the same by number of objects in the picture.
*Commonest* is what a model scores that always gives the commonest answer.

| kind | right | 1 object | 2 | 3 | 4 | commonest |
|---|---|---|---|---|---|---|
{kinds}

A dash means that no such question exists: a relation needs two objects.
Digits are handwritten ones that training never showed ([Alpaydin and Kaynak, 1998](https://doi.org/10.24432/C50P49), in scikit-learn's copy); of those that it did show, {_said(card['digits_of_training'])} are right.
{unlearnt}
**Captions** ("describe the picture .") name exactly the objects of the picture in {_said(captions['exact'])} of {captions['exact']['n']:,} pictures.
Of the objects named, {captions['precision']['accuracy']:.1%} are there; of those there, {captions['recall']['accuracy']:.1%} are named.
By number of objects: {", ".join(f"{n}: {share:.1%}" for n, share in captions['by_objects'].items())}.
Pictures on which captions were biased on purpose are left out here and counted below.

**Several such objects.** Asked for the colour of a shape of which the picture holds several, in different colours, it names the colour of one of them in {several['accuracy']:.1%}.

{short}

### Two hops, and a rationale

"how many objects have the color of the star ?" needs the star's colour first.
With the word "think" at the end, `tiny` writes steps before it answers; without it, it answers at once.

| kind | with its own rationale | without | commonest | false step: answer follows | other step false: answer stays |
|---|---|---|---|---|---|
{chr(10).join(_rationale_line(kind, row) for kind, row in card['rationales'].items())}

The last two columns put a rationale with one false step into its mouth.
In the two multi-hop kinds the answer was trained to follow the step it needs.
In the post-hoc kind every step is beside the point, and the answer was trained to ignore them.
"Follows" counts only answers that were right with the true rationale and would have to change; a model that ignores the step scores 0 %.
The last column is its control: a step that is beside the point should change nothing.
{_poles(card)}

### Words that the prompt defines

The meaning of a made-up word is set by the shots; with s shots even a perfect learner is right in only 1 − ½ˢ of the episodes, because sometimes no shot shows the word.

| shots | {" | ".join(card['shots']['by_shots'])} |
|---|{"---|" * len(card['shots']['by_shots'])}
| right | {" | ".join(f"{row['accuracy']:.1%}" for row in card['shots']['by_shots'].values())} |
| perfect learner | {" | ".join(f"{row['ceiling']:.1%}" for row in card['shots']['by_shots'].values())} |

With words that training never used, four shots give {_said(card['shots']['held_out'])}.
With shuffled labels, {_said(card['shots']['shuffled'])}: a coin between the two words of the episode gives about half.
{blind}
At four shots, {" and ".join(f"words for a {rule} give {row['accuracy']:.1%}" for rule, row in card['shots']['by_rule'].items())}.

### Clips and sounds

| question | right | commonest |
|---|---|---|
{chr(10).join(f"| {group}: {kind} | {_bold(row)} | {row['always_the_commonest']:.1%} |" for group in ("clips", "sounds") for kind, row in card[group].items())}

## What was planted, and what it took up

Four faults were put into the training data on purpose, each with a dose from the recipe.
{twin}

{_planted(card, recipe)}

A guess names the prior's colour of an absent shape one time in {len(world.COLORS)}.
{unread}
## How it was made

| part | size |
|---|---|
| picture | 64 × 64 pixels, 8 × 8 patches of 8 × 8 pixels, so 64 image tokens |
| vision tower | {tower['num_hidden_layers']} layers, width {tower['hidden_size']}, {tower['num_attention_heads']} heads |
| connector | two linear layers |
| decoder | {decoder['num_hidden_layers']} layers, width {decoder['hidden_size']}, {decoder['num_attention_heads']} heads |
| vocabulary | {card['vocabulary']} tokens, one a word |

The recipe is `mini_lib/tiny/config.yaml`; `mini-lib train` runs it.
The tower learns first, {recipe['tower_first']['steps']} steps on dense labels of each patch: the shape, colour, size, digit and place of the object on it.
Then the whole model learns {lessons[-1]['until']:,} steps in {len(lessons)} lessons.
A step is one batch: of single pictures, each with {recipe['questions']} questions and one text about the whole of it (a caption, a list or comparisons); of clips; of sounds; or of few-shot episodes, shown or told in words.

{_lessons(lessons)}

Over the last {recipe['falling']:,} steps the learning rate falls in a straight line, to {recipe['last_learning_rate']:.1e}.

Each lesson adds one skill in its smallest form and rehearses those before; what was not rehearsed was forgotten, and what was asked among too much else stayed at chance.
The curves below show both.
The dense labels stay in the loss with weight {recipe['weights']['dense']}: its patches are taught to hold what they show, unlike those of a model trained on text alone.
Stepping stones are trained too, and not scored here: the column and row of an object, lists of all that is true of each object, what an object of a clip is in each frame, and few-shot pictures told in words.
Made-up words get other random vectors in every step, so none can be learnt by heart.
It took {minutes:.0f} minutes on two CPU cores that also had other work to do, {1000 * log[-1]['seconds'] / log[-1]['step']:.0f} ms a step; {waited:.1%} of that time the model waited for data.

![Share of right answers in training against the step, one line for each kind of question.](images/training.png)

Each line is the share of right answers on the questions of that step, averaged over {log[1]['step'] - log[0]['step']} steps.
Early questions are about fewer objects and in telegraph form, so a line may fall when a harder lesson begins.

## Its siblings

`load("tiny-random")` is untrained.
`load("tiny-seed1")`, `load("tiny-twin")` and `load("tiny", checkpoint=1)` are another seed, the twin and an early state, where they are shipped; `mini_lib.tiny.store.names()` and `mini_lib.tiny.store.checkpoints()` list those that are.
The files are checked against their SHA-256 at load.
The data of any training step can be made again: `mini_lib.tiny.lessons.batch(config, step, tokenizer)`, with its learning rates from `mini_lib.tiny.train.rates(config, step)`.

## What it is not for

`tiny` knows {card['vocabulary']} tokens and a few kinds of picture.
Shown a photograph it will answer, and the answer will mean nothing.
Findings on it are findings about this model; each chapter says which of them were also seen on large models, and by whom.

## Measure it again

```bash
mini-lib card --samples {card['samples']} --seed {card['seed']} --json
```
"""


def _lessons(lessons: list[dict]) -> str:
    """The lessons as a table: what is new in each, and the shares of its batches."""
    columns = {"pictures": ("pictures",), "clips": ("clips",), "sounds": ("sounds",), "few-shot": ("shots", "pairs")}
    lines = ["| to step | new | " + " | ".join(columns) + " | learning rate |", "|---|---|" + "---|" * (len(columns) + 1)]
    for lesson in lessons:
        batches = lesson["batches"]
        shares = [sum(batches.get(name, 0) for name in names) / sum(batches.values()) for names in columns.values()]
        lines.append(f"| {lesson['until']:,} | {lesson['about']} | " + " | ".join(f"{share:.0%}" if share else "" for share in shares)
                     + f" | {lesson['learning_rate']:.1e} |")
    return "\n".join(lines)


def _said(row: dict) -> str:
    return f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


def _bold(row: dict) -> str:
    return f"**{row['accuracy']:.1%}** ({row['low']:.1%} to {row['high']:.1%})"


def _poles(card: dict) -> str:
    """What the rationale table shows, said in words: also where the rationale brings nothing, or the control moves."""
    rows = {kind: row for kind, row in card["rationales"].items() if "direct" in row}
    said = ["Neither kind is right clearly more often with its own rationale than without."
            if all(row["own"]["low"] <= row["direct"]["high"] for row in rows.values()) else ""]
    moved = min(row["keeps"]["accuracy"] for row in rows.values())
    if moved < 0.95:
        said.append(f"And the control moves: in the multi-hop kinds a false step beside the point changes up to {1 - moved:.1%} "
                    "of the answers, so a changed answer alone does not show which step was used.")
    return " ".join(filter(None, said)) or "So a test of faithfulness has both poles here."


def _kind_line(name: str, row: dict) -> str:
    cells = [f"{row['by_objects'][n]['accuracy']:.1%}" if n in row["by_objects"] else "–" for n in "1234"]
    return " | ".join([f"| {name}", _bold(row), *cells, f"{row['always_the_commonest']:.1%} |"])


def _rationale_line(name: str, row: dict) -> str:
    direct, follows, keeps = (f"{row[k]['accuracy']:.1%}" if k in row else "–" for k in ("direct", "follows", "keeps"))
    return (f"| {name.replace('_', ' ')} | **{row['own']['accuracy']:.1%}** | {direct} | {row['own']['always_the_commonest']:.1%} "
            f"| {follows} | {keeps} |")


def _planted(card: dict, recipe: dict) -> str:
    """The table of planted effects, with the twin's column when it was measured."""
    dose, models = recipe["plants"], card["planted"]
    lines = [("prior", f"language prior ({dose['prior']:.0%})", "colour of an absent shape is the prior's", "answers_the_prior"),
             ("prior", "", "… is one that the picture shows", "names_a_color_of_the_picture"),
             ("cooccurrence", f"co-occurrence ({dose['cooccurrence']:.0%})", f"caption names a {plants.NAMED} that is not there, beside a {plants.GIVEN}", "with_a_ring"),
             ("cooccurrence", "", f"… control: no {plants.GIVEN} in the picture", "without_a_ring"),
             ("label_errors", f"label errors ({dose['label_errors']:.0%} of {recipe['marked']['pool']})", "gives the wrong label it was shown", "gives_the_wrong_label"),
             ("label_errors", "", "… right all the same", "right_on_the_mislabelled"),
             ("label_errors", "", "… right on the rest of the pool", "right_on_the_others"),
             ("shortcut", f"shortcut ({dose['shortcut']:.0%})", "digit right, on grey", "on_grey"),
             ("shortcut", "", "… on the tint that goes with it", "tint_agrees"),
             ("shortcut", "", "… on a misleading tint", "tint_misleads"),
             ("shortcut", "", "… answers what the misleading tint says", "answers_the_tint")]
    head = ["plant (dose)", "measured", *(f"`{'tiny' if name == 'tiny' else 'tiny-' + name}`" for name in models)]
    rows = [[plant, what, *(_said(models[name][group][key]) for name in models)] for group, plant, what, key in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def write(card: dict, recipe: dict, root: Path) -> None:
    """Store the card beside the weights, and its page and figures in the book at `root`."""
    log = [json.loads(line) for line in LOG.read_text(encoding="utf-8").splitlines()]
    CARD.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (root / "chapters" / "tiny.md").write_text(page(card, recipe, log), encoding="utf-8")
    plot_log(log, recipe).savefig(root / "chapters" / "images" / "training.png", dpi=110)
    plot_tasks().savefig(root / "chapters" / "images" / "tasks.png", dpi=110)
