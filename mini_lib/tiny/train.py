"""Train `tiny` from nothing: the tower on dense labels, then the whole model on questions and captions.

One step shows `pictures` scenes. Each scene's image tokens are computed once and shared by its caption and its
questions, which sit behind them in one row, cannot see each other, and all count their positions from the picture's
end. So a step costs little more than the pictures alone, and each text sees exactly what it would see by itself
(`tests/tiny/test_tiny_train.py` checks that).
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from .. import world
from ..world.questions import CAPTION
from .build import CONFIG, build_model, build_processor, read_config

DENSE = {"shape": len(world.SHAPES) + 1, "color": len(world.COLORS) + 1, "column": world.GRID, "row": world.GRID}


def train(out: str | Path, config_path: str | Path = CONFIG, device: str | None = None,
          minutes: float | None = None) -> Path:
    """Train, or go on with, a run in folder `out`; returns the folder of the finished (or latest) model.

    out: holds `last.safetensors` (weights and optimiser), `log.jsonl` (one line a step) and `model/`.
    device: "cuda", "cpu", "mps"; by itself the GPU when there is one.
    minutes: stop after so long, with everything saved; the next call goes on from there.
    Raises ValueError when `out` holds a run of another recipe.
    """
    out, config = Path(out), read_config(config_path)
    out.mkdir(parents=True, exist_ok=True)
    recipe = out / "config.yaml"
    if recipe.exists() and read_config(recipe) != config:
        raise ValueError(f"{out} holds a run of another recipe; give another --out, or delete that folder.")
    recipe.write_text(Path(config_path).read_text(encoding="utf-8"), encoding="utf-8")

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    processor = build_processor()
    model = build_model(config, processor).to(device).train()
    heads = torch.nn.ModuleDict({name: torch.nn.Linear(config["tower"]["hidden_size"], size)
                                 for name, size in DENSE.items()}).to(device)
    parameters = {**{f"model.{n}": p for n, p in model.named_parameters()},
                  **{f"heads.{n}": p for n, p in heads.named_parameters()}}
    tower = [p for name, p in parameters.items() if name.startswith("model.model.vision_tower.")]
    rest = [p for name, p in parameters.items() if not name.startswith("model.model.vision_tower.")]
    optimizer = torch.optim.AdamW([{"params": tower}, {"params": rest}], betas=(0.9, 0.98),
                                  weight_decay=config["weight_decay"])
    first = _restore(out, parameters, optimizer)
    tower_steps, steps = config["tower_first"]["steps"], config["tower_first"]["steps"] + config["lessons"][-1]["until"]
    text = _Text(processor.tokenizer)
    features = []                                                # what the connector was given in this step
    model.model.multi_modal_projector.register_forward_pre_hook(lambda module, args: features.append(args[0]))

    called = time.time()
    started = called - _seconds(out)                        # a resumed run goes on counting
    with open(out / "log.jsonl", "a", encoding="utf-8") as log, \
            tqdm(total=steps, initial=first, desc="training tiny", unit="step", mininterval=2) as bar:
        for step in range(first, steps):
            rng = np.random.default_rng([config["seed"], step])  # so a resumed run sees the same data
            features.clear()
            if step < tower_steps:
                loss, report = _tower_step(model, heads, features, config, rng, device)
                rates = [config["tower_first"]["learning_rate"] * min(1, (step + 1) / config["warmup"])] * 2
            else:
                loss, report = _joint_step(model, heads, features, config, text, step - tower_steps, rng, device)
                rate = _rate(config, step - tower_steps)
                rates = [config["tower_share"] * rate, rate]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate
            optimizer.step()
            log.write(json.dumps({"step": step, "seconds": round(time.time() - started, 1),
                                  **{k: round(float(v), 4) for k, v in report.items()}}) + "\n")
            bar.update()
            bar.set_postfix({k: f"{float(v):.2f}" for k, v in report.items() if k in ("loss", "color", "count", "relation")},
                            refresh=False)
            late = minutes is not None and time.time() - called > 60 * minutes
            if (step + 1) % config["save_every"] == 0 or step + 1 == steps or late:
                log.flush()
                _save(out, step + 1, parameters, optimizer)
            if late:
                break
    model.save_pretrained(out / "model")
    processor.save_pretrained(out / "model")
    return out / "model"


def _seconds(out: Path) -> float:
    """Seconds that the run in `out` has taken so far, by its log."""
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines() if (out / "log.jsonl").exists() else []
    return json.loads(lines[-1])["seconds"] if lines else 0.0


def _rate(config: dict, step: int) -> float:
    """Learning rate: a short rise, then half a cosine."""
    if step < config["warmup"]:
        return config["learning_rate"] * (step + 1) / config["warmup"]
    share = (step - config["warmup"]) / max(1, config["lessons"][-1]["until"] - config["warmup"])
    low, high = config["last_learning_rate"], config["learning_rate"]
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * share))


def _tower_step(model, heads, features, config, rng, device):
    scenes = world.sample_scenes(config["tower_first"]["pictures"], rng)
    model.model.get_image_features(_pixels(scenes, device))
    loss, report = _dense_loss(heads, features[0], scenes)
    return loss, {"loss": loss.detach(), **report}


def _joint_step(model, heads, features, config, text, step, rng, device):
    lesson = next(lesson for lesson in config["lessons"] if step < lesson["until"])
    scenes = world.sample_scenes(config["pictures"], rng, tuple(lesson["objects"]))
    rounds = _questions(scenes, config, lesson["short"], rng)
    batch = {k: v.to(device) for k, v in text.pack(rounds, world.captions(scenes, rng)).items()}
    logits = model(input_ids=batch["ids"], pixel_values=_pixels(scenes, device), attention_mask=batch["mask"],
                   position_ids=batch["positions"]).logits        # (B, T, vocabulary)
    losses = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="none").view_as(batch["labels"])
    share = {name: (losses * batch[name]).sum() / batch[name].sum() for name in ("answer", "stop", "caption")}
    dense, report = _dense_loss(heads, features[0], scenes)
    loss = (share["answer"] + 0.1 * share["stop"] + config["caption_weight"] * share["caption"]
            + config["dense_weight"] * dense)
    right = logits.argmax(-1) == batch["labels"]
    for i, kind in enumerate(config["mix"]):
        asked = (batch["kind"] == i) & (batch["answer"] > 0)
        if asked.any():
            report[kind] = right[asked].float().mean()
    return loss, {"loss": loss.detach(), "caption": share["caption"].detach(), **report}


def _pixels(scenes, device) -> torch.Tensor:
    """(N, 3, SIDE, SIDE) scaled to -1..1, as the processor does."""
    return torch.from_numpy(world.render(scenes)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def _dense_loss(heads, features, scenes):
    """Cross-entropy of each patch's labels; features: (N, patches, width)."""
    shape, color = world.patch_labels(scenes)
    row, column = np.indices(shape.shape[1:])
    labels = {"shape": shape + 1, "color": color + 1,
              "column": np.broadcast_to(column, shape.shape), "row": np.broadcast_to(row, shape.shape)}
    thing = torch.from_numpy(shape.flatten() >= 0).to(features.device)
    loss, report = 0.0, {}
    for name, head in heads.items():
        target = torch.from_numpy(np.ascontiguousarray(labels[name])).long().flatten().to(features.device)
        logits = head(features).flatten(0, 1)
        losses = F.cross_entropy(logits, target, reduction="none")
        loss = loss + losses[thing].mean() + losses[~thing].mean()   # or the ground, nine patches in ten, drowns the objects
        report[f"tower_{name}"] = (logits.argmax(-1) == target)[thing].float().mean()
    return loss, report


