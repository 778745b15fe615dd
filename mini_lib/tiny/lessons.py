"""What each training step shows: pictures, texts and labels, drawn from the world by the recipe's seed and the step alone.

So the data of any step can be made again, in any order and on any machine: `batch(config, step, tokenizer)`.

One row of a batch is one picture (or one clip, one sound, one few-shot episode). A picture's tokens are computed once
and shared by its caption and its questions, which sit behind them in one row, cannot see each other, and all count
their positions from the picture's end. So a step costs little more than the pictures alone, and each text sees exactly
what it would see by itself (`tests/tiny/test_tiny_train.py` checks that).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from .. import world
from ..world import clips, digits, plants, rationales, shots, sounds
from .build import made_up_vectors

LEARN = ("nothing", "answer", "stop", "caption", "rationale")      # what a token counts as in the loss
DENSE = {"shape": len(world.NOUNS), "color": len(world.COLORS), "size": len(world.SIZES), "digit": 10,
         "column": world.GRID, "row": world.GRID}                  # classes of each patch label


class Steps(torch.utils.data.Dataset):
    """The whole run as a dataset: item number `step` is that step's batch."""

    def __init__(self, config: dict, tokenizer):
        self.config, self.tokenizer = config, tokenizer

    def __len__(self) -> int:
        return length(self.config)

    def __getitem__(self, step: int) -> dict:
        return batch(self.config, step, self.tokenizer)


def length(config: dict) -> int:
    """Steps of a whole run."""
    return config["tower_first"]["steps"] + config["lessons"][-1]["until"]


def batch(config: dict, step: int, tokenizer) -> dict:
    """The batch of one step; B rows of T tokens, P pictures.

    pictures: (P, 3, SIDE, SIDE) uint8.  dense: name -> (P, GRID, GRID) patch labels, -1 for ground.
    And, after the tower's own steps: ids, labels, positions (B, T); mask (B, 1, T, T) bool; learn (B, T), an index into
    `LEARN`; asked (B, T), an index into `kinds`.  vectors: (words, width) of the made-up words in this step, drawn anew so
    that none can be learnt by heart.
    """
    rng = np.random.default_rng([config["seed"], step])           # so a resumed run sees the same data
    first = config["tower_first"]
    if step < first["steps"]:
        heard = first["pictures"] // 8                            # some sounds, so that the tower knows them too
        scenes = _scenes(config, first["pictures"] - heard, rng, (1, world.MOST), 0.0)
        scenes = _written(scenes, first["written"], rng)
        return _seen([world.render(scenes), sounds.sample_sounds(heard, rng).pictures], scenes)
    step -= first["steps"]
    lesson = next(lesson for lesson in config["lessons"] if step < lesson["until"])
    name = rng.choice(list(lesson["batches"]), p=_shares(lesson["batches"]))
    vectors = made_up_vectors(config["decoder"]["hidden_size"], torch.Generator().manual_seed(int(rng.integers(2 ** 31))))
    return {"vectors": vectors, **BATCHES[name](config, lesson, rng, _Words(tokenizer))}


def _shares(weights: dict) -> np.ndarray:
    array = np.array(list(weights.values()), float)
    return array / array.sum()


def _scenes(config: dict, n: int, rng, objects, digits: float) -> world.Scenes:
    scenes = world.sample_scenes(n, rng, tuple(objects), digits, config["tinted"])
    return plants.tint_digits(scenes, rng, config["plants"]["shortcut"])


def _written(scenes: world.Scenes, share: float, rng) -> world.Scenes:
    """The scenes with this share of their objects turned into digits: the tower needs to see many to read any."""
    digit = scenes.present & ((rng.random(scenes.shape.shape) < share) | (scenes.shape == world.DIGIT))
    writing = np.where(digit, digits.draw(digit.size, rng).reshape(digit.shape), -1)
    return scenes.edited(shape=np.where(digit, world.DIGIT, scenes.shape), writing=writing)


def _seen(pictures: list[np.ndarray], scenes: world.Scenes) -> dict:
    """What the tower gets: pictures (those beyond the scenes are sounds: all ground), and the patch labels."""
    pixels = np.concatenate(pictures)
    dense = {}
    for name, labels in world.patch_labels(scenes).items():
        dense[name] = np.full((len(pixels), *labels.shape[1:]), -1)
        dense[name][:len(labels)] = labels
    return {"pictures": torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
            "dense": {name: torch.from_numpy(labels) for name, labels in dense.items()}}


def _picture_batch(config, lesson, rng, words) -> dict:
    """Pictures, each with a caption and several questions; the last few come from the pool with label errors."""
    pool = _pool(config["marked"]["pool"], config["seed"], config["plants"]["label_errors"])
    scenes = _scenes(config, config["pictures"] - config["marked"]["pictures"], rng, lesson["objects"],
                     lesson["digits"])
    kinds = rng.choice(list(lesson["mix"]), config["questions"], p=_shares(lesson["mix"]))
    rounds = [_round(str(kind), scenes, config, lesson, rng) for kind in kinds]
    whole = _whole_picture_texts(scenes, config, lesson, rng)
    rows = [[words.segment(kind, *texts[i]) for kind, valid, texts in rounds if valid[i]]
            + [words.segment("caption", said, "", text)] for i, (said, text) in enumerate(whole)]
    marked = rng.integers(len(pool), size=config["marked"]["pictures"])
    rows += [[words.segment("marked", pool.questions.text[i], "", pool.questions.answer[i])] for i in marked]
    scenes = world.concatenate([scenes, pool.scenes[marked]])
    return {**_seen([world.render(scenes)], scenes), **words.pack(rows, 1)}


