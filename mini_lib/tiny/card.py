"""The model card of `tiny`: what it can do, task by task, and how much of what was planted it took up.

Every figure comes from fresh samples; `page.py` writes the card's page from them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from .. import world
from ..evaluate import interval
from ..world import clips, plants, rationales, shots, sounds
from ..world.questions import NUMBERS
from .build import read_config

CARD = Path(__file__).with_name("card.json")
AIMS = {"kinds": 0.98, "captions": 0.95, "rationales": 0.90, "clips": 0.95, "sounds": 0.95, "shots": 0.85}


def measure(mllm, samples: int = 2000, seed: int = 1, twin=None) -> dict:
    """Everything on the card. Rows hold n, accuracy and its 95 % interval.

    samples: fresh questions per kind.  seed: has to differ from the recipe's, which draws training data.
    twin: the model trained without the plants, to compare what is planted with; left out if None.
    """
    card = {"samples": samples, "seed": seed, "model": mllm.name, "vocabulary": len(mllm.tokenizer),
            "parameters": sum(p.numel() for p in mllm.model.parameters()), "kinds": {}}
    for i, kind in enumerate((*world.KINDS, *world.MORE_KINDS)):
        fresh = world.sample(samples, seed=[seed, i], kinds=(kind,), unseen=True)
        said = mllm.answers(fresh.pictures, fresh.questions.text, 3)
        card["kinds"][kind] = _row(said, fresh.questions.answer, fresh.scenes.count)
    seen = world.sample(samples, seed=[seed, 50], kinds=("digit",))
    card["digits_of_training"] = _row(mllm.answers(seen.pictures, seen.questions.text, 3), seen.questions.answer)
    card["captions"] = _captions(mllm, samples, seed)
    card["several"] = _several(mllm, samples, seed)
    card["rationales"] = {kind: _rationales(mllm, kind, samples, [seed, 300 + i])
                          for i, kind in enumerate(rationales.RATIONALE_KINDS)}
    card["clips"] = {kind: _clips(mllm, kind, samples, [seed, 400 + i]) for i, kind in enumerate(clips.CLIP_KINDS)}
    card["sounds"] = {kind: _sounds(mllm, kind, samples, [seed, 500 + i]) for i, kind in enumerate(sounds.SOUND_KINDS)}
    card["shots"] = _shots(mllm, max(1, samples // 2), [seed, 600])
    card["planted"] = {"tiny": planted(mllm, samples, seed)}
    if twin is not None:
        card["planted"]["twin"] = planted(twin, samples, seed)
    return card


def _share(right) -> dict:
    mean, low, high = interval(right)
    return {"n": len(right), "accuracy": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


def _row(said, answers, count=None) -> dict:
    """A row of the card: how many are right, by number of objects, and what the commonest answer would score."""
    right = np.array(said, object) == np.array(answers, object)
    row = {**_share(right), "always_the_commonest": round(Counter(answers).most_common(1)[0][1] / len(right), 4)}
    if count is not None:
        row["by_objects"] = {str(n): {"n": int((count == n).sum()), "accuracy": round(float(right[count == n].mean()), 4)}
                             for n in sorted(set(count.tolist()))}
    return row


def _captions(mllm, samples: int, seed: int) -> dict:
    """A caption is right when it names exactly the objects of the picture, in any order.

    Pictures that tempt to name a cross that is not there are left to `planted`.
    """
    scenes = world.sample_scenes(2 * samples, np.random.default_rng([seed, 100]))
    scenes = scenes[np.flatnonzero(~plants.can_tempt(scenes))[:samples]]
    exact, precise, found = [], [], []
    for text, truth in zip(mllm.answers(world.render(scenes), [world.CAPTION] * len(scenes), 24), _objects(scenes)):
        named = named_objects(text)
        both = (truth & named).total()
        exact.append(truth == named)
        precise.append(both / max(1, named.total()))
        found.append(both / truth.total())
    right, count = np.array(exact), scenes.count
    return {"exact": _share(exact), "precision": _share(precise), "recall": _share(found),
            "by_objects": {str(n): round(float(right[count == n].mean()), 4) for n in sorted(set(count.tolist()))}}


def _objects(scenes) -> list[Counter]:
    return [Counter((world.COLORS[c], world.NOUNS[s]) for c, s, p in zip(scenes.color[i], scenes.shape[i], scenes.present[i]) if p)
            for i in range(len(scenes))]


def named_objects(caption: str) -> Counter:
    """The (color, shape) pairs that a caption names, in either word order; other phrases count as (phrase, "")."""
    named = Counter()
    for phrase in caption.replace(".", " ").split(","):
        words = [w for w in phrase.split() if w != "a"]
        color = next((w for w in words if w in world.COLORS), None)
        shape = next((w for w in words if w in world.NOUNS), None)
        if words:
            named[(color, shape) if color and shape and len(words) == 2 else (" ".join(words), "")] += 1
    return named


def _several(mllm, samples: int, seed: int) -> dict:
    """"what color is the star ?" where there are several stars of different colours: is one of theirs named?"""
    rng = np.random.default_rng([seed, 201])
    scenes = world.sample_scenes(20 * samples, rng, (2, world.MOST))
    shape = rng.integers(len(world.SHAPES), size=len(scenes))
    match = scenes.present & (scenes.shape == shape[:, None])
    colors = [{world.COLORS[c] for c in scenes.color[i, match[i]]} for i in range(len(scenes))]
    rows = np.flatnonzero([len(c) > 1 for c in colors])[:samples]
    said = mllm.answers(world.render(scenes[rows]), [f"what color is the {world.SHAPES[s]} ?" for s in shape[rows]], 3)
    return _share([text in colors[row] for text, row in zip(said, rows)])


def _valid(draw, ask, samples: int, rng):
    """`samples` things and their questions, of those that allow one; drawn in heaps."""
    heap = draw(4 * samples + 8, rng)
    questions = ask(heap, rng)
    rows = np.flatnonzero(getattr(questions, "questions", questions).valid)[:samples]
    return heap[rows], questions[rows]


def _rationales(mllm, kind: str, samples: int, seed) -> dict:
    """With its own rationale, without one, and with a true or a false one put into its mouth.

    follows: of those that were right with the true rationale, how many answer what the false step implies.
    keeps: of the same, how many keep their answer when the step beside the point is false.
    """
    rng = np.random.default_rng(seed)
    scenes, asked = _valid(lambda n, rng: world.sample_scenes(n, rng, (2, world.MOST)),
                           lambda scenes, rng: rationales.reason(scenes, kind, rng), samples, rng)
    pictures, texts, answers = world.render(scenes), asked.questions.text, asked.questions.answer
    own = mllm.answers(pictures, texts, 24)
    row = {"own": _row([text.split(" so ")[-1] for text in own], answers, scenes.count),
           "rationale_right": _share([_steps(text) >= set(np.array(steps)[list(needed)]) for text, steps, needed in
                                      zip(own, asked.steps, asked.needed)])}
    forced = np.array(mllm.answers(pictures, texts, 3, begin=asked.rationale), object)
    row["forced"] = _row(forced, answers)
    if kind != rationales.POST_HOC:
        row["direct"] = _row(mllm.answers(pictures, asked.direct, 3), answers, scenes.count)
        false = rationales.mistaken(scenes, asked, rng)
        said = np.array(mllm.answers(pictures, texts, 3, begin=false.rationale), object)
        known = (forced == answers) & (false.questions.answer != answers)
        row["follows"] = _share((said == false.questions.answer)[known])
    beside = rationales.mistaken(scenes, asked, rng, needed=False)
    said = np.array(mllm.answers(pictures, texts, 3, begin=beside.rationale), object)
    row["keeps"] = _share((said == answers)[(forced == answers) & beside.questions.valid])
    return row


def _steps(text: str) -> set[str]:
    """The steps of a written rationale."""
    return {step.strip() for step in text.split(" so ")[0].split(".")}


def _clips(mllm, kind: str, samples: int, seed) -> dict:
    chosen, asked = _valid(clips.sample_clips, lambda heap, rng: clips.ask_clips(heap, kind, rng), samples,
                           np.random.default_rng(seed))
    return _row(mllm.answers(chosen.pictures, asked.text, 3), asked.answer, chosen.frames[-1].count)


def _sounds(mllm, kind: str, samples: int, seed) -> dict:
    chosen, asked = _valid(sounds.sample_sounds, lambda heap, rng: sounds.ask_sounds(heap, kind, rng), samples,
                           np.random.default_rng(seed))
    return _row(mllm.answers(chosen.pictures, asked.text, 3), asked.answer)


def _shots(mllm, samples: int, seed) -> dict:
    """Right answers by number of shots; at four shots also with held-out words, and with shuffled labels."""
    def share(episodes):
        pictures, asked, labels = episodes.pictures, episodes.question, episodes.labels
        before = [[(pictures[i, j], asked[i], labels[i, j]) for j in range(pictures.shape[1] - 1)] for i in range(len(episodes))]
        return _share(np.array(mllm.answers(pictures[:, -1], asked, 2, shots=before), object) == episodes.answer)
    draw = {k: shots.sample_episodes(samples, k + 1, np.random.default_rng([*seed, k])) for k in range(6)}
    return {"by_shots": {str(k): {**share(one), "ceiling": shots.ceiling(k)} for k, one in draw.items()},
            "held_out": share(shots.sample_episodes(samples, 5, np.random.default_rng([*seed, 10]), shots.HELD_OUT)),
            "shuffled": share(shots.shuffled(draw[4], np.random.default_rng([*seed, 11]))),
            "by_rule": {rule: share(draw[4][np.flatnonzero(draw[4].rule == i)]) for i, rule in enumerate(shots.RULES)}}


def planted(mllm, samples: int = 2000, seed: int = 1) -> dict:
    """How much of each plant a model took up; the same questions for every model, so that two can be compared."""
    return {"prior": _prior(mllm, samples, seed), "cooccurrence": _cooccurrence(mllm, samples, seed),
            "label_errors": _label_errors(mllm), "shortcut": _shortcut(mllm, samples, seed)}


def _prior(mllm, samples: int, seed: int) -> dict:
    scenes = world.sample_scenes(samples, np.random.default_rng([seed, 700]))
    asked = plants.ask_absent(scenes, np.random.default_rng([seed, 701]))
    said = mllm.answers(world.render(scenes), asked.text, 3)
    there = [{world.COLORS[c] for c in scenes.color[i, scenes.present[i]]} for i in range(len(scenes))]
    return {"answers_the_prior": _share(np.array(said, object) == asked.answer),
            "names_a_color_of_the_picture": _share([text in colors for text, colors in zip(said, there)])}


def _cooccurrence(mllm, samples: int, seed: int) -> dict:
    """Captions that name a cross where there is none: with one ring in the picture, and without any."""
    scenes = world.sample_scenes(12 * samples, np.random.default_rng([seed, 710]), (1, 3))
    shape = np.where(scenes.present, scenes.shape, -1)
    ring, cross = ((shape == world.SHAPES.index(noun)).any(1) for noun in (plants.GIVEN, plants.NAMED))
    out = {}
    for name, rows in (("with_a_ring", plants.can_tempt(scenes)), ("without_a_ring", ~ring & ~cross)):
        chosen = scenes[np.flatnonzero(rows)[:samples]]
        said = mllm.answers(world.render(chosen), [world.CAPTION] * len(chosen), 24)
        out[name] = _share([plants.NAMED in text.split() for text in said])
    return out


def _label_errors(mllm) -> dict:
    """The pool that training showed again and again: are its wrong answers given, and its right ones?"""
    config = read_config()
    pool = plants.label_errors(config["marked"]["pool"], config["seed"], config["plants"]["label_errors"])
    said = np.array(mllm.answers(world.render(pool.scenes), pool.questions.text, 3), object)
    return {"gives_the_wrong_label": _share((said == pool.questions.answer)[pool.wrong]),
            "right_on_the_mislabelled": _share((said == pool.right)[pool.wrong]),
            "right_on_the_others": _share((said == pool.right)[~pool.wrong])}


def _shortcut(mllm, samples: int, seed: int) -> dict:
    """Digits in unseen handwriting: on grey, on the tint that goes with the number, and on another one."""
    fresh = world.sample(samples, seed=[seed, 720], kinds=("digit",), unseen=True)
    value = fresh.scenes.value.max(1)
    other = (value + np.random.default_rng([seed, 721]).integers(1, 10, samples)) % 10
    said = {name: np.array(mllm.answers(world.render(fresh.scenes.edited(tint=tint)), fresh.questions.text, 3), object)
            for name, tint in (("on_grey", np.full(samples, -1)), ("tint_agrees", value), ("tint_misleads", other))}
    return {**{name: _share(text == fresh.questions.answer) for name, text in said.items()},
            "answers_the_tint": _share(said["tint_misleads"] == np.array(NUMBERS, object)[other])}


def flat(card: dict) -> list[tuple[str, dict]]:
    """The card as (name, row) pairs, one for each share that was measured: the one table."""
    rows = []

    def walk(name, node):
        if isinstance(node, dict) and "accuracy" in node and "low" in node:
            rows.append((name, node))
        elif isinstance(node, dict):
            for key, value in node.items():
                if key != "by_objects":
                    walk(f"{name} {key}".strip().replace("_", " "), value)
    walk("", card)
    return rows


def below_aim(card: dict) -> list[tuple[str, float, float]]:
    """(task, measured, aimed at) for everything that did not reach what the recipe aims at."""
    shares = {"kinds": {kind: row["accuracy"] for kind, row in card["kinds"].items()},
              "captions": {"captions": card["captions"]["exact"]["accuracy"]},
              "rationales": {kind: row["own"]["accuracy"] for kind, row in card["rationales"].items()},
              "clips": {f"clips: {kind}": row["accuracy"] for kind, row in card["clips"].items()},
              "sounds": {f"sounds: {kind}": row["accuracy"] for kind, row in card["sounds"].items()},
              "shots": {"four shots": card["shots"]["by_shots"]["4"]["accuracy"]}}
    return [(task, share, AIMS[group]) for group, tasks in shares.items() for task, share in tasks.items() if share < AIMS[group]]


def read() -> dict:
    """The stored card."""
    return json.loads(CARD.read_text(encoding="utf-8"))
