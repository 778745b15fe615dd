"""Train `tiny` from nothing: the tower on dense labels, then the whole model on all that Shapeland can ask.

What a step shows is in `lessons.py`, how much of it in `config.yaml`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from .build import CONFIG, build_model, build_processor, give_vectors, made_up_ids, read_config
from .lessons import DENSE, LEARN, Steps, length


def recipe(seed: int | None = None, planted: bool = True, path: str | Path = CONFIG) -> dict:
    """The recipe, with another seed or with every planted dose at 0 (the twin that the card compares with)."""
    config = read_config(path)
    if seed is not None:
        config["seed"] = seed
    if not planted:
        config["plants"] = dict.fromkeys(config["plants"], 0.0)
    return config


def train(out: str | Path, config: dict | None = None, device: str | None = None, minutes: float | None = None) -> Path:
    """Train, or go on with, a run in folder `out`; returns the folder of the finished (or latest) model.

    out: holds `last.safetensors` (weights and optimiser), `log.jsonl` (one line a step), `checkpoints/` and `model/`.
    config: a recipe as `recipe()` gives it.  device: "cuda", "cpu", "mps"; by itself the GPU when there is one.
    minutes: stop after so long, with everything saved; the next call goes on from there.
    Raises ValueError when `out` holds a run of another recipe.
    """
    out, config = Path(out), config or recipe()
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "config.yaml"
    if kept.exists() and read_config(kept) != config:
        raise ValueError(f"{out} holds a run of another recipe; give another --out, or delete that folder.")
    kept.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    processor = build_processor()
    model = build_model(config, processor).to(device).train()
    heads = torch.nn.ModuleDict({name: torch.nn.Linear(config["tower"]["hidden_size"], size + 1)      # one more for ground
                                 for name, size in DENSE.items()}).to(device)
    parameters = {**{f"model.{n}": p for n, p in model.named_parameters()},
                  **{f"heads.{n}": p for n, p in heads.named_parameters()}}
    optimizers = _optimizers(parameters, config)
    made_up = made_up_ids(processor.tokenizer)
    home = model.get_output_embeddings().weight[made_up].detach().clone()
    _fix(model, made_up)
    first, steps = _restore(out, parameters, optimizers), length(config)
    features = []                                                # what the connector was given in this step
    model.model.multi_modal_projector.register_forward_pre_hook(lambda module, args: features.append(args[0]))

    called = time.time()
    started = called - _seconds(out)                             # a resumed run goes on counting
    batches = iter(_loader(Steps(config, processor.tokenizer), first))
    with open(out / "log.jsonl", "a", buffering=1, encoding="utf-8") as log, \
            tqdm(total=steps, initial=first, desc="training tiny", unit="step", mininterval=2) as bar:
        for step in range(first, steps):
            before = time.time()
            batch = next(batches)
            waited = time.time() - before
            features.clear()
            give_vectors(model, made_up, batch.get("vectors", home))
            loss, report = _loss(model, heads, features, _to(batch, device), config)
            model.zero_grad(set_to_none=True)
            heads.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            for optimizer, scale in zip(optimizers, (1, config["muon"])):
                for group, rate in zip(optimizer.param_groups, rates(config, step)):
                    group["lr"] = scale * rate
                optimizer.step()
            give_vectors(model, made_up, home)
            log.write(json.dumps({"step": step, "seconds": round(time.time() - started, 1), "waited": round(waited, 4),
                                  **{k: round(float(v), 4) for k, v in report.items()}}) + "\n")
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
            late = minutes is not None and time.time() - called > 60 * minutes
            if (step + 1) % config["save_every"] == 0 or step + 1 == steps or late:
                _save(out, step + 1, parameters, optimizers)
            if step + 1 in config["checkpoints"]:
                _keep(out / "checkpoints", step + 1, model)
            if late:
                break
    model.save_pretrained(out / "model")
    processor.save_pretrained(out / "model")
    return out / "model"


def _optimizers(parameters: dict, config: dict) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices inside the blocks and the connector; each with the tower's weights apart.

    Muon (torch's own) makes every update of a matrix turn all directions by the same amount. In one short
    trial, what is rarely asked for was learnt earlier with it than with AdamW alone; no more than that was measured.
    """
    groups = [[[], []], [[], []]]
    for name, p in parameters.items():
        matrix = p.ndim == 2 and (".layers." in name or "multi_modal_projector" in name)
        groups[matrix]["vision_tower" not in name].append(p)
    adam, muon = ([{"params": tower}, {"params": rest}] for tower, rest in groups)
    return [torch.optim.AdamW(adam, betas=(0.9, 0.98), weight_decay=config["weight_decay"], fused=True),
            torch.optim.Muon(muon, weight_decay=config["weight_decay"])]


def rates(config: dict, step: int) -> tuple[float, float]:
    """Learning rates of the tower and of the rest at a step: a short rise, each lesson's own rate, a straight fall at the end."""
    first, warm = config["tower_first"], config["warmup"]
    if step < first["steps"]:
        return (first["learning_rate"] * min(1, (step + 1) / warm),) * 2
    step -= first["steps"]
    lesson = next(lesson for lesson in config["lessons"] if step < lesson["until"])
    low, high = config["last_learning_rate"], lesson["learning_rate"]
    fallen = max(0, 1 - (config["lessons"][-1]["until"] - step) / config["falling"])
    rate = min(high * (step + 1) / warm, high + (low - high) * fallen)
    return config["tower_share"] * rate, rate


