"""The scoreboard: floors and ceilings where they must be, the same numbers after a kill and in any number of processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mini_lib import records
from mini_lib.cli import main
from mini_lib.evaluate import chance, pointing
from mini_lib.refusal import Refusal
from mini_lib.registry import find
from mini_lib.scoreboard import measure as measures
from mini_lib.scoreboard import run as runs
from mini_lib.scoreboard.cases import draw, on_patches, right, spoken
from mini_lib.scoreboard.measure import METRICS, measure, prepare
from mini_lib.scoreboard.rows import REFERENCES, Row, all_rows, of_method
from mini_lib.scoreboard.run import Options, run
from mini_lib.scoreboard.table import SORT, board, sort_rows, text

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = Options(samples=3, few=1)
ROWS = [of_method(find("gradient-input")), *REFERENCES]
COMMAND = ["scoreboard", "--methods", "gradient-input", "--samples", "3", "--few", "1", "--device", "cpu"]


# The same command with coarse curves and few covers: what is tested here does not hang on how fine they are.
COARSE = """import sys
from mini_lib.scoreboard import measure
measure.STEPS, measure.DRAWS = 2, 4
from mini_lib.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Coarse curves in this process too, and one thread as in the others, so that sums are added in the same order."""
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "STEPS", 2)
        patch.setattr(measures, "DRAWS", 4)
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "coarse.py"
    path.write_text(COARSE)
    return str(path)


ALONE = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def whole(mllm, coarse, tmp_path_factory):
    """The board of an uninterrupted run, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return run(mllm, ROWS, OPTIONS, folder), folder


def timeless(found):
    """A board without what a clock says."""
    found = json.loads(json.dumps(found))
    for row in found["rows"]:
        del row["scores"]["seconds"]
    return found


def keys(folder):
    return [(record["row"], record["case"]) for path in folder.glob("records-*.jsonl")
            for record in map(json.loads, path.read_text().splitlines()[1:])]


def cell(found, row, metric):
    return next(one for one in found["rows"] if one["row"] == row)["scores"][metric]


# Floors and ceilings

def test_a_constant_map_scores_chance_and_the_truth_scores_one(mllm, whole):
    found, _ = whole
    cases, _ = right(mllm, draw(OPTIONS.samples))
    share = np.mean([chance(case.truth[None])[0] for case in cases])
    for metric in ("pointing", "mass", "rank_accuracy"):
        assert cell(found, "constant-map", metric)["mean"] == pytest.approx(share, abs=1e-5)
    for metric in ("pointing", "mass", "rank_accuracy", "iou"):
        assert cell(found, "true-mask", metric)["mean"] == 1
    assert cell(found, "object-removed", "pointing")["mean"] == 1


def test_random_maps_point_at_the_truth_as_often_as_it_is_large(mllm):
    case = right(mllm, draw(2))[0][0]
    prompt, rng = mllm.prompt(case.picture, case.question), np.random.default_rng(0)
    floor = next(row for row in REFERENCES if row.name == "random-map")
    maps = np.stack([floor.values(mllm, prompt, None, case, rng) for _ in range(3000)])
    truth = np.repeat(case.truth[None], len(maps), 0)
    assert abs(pointing(maps, truth).mean() - case.truth.mean()) < 0.02


def test_what_ignores_the_model_is_the_same_on_a_redrawn_one_and_noise_is_not(whole):
    found, _ = whole
    for row in ("constant-map", "true-mask"):
        assert cell(found, row, "redrawn")["mean"] == cell(found, row, "stability")["mean"] == 1
    assert abs(cell(found, "random-map", "redrawn")["mean"]) < 0.5
    assert cell(found, "random-map", "redrawn")["n"] == OPTIONS.few


def test_the_truth_is_faithful_where_noise_is_not(whole):
    found, _ = whole
    assert cell(found, "true-mask", "insertion")["mean"] > cell(found, "random-map", "insertion")["mean"]
    assert cell(found, "true-mask", "infidelity")["mean"] < cell(found, "random-map", "infidelity")["mean"]


