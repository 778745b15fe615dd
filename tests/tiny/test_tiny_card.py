"""The card is measured, its page is written from it, and the shipped models still do what it says."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mini_lib.refusal import Refusal
from mini_lib.tiny import WEIGHTS, card, page, store
from mini_lib.tiny.build import read_config
from mini_lib.tiny.lessons import length

ROOT = Path(__file__).resolve().parents[2]
LOG = [json.loads(line) for line in page.LOG.read_text().splitlines()]
STORED = card.read()


@pytest.fixture(scope="module")
def fresh(mllm):
    """A smaller card, on other samples than the stored one."""
    before, mllm.batch_size = mllm.batch_size, 256
    try:
        return card.measure(mllm, 100, seed=77)
    finally:
        mllm.batch_size = before


def test_the_page_in_the_book_is_the_one_the_card_gives():
    assert (ROOT / "chapters" / "tiny.md").read_text() == page.page(STORED, read_config(), LOG)


@pytest.mark.parametrize("kind, least", [("color", 0.97), ("shape", 0.97), ("count", 0.93), ("exist", 0.97),
                                         ("relation", 0.97), ("size", 0.97), ("digit", 0.90)])
def test_the_stored_card_meets_what_the_chapters_rest_on(kind, least):
    assert STORED["kinds"][kind]["n"] >= 2000 and STORED["kinds"][kind]["accuracy"] >= least


def test_a_fresh_and_smaller_card_agrees_with_the_stored_one(fresh):
    stored = dict(card.flat(STORED))
    for name, row in card.flat(fresh):
        share = stored[name]["accuracy"]
        spread = 4.5 * np.sqrt(max(share * (1 - share), 0.01) * (1 / max(row["n"], 1) + 1 / stored[name]["n"]))
        assert abs(row["accuracy"] - share) < spread, (name, row["accuracy"], share)


def test_every_task_is_in_the_one_table(fresh):
    names = " ".join(name for name, _ in card.flat(fresh))
    for task in ("color", "relation", "size", "digit", "captions exact", "same color own", "post hoc keeps", "appear", "highest",
                 "by shots 4", "shuffled", "held out", "answers the prior", "with a ring", "wrong label", "tint misleads"):
        assert task in names, task


def test_the_two_poles_of_rationales_are_there(fresh):
    """In the multi-hop kinds the answer follows a false step; in the post-hoc kind it stays. Otherwise nothing is planted."""
    rows = fresh["rationales"]
    assert rows["same_color"]["follows"]["accuracy"] > 0.7 and rows["post_hoc"]["keeps"]["accuracy"] > 0.8
    assert STORED["rationales"]["same_color"]["follows"]["low"] > 0.8                # the fresh one has few of them


def test_what_is_below_its_aim_is_said(fresh):
    low = json.loads(json.dumps(fresh))
    low["kinds"]["color"]["accuracy"] = 0.5
    assert ("color", 0.5, card.AIMS["kinds"]) in card.below_aim(low)
    assert "color 50.0% (aim 98%)" in page.page({**low}, read_config(), LOG)


def test_captions_are_read_in_both_word_orders_and_nonsense_counts_against_them():
    assert card.named_objects("a red star , a star red , a ring .") == Counter({("red", "star"): 2, ("ring", ""): 1})


def test_what_is_shipped_is_small_and_safe():
    files = {f.name: f.stat().st_size for f in WEIGHTS.iterdir()}
    assert sum(files.values()) < 40e6
    assert {Path(name).suffix for name in files} <= {".safetensors", ".json", ".jinja", ".jsonl"}


def test_the_checkpoints_are_those_of_the_recipe_and_end_with_the_model_itself():
    recipe = read_config()
    *early, last = store.checkpoints()
    assert last == length(recipe) and set(early) <= set(recipe["checkpoints"]) and early == sorted(early)


def test_a_run_is_shipped_whole_or_not_at_all(tmp_path):
    with pytest.raises(Refusal, match="no finished run"):
        store.ship(tmp_path, "tiny", tmp_path / "weights")
    with pytest.raises(Refusal, match="no shipped model"):
        store.ship(tmp_path, "tiny-seed7", tmp_path / "weights")


def test_the_log_is_that_of_the_recipe_and_can_be_plotted():
    recipe = read_config()
    assert LOG[-1]["step"] == length(recipe) - 1
    assert all(len(ax.lines) >= 7 for ax in page.plot_log(LOG, recipe).axes)


def test_every_task_has_its_picture():
    assert len([ax for ax in page.plot_tasks().axes if ax.images]) >= 5 + 5 + 4 + 3


def test_thinning_a_log_averages_and_keeps_the_last_step(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": i, "seconds": i, "loss": i, **({"color": 1.0} if i % 2 else {})}) + "\n" for i in range(5)))
    rows = page.thin(path, 2)
    assert [(r["step"], r["loss"]) for r in rows] == [(1, 0.5), (3, 2.5), (4, 4.0)] and "color" not in rows[-1]
