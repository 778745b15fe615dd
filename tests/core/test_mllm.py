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


@pytest.fixture(scope="module")
def three():
    return world.sample(3, 5, kinds=("color",))


def test_frames_stand_in_order_before_the_question(mllm, three):
    frames = [s.picture for s in three]
    prompt = mllm.prompt(frames, "what color is the star ?")
    assert [image.tolist() for image in prompt.tokens.images] == [[*range(1 + 64 * k, 65 + 64 * k)] for k in range(3)]
    assert prompt.tokens.text[193:] == ["what", "color", "is", "the", "star", "?"]
    assert prompt.tokens.question == [*range(193, 199)]
    assert prompt.tokens.grid == (8, 8) and prompt.tokens.boxes.shape == (192, 4)
    assert prompt.pictures == tuple(frames) and prompt.picture is prompt.pictures[0] and "3 pictures" in repr(prompt)
    pixels = torch.cat([mllm.prompt(f, "is the star red ?").inputs["pixel_values"] for f in frames])
    assert torch.equal(prompt.inputs["pixel_values"], pixels)


def test_a_clip_may_be_a_list_a_tuple_or_an_array(mllm, three):
    frames = [s.picture for s in three]
    plain = mllm.logits(mllm.prompt(frames, "is the star red ?").inputs)
    for clip in (tuple(frames), np.stack([np.asarray(f) for f in frames])):
        assert torch.equal(mllm.logits(mllm.prompt(clip, "is the star red ?").inputs), plain)


def test_a_list_of_one_picture_is_that_picture(mllm, sample):
    one, same = mllm.prompt(sample.picture, sample.question), mllm.prompt([sample.picture], sample.question)
    assert all(torch.equal(one.inputs[key], same.inputs[key]) for key in one.inputs)
    assert repr(one) == repr(same) and len(one.tokens.images) == 1 == len(one.pictures)
    assert torch.equal(one.tokens.images[0], one.tokens.image)


def test_each_picture_arrives_at_its_own_positions(mllm, three):
    """Change one picture of a prompt: in the stream that enters block 0, its tokens change and no others."""
    from mini_lib import hooks
    frames = [s.picture for s in three]
    shots = [(frames[1], "is there a star ?", "no")]

    def stream(pictures, shots):
        with hooks.record(mllm, "embed") as seen:
            prompt = mllm.prompt(pictures, "is the star red ?", shots)
            mllm.logits(prompt.inputs)
        return prompt.tokens, seen["embed"][0]

    tokens, plain = stream(frames[:2], shots)
    others = ((frames[:2], frames[2]), ([frames[2], frames[1]], frames[1]), (frames[::2], frames[1]))
    for k, (pictures, shown) in enumerate(others):          # the shot's picture, the first one asked about, the second
        _, changed = stream(pictures, [(shown, *shots[0][1:])])
        moved = (plain != changed).any(-1).nonzero().flatten().tolist()
        assert moved and set(moved) <= set(tokens.images[k].tolist())


def test_shots_come_first_as_a_conversation(mllm, three):
    shots = [(s.picture, s.question, s.answer) for s in (three[0], three[1])]
    prompt = mllm.prompt(three[2].picture, three[2].question, shots)
    said = mllm.processor.apply_chat_template([
        *(turn for picture, question, answer in shots for turn in (
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]})),
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": three[2].question}]}],
        add_generation_prompt=True, tokenize=False)
    wanted = mllm.tokenizer.encode(said.replace("<image>", "<image> " * 64))
    assert prompt.inputs["input_ids"][0].tolist() == wanted
    assert len(prompt.tokens.images) == 3 and all((image.diff() == 1).all() for image in prompt.tokens.images)
    assert prompt.picture == prompt.pictures[2] == three[2].picture and len(prompt.pictures) == 3
    assert [prompt.tokens.text[p] for p in prompt.tokens.question] == three[2].question.split()
    assert min(prompt.tokens.question) > int(prompt.tokens.image[-1])


def test_batches_of_clips_and_shots_answer_as_one_by_one(mllm):
    """Rows differ in pictures, shots and words, so all but the longest are padded."""
    samples = list(world.sample(9, 3))
    frames = [s.picture for s in samples]
    pictures = [frames[k] if k % 3 == 0 else frames[k:k + 1 + k % 3] for k in range(9)]
    questions = [s.question for s in samples]
    shots = [[(frames[j], questions[j], samples[j].answer) for j in range(k % 4)] or None for k in range(9)]
    alone = [mllm.answer(mllm.prompt(p, q, s or ())) for p, q, s in zip(pictures, questions, shots)]
    for size in (2, 64):
        assert replace(mllm, batch_size=size).answers(pictures, questions, shots=shots) == alone
    plain = [mllm.answer(mllm.prompt(p, q)) for p, q in zip(pictures, questions)]
    assert mllm.answers(pictures, questions) == plain