def test_costs_are_what_the_methods_say(whole):
    found, _ = whole
    assert cell(found, "gradient-input", "forward")["mean"] == 3 and cell(found, "gradient-input", "backward")["mean"] == 1
    assert all(cell(found, row.name, "forward")["mean"] == 0 for row in REFERENCES)
    assert cell(found, "gradient-input", "memory") == {"mean": None, "low": None, "high": None, "n": 0, "over": None}


# Cases

def test_the_truth_on_the_models_grid_is_that_of_the_world(mllm):
    from mini_lib import world
    drawn = world.sample(12, 0, ("color", "shape", "exist", "relation"))
    known = {(text, picture.tobytes()): patches for text, picture, patches in
             zip(drawn.questions.text, drawn.pictures, drawn.patches)}
    for case in draw(6):
        prompt = mllm.prompt(case.picture, case.question)
        truth = on_patches(case.mask, prompt.tokens)
        assert (truth == known[case.question, np.asarray(case.picture).tobytes()]).all() and truth.any()
        changed = (np.asarray(case.picture) != np.asarray(case.without)).any(2)
        assert changed[case.mask].mean() > 0.9 and case.mask[changed].mean() > 0.5


def test_larger_pictures_are_the_same_pictures():
    small, large = draw(1)[0], draw(1, zoom=3)[0]
    assert large.picture.size == (192, 192) and (np.asarray(large.picture)[::3, ::3] == np.asarray(small.picture)).all()
    assert (large.mask[::3, ::3] == small.mask).all()


@pytest.mark.parametrize("said, found", [("red", "red"), ("Red.", "Red"), ("The star is red.", "red"), ("blue", None),
                                         ("red or blue", None), ("", None), ("reddish", None)])
def test_an_answer_is_right_when_it_says_the_right_word_and_no_other(said, found):
    case = replace(draw(1)[0], kind="color", answer="red")
    assert spoken(said, case) == found


def test_a_model_that_is_never_right_is_refused(mllm):
    with pytest.raises(Refusal, match="nothing to score"):
        right(mllm, [replace(case, answer="no such word") for case in draw(2)])


def test_wrong_answers_are_dropped_and_counted(mllm):
    first, *others = draw(3)
    kept, asked = right(mllm, [replace(first, answer="no such word"), *others])
    assert [case.index for case in kept] == [1, 2] and asked["wrong"] == 1 and asked["kept"] == 2 and asked["asked"] == 3


# Rows

def test_every_method_that_gives_a_map_has_a_row_and_no_other():
    names = [row.name for row in all_rows()]
    assert {"occlusion", "grad-cam", "token-ablation", "true-mask", "random-map"} <= set(names) and "logit-lens" not in names
    with pytest.raises(Refusal, match="occlusion"):
        all_rows(["logit-lens"])


def test_a_method_that_refuses_has_no_scores_and_says_why(mllm, tmp_path):
    def refuses(mllm, prompt, target, case, rng):
        raise Refusal("not on this model.")

    def endless(mllm, prompt, target, case, rng):
        return np.full(prompt.tokens.grid, np.inf)
    found = run(mllm, [Row("refuses", "method", refuses), Row("endless", "method", endless), REFERENCES[0]], Options(2, 0), tmp_path)
    rows = {row["row"]: row for row in found["rows"]}
    assert rows["refuses"]["refused"] == {"times": 2, "says": "not on this model."} and "not finite" in rows["endless"]["refused"]["says"]
    assert rows["refuses"]["scores"]["pointing"]["n"] == 0 and found["rows"][0]["row"] == "constant-map"
    assert found["best"]["pointing"] == {"row": None, "tied": []} and "refuses refused 2 cases: not on this model." in text(found)
    assert rows["constant-map"]["scores"]["redrawn"]["n"] == 0