def _whole_picture_texts(scenes, config, lesson, rng) -> list[tuple[str, str]]:
    """One text about the whole of each picture: a caption, a list or comparisons, by the lesson's shares."""
    phantoms = plants.phantoms(scenes, rng, config["plants"]["cooccurrence"])
    left_to_right = bool(rng.random() < lesson["sorted"])
    texts = {world.CAPTION: world.captions(scenes, rng, phantoms, left_to_right), world.LIST: world.lists(scenes, rng),
             world.COMPARE: world.comparisons(scenes, rng)}
    which = rng.choice(len(texts), len(scenes), p=np.array(lesson["texts"]) / sum(lesson["texts"]))
    return [(said, texts[said][i]) for i, said in enumerate(np.array(list(texts), object)[which])]


@lru_cache(maxsize=2)
def _pool(n: int, seed: int, dose: float) -> plants.Pool:
    return plants.label_errors(n, seed, dose)


def _round(kind: str, scenes, config, lesson, rng) -> tuple:
    """One question per scene: (name, valid, texts), each text being question, rationale, answer."""
    if kind in rationales.RATIONALE_KINDS:
        reasoned = rationales.reason(scenes, kind, rng)
        style = rng.choice(["direct", "mistaken", "true"], p=[*(config["rationales"][s] for s in ("direct", "mistaken")),
                                                              1 - sum(config["rationales"].values())])
        if style == "direct" and kind != rationales.POST_HOC:
            asked = reasoned.questions
            return f"{kind}, direct", asked.valid, list(zip(reasoned.direct, [""] * len(scenes), asked.answer))
        if style == "mistaken":                                  # two times in three the step that the answer needs
            reasoned = rationales.mistaken(scenes, reasoned, rng, needed=bool(rng.random() < 0.67))
        asked = reasoned.questions
        return (f"{kind}, mistaken" if style == "mistaken" else kind, asked.valid,
                list(zip(asked.text, reasoned.rationale, asked.answer)))
    if kind == "absent":
        asked = plants.ask_absent(scenes, rng, config["plants"]["prior"])
    else:
        asked = world.ask(scenes, kind, rng, short=bool(rng.random() < lesson["short"]))
    return kind, asked.valid, list(zip(asked.text, [""] * len(scenes), asked.answer))


def _clip_batch(config, lesson, rng, words) -> dict:
    """Of four times as many clips, those that allow the most questions, each counted by what its event is worth."""
    heap = clips.sample_clips(4 * config["clips"], rng, tuple(lesson["clips"]["objects"]))
    rounds = [clips.ask_clips(heap, kind, rng) for kind in clips.CLIP_KINDS]
    worth = sum(lesson["clips"][asked.kind[0]] * asked.valid for asked in rounds)
    best = np.argsort(-worth, kind="stable")[:config["clips"]]
    chosen = heap[best]
    rows = [[words.segment(q.kind[i], q.text[i], "", q.answer[i]) for q in rounds if q.valid[i]]
            + [words.segment("caption", said, "", text)] for i, (said, text) in zip(best, clips.tracks(chosen, rng))]
    return {**_seen([chosen.pictures.reshape(-1, world.SIDE, world.SIDE, 3)], chosen.scenes), **words.pack(rows, clips.FRAMES)}


def _sound_batch(config, lesson, rng, words) -> dict:
    batch = sounds.sample_sounds(config["sounds"], rng)
    rounds = [sounds.ask_sounds(batch, kind, rng) for kind in sounds.SOUND_KINDS]
    rows = [[words.segment(q.kind[i], q.text[i], "", q.answer[i]) for q in rounds if q.valid[i]] for i in range(len(batch))]
    return {**_seen([batch.pictures], world.sample_scenes(0)), **words.pack(rows, 1)}