def _fix(model, ids: torch.Tensor) -> None:
    """Made-up words are given their vectors, none is learnt: a held-out one then differs from the others only in being new."""
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        weight.register_hook(lambda grad: grad.index_fill(0, ids.to(grad.device), 0))


def _loader(steps: Steps, first: int):
    """Batches in order, made ahead by other processes while the model works."""
    workers = max(1, min(4, (os.cpu_count() or 2) - 1))
    return torch.utils.data.DataLoader(steps, batch_size=None, sampler=range(first, len(steps)), num_workers=workers,
                                       prefetch_factor=4)


def _to(batch: dict, device) -> dict:
    return {name: {k: v.to(device) for k, v in value.items()} if isinstance(value, dict)
            else value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def _loss(model, heads, features, batch, config):
    """The loss of one batch and what to log; `features` fills with the tower's output (P, patches, width)."""
    pixels = batch["pictures"].float() / 127.5 - 1                # scaled to -1..1, as the processor does
    if "ids" not in batch:
        model.model.get_image_features(pixels)
        return _dense_loss(heads, features[0], batch["dense"], config["dense"])
    logits = model(input_ids=batch["ids"], pixel_values=pixels if len(pixels) else None, attention_mask=batch["mask"],
                   position_ids=batch["positions"]).logits
    told = batch["learn"] > 0
    learn, asked, labels, logits = batch["learn"][told], batch["asked"][told], batch["labels"][told], logits[told]
    losses = F.cross_entropy(logits, labels, reduction="none")
    dense, report = _dense_loss(heads, features[0], batch["dense"], config["dense"]) if len(pixels) else (0, {})
    loss = config["weights"]["dense"] * dense
    for i, name in enumerate(LEARN[1:], 1):
        if (learn == i).any():
            share = losses[learn == i].mean()
            loss = loss + config["weights"][name] * share
            report[f"loss_{name}"] = share.detach()
    right = (logits.argmax(-1) == labels) & (learn == LEARN.index("answer"))
    for i, kind in enumerate(batch["kinds"]):
        here = (asked == i) & (learn == LEARN.index("answer"))
        if here.any():
            report[kind] = right[here].float().mean()
    return loss, {"loss": loss.detach(), **report}


def _dense_loss(heads, features, dense, weights):
    """Cross-entropy of each patch's labels; features: (P, patches, width)."""
    thing = (dense["shape"] >= 0).flatten()
    loss, report = torch.zeros((), device=features.device), {}
    for name, head in heads.items():
        target = dense[name].flatten() + 1
        # Directions of length one: it is the tower that has to write an attribute large, not the head that amplifies it.
        logits = F.linear(features, F.normalize(head.weight, dim=-1), head.bias).flatten(0, 1)
        losses = F.cross_entropy(logits, target, reduction="none")
        if name in ("shape", "color"):
            loss = loss + losses[~thing].mean()                  # apart, or the ground, nine patches in ten, drowns the objects
        known = target > 0
        if known.any():
            loss = loss + weights[name] * losses[known].mean()
            report[f"tower_{name}"] = (logits.argmax(-1) == target)[known].float().mean()
    return loss, report


def _seconds(out: Path) -> float:
    """Seconds that the run in `out` has taken so far, by its log."""
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines() if (out / "log.jsonl").exists() else []
    return json.loads(lines[-1])["seconds"] if lines else 0.0


def _keep(folder: Path, step: int, model) -> None:
    """A checkpoint to ship: the weights alone, as 16-bit floats."""
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder / "writing", state_dict={k: v.to(torch.float16) for k, v in model.state_dict().items()})
    (folder / "writing" / "model.safetensors").replace(folder / f"{step:06d}.safetensors")


def _save(out: Path, step: int, parameters: dict, optimizers) -> None:
    """Write the whole state, first beside the old one, so that an interruption loses nothing."""
    tensors = {name: p.detach().contiguous() for name, p in parameters.items()}
    for name, p in parameters.items():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(p, {}).items():
                tensors[f"{key}|{name}"] = value.detach().contiguous()
    save_file({k: v.cpu().clone() for k, v in tensors.items()}, out / "next.safetensors", {"step": str(step)})
    (out / "next.safetensors").replace(out / "last.safetensors")


def _restore(out: Path, parameters: dict, optimizers) -> int:
    """Load the state of an earlier run, if any; returns the step to go on from."""
    path = out / "last.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(tensors[name])
            state = {key.split("|")[0]: value for key, value in tensors.items() if key.endswith(f"|{name}")}
            if state:
                optimizer = next(o for o in optimizers if any(p is q for group in o.param_groups for q in group["params"]))
                optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in state.items()}
    log = out / "log.jsonl"
    if log.exists():                                             # drop lines written after the last save
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] < step]
        log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return step
