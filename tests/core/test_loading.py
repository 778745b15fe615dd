"""Models by name: each name gives its own weights, and a file that was changed on the way is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mini_lib import load, world
from mini_lib.refusal import Refusal
from mini_lib.tiny import WEIGHTS, store

QUESTION = "what color is the star ?"


@pytest.fixture(scope="module")
def picture():
    return world.sample(1, 0)[0].picture


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of what is shipped of `tiny` alone, which the names then mean."""
    path = tmp_path / "weights"
    shutil.copytree(WEIGHTS, path, ignore=shutil.ignore_patterns("seed*", "twin*", "checkpoint-*"))
    monkeypatch.setattr(store, "WEIGHTS", path)
    store.write_hashes(path)
    return path


@pytest.fixture
def siblings(folder):
    """The same with two made-up siblings and two checkpoints: scaled copies of the model's own file."""
    tensors = load_file(folder / "model.safetensors")
    for k, name in enumerate(("seed1", "twin", "checkpoint-1", "checkpoint-2")):
        save_file({key: (1 - k / 10) * value for key, value in tensors.items()}, folder / f"{name}.safetensors",
                  {"step": str(100 * k)})
    save_file(tensors, folder / "model.safetensors", {"format": "pt", "step": "500"})
    store.write_hashes(folder)
    return folder


def logits(model, picture):
    return model.logits(model.prompt(picture, QUESTION).inputs)


@pytest.mark.parametrize("name", [*store.names(), *(f"checkpoint {k + 1}" for k in range(len(store.checkpoints())))])
def test_everything_shipped_loads_by_its_name_in_full_precision(mllm, picture, name):
    number = int(name.split()[1]) if name.startswith("checkpoint") else None
    model = load(name, device="cpu") if number is None else load("tiny", checkpoint=number, device="cpu")
    assert model.name == (name if number is None else f"tiny, {name}") and model.model.dtype == torch.float32
    assert len(model.checks) == 4
    same = torch.equal(logits(model, picture), logits(mllm, picture))
    assert same == (name == "tiny" or number == len(store.checkpoints()))


def test_what_is_shipped_is_what_the_hashes_list_and_fits_the_model():
    listed = json.loads((WEIGHTS / store.HASHES).read_text())
    assert {path.name for path in WEIGHTS.iterdir()} == {*listed, store.HASHES}
    tiny = load_file(WEIGHTS / "model.safetensors")
    for file in WEIGHTS.glob("*.safetensors"):
        other = load_file(file)
        assert {k: (v.shape, v.dtype) for k, v in other.items()} == {k: (v.shape, v.dtype) for k, v in tiny.items()}
    steps = store.checkpoints()
    assert steps[:-1] == sorted(set(steps[:-1])) and (len(steps) == 1 or steps[-2] < steps[-1])


def test_tiny_is_what_load_gives_by_itself(mllm, picture):
    assert mllm.name == "tiny" and torch.equal(logits(load("tiny", device="cpu"), picture), logits(mllm, picture))


def test_a_sibling_made_from_the_shipped_weights_is_the_same_model(siblings, mllm, picture):
    """What `from_pretrained` reads from a folder and what we hand to it arrive under the same names."""
    other = load("tiny-seed1", device="cpu")
    assert other.name == "tiny-seed1" and torch.equal(logits(other, picture), logits(mllm, picture))
    assert other.model.generation_config.to_dict() == mllm.model.generation_config.to_dict()
    assert other.answer(other.prompt(picture, QUESTION)) == mllm.answer(mllm.prompt(picture, QUESTION))


def test_each_name_and_checkpoint_has_the_weights_of_its_own_file(siblings):
    assert store.names() == ["tiny", "tiny-seed1", "tiny-twin", "tiny-random"]
    assert store.checkpoints() == [200, 300, 500]
    head = load("tiny", device="cpu").model.lm_head.weight
    for k, (name, number) in enumerate((("tiny-seed1", None), ("tiny-twin", None), ("tiny", 1), ("tiny", 2))):
        other = load(name, checkpoint=number, device="cpu", check=False)
        assert torch.allclose(other.model.lm_head.weight, (1 - k / 10) * head, 2e-3, 1e-3) and other.model.dtype == torch.float32
    assert other.name == "tiny, checkpoint 2"
    assert torch.equal(load(checkpoint=3, device="cpu", check=False).model.lm_head.weight, head)


