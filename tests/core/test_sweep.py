"""Data sets and sweeps over them: read row by row, resumed, shared, and nothing lost."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mini_lib import sweep as sweeps
from mini_lib import world
from mini_lib.cli import main
from mini_lib.data_sets import rows
from mini_lib.refusal import Refusal
from mini_lib.registry import find
from mini_lib.sweep import sweep

ROOT = Path(__file__).resolve().parents[2]
METHODS = [find("gradient-input"), find("logit-lens")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as a user has it: pictures, and a line for each question; the fourth names a picture that is not there."""
    made = tmp_path_factory.mktemp("mine")
    samples = world.sample(4, 8, kinds=("color", "count"))
    lines = []
    for k, sample in enumerate(samples):
        Image.fromarray(np.asarray(sample.picture)).save(made / f"{k}.png")
        lines.append(json.dumps({"image": "gone.png" if k == 3 else f"{k}.png", "question": sample.question, "by": "me"}))
    (made / "questions.jsonl").write_text("\n".join(lines) + "\n\n")
    return made


@pytest.fixture(scope="module")
def whole(mllm, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return sweep(mllm, folder, METHODS, out), out


def found(out):
    return [json.loads(text) for text in (out / "sweep.jsonl").read_text().splitlines()]


def test_rows_are_read_one_at_a_time_and_pictures_opened_when_asked_for(folder):
    first = next(rows(folder))
    assert (first.index, first.name) == (0, "0.png") and first.picture() == folder / "0.png"
    assert [asked.index for asked in rows(folder)] == [0, 1, 2, 3]

    def endless():
        k = 0
        while True:
            yield {"image": Image.new("RGB", (8, 8), (k, 0, 0)), "text": f"what is {k} ?"}
            k += 1
    stream = rows(endless())
    asked = [next(stream) for _ in range(3)]
    assert [one.question for one in asked] == ["what is 0 ?", "what is 1 ?", "what is 2 ?"]
    assert [one.picture().getpixel((0, 0))[0] for one in asked] == [0, 1, 2]


def test_a_folder_of_the_world_is_a_data_set_too(mllm, tmp_path):
    world.write(world.sample(2, 3, kinds=("color",)), tmp_path / "world")
    assert [mllm.prompt(asked.picture(), asked.question).question for asked in rows(tmp_path / "world")]


@pytest.mark.parametrize("text, says", [('{"image": "a.png"}', "line 1, has no 'question' .'prompt', 'text' would do.; it has 'image'"),
                                        ('{"question": "what ?"}', "has no 'picture'"), ("[1]", "line 1, is not a JSON object"),
                                        ("no json", "line 1, is not a JSON object")])
def test_a_line_that_lacks_something_is_named(tmp_path, text, says):
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(Refusal, match=says):
        list(rows(tmp_path))


def test_what_is_no_data_set_is_refused(tmp_path, monkeypatch):
    with pytest.raises(Refusal, match="no folder"):
        rows(tmp_path / "nowhere")
    with pytest.raises(Refusal, match="holds no .jsonl files"):
        rows(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Refusal, match="pip install datasets"):
        rows("hf:org/name")


@pytest.mark.skipif(find_spec("datasets") is None, reason="datasets is not installed, so its data sets are not tried here")
def test_a_data_set_of_datasets_streams(mllm, folder, tmp_path):
    from datasets import Dataset
    samples = world.sample(2, 8, kinds=("color",))
    data = Dataset.from_list([{"image": sample.picture, "question": sample.question} for sample in samples])
    for one in (data, data.to_iterable_dataset()):
        assert sweep(mllm, one, METHODS[:1], tmp_path / type(one).__name__)["explained"] == 2


def test_every_row_and_method_has_a_record_in_order(mllm, folder, whole):
    said, out = whole
    records = found(out)
    assert (said["rows"], said["explained"], said["refused"]) == (4, 6, 2)
    assert [(record["index"], record["method"]) for record in records] == [(k, m.slug) for k in range(4) for m in METHODS]
    assert all("gone.png" in record["refused"] for record in records[-2:])
    for record in records[:-2]:
        prompt = mllm.prompt(folder / record["name"], record["question"])
        assert record["answer"] == mllm.answer(prompt)
        assert record["result"] == json.loads(json.dumps(find(record["method"]).explain(mllm, prompt).to_dict()))


@pytest.mark.parametrize("torn", [b"", b'{"index": 2, "met'])
def test_a_stopped_sweep_goes_on_and_does_nothing_twice(mllm, folder, whole, tmp_path, monkeypatch, torn):
    calls, true = [], sweeps._explained

    def stops(mllm, asked, methods):
        if asked.index == 2:
            raise KeyboardInterrupt
        yield from true(mllm, asked, methods)
    monkeypatch.setattr(sweeps, "_explained", stops)
    with pytest.raises(KeyboardInterrupt):
        sweep(mllm, folder, METHODS, tmp_path)
    with open(tmp_path / "records-0.jsonl", "ab") as file:
        file.write(torn)

    def counts(mllm, asked, methods):
        calls.extend((asked.index, method.slug) for method in methods)
        yield from true(mllm, asked, methods)
    monkeypatch.setattr(sweeps, "_explained", counts)
    assert sweep(mllm, folder, METHODS, tmp_path)["explained"] == 6
    assert calls == [(k, m.slug) for k in (2, 3) for m in METHODS]
    assert (tmp_path / "sweep.jsonl").read_bytes() == (whole[1] / "sweep.jsonl").read_bytes()


def test_two_shares_are_one_whole_and_a_missing_one_is_told(mllm, folder, whole, tmp_path):
    with pytest.raises(Refusal, match="lacks 4 of 8 records.*again"):
        sweep(mllm, folder, METHODS, tmp_path, process=(0, 2))
    sweep(mllm, folder, METHODS, tmp_path, process=(0, 2), wait=lambda: sweep(mllm, folder, METHODS, tmp_path, process=(1, 2)))
    assert (tmp_path / "sweep.jsonl").read_bytes() == (whole[1] / "sweep.jsonl").read_bytes()


def test_a_folder_of_other_work_is_refused(mllm, folder, whole):
    with pytest.raises(Refusal, match="holds a sweep with the methods gradient-input, logit-lens, not the methods logit-lens"):
        sweep(mllm, folder, METHODS[1:], whole[1])


def test_the_command_says_what_it_did_and_refuses_slips_before_the_model(capsys, folder, tmp_path, monkeypatch):
    assert main(["sweep", str(folder), "--method", "gradient-input", "--first", "2", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["explained"] == 2
    monkeypatch.setattr("mini_lib.cli._load", lambda *_: pytest.fail("the model was loaded"))
    for argv, says in ((["nowhere"], "no folder"), ([str(folder), "--method", "oclusion"], "occlusion"), ([str(folder), "--first", "0"], "--first 0")):
        assert main(["sweep", *argv]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.skipif(find_spec("accelerate") is None, reason="accelerate is not installed, so no processes share the work here")
def test_two_processes_give_what_one_gives(folder, whole, tmp_path):
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mini_lib", "sweep",
                           str(folder), "--method", "gradient-input", "logit-lens", "--device", "cpu", "--out", str(tmp_path)], cwd=ROOT,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["explained"] == 6
    one, two = found(whole[1]), found(tmp_path)
    assert [(r["index"], r["method"], r.get("answer")) for r in one] == [(r["index"], r["method"], r.get("answer")) for r in two]
    assert all(np.allclose(a["result"]["values"], b["result"]["values"], atol=1e-3) for a, b in zip(one, two) if "values" in a.get("result", {}))
