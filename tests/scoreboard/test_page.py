"""The book's page of the scoreboard: every row, every number from the board, and no text that could be markup."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mini_lib.book import root
from mini_lib.records import fingerprint
from mini_lib.scoreboard import page as pages
from mini_lib.scoreboard.measure import METRICS
from mini_lib.scoreboard.page import page, plot, put
from mini_lib.scoreboard.rows import Row
from mini_lib.scoreboard.table import board

HEAD = {"schema": 1, "version": "0", "model": "tiny", "fingerprint": "f", "samples": 20, "few": 4, "seed": 0, "cover": "mean", "zoom": 1,
        "rows": []}
ASKED = {"asked": 20, "wrong": 4, "off_grid": 0, "kept": 16, "kinds": {"color": 16}}
KINDS = {"constant-map": "floor", "random-map": "floor", "true-mask": "ceiling", "object-removed": "ceiling"}


def made(means, head=HEAD, redrawn=0.1, **refused):
    """A board in which each row scores about its mean everywhere, the re-drawn model apart."""
    rng = np.random.default_rng(0)
    rows = [Row(name, KINDS.get(name, "method"), None, "node", "paper") for name in means]
    records = {(name, case): {"scores": {**dict.fromkeys(METRICS, mean + 0.01 * rng.random()), "redrawn": redrawn + 0.01 * rng.random(),
                                         "forward": 50.0, "backward": 0.0, "memory": None}}
               for name, mean in means.items() for case in range(16)}
    records |= {(name, case): {"refused": says} for name, says in refused.items() for case in range(16)}
    rows += [Row(name, "method", None) for name in refused]
    return {**board(head, ASKED, rows, range(16), records), "machine": "2 threads of a CPU"}


MEANS = {"strong": 0.9, "weak": 0.1, "constant-map": 0.1, "random-map": 0.1, "true-mask": 0.7, "object-removed": 0.8}


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.rows = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        if tag == "tr":
            self.rows.append(dict(attrs))


def test_every_row_is_in_the_table_with_every_metric():
    text = page(made(MEANS))
    tags = Tags()
    tags.feed(text[text.index('<div class="board-scroll"'):text.index("<style>")])
    assert len(tags.rows) == 1 + len(MEANS) and tags.found.count("td") == len(MEANS) * len(METRICS)
    for name in MEANS:
        assert f'data-value="{name}"' in text
    block = text[text.index('<div class="board-scroll"'):text.index("</div>")]
    assert "\n\n" not in block, "an empty line would end the block of HTML"


def test_nothing_is_asked_from_outside():
    text = page(made(MEANS))
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bsrc=|fetch\(|XMLHttp", text[text.index('<div class="board-scroll"'):text.index("</script>")]
                         .replace("// ", ""))


def test_text_comes_out_as_it_went_in():
    evil = '<script>alert("x")</script>|*_[a](b)'
    text = page(made({**MEANS, evil: 0.5}, {**HEAD, "model": evil}, **{"refuses": evil}))
    table = text[text.index('<div class="board-scroll"'):text.index("<style>")]
    outside = text.replace(table, "")
    assert "<script>alert" not in text and "&lt;script&gt;alert" in table
    assert outside.count("<script>") == 1 and r"\<script\>alert" in outside and not re.search(r"(?<!\\)\]\(b", outside)
    assert "refuses refused 16 questions" in outside


def test_winners_and_losers_are_told_from_the_numbers():
    text = page(made(MEANS))
    assert re.search(r"\*\*pointing\*\*: strong, 9\d%.*No other method is level.*true-mask 7\d%", text)
    assert re.search(r"- \*\*weak\*\*: pointing \(the (constant|random)-map\), relevance mass", text)
    assert "**deletion**: weak" in text, "less is better there"
    assert "is above the true mask" in text
    assert "is not above the true mask" in page(made({**MEANS, "strong": 0.6}))
    level = made({**MEANS, "strong": 0.7})
    level["rows"] = [{**row, "scores": {**row["scores"], "insertion": {**row["scores"]["insertion"], "mean": mean}}}
                     for row in level["rows"] for mean in [{"strong": 0.7001, "true-mask": 0.7}.get(row["row"], 0.1)]]
    assert "is not above the true mask (0.70)" in page(level), "level as printed"


def test_a_method_that_beats_the_floors_everywhere_is_said_to_and_else_none_is():
    found = made({**MEANS, "strong": 0.9})
    for row in found["rows"]:
        for one in row["scores"].values():
            if one["over"] and row["row"] == "strong":
                one["over"]["low"] = 0.1
    assert "On every metric these beat both floors: strong." in page(found)
    assert "No method beats the floors on every metric." in page(made(MEANS))


def test_maps_that_do_not_depend_on_what_was_learnt_are_named():
    assert "For strong, weak the map stays much the same" in page(made(MEANS, redrawn=0.9))
    assert "For no method" in page(made(MEANS, redrawn=0.1))


def test_a_board_without_scores_still_makes_a_page_and_a_figure(tmp_path):
    found = made({}, **{"refuses": "not on this model."})
    put(found, tmp_path)
    text = (tmp_path / "chapters" / "scoreboard.md").read_text()
    assert "no method could be scored" in text and "This was not measured." in text
    assert (tmp_path / "chapters" / "images" / "scoreboard.png").stat().st_size > 1000


def test_the_figure_shows_every_row_with_its_interval():
    ax = plot(made(MEANS)).axes[0]
    assert sorted(entry.get_text().split("  ")[1] for entry in ax.get_legend().get_texts()) == sorted(MEANS)
    assert len(ax.containers) == len(MEANS)


def test_the_board_is_stored_in_the_package_and_the_page_is_made_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "BOARD", tmp_path / "board.json")
    found = made(MEANS)
    pages.write(found, tmp_path)
    assert pages.read() == json.loads(json.dumps(found))
    assert (tmp_path / "chapters" / "scoreboard.md").read_text() == page(found) == page(pages.read())


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_says_what_it_is(metric):
    assert METRICS[metric].what.endswith(".") and METRICS[metric].title in page(made(MEANS))


def test_the_page_of_the_book_is_that_of_the_stored_scoreboard_of_tiny_as_shipped(mllm):
    stored = pages.read()
    assert stored["fingerprint"] == fingerprint(mllm.model) and stored["samples"] >= 200
    assert {name: one["what"] for name, one in stored["metrics"].items()} == {name: one.what for name, one in METRICS.items()}
    assert (root() / "chapters" / "scoreboard.md").read_text(encoding="utf-8") == page(stored)


def test_its_floors_and_its_ceiling_are_where_they_belong():
    """Noise points by chance, a constant map at exactly the share of the picture, the true mask always."""
    rows = {row["row"]: row["scores"] for row in pages.read()["rows"]}
    chance = rows["constant-map"]["pointing"]
    assert all(rows["true-mask"][metric]["mean"] == 1 for metric in ("pointing", "mass", "rank_accuracy", "iou"))
    assert rows["random-map"]["pointing"]["low"] <= chance["mean"] <= rows["random-map"]["pointing"]["high"] and chance["mean"] < 0.25
    assert abs(rows["random-map"]["redrawn"]["mean"]) < 0.1
    areas = [rows[name][curve] for name in ("constant-map", "random-map") for curve in ("insertion", "deletion")]
    assert max(area["low"] for area in areas) <= min(area["high"] for area in areas), "of a map that knows nothing both are the same"