def test_half_precision_files_are_loaded_in_full_precision_and_keywords_pass_through(siblings):
    for name in ("model", "seed1"):
        path = siblings / f"{name}.safetensors"
        save_file({k: v.half() for k, v in load_file(path).items()}, path, {"format": "pt"})
    store.write_hashes(siblings)
    for name in ("tiny", "tiny-seed1"):
        other = load(name, device="cpu", attn_implementation="eager")
        assert {p.dtype for p in other.model.parameters()} == {torch.float32}
        assert other.model.config.text_config._attn_implementation.endswith("eager")
        assert load(name, device_map={"": "cpu"}, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_the_untrained_model_is_always_the_same_and_touches_no_random_numbers(mllm, picture):
    before = torch.get_rng_state()
    one, two = (store.weights("tiny-random") for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert torch.equal(load("tiny-random", device="cpu").model.lm_head.weight, one["lm_head.weight"])


def test_a_changed_and_a_lost_file_are_refused_with_the_way_back(siblings):
    path = siblings / "seed1.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (siblings / "twin.safetensors").unlink()
    with pytest.raises(Refusal, match="seed1.safetensors' is not the file.*git checkout.*reinstall"):
        load("tiny-seed1")
    with pytest.raises(Refusal, match="twin.safetensors' is missing.*git checkout.*reinstall"):
        load("tiny-twin")
    load("tiny", device="cpu", check=False)                 # files that are not used are not asked for
    config = siblings / "config.json"
    config.write_text(config.read_text().replace("1e-06", "1e-05"))
    with pytest.raises(Refusal, match="config.json' is not the file"):
        load("tiny")
    (siblings / store.HASHES).unlink()
    with pytest.raises(Refusal, match="hashes.json' is missing.*git checkout"):
        load("tiny")


def test_line_ends_of_another_system_are_no_change(folder):
    for path in folder.glob("*.json"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    load("tiny", device="cpu", check=False)


def test_a_name_that_is_not_shipped_is_refused_with_those_that_are(folder):
    with pytest.raises(Refusal, match="'tiny-twin' is not shipped .* has tiny, tiny-random"):
        load("tiny-twin")
    with pytest.raises(Refusal, match="no shipped model 'tiny-radom'; did you mean 'tiny-random'"):
        load("tiny-radom")
    with pytest.raises(Refusal, match="no shipped model 'Tiny'.*'tiny'"):
        load("Tiny")


@pytest.mark.parametrize("name, number", [("tiny", 0), ("tiny", 4), ("tiny", -1), ("tiny", "last"), ("tiny-seed1", 1),
                                          ("tiny-random", 1)])
def test_a_checkpoint_that_there_is_not_is_refused_with_the_range(siblings, name, number):
    with pytest.raises(Refusal, match=f"no checkpoint {number!r} of {name}; tiny has checkpoints 1 to 3"):
        load(name, checkpoint=number)


def test_a_checkpoint_of_a_folder_is_refused(siblings):
    with pytest.raises(Refusal, match="checkpoint=1 goes with tiny, which has 1 to 3"):
        load(siblings, checkpoint=1)


def test_a_folder_called_like_a_name_is_reached_by_its_path_and_does_not_shadow_it(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "tiny-mine"):
        Path(name).mkdir()
    assert load("tiny", device="cpu", check=False).name == "tiny"
    for path in ("./tiny", "tiny/", Path("tiny"), "tiny-mine", str(tmp_path / "tiny")):
        with pytest.raises(Refusal, match="no config.json"):
            load(path)
    assert store.find("tiny-org/tiny-model") is None        # a Hugging Face id
