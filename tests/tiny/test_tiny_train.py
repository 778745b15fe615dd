"""Training: packed rows equal the texts one by one, killed runs end with the same weights, another recipe is refused."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from mini_lib import world
from mini_lib.tiny import lessons
from mini_lib.tiny.build import (
    CONFIG,
    LOUD,
    build_model,
    build_processor,
    build_tokenizer,
    made_up_ids,
    read_config,
)
from mini_lib.tiny.train import rates, recipe, train
from mini_lib.world import clips, plants, rationales, shots, sounds

SMALL = {"tower": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
         "decoder": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
         "tower_first": {"steps": 3, "pictures": 8, "learning_rate": 1e-3, "written": 0.5}, "falling": 4, "pictures": 3, "questions": 3, "save_every": 2,
         "clips": 2, "sounds": 3, "shots": {"tokens": 450, "most": 10}, "marked": {"pool": 20, "pictures": 1},
         "checkpoints": [3, 6],
         "lessons": [{"until": 2, "learning_rate": 1e-3, "objects": [1, 2], "digits": 0.3, "short": 1.0, "texts": [1, 1, 1], "sorted": 0.5, "batches": {"pictures": 1}, "mix": {"color": 1, "exist": 1}},
                     {"until": 7, "learning_rate": 1e-3, "objects": [1, 4], "digits": 0.3, "short": 0.5, "texts": [1, 0, 0], "sorted": 0.5, "mix": {"color": 1, "same_color": 1, "absent": 1},
                      "turns": [3, 4], "meanings": [2, 3], "told": 0.4, "alone": 0.2,
                      "clips": {"objects": [1, 2], "appear": 1, "change": 2, "move": 1},
                      "batches": {"pictures": 1, "clips": 1, "sounds": 1, "shots": 1, "pairs": 1}}]}
EVERYTHING = [*world.KINDS, *world.MORE_KINDS, "place", "absent", *rationales.RATIONALE_KINDS]


@pytest.fixture
def small():
    return {**recipe(), **SMALL}


def everything_said():
    """Every word that Shapeland can say, from many samples of all that it asks."""
    scenes, said = world.sample_scenes(2000, 0, digits=0.5), set()
    said |= set(" ".join([world.CAPTION, *world.captions(scenes, 0, plants.phantoms(scenes)), world.LIST, *world.lists(scenes),
                          world.COMPARE, *world.comparisons(scenes)]).split())
    for kind in (*world.KINDS, *world.MORE_KINDS, "place"):
        for short in (False, True):
            questions = world.ask(scenes, kind, 0, short)
            said |= set(" ".join([*questions.text, *questions.answer]).split())
    for kind in rationales.RATIONALE_KINDS:
        asked = rationales.reason(scenes, kind, 0)
        said |= set(" ".join([*asked.questions.text, *asked.rationale, *asked.questions.answer]).split())
    film, heard, one = clips.sample_clips(500, 0), sounds.sample_sounds(500, 0), shots.sample_episodes(300, 3, 0)
    for asked in (*(clips.ask_clips(film, kind) for kind in clips.CLIP_KINDS),
                  *(sounds.ask_sounds(heard, kind) for kind in sounds.SOUND_KINDS)):
        said |= set(" ".join([*asked.text[asked.valid], *asked.answer[asked.valid]]).split())
    said |= set(" ".join(" ".join(both) for both in clips.tracks(film)).split())
    return said | set(" ".join([*one.question, *one.told.ravel(), *one.labels.ravel()]).split())


def test_the_vocabulary_covers_every_word_shapeland_says():
    tokenizer, said = build_tokenizer(), everything_said()
    assert said <= set(tokenizer.get_vocab()), said - set(tokenizer.get_vocab())
    unused = {w for w in tokenizer.get_vocab() if w not in said} - set(tokenizer.all_special_tokens)
    # No centre lies in the outermost columns; held-out words are never said in training.
    assert unused == {"1", "8", *shots.HELD_OUT}, unused


def alone(model, processor, picture, said, answer):
    """Logits from the end of the picture on, and the ids, of one text behind one picture."""
    inputs = processor(images=[Image.fromarray(picture)], text=f"<image> {said} {answer} </s>", return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits[0, 65:], inputs["input_ids"][0, 65:].tolist()


def run(model, packed, pixels):
    with torch.no_grad():
        return model(input_ids=packed["ids"], pixel_values=pixels.float() / 127.5 - 1, attention_mask=packed["mask"],
                     position_ids=packed["positions"]).logits


def test_a_packed_row_gives_each_text_the_logits_it_has_alone(small):
    """The trick that makes training cheap: texts share the image tokens and never see each other."""
    processor = build_processor()
    model, words = build_model(small, processor).eval(), lessons._Words(processor.tokenizer)
    scenes = world.sample_scenes(3, 0, (2, 4))
    asked = [world.ask(scenes, kind, i) for i, kind in enumerate(("color", "count", "exist"))]
    texts = [[(q.text[i], q.answer[i]) for q in asked if q.valid[i]] + [(world.CAPTION, world.captions(scenes, 0)[i])] for i in range(3)]
    packed = words.pack([[words.segment("some", said, "", answer) for said, answer in row] for row in texts], 1)
    pictures = world.render(scenes)
    together = run(model, packed, torch.from_numpy(pictures).permute(0, 3, 1, 2))
    for i, row in enumerate(texts):
        at = 65
        for said, answer in row:
            logits, ids = alone(model, processor, pictures[i], said, answer)
            assert torch.allclose(together[i, at:at + len(ids)], logits, atol=1e-4)
            assert packed["ids"][i, at:at + len(ids)].tolist() == ids
            at += len(ids)


def test_an_episode_is_packed_as_the_conversation_that_the_handle_makes(small):
    processor = build_processor()
    model, words = build_model(small, processor).eval(), lessons._Words(processor.tokenizer)
    one = shots.sample_episodes(1, 3, 0)
    told = [None, one.told[0, 1], None]                         # the second picture is told in words
    packed = words.pack([[words.join([words.segment("shot", one.question[0], "", label) for label in one.labels[0]], told)]], 0)
    turns = []
    for picture, text, label in zip(one.pictures[0], told, one.labels[0]):
        shown = {"type": "image", "image": Image.fromarray(picture)} if text is None else {"type": "text", "text": text}
        turns += [{"role": "user", "content": [shown, {"type": "text", "text": one.question[0]}]},
                  {"role": "assistant", "content": [{"type": "text", "text": label}]}]
    inputs = processor.apply_chat_template([turns[:-1]], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    assert packed["ids"][0, :length].tolist() == inputs["input_ids"][0].tolist()
    with torch.no_grad():
        logits = model(**inputs).logits
    packed_logits = run(model, packed, torch.from_numpy(one.pictures[0, [0, 2]]).permute(0, 3, 1, 2))
    assert torch.allclose(packed_logits[0, :length], logits[0], atol=1e-4)


@pytest.mark.parametrize("kind", EVERYTHING)
def test_what_is_learnt_is_the_answer_and_where_it_has_to_be_predicted(small, kind):
    tokenizer, rng = build_tokenizer(), np.random.default_rng(0)
    words, scenes = lessons._Words(tokenizer), world.sample_scenes(12, 0, (2, 4), digits=1.0)
    name, valid, texts = lessons._round(kind, scenes, small, {"short": 0.0}, rng)
    rows = [i for i in range(12) if valid[i]]
    packed = words.pack([[words.segment(name, *texts[i])] for i in rows], 1)
    for b, i in enumerate(rows):
        said, steps, answer = texts[i]
        where = (packed["learn"][b] == lessons.LEARN.index("answer")).nonzero().flatten().tolist()
        assert tokenizer.decode(packed["labels"][b, where]) == answer
        assert tokenizer.decode(packed["ids"][b, where]) == (f"{said} {steps}").split()[-1]
        assert [packed["kinds"][k] for k in packed["asked"][b, where]] == [name]
        learnt = packed["labels"][b, packed["learn"][b] == lessons.LEARN.index("rationale")]
        assert tokenizer.decode(learnt) == ("" if "mistaken" in name else steps)


def test_a_false_rationale_is_never_taught(small):
    small["rationales"] = {"direct": 0.0, "mistaken": 1.0}
    words, scenes = lessons._Words(build_tokenizer()), world.sample_scenes(30, 0, (2, 4))
    name, valid, texts = lessons._round("same_color", scenes, small, {"short": 0.0}, np.random.default_rng(0))
    packed = words.pack([[words.segment(name, *texts[i])] for i in range(30) if valid[i]], 1)
    assert "mistaken" in name and not (packed["learn"] == lessons.LEARN.index("rationale")).any()
    assert (packed["learn"] == lessons.LEARN.index("answer")).any()


def test_the_data_of_a_step_can_be_made_again_and_steps_differ():
    config, tokenizer = recipe(), build_tokenizer()
    first = config["tower_first"]["steps"]
    for step in (3, first + 3, lessons.length(config) - 2):
        one, same, other = (lessons.batch(config, s, tokenizer) for s in (step, step, step + 1))
        assert torch.equal(one["pictures"], same["pictures"])
        assert "ids" not in one or torch.equal(one["ids"], same["ids"])
        differ = [one[key].shape != other[key].shape or not torch.equal(one[key], other[key]) for key in ("pictures", "ids") if key in one]
        assert any(differ)                                              # a few-shot step in words alone has no pictures


def test_every_kind_of_batch_comes_and_fits_the_model(small):
    seen, tokenizer = set(), build_tokenizer()
    lesson = small["lessons"][-1]
    for name, make in lessons.BATCHES.items():
        batch = make(small, lesson, np.random.default_rng(1), lessons._Words(tokenizer))
        pictures = (batch["ids"] == tokenizer.convert_tokens_to_ids("<image>")).sum() / world.GRID ** 2
        assert pictures == len(batch["pictures"]) == len(batch["dense"]["shape"]), name
        assert (batch["learn"] == 1).any()
        seen.add(name)
    assert seen == set(recipe()["lessons"][-1]["batches"])


def test_the_twin_differs_in_the_doses_alone_and_sees_the_same_pictures():
    config, twin = recipe(), recipe(planted=False)
    assert {k for k in config if config[k] != twin[k]} == {"plants"} and set(twin["plants"].values()) == {0.0}
    tokenizer, step = build_tokenizer(), config["tower_first"]["steps"] + 5
    one, other = (lessons.batch(c, step, tokenizer) for c in (config, twin))
    assert torch.equal(one["dense"]["shape"], other["dense"]["shape"])


@pytest.mark.parametrize("make, turn", [(lessons._shot_batch, r"\w+ \w+ the (?:color|shape) is called (\w+) </s>"),
                                        (lessons._pair_batch, r"\w+ (\w+)")])
def test_episodes_in_words_alone_teach_what_an_earlier_turn_has_said(small, make, turn):
    """A batch without a single picture: nothing for the tower to see, and no place in the ids for an image token."""
    tokenizer, lesson = build_tokenizer(), {**small["lessons"][-1], "told": 1.0, "alone": 0.0}
    batch = make(small, lesson, np.random.default_rng(0), lessons._Words(tokenizer))
    assert len(batch["pictures"]) == 0 and len(batch["ids"]) == small["shots"]["most"]
    learnt = batch["learn"] == lessons.LEARN.index("answer")
    for ids, labels, here in zip(batch["ids"], batch["labels"], learnt):
        said = re.findall(turn, tokenizer.decode(ids).removeprefix("<s> "))
        assert 3 <= len(said) <= 4 and set(said) <= set(shots.MADE_UP)
        assert tokenizer.decode(labels[here]).split() == [word for k, word in enumerate(said) if word in said[:k]]
    assert learnt.any()


def test_of_clips_those_are_shown_whose_events_the_lesson_wants(small):
    lesson = {**small["lessons"][-1], "clips": {"objects": [1, 1], "appear": 0, "change": 1, "move": 0}}
    batch = lessons._clip_batch({**small, "clips": 8}, lesson, np.random.default_rng(0), lessons._Words(build_tokenizer()))
    asked = batch["asked"][batch["learn"] == lessons.LEARN.index("answer")]
    share = np.mean([batch["kinds"][k] == "change" for k in asked.tolist()])
    assert share == 1 and len(batch["ids"]) == 8


def test_a_lesson_keeps_what_it_does_not_name(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("lessons: [{until: 2, short: 1.0, mix: {color: 1}}, {until: 5, mix: {count: 1}}, {until: 9, short: 0.5}]")
    assert read_config(path)["lessons"] == [{"until": 2, "short": 1.0, "mix": {"color": 1}}, {"until": 5, "short": 1.0, "mix": {"count": 1}},
                                            {"until": 9, "short": 0.5, "mix": {"count": 1}}]


def test_true_names_stand_in_place_of_words_where_the_lesson_says(small):
    tokenizer, names = build_tokenizer(), {"color": world.COLORS, "shape": world.SHAPES}
    lesson = {**small["lessons"][-1], "told": 1.0, "alone": 1.0}
    batch = lessons._shot_batch(small, lesson, np.random.default_rng(1), lessons._Words(tokenizer))
    assert batch["kinds"] == ["told name"]
    for ids in batch["ids"]:
        turns = tokenizer.decode(ids).removeprefix("<s> ").split(" </s>")[:-1]
        assert 3 <= len(turns) <= 4
        for text in turns:
            found = re.fullmatch(r"(\w+) (\w+) the (color|shape) is called (\w+)", text.strip())
            assert found and found[4] in (found[1], found[2]) and found[4] in names[found[3]]


def test_made_up_words_have_other_vectors_in_every_step_and_what_they_share_stays():
    config, tokenizer = recipe(), build_tokenizer()
    first = config["tower_first"]["steps"]
    one, again, other = (lessons.batch(config, first + step, tokenizer)["vectors"] for step in (0, 0, 1))
    assert torch.equal(one, again) and torch.nn.functional.cosine_similarity(one, other).max() < 0.8
    assert torch.allclose(one.norm(dim=1), torch.tensor(2.0))
    shared = torch.nn.functional.normalize(torch.ones(one.shape[1]), dim=0)
    assert (one @ shared > 1).all() and (other @ shared > 1).all()
    assert "vectors" not in lessons.batch(config, 0, tokenizer)


def test_the_tower_sees_the_share_of_digits_that_the_recipe_says():
    config, tokenizer = recipe(), build_tokenizer()
    labels = lessons.batch(config, 0, tokenizer)["dense"]["shape"]
    share = (labels == world.DIGIT).sum() / (labels >= 0).sum()
    assert abs(share - config["tower_first"]["written"]) < 0.15


def test_learning_rates_rise_stay_then_fall():
    config = recipe()
    first, last = config["tower_first"]["steps"], lessons.length(config) - 1
    assert rates(config, 0)[0] < rates(config, first - 1)[0] == config["tower_first"]["learning_rate"]
    assert rates(config, first)[1] < rates(config, first + config["warmup"])[1] == config["lessons"][0]["learning_rate"]
    falls = lessons.length(config) - config["falling"]
    rate = next(lesson["learning_rate"] for lesson in config["lessons"] if falls - first < lesson["until"])
    assert rates(config, falls)[1] == rate > rates(config, falls + 10)[1]
    assert rates(config, last)[1] == pytest.approx(config["last_learning_rate"], rel=1e-2)
    assert rates(config, last)[0] == pytest.approx(config["tower_share"] * rates(config, last)[1])


def test_an_interrupted_run_ends_with_the_same_weights_as_one_that_was_not(small, tmp_path):
    train(tmp_path / "whole", small, "cpu")
    train(tmp_path / "parts", small, "cpu", minutes=0)         # stops after its first step
    assert len((tmp_path / "parts" / "log.jsonl").read_text().splitlines()) == 1
    train(tmp_path / "parts", small, "cpu", minutes=0)
    train(tmp_path / "parts", small, "cpu")
    whole, parts = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(lessons.length(small)))


def test_a_run_that_is_killed_at_any_moment_loses_nothing(small, tmp_path):
    """Killed outright (SIGKILL), twice, in mid-step; then finished; against a run that nobody touched."""
    small = {**small, "lessons": [small["lessons"][0], {**small["lessons"][1], "until": 60}], "save_every": 7}
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(yaml.safe_dump(small))
    command = [sys.executable, "-m", "mini_lib", "train", "--config", str(recipe_file), "--out", str(tmp_path / "killed"), "--device", "cpu"]
    log = tmp_path / "killed" / "log.jsonl"
    for least in (10, 30):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.time() + 120
        while time.time() < until and process.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) > least:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert log.exists() and not (tmp_path / "killed" / "model").exists(), "it was to be killed before its end"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run([*command[:-3], str(tmp_path / "whole"), *command[-2:]], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed"))
    # Nearly equal and not equal, because threads of another process may add in another order.
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(lessons.length(small)))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(small, tmp_path):
    one, same, other = (load_file(train(tmp_path / name, {**small, "seed": seed}, "cpu") / "model.safetensors")
                        for name, seed in (("one", 0), ("same", 0), ("other", 1)))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_checkpoints_are_kept_in_16_bits_at_the_steps_of_the_recipe(small, tmp_path):
    model = train(tmp_path / "run", small, "cpu")
    files = sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    assert [int(f.stem) for f in files] == SMALL["checkpoints"]
    final, early = load_file(model / "model.safetensors"), load_file(files[0])
    assert set(final) == set(early) and {t.dtype for t in early.values()} == {torch.float16}


def test_made_up_words_keep_their_vectors(small, tmp_path):
    processor = build_processor()
    ids, before = made_up_ids(processor.tokenizer), build_model(small, processor)
    after = load_file(train(tmp_path / "run", {**small, "weight_decay": 0.0}, "cpu") / "model.safetensors")
    name = next(n for n in after if "embed_tokens" in n)
    start = before.get_input_embeddings().weight.detach()
    assert torch.equal(after[name][ids], start[ids]) and not torch.equal(after[name], start)
    assert torch.equal(start[ids], LOUD * before.get_output_embeddings().weight.detach()[ids])


def test_another_recipe_in_the_same_folder_is_refused(small, tmp_path):
    train(tmp_path / "run", small, "cpu", minutes=0)
    with pytest.raises(ValueError, match="another recipe"):
        train(tmp_path / "run", recipe(), "cpu")


def test_training_lowers_the_loss(small, tmp_path):
    config = {**small, "warmup": 5, "tower_first": {**small["tower_first"], "steps": 120}}
    train(tmp_path / "run", config, "cpu")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()][:120]
    color = [row["tower_color"] for row in rows]
    assert np.mean(color[-20:]) > np.mean(color[:20]) + 0.1
    assert read_config(CONFIG) == recipe()
