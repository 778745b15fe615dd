"""The command line: what it prints and writes, and one clear sentence with a non-zero exit for every bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mini_lib import world
from mini_lib.cli import main


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "scene.png"
    world.sample(1, 0, kinds=("color",))[0].picture.save(path)
    return str(path)


QUESTION = world.sample(1, 0, kinds=("color",))[0].question
ANSWER = world.sample(1, 0, kinds=("color",))[0].answer


def refused(capsys, *argv):
    assert main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("mini-lib: ") and captured.err.count("\n") == 1 and "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize("method, kind", [("occlusion", "PatchMap"), ("token-ablation", "PatchMap"),
                                          ("logit-lens", "LensGrid"), ("model/token/visual-token", "LensGrid")])
def test_explain_answers_explains_and_says_what_it_measured(capsys, picture, method, kind):
    assert main(["explain", picture, QUESTION, "--method", method]) == 0
    out = capsys.readouterr().out
    assert f"tiny answers: {ANSWER}" in out and kind in out and "measured: " in out and "forward pass" in out


def test_a_checkpoint_of_tiny_is_explained_under_its_own_name(capsys, picture):
    assert main(["explain", picture, QUESTION, "--method", "logit-lens", "--checkpoint", "5"]) == 0
    assert "tiny, checkpoint 5 answers: " in capsys.readouterr().out


def test_explain_writes_png_json_and_html(capsys, picture, tmp_path):
    for suffix in ("png", "json", "html"):
        assert main(["explain", picture, QUESTION, "--out", str(tmp_path / f"map.{suffix}")]) == 0
    assert Image.open(tmp_path / "map.png").width > 300
    data = json.loads((tmp_path / "map.json").read_text())
    assert np.shape(data["values"]) == (8, 8) and data["target"] == ANSWER
    page = (tmp_path / "map.html").read_text()
    assert 'type="range"' in page and "http:" not in page and "https:" not in page


def test_explain_a_word_that_is_not_the_answer(capsys, picture):
    other = "red" if ANSWER != "red" else "blue"
    assert main(["explain", picture, QUESTION, "--token", other]) == 0
    assert repr(other) in capsys.readouterr().out


def test_explain_scores_a_folder_of_samples_beside_its_controls(capsys, tmp_path):
    assert main(["world", "sample", "--seed", "3", "--n", "6", "--out", str(tmp_path / "s"), "--kinds", "color", "exist"]) == 0
    assert main(["explain", str(tmp_path / "s"), "--out", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["answers"]["n"] == 6 and set(scores["pointing"]) == {"occlusion", "random map", "re-drawn weights"}


def bad_picture(kind, folder):
    path = folder / f"{kind}.png"
    if kind == "truncated":
        Image.effect_noise((200, 200), 90).save(path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "animated":
        path = folder / "a.gif"
        Image.new("RGB", (9, 9)).save(path, save_all=True, append_images=[Image.new("RGB", (9, 9), "red")])
    elif kind == "huge":
        Image.new("1", (11000, 11000)).save(path)
    return str(path)


@pytest.mark.parametrize("kind, reason", [("missing", "no file"), ("truncated", "cut short"), ("text", "not a picture"),
                                          ("animated", "animated"), ("huge", "more than 100 million")])
def test_a_bad_picture_is_one_sentence(capsys, tmp_path, kind, reason):
    assert reason in refused(capsys, "explain", bad_picture(kind, tmp_path), QUESTION)


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "RGBA"])
def test_an_unusual_picture_is_converted_with_a_note(capsys, tmp_path, mode):
    plain = world.sample(1, 0, kinds=("color",))[0].picture
    if mode == "I;16":
        deep, path = Image.fromarray(np.asarray(plain.convert("L")).astype(np.uint16) * 257), tmp_path / "a.png"
    else:
        deep, path = plain.convert(mode), tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    if mode == "RGBA":
        deep.putalpha(200)
    deep.save(path)
    assert main(["explain", str(path), QUESTION]) == 0
    assert "note: " in capsys.readouterr().out


@pytest.mark.parametrize("argv, reason", [
    ([""], "question is empty"),
    ([], "question is missing"),
    (["what colour is it ?"], "did you mean 'color'"),
    ([QUESTION, "--token", "reddish"], "did you mean 'red'"),
    ([QUESTION, "--token", "red star"], "'red', 'star'"),
    ([QUESTION, "--method", "oclusion"], "did you mean 'occlusion'"),
    ([QUESTION, "--method", "model/token/visual-tokens"], "did you mean 'model/token/visual-token'"),
    ([QUESTION, "--model", "./nowhere/at/all"], "no model folder"),
    ([QUESTION, "--model", "."], "no config.json"),
    ([QUESTION, "--model", "tiny-sed1"], "did you mean 'tiny"),
    ([QUESTION, "--checkpoint", "0"], "tiny has checkpoints 1 to"),
    ([QUESTION, "--out", "map.bmp"], ".png or .json or .html"),
    ([QUESTION, "--out", "no/such/map.json"], "no folder 'no/such'"),
    ([QUESTION, "--out", "tests", "--method", "oclusion"], ".png or .json or .html"),
    ([QUESTION, "--dtype", "bf16"], "float32, float16 or bfloat16"),
    ([QUESTION, "--device", "gpu"], "--device 'gpu' cannot be used"),
    ([QUESTION, "--device", "meta"], "--device 'meta' cannot be used"),
    ([QUESTION, "--device-map", "everywhere"], "--device-map 'everywhere' cannot be used"),
])
def test_a_bad_argument_is_one_sentence(capsys, picture, argv, reason):
    assert reason in refused(capsys, "explain", picture, *argv)


@pytest.mark.parametrize("option", ["--device", "--device-map"])
def test_a_gpu_that_is_not_there_is_one_sentence(capsys, picture, tmp_path, option):
    import torch
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "try cpu" in refused(capsys, "explain", picture, QUESTION, option, "cuda")
    assert "try cpu" in refused(capsys, "train", "--device", "cuda", "--out", str(tmp_path))


def test_a_missing_package_is_one_sentence(capsys, picture, monkeypatch):
    def load(*args, **kwargs):
        raise ImportError("`device_map` needs accelerate: `pip install accelerate`\nand a restart")
    monkeypatch.setattr("mini_lib.loading.load", load)
    assert "pip install accelerate" in refused(capsys, "explain", picture, QUESTION, "--device-map", "auto")


def test_a_file_that_cannot_be_written_is_one_sentence(capsys, picture, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("mini_lib.world.write", full)
    assert "No space left" in refused(capsys, "world", "sample", "--out", "unused")


def test_the_file_to_write_is_checked_before_anything_is_loaded(capsys, picture, tmp_path, monkeypatch):
    def load(*args, **kwargs):
        raise AssertionError("the model was loaded")
    monkeypatch.setattr("mini_lib.loading.load", load)
    (tmp_path / "map.png").mkdir()
    for name, reason in (("a.txt", "has to end in"), ("none/a.json", "there is no folder"), ("map.png", "is a folder")):
        assert reason in refused(capsys, "explain", picture, QUESTION, "--out", str(tmp_path / name))


def test_a_model_without_pictures_is_one_sentence(capsys, picture, tmp_path):
    from transformers import LlamaConfig
    LlamaConfig().save_pretrained(tmp_path)
    assert "takes no pictures" in refused(capsys, "explain", picture, QUESTION, "--model", str(tmp_path))


def test_a_folder_without_truth_is_one_sentence(capsys, tmp_path):
    assert "world sample" in refused(capsys, "explain", str(tmp_path))


@pytest.fixture
def samples(tmp_path):
    return str(world.write(world.sample(2, 0, kinds=("color",)), tmp_path / "samples"))


@pytest.mark.parametrize("argv, reason", [(["--out", "map.png"], "folder's scores has to end in .json"),
                                          (["--token", "red"], "leave --token out")])
def test_what_only_makes_sense_for_one_picture_is_refused_for_a_folder(capsys, samples, argv, reason):
    assert reason in refused(capsys, "explain", samples, *argv)


@pytest.mark.parametrize("line, reason", [('{"picture": "0000', "is not a JSON object"), ("", "is not a JSON object"),
                                          ("3", "is not a JSON object"), ('{"picture": "0000.png"}', "holds no 'question'")])
def test_a_broken_truth_file_is_named_with_its_line(capsys, samples, line, reason):
    truth = Path(samples) / "truth.jsonl"
    truth.write_text(truth.read_text().splitlines()[0] + f"\n{line}\n")
    said = refused(capsys, "explain", samples)
    assert reason in said and "truth.jsonl', line 2" in said


def test_a_kind_named_twice_is_drawn_once(tmp_path):
    for name, kinds in (("twice", ["color", "color"]), ("once", ["color"])):
        assert main(["world", "sample", "--n", "3", "--out", str(tmp_path / name), "--kinds", *kinds]) == 0
    assert (tmp_path / "twice" / "truth.jsonl").read_text() == (tmp_path / "once" / "truth.jsonl").read_text()


def test_a_place_or_seed_that_cannot_be_is_one_sentence(capsys, picture, tmp_path):
    assert "is a file" in refused(capsys, "world", "sample", "--out", picture)
    assert "zero or more" in refused(capsys, "world", "sample", "--seed", "-1", "--out", str(tmp_path))
    assert "zero or more" in refused(capsys, "card", "--seed", "-1")


def test_sampling_nothing_or_an_unknown_kind_is_one_sentence(capsys, tmp_path):
    assert "at least one" in refused(capsys, "world", "sample", "--n", "0", "--out", str(tmp_path))
    assert "'color'" in refused(capsys, "world", "sample", "--kinds", "colour", "--out", str(tmp_path))


def test_an_unknown_taxonomy_node_is_refused_with_the_nearest_names(capsys):
    assert main(["taxonomy", "show", "visual-tokn"]) == 2
    assert "visual-token" in capsys.readouterr().err.lower().replace(" ", "-")


def test_check_puts_the_model_and_a_method_through_the_battery(capsys):
    assert main(["check", "logit-lens"]) == 0                   # all methods take minutes; tests/core/test_conformance.py runs them
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["load", "logit-lens"] and all(line.endswith("passed") for line in lines)


def test_methods_lists_node_cost_and_paper(capsys):
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    assert "data/input-output" in out and "arXiv:1311.2901" in out and "forward pass" in out


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in `mini-lib methods | head`: the pipe is shut before anything is read from it."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-m", "mini_lib", "methods"], stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