def _shot_batch(config, lesson, rng, words) -> dict:
    """Episodes as conversations: a picture is a query where one before it, a shot, shows its word.

    Stepping stones: some pictures are told in two words instead ("red star"), which is much cheaper; and in some batches
    the true name stands alone in place of the word ("the color is called red"), so that no shot is needed.
    """
    k, meanings = _episode_size(lesson, rng)
    alone = rng.random() < lesson["alone"]
    told = rng.random(k) < lesson["told"]                         # the same turns in all rows, so that none is padded
    n = min(config["shots"]["most"], config["shots"]["tokens"] // int(np.where(told, 8, world.GRID ** 2 + 6).sum()))
    batch = shots.sample_episodes(n, k, rng, names=alone, meanings=meanings)
    kinds = [f"{'told' if one else 'shot'} {'name' if alone else meanings}" for one in told]
    rows = []
    for i in range(n):
        turns = [words.segment(kinds[j], batch.question[i], "", batch.labels[i, j], learn=alone or batch.known[i, j])
                 for j in range(k)]
        rows.append([words.join(turns, [batch.told[i, j] if told[j] else None for j in range(k)])])
    shown = np.flatnonzero(np.tile(~told, n))
    scenes = batch.scenes[shown]
    return {**_seen([world.render(scenes)], scenes), **words.pack(rows, 0)}


def _pair_batch(config, lesson, rng, words) -> dict:
    """The barest few-shot episode: true names, each followed by its word ("red bovik blue quibo red bovik").

    Looking back for the same name and saying what stood behind it is all that episodes ask for. Hidden among pictures
    and sentences it was never learnt; in a few words, it is within some hundred steps.
    """
    k, meanings = _episode_size(lesson, rng)
    n = min(config["shots"]["most"], config["shots"]["tokens"] // (2 * k))
    batch = shots.sample_episodes(n, k, rng, meanings=meanings)
    rows = [[words.join([words.pair(name, word, known) for name, word, known in zip(*row)], [""] * k)]
            for row in zip(batch.meaning, batch.labels, batch.known)]
    nothing = batch.scenes[:0]
    return {**_seen([world.render(nothing)], nothing), **words.pack(rows, 0)}


def _episode_size(lesson, rng) -> tuple[int, int]:
    """How many turns and meanings the episodes of one batch have."""
    return tuple(int(rng.integers(low, high + 1)) for low, high in (lesson["turns"], lesson["meanings"]))


BATCHES = {"pictures": _picture_batch, "clips": _clip_batch, "sounds": _sound_batch, "shots": _shot_batch, "pairs": _pair_batch}


@dataclass
class _Segment:
    """A text of `S` tokens: ids, what each token counts as when it is predicted, and the kind of question."""

    ids: list[int]
    learn: list[int]
    kinds: list[str]


class _Words:
    """Turns texts into packed rows of token ids."""

    def __init__(self, tokenizer):
        self.ids = tokenizer.get_vocab()
        self.picture = [self.ids["<image>"]] * world.GRID ** 2

    def segment(self, kind: str, said: str, rationale: str, answer: str, learn: bool = True) -> _Segment:
        parts = [(said, "nothing"), (rationale, "nothing" if "mistaken" in kind else "rationale"),
                 (answer, "caption" if kind == "caption" else "answer" if learn else "nothing"),
                 ("</s>", "caption" if kind == "caption" else "stop")]
        coded = [(self.ids[word], LEARN.index(what)) for text, what in parts for word in text.split()]
        return _Segment([i for i, _ in coded], [what for _, what in coded], [kind] * len(coded))

    def pair(self, name: str, word: str, learn: bool) -> _Segment:
        return _Segment([self.ids[name], self.ids[word]], [0, LEARN.index("answer" if learn else "nothing")], ["pair"] * 2)

    def join(self, turns: list[_Segment], told: list[str | None]) -> _Segment:
        """A conversation: each turn behind its own picture, or behind the words that tell it, all in one segment."""
        out = _Segment([], [], [])
        for turn, text in zip(turns, told):
            shown = self.picture if text is None else [self.ids[word] for word in text.split()]
            out.ids += shown + turn.ids
            out.learn += [0] * len(shown) + turn.learn
            out.kinds += [turn.kinds[0]] * len(shown) + turn.kinds
        return out

    def pack(self, rows: list[list[_Segment]], pictures: int) -> dict:
        """Rows of segments behind `pictures` shared pictures -> tensors, as `batch` says."""
        prefix = [self.ids["<s>"]] + self.picture * pictures
        start, kinds = len(prefix), sorted({kind for row in rows for one in row for kind in one.kinds})
        shape = len(rows), start + max(sum(len(one.ids) for one in row) for row in rows)
        ids, positions, learn = np.full(shape, self.ids["<pad>"]), np.zeros(shape, int), np.zeros(shape, int)
        asked, segment = np.full(shape, -1), np.full(shape, -1)
        ids[:, :start], positions[:, :start], segment[:, :start] = prefix, np.arange(start), 0
        for b, row in enumerate(rows):
            at = start
            for number, one in enumerate(row, 1):
                end = at + len(one.ids)
                ids[b, at:end], learn[b, at:end] = one.ids, one.learn
                positions[b, at:end], segment[b, at:end] = start + np.arange(end - at), number
                asked[b, at:end] = [kinds.index(kind) for kind in one.kinds]
                at = end
        shift = [np.roll(array, -1, 1) for array in (ids, learn, asked)]      # what each position has to predict
        for array in shift:
            array[:, -1] = 0
        same = (segment[:, :, None] == segment[:, None, :]) | (segment[:, None, :] == 0)
        mask = (same & np.tril(np.ones((shape[1], shape[1]), bool)))[:, None]  # padding sees only padding: no row is empty
        tensors = {"ids": ids, "positions": positions, "mask": mask, **dict(zip(("labels", "learn", "asked"), shift))}
        return {"kinds": kinds, **{name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in tensors.items()}}
