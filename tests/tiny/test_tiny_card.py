"""The card is measured, its page is written from it, and the shipped model still does what it says."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mini_lib.tiny import WEIGHTS, card
from mini_lib.tiny.build import read_config

ROOT = Path(__file__).resolve().parents[2]
LOG = [json.loads(line) for line in card.LOG.read_text().splitlines()]
STORED = json.loads(card.CARD.read_text())


def test_the_page_in_the_book_is_the_one_the_card_gives():
    assert (ROOT / "chapters" / "tiny.md").read_text() == card.page(STORED, read_config(), LOG)


@pytest.mark.parametrize("kind, least", [("color", 0.97), ("shape", 0.97), ("count", 0.90), ("exist", 0.90)])
def test_the_stored_card_meets_what_tiny_promises(kind, least):
    assert STORED["kinds"][kind]["n"] >= 2000 and STORED["kinds"][kind]["accuracy"] >= least


def test_a_fresh_and_smaller_card_agrees_with_the_stored_one(mllm):
    before, mllm.batch_size = mllm.batch_size, 256
    try:
        fresh = card.measure(mllm, 150, seed=77)
    finally:
        mllm.batch_size = before
    for kind, row in fresh["kinds"].items():
        stored = STORED["kinds"][kind]["accuracy"]
        spread = 4 * np.sqrt(max(stored * (1 - stored), 0.01) / 150)
        assert abs(row["accuracy"] - stored) < spread, (kind, row["accuracy"], stored)
    assert abs(fresh["captions"]["exact"]["accuracy"] - STORED["captions"]["exact"]["accuracy"]) < 0.2


def test_captions_are_read_in_both_word_orders_and_nonsense_counts_against_them():
    assert card.named_objects("a red star , a star red , a ring .") == Counter({("red", "star"): 2, ("ring", ""): 1})


def test_what_is_shipped_is_small_and_safe():
    files = {f.name: f.stat().st_size for f in WEIGHTS.iterdir()}
    assert sum(files.values()) < 40e6
    assert {Path(name).suffix for name in files} <= {".safetensors", ".json", ".jinja", ".jsonl"}


def test_the_log_is_that_of_the_recipe_and_can_be_plotted():
    recipe = read_config()
    assert LOG[-1]["step"] == recipe["tower_first"]["steps"] + recipe["lessons"][-1]["until"] - 1
    assert len(card.plot_log(LOG, recipe["tower_first"]["steps"]).axes[0].lines) >= 7


def test_thinning_a_log_averages_and_keeps_the_last_step(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": i, "seconds": i, "loss": i, **({"color": 1.0} if i % 2 else {})}) + "\n" for i in range(5)))
    rows = card.thin(path, 2)
    assert [(r["step"], r["loss"]) for r in rows] == [(1, 0.5), (3, 2.5), (4, 4.0)] and "color" not in rows[-1]