def test_what_follows_a_forced_beginning_is_what_forcing_by_hand_gives(mllm):
    samples = list(world.sample(6, 4))
    questions = [s.question if k % 2 else "describe the picture ." for k, s in enumerate(samples)]
    begin = ["a red", "", "a blue star , a", "yes", "a green circle", "two"]
    given = mllm.answers([s.picture for s in samples], questions, 6, begin=begin)
    for sample, question, forced, said in zip(samples, questions, begin, given):
        prompt = mllm.prompt(sample.picture, question)
        ids = tuple(mllm.tokenizer.encode(forced, add_special_tokens=False))
        for _ in range(6):                                  # greedy, one pass a word, no cache
            logits = mllm.logits(mllm.forced(prompt, SimpleNamespace(ids=(*ids, 0))))
            ids = (*ids, int(logits[0, -1].argmax()))
            if ids[-1] == mllm.tokenizer.eos_token_id:
                break
        wanted = mllm.tokenizer.decode(ids[len(forced.replace(",", " , ").split()):], skip_special_tokens=True)
        assert said == wanted.strip()
    assert mllm.answers([s.picture for s in samples], questions, 6, begin=[""] * 6) == mllm.answers(
        [s.picture for s in samples], questions, 6)


def test_a_form_that_writes_the_first_token_itself_gets_no_second_one(mllm, sample):
    from copy import copy
    processor = copy(mllm.processor)
    processor.chat_template = "<s>" + processor.chat_template
    other = replace(mllm, processor=processor)
    turns = other._conversation(sample.picture, sample.question, ())[0]
    plain, begun = other._inputs([turns])["input_ids"][0], other._inputs([turns], ["a red"])["input_ids"][0]
    assert begun[:-2].tolist() == plain.tolist() and mllm.tokenizer.decode(begun[-2:]) == "a red"


@pytest.mark.parametrize("shots, reason", [
    ([("picture", "is there a star ?")], "picture, question, answer"),
    (("picture", "is there a star ?", "yes"), "picture, question, answer"),
    ([("picture", "is there a star ?", " ")], "picture, question, answer"),
    ([("picture", "is there a star ?", None)], "picture, question, answer"),
    ([("picture", "", "yes")], "question is empty"),
    ([("picture", "is there a star ?", "</s>")], "The answer of a shot contains '</s>'"),
    ([("picture", "is there a star ?", "reddish")], "'reddish'.*'red'"),
    ([("picture", "is there a stair ?", "yes")], "'stair'.*'star'"),
])
def test_a_bad_shot_is_refused(mllm, sample, shots, reason):
    shots = [tuple(sample.picture if part == "picture" else part for part in shot) if isinstance(shot, tuple) else shot
             for shot in shots]
    with pytest.raises(Refusal, match=reason):
        mllm.prompt(sample.picture, sample.question, shots)


def test_no_picture_and_unequal_shots_or_beginnings_are_refused(mllm, sample):
    with pytest.raises(Refusal, match="no picture in the list"):
        mllm.prompt([], sample.question)
    with pytest.raises(Refusal, match="1 lists of shots for 2 questions"):
        mllm.answers([sample.picture] * 2, [sample.question] * 2, shots=[[]])
    with pytest.raises(Refusal, match="3 beginnings for 2 questions"):
        mllm.answers([sample.picture] * 2, [sample.question] * 2, begin=[""] * 3)
    with pytest.raises(Refusal, match="The beginning of an answer contains '<image>'"):
        mllm.answers([sample.picture], [sample.question], begin=["<image>"])
    with pytest.raises(Refusal, match="does not know 'redd'"):
        mllm.answers([sample.picture], [sample.question], begin=["redd"])


def test_more_tokens_than_the_model_takes_are_refused(mllm, sample):
    most = mllm.model.config.text_config.max_position_embeddings
    with pytest.raises(Refusal, match=f"takes {most}; give fewer pictures"):
        mllm.prompt([sample.picture] * (most // 64), sample.question)


def test_several_pictures_can_be_scored_but_not_replaced_or_mapped_as_one(mllm, sample, three):
    from mini_lib.registry import methods
    prompt = mllm.prompt([s.picture for s in three], sample.question)
    target = mllm.target(prompt)
    assert mllm.score(prompt, target).shape == (1,)
    with pytest.raises(Refusal, match="this prompt has 3"):
        mllm.score(prompt, target, [sample.picture])
    for slug, method in methods().items():
        with pytest.raises(Refusal, match=f"{slug} explains one picture; this prompt has 3"):
            method.explain(mllm, prompt)
