"""The handle: what it loads, what it refuses, and that its numbers are the model's own."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mini_lib import load, world
from mini_lib.refusal import Refusal
from mini_lib.tiny import WEIGHTS


@pytest.fixture(scope="module")
def sample():
    return world.sample(1, 0, kinds=("color",))[0]


def test_load_reports_the_identities_it_checked(mllm):
    assert set(mllm.checks) == {"hooks off = hooks on", "lens at the last layer = logits", "an empty cut changes nothing",
                                "all image keys cut = blind to the picture"}
    assert mllm.checks["hooks off = hooks on"] == 0 == mllm.checks["all image keys cut = blind to the picture"]


def test_answers_one_by_one_and_in_a_padded_batch_agree(mllm):
    samples = world.sample(40, 3)                     # questions of different lengths, so the batch is padded
    alone = [mllm.answer(mllm.prompt(s.picture, s.question)) for s in samples]
    assert mllm.answers(samples.pictures, samples.questions.text) == alone


def test_a_score_is_the_log_probability_that_transformers_gives(mllm, sample):
    prompt = mllm.prompt(sample.picture, "describe the picture .")
    target = mllm.target(prompt)
    assert len(target.ids) >= 4
    ids = torch.cat([prompt.inputs["input_ids"], torch.tensor([target.ids])], 1)
    logits = mllm.model(**{**prompt.inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[0]
    start = prompt.inputs["input_ids"].shape[1]
    wanted = sum(logits[start + k - 1].log_softmax(-1)[i].item() for k, i in enumerate(target.ids))
    assert float(mllm.score(prompt, target)[0]) == pytest.approx(wanted, abs=1e-3)


def test_scores_of_many_pictures_are_those_of_each(mllm, sample):
    prompt = mllm.prompt(sample.picture, sample.question)
    target, pictures = mllm.target(prompt), [s.picture for s in world.sample(5, 4)]
    alone = [float(mllm.score(mllm.prompt(p, sample.question), target)[0]) for p in pictures]
    for size in (1, 2, 64):
        assert np.allclose(replace(mllm, batch_size=size).score(prompt, target, iter(pictures)), alone, atol=1e-4)


def test_a_word_inside_a_longer_answer_is_explained_where_it_is_said(mllm, sample):
    prompt = mllm.prompt(sample.picture, "describe the picture .")
    said = mllm.answer(prompt).split()
    target = mllm.target(prompt, said[2])
    assert mllm.tokenizer.decode(target.ids).split() == said[: said.index(said[2]) + 1] and target.text == said[2]
    assert len(target.ids) - 1 == target.first == said.index(said[2])


@pytest.mark.parametrize("question", ["", "   ", None])
def test_an_empty_question_is_refused(mllm, sample, question):
    with pytest.raises(Refusal, match="question is empty"):
        mllm.prompt(sample.picture, question)


def test_a_word_the_model_does_not_know_is_refused_with_the_nearest_ones(mllm, sample):
    with pytest.raises(Refusal, match="'colour'.*'color'"):
        mllm.prompt(sample.picture, "what colour is the star ?")
    with pytest.raises(Refusal, match="'redd'.*'red'"):
        mllm.target(mllm.prompt(sample.picture, sample.question), "redd")


def test_a_word_of_several_tokens_is_refused_and_its_tokens_are_offered(mllm, sample):
    with pytest.raises(Refusal, match="not one token .* but 2: 'red', 'star'"):
        mllm.target(mllm.prompt(sample.picture, sample.question), "red star")


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(Refusal, match="no config.json"):
        load(tmp_path)


def test_a_folder_that_does_not_exist_is_refused():
    with pytest.raises(Refusal, match="There is no model folder"):
        load("./no/such/folder")


def test_a_broken_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(Refusal, match="cannot be loaded"):
        load(tmp_path)


def test_a_model_that_takes_no_pictures_is_refused(tmp_path):
    from transformers import LlamaConfig
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(Refusal, match="takes no pictures"):
        load(tmp_path)


def test_a_local_folder_loads_like_the_default_and_dtype_passes_through(sample):
    other = load(WEIGHTS, device="cpu", dtype=torch.bfloat16)
    assert other.model.dtype == torch.bfloat16
    assert other.answer(other.prompt(sample.picture, sample.question)) == sample.answer


def test_a_model_whose_pixels_do_not_arrive_is_refused(monkeypatch):
    """The placeholder embedding silently stands in for a missing picture in some published code."""
    from mini_lib.mllm import MLLM
    move = MLLM._move
    monkeypatch.setattr(MLLM, "_move", lambda self, inputs: {k: v for k, v in move(self, inputs).items() if k != "pixel_values"})
    with pytest.raises(Refusal, match="pixels are not reaching it"):
        load(device="cpu")


def test_a_model_with_the_wrong_norm_is_refused(monkeypatch):
    import mini_lib.loading as core
    find = core.find_parts
    monkeypatch.setattr(core, "find_parts", lambda model: replace(find(model), norm=find(model).blocks[0].input_layernorm))
    with pytest.raises(Refusal, match="lens at the last layer"):
        load(device="cpu")


def test_transformers_alone_loads_the_shipped_folder_and_answers(sample):
    """In a process of its own, without any code of ours."""
    import subprocess
    import sys
    code = ("import sys; from PIL import Image; from transformers import AutoModelForImageTextToText as M, AutoProcessor as P\n"
            "folder, picture, question = sys.argv[1:]\n"
            "m, p = M.from_pretrained(folder), P.from_pretrained(folder)\n"
            "i = p.apply_chat_template([{'role': 'user', 'content': [{'type': 'image', 'image': Image.open(picture)}, "
            "{'type': 'text', 'text': question}]}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors='pt')\n"
            "print(p.decode(m.generate(**i)[0, i['input_ids'].shape[1]:], skip_special_tokens=True))\n"
            "assert not any(name.startswith('mini_lib') for name in sys.modules)")
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        sample.picture.save(f"{folder}/p.png")
        out = subprocess.run([sys.executable, "-c", code, str(WEIGHTS), f"{folder}/p.png", sample.question],
                             capture_output=True, text=True, cwd=folder)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == sample.answer


def test_device_map_passes_through(sample):
    other = load(device_map={"": "cpu"})
    assert other.answer(other.prompt(sample.picture, sample.question)) == sample.answer


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padded_batches_are_right_on_every_kernel_also_through_our_attention(mllm, attention):
    """A row of padding may see nothing; its weights must not become 0 / 0 and spread."""
    from mini_lib import hooks
    samples = world.sample(12, 3)
    alone = [mllm.answer(mllm.prompt(s.picture, s.question)) for s in samples]
    other = load(device="cpu", attn_implementation=attention)
    assert other.answers(samples.pictures, samples.questions.text) == alone
    with hooks.cut(other, [], []):
        assert other.answers(samples.pictures, samples.questions.text) == alone


def test_a_right_padding_tokenizer_is_turned_round(tmp_path):
    import json
    import shutil
    shutil.copytree(WEIGHTS, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": "right"}))
    samples = world.sample(10, 3)
    other = load(tmp_path / "model", device="cpu")
    assert other.answers(samples.pictures, samples.questions.text) == [
        other.answer(other.prompt(s.picture, s.question)) for s in samples]


def test_a_mark_of_the_model_inside_a_question_is_refused(mllm, sample):
    with pytest.raises(Refusal, match="<image>"):
        mllm.prompt(sample.picture, "what is <image> ?")


def test_unequal_numbers_of_pictures_and_questions_are_refused(mllm, sample):
    with pytest.raises(Refusal, match="1 pictures for 2 questions"):
        mllm.answers([sample.picture], [sample.question] * 2)


def test_a_word_is_found_in_the_answer_in_either_of_its_forms(mllm, sample):
    """Byte-level tokenizers have one id for "red" and another for " red"; the one that was said is explained."""
    ids = {"red": 1, " red": 2, "a": 3}
    tokenizer = SimpleNamespace(unk_token_id=None, all_special_ids=[], encode=lambda text, add_special_tokens: [ids[text]])
    for said, wanted in (([3, 2], (3, 2)), ([1, 3], (1,)), ([3], (1,))):
        toy = replace(mllm, processor=SimpleNamespace(tokenizer=tokenizer))
        toy._generate = lambda inputs, most, said=said: torch.tensor([said])
        assert toy.target(SimpleNamespace(inputs=None), "red").ids == wanted


def test_in_half_precision_the_identities_hold_within_its_slack(sample):
    from mini_lib.registry import methods
    half = load(device="cpu", dtype=torch.bfloat16)
    prompt = half.prompt(sample.picture, sample.question)
    failed = [str(i) for m in methods().values() for i in m.identity(half, prompt) if not i.passed]
    assert failed == []


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(Refusal, match="cuda"):
        load(device="cuda")