def test_infidelity_from_single_patches_is_that_of_the_map_itself(mllm, monkeypatch):
    from mini_lib.evaluate import infidelity
    monkeypatch.setattr(measures, "DRAWS", 24)
    case = right(mllm, draw(1))[0][0]
    ready = prepare(mllm, case, "mean", 0)
    row = Row("fixed", "method", lambda *_: np.random.default_rng(5).random((8, 8)))
    direct = infidelity(mllm, ready.prompt, ready.target, row.values()[None], draws=24, seed=0).unexplained[0]
    assert 0 < direct < 1 and measure(mllm, row, ready, "mean", 0)["infidelity"] == pytest.approx(direct, abs=1e-5)


# The same numbers, however they came about

def test_a_second_run_gives_the_same_scores(mllm, whole, tmp_path):
    assert timeless(run(mllm, ROWS, OPTIONS, tmp_path)) == timeless(whole[0])


def test_a_finished_run_measures_nothing_again(mllm, whole, monkeypatch):
    def never(*args):
        raise AssertionError("measured again")
    monkeypatch.setattr(runs, "measure", never)
    assert run(mllm, ROWS, OPTIONS, whole[1]) == whole[0]


@pytest.mark.parametrize("torn", [b"", b'{"row": "gradient-input", "ca', b'{"row": "random-map", "case": 2, "scores": {}}'])
def test_a_stopped_run_goes_on_and_loses_and_doubles_nothing(mllm, whole, tmp_path, monkeypatch, torn):
    calls, true = [], runs.measure

    def stops(*args):
        calls.append(1)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return true(*args)
    monkeypatch.setattr(runs, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        run(mllm, ROWS, OPTIONS, tmp_path)
    assert len(keys(tmp_path)) == 7
    with open(tmp_path / "records-0.jsonl", "ab") as file:
        file.write(torn)
    monkeypatch.setattr(runs, "measure", lambda *args: calls.append(1) or true(*args))
    assert timeless(run(mllm, ROWS, OPTIONS, tmp_path)) == timeless(whole[0])
    assert len(calls) == 1 + len(ROWS) * 3 and len(keys(tmp_path)) == len(set(keys(tmp_path))) == len(ROWS) * 3


def test_a_run_killed_while_it_wrote_its_header_starts_anew(mllm, whole, tmp_path):
    source = (whole[1] / "records-0.jsonl").read_bytes()
    (tmp_path / "records-0.jsonl").write_bytes(source[:40])
    head = runs.header(mllm, ROWS, OPTIONS)
    assert records.read(tmp_path, head) == {}
    records.appending(tmp_path / "records-0.jsonl", head).close()
    assert (tmp_path / "records-0.jsonl").read_bytes() == source[:source.index(b"\n") + 1]


def test_a_damaged_line_is_measured_again_and_a_doubled_one_counts_once(mllm, whole, tmp_path):
    lines = (whole[1] / "records-0.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "records-0.jsonl").write_bytes(b"".join([*lines[:4], b"\x00\xff nonsense\n", *lines[5:]]))
    (tmp_path / "records-1.jsonl").write_bytes(b"".join(lines[:4]))
    assert timeless(run(mllm, ROWS, OPTIONS, tmp_path)) == timeless(whole[0])


def test_a_killed_process_goes_on_where_it_was(mllm, whole, tmp_path, script):
    process = subprocess.Popen([sys.executable, script, *COMMAND, "--out", str(tmp_path)], cwd=ROOT, env=ALONE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.time() + 100
    records = tmp_path / "records-0.jsonl"
    while time.time() < until and process.poll() is None and not (records.exists() and records.read_bytes().count(b"\n") > 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= len(keys(tmp_path)) < len(ROWS) * 3, "the process was not killed half-way"
    agree(run(mllm, ROWS, OPTIONS, tmp_path), whole[0])
    assert len(keys(tmp_path)) == len(set(keys(tmp_path)))


def agree(found, other, near=1e-3):
    """Two boards of different processes: the same up to the rounding of sums that more threads add in another order."""
    found, other = timeless(found), timeless(other)
    assert {row["row"]: row["refused"] for row in found["rows"]} == {row["row"]: row["refused"] for row in other["rows"]}
    for row in found["rows"]:
        for metric, one in row["scores"].items():
            two = cell(other, row["row"], metric)
            assert one["n"] == two["n"]
            assert [one[k] for k in ("mean", "low", "high")] == pytest.approx([two[k] for k in ("mean", "low", "high")], abs=near), metric


def test_two_shares_are_one_whole(mllm, whole, tmp_path):
    found = run(mllm, ROWS, OPTIONS, tmp_path, (0, 2), wait=lambda: run(mllm, ROWS, OPTIONS, tmp_path, (1, 2)))
    assert timeless(found) == timeless(whole[0])
    assert {path.name for path in tmp_path.iterdir()} == {"records-0.jsonl", "records-1.jsonl"}
    assert len(keys(tmp_path)) == len(set(keys(tmp_path))) == len(ROWS) * 3


def test_a_share_that_never_came_is_told(mllm, tmp_path):
    with pytest.raises(Refusal, match="lacks 4 of 8 records.*again"):
        run(mllm, REFERENCES, Options(2, 0), tmp_path, (0, 2))


@pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed, so no processes share the work here")
def test_two_processes_give_what_one_gives(whole, tmp_path, script):
    started = subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, *COMMAND,
                                "--out", str(tmp_path), "--json"], cwd=ROOT, env=ALONE, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said, errors = started.communicate(timeout=170)
    finally:
        started.terminate()                                      # which, unlike a kill, ends its two processes too
    assert started.returncode == 0, errors[-2000:]
    assert {path.name for path in tmp_path.iterdir()} == {"records-0.jsonl", "records-1.jsonl", "scoreboard.json"}
    assert len(keys(tmp_path)) == len(set(keys(tmp_path))) == len(ROWS) * 3
    agree(json.loads(said), whole[0])


@pytest.mark.parametrize("change, says", [({"seed": 1}, "seed 0, not seed 1"), ({"samples": 4}, "samples 3, not samples 4"),
                                          ({"few": 0}, "few 1"), ({"cover": "blur"}, "cover 'mean'"), ({"zoom": 2}, "zoom 1")])
def test_a_folder_of_other_options_is_refused(mllm, whole, change, says):
    with pytest.raises(Refusal, match=says):
        run(mllm, ROWS, replace(OPTIONS, **change), whole[1])


def test_a_folder_of_another_model_or_other_methods_is_refused(mllm, whole):
    import copy
    with pytest.raises(Refusal, match="methods gradient-input.*not the methods constant-map"):
        run(mllm, REFERENCES, OPTIONS, whole[1])
    other = replace(mllm, model=copy.deepcopy(mllm.model))
    next(other.model.parameters()).data.mul_(1.01)
    with pytest.raises(Refusal, match="fingerprint"):
        run(other, ROWS, OPTIONS, whole[1])


# The board

def test_the_board_has_one_form(whole):
    found = whole[0]
    assert set(found) == {"schema", "version", "model", "fingerprint", "samples", "few", "seed", "cover", "zoom", "asked", "sorted_by",
                          "metrics", "rows", "best", "machine"}
    assert re.fullmatch(r".+, torch [\d.]+, transformers [\d.]+", found["machine"])
    assert set(found["asked"]) == {"asked", "wrong", "off_grid", "kept", "kinds"} and set(found["metrics"]) == set(METRICS)
    assert [row["row"] for row in sort_rows(found["rows"], SORT)] == [row["row"] for row in found["rows"]]
    for row in found["rows"]:
        assert set(row) == {"row", "kind", "node", "paper", "scores", "refused"} and set(row["scores"]) == set(METRICS)
        for metric, one in row["scores"].items():
            assert set(one) == {"mean", "low", "high", "n", "over"}
            assert not one["n"] or one["low"] <= one["mean"] <= one["high"]
            assert (one["over"] is None) or METRICS[metric].floored and set(one["over"]) == {"floor", "mean", "low", "high"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def toy(**scores):
    """A board of rows with one score each on every metric, one list of values a case."""
    count = len(next(iter(scores.values())))
    kinds = {"noise": "floor"}
    rows = [Row(name, kinds.get(name, "method"), None) for name in scores]
    records = {(name, case): {"scores": dict.fromkeys(METRICS, value)} for name, values in scores.items() for case, value in enumerate(values)}
    return board({}, {}, rows, range(count), records)


def test_beating_the_floor_is_judged_case_by_case_in_the_sense_of_the_metric():
    found = toy(good=[0.9, 0.8, 1.0, 0.9] * 3, noise=[0.1, 0.1, 0.3, 0.2] * 3)
    up, down = cell(found, "good", "pointing")["over"], cell(found, "good", "deletion")["over"]
    assert up["floor"] == "noise" and up["low"] > 0 and up["mean"] == pytest.approx(0.725) and down["mean"] == pytest.approx(-0.725)
    assert cell(found, "noise", "pointing")["over"] is None and cell(found, "good", "stability")["over"] is None


def test_one_lucky_case_beats_no_floor():
    found = toy(lucky=[1.0] + [0.0] * 19, noise=[0.0] * 20)
    assert cell(found, "lucky", "pointing")["over"]["low"] <= 0 < cell(found, "lucky", "pointing")["low"]       # Wilson's is above 0


def test_the_best_and_those_level_with_it():
    found = toy(best=[0.9, 1.0, 0.95, 0.9] * 4, level=[1.0, 0.9, 0.9, 0.9] * 4, worse=[0.1, 0.2, 0.1, 0.2] * 4, noise=[0.0] * 16)
    assert found["best"]["mass"] == {"row": "best", "tied": ["level"]} and found["best"]["deletion"] == {"row": "worse", "tied": []}


def test_rates_get_wilsons_interval_and_amounts_a_bootstrap():
    found = toy(one=[1.0] * 10, noise=[0.0] * 10)
    assert cell(found, "one", "pointing")["low"] == pytest.approx(0.7225, abs=1e-3) and cell(found, "one", "forward")["low"] == 1


def test_rows_without_a_score_come_last_whatever_is_better():
    found = toy(a=[None, None], b=[0.5, 0.5], noise=[0.1, 0.2])
    assert [row["row"] for row in found["rows"]] == ["b", "noise", "a"]
    assert [row["row"] for row in sort_rows(found["rows"], "deletion")] == ["noise", "b", "a"]


# The command

def test_the_command_prints_a_table_or_json_and_writes_the_board(capsys, whole, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "records-0.jsonl").write_bytes((whole[1] / "records-0.jsonl").read_bytes())
    assert main([*COMMAND, "--out", str(tmp_path / "run.json"), "--sort", "insertion"]) == 0
    shown = capsys.readouterr().out
    assert "0 answered wrong" in shown and "sorted by insertion" in shown and "random-map *" in shown and "true-mask +" in shown
    assert main([*COMMAND, "--out", str(tmp_path / "run"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "run" / "scoreboard.json").read_text()) and printed["sorted_by"] == "pointing"
    assert json.loads((tmp_path / "run.json").read_text())["sorted_by"] == "insertion"
    assert printed == json.loads(json.dumps(whole[0])), "nothing was measured again"


@pytest.mark.parametrize("argv, says", [(["--samples", "0"], "--samples 0"), (["--few", "-1"], "--few -1"), (["--seed", "-1"], "--seed -1"),
                                        (["--zoom", "0"], "--zoom 0"), (["--cover", "meen"], "mean"), (["--sort", "pointin"], "pointing"),
                                        (["--methods", "oclusion"], "occlusion"), (["--methods", "logit-lens"], "number a patch"),
                                        (["--write", "--model", "tiny-random"], "--write"), (["--out", __file__], "is a file")])
def test_bad_options_are_one_sentence_before_the_model_is_loaded(capsys, monkeypatch, argv, says):
    monkeypatch.setattr("mini_lib.loading.load", None)
    assert main(["scoreboard", *argv]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mini-lib: ") and said.count("\n") == 1 and says in said


def test_without_accelerate_several_processes_are_told_what_is_missing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(Refusal, match="pip install accelerate"):
        records.team()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert records.team() is None