def _questions(scenes, config, short, rng) -> list:
    """`questions` rounds of one question per scene: a list of (kind index, Questions)."""
    kinds, weights = list(config["mix"]), np.array(list(config["mix"].values()), float)
    drawn = rng.choice(len(kinds), config["questions"], p=weights / weights.sum())
    return [(int(k), world.ask(scenes, kinds[k], rng, short=bool(rng.random() < short))) for k in drawn]


class _Text:
    """Turns questions and captions into packed rows of token ids."""

    def __init__(self, tokenizer):
        vocabulary = tokenizer.get_vocab()
        self.ids = {word: i for word, i in vocabulary.items()}
        self.prefix = [vocabulary["<s>"]] + [vocabulary["<image>"]] * (world.GRID * world.GRID)
        self.stop, self.pad = vocabulary["</s>"], vocabulary["<pad>"]

    def pack(self, rounds, captions) -> dict[str, torch.Tensor]:
        """One row per scene: image prefix, then its texts, each blind to the others.

        Returns ids, labels, positions, kind (B, T); answer, stop, caption (B, T) 0/1 weights of the three losses;
        mask (B, 1, T, T) bool, True where a query may look.
        """
        rows = []
        for i, caption in enumerate(captions):
            texts = [(kind, q.text[i], q.answer[i]) for kind, q in rounds if q.valid[i]]
            rows.append([*texts, (-1, CAPTION, caption)])
        coded = [[(kind, [self.ids[w] for w in said.split()], [self.ids[w] for w in answer.split()] + [self.stop])
                  for kind, said, answer in row] for row in rows]
        start = len(self.prefix)
        length = start + max(sum(len(s) + len(a) for _, s, a in row) for row in coded)
        shape = (len(rows), length)
        ids, labels = np.full(shape, self.pad), np.zeros(shape, int)
        positions, segment, kinds = np.zeros(shape, int), np.full(shape, -1), np.full(shape, -1)
        weight = {name: np.zeros(shape, np.float32) for name in ("answer", "stop", "caption")}
        ids[:, :start], positions[:, :start], segment[:, :start] = self.prefix, np.arange(start), 0
        for b, row in enumerate(coded):
            at = start
            for number, (kind, said, answer) in enumerate(row, 1):
                end = at + len(said) + len(answer)
                ids[b, at:end] = said + answer
                labels[b, at:end - 1] = ids[b, at + 1:end]
                positions[b, at:end] = start + np.arange(end - at)
                segment[b, at:end], kinds[b, at:end] = number, kind
                first = at + len(said) - 1                      # the position that has to predict the answer
                if kind < 0:
                    weight["caption"][b, first:end - 1] = 1
                else:
                    weight["answer"][b, first:end - 2], weight["stop"][b, end - 2] = 1, 1
                at = end
        causal = np.tril(np.ones((length, length), bool))
        same = (segment[:, :, None] == segment[:, None, :]) | (segment[:, None, :] == 0)
        mask = (same & causal)[:, None]                          # padding sees only padding, so no row is empty
        tensors = {"ids": ids, "labels": labels, "positions": positions, "kind": kinds, "mask": mask, **weight}
        return {name: torch.from_numpy(array) for name, array in tensors.items()}


def _save(out: Path, step: int, parameters: dict, optimizer) -> None:
    """Write the whole state, first beside the old one, so that an interruption loses nothing."""
    tensors = {name: p.detach().contiguous() for name, p in parameters.items()}
    for name, p in parameters.items():
        for key, value in optimizer.state[p].items():
            tensors[f"{key}|{name}"] = value.detach().contiguous()
    save_file({k: v.cpu().clone() for k, v in tensors.items()}, out / "next.safetensors", {"step": str(step)})
    (out / "next.safetensors").replace(out / "last.safetensors")


def _restore(out: Path, parameters: dict, optimizer) -> int:
    """Load the state of an earlier run, if any; returns the step to go on from."""
    path = out / "last.safetensors"
    if not path.exists():
        return 0
    from safetensors import safe_open
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(tensors[name])
            state = {key.split("|")[0]: value for key, value in tensors.items() if key.endswith(f"|{name}")}
            if state:
                optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in state.items()}
    log = out / "log.jsonl"
    if log.exists():                                             # drop lines written after the last save
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] < step]
        log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return step
