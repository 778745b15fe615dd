"""Training: packed rows equal the texts one by one, runs resume exactly, and another recipe is refused."""

import json

import numpy as np
import pytest
import torch
import yaml

from mini_lib import world
from mini_lib.tiny.build import CONFIG, build_model, build_processor, build_tokenizer, read_config
from mini_lib.tiny.train import _pixels, _Text, train
from mini_lib.world.questions import CAPTION

SMALL = {"tower": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
         "decoder": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
         "tower_first": {"steps": 3, "pictures": 4, "learning_rate": 1e-3}, "pictures": 3, "questions": 3, "save_every": 2,
         "lessons": [{"until": 2, "objects": [1, 2], "short": 1.0}, {"until": 5, "objects": [1, 4], "short": 0.5}]}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**read_config(CONFIG), **SMALL}))
    return path


def test_the_vocabulary_covers_every_word_shapeland_says():
    tokenizer, scenes = build_tokenizer(), world.sample_scenes(3000, 0)
    said = set(" ".join([CAPTION, *world.captions(scenes, 0)]).split())
    for kind in (*world.KINDS, "place"):
        for short in (False, True):
            questions = world.ask(scenes, kind, 0, short)
            said |= set(" ".join([*questions.text, *questions.answer]).split())
    assert said <= set(tokenizer.get_vocab())
    unused = {w for w in tokenizer.get_vocab() if w not in said} - set(tokenizer.all_special_tokens)
    assert unused <= {"1", "8"}, f"words that nobody says: {unused}"      # no centre lies in the outermost columns


def test_a_packed_row_gives_each_text_the_logits_it_has_alone(recipe):
    """The trick that makes training cheap: texts share the image tokens and never see each other."""
    processor = build_processor()
    model = build_model(read_config(recipe), processor).eval()
    scenes = world.sample_scenes(3, 0, (2, 4))
    rounds = [(i, world.ask(scenes, kind, i)) for i, kind in enumerate(("color", "count", "exist"))]
    captions = world.captions(scenes, 0)
    packed = _Text(processor.tokenizer).pack(rounds, captions)
    with torch.no_grad():
        together = model(input_ids=packed["ids"], pixel_values=_pixels(scenes, "cpu"), attention_mask=packed["mask"],
                         position_ids=packed["positions"]).logits
    from PIL import Image
    for i in range(3):
        at = 65
        texts = [(q.text[i], q.answer[i]) for _, q in rounds if q.valid[i]] + [(CAPTION, captions[i])]
        for said, answer in texts:
            inputs = processor(images=[Image.fromarray(world.render(scenes)[i])], text=f"<image> {said} {answer} </s>", return_tensors="pt")
            with torch.no_grad():
                alone = model(**inputs).logits[0, 65:]
            assert torch.allclose(together[i, at:at + len(alone)], alone, atol=1e-4)
            assert packed["ids"][i, at:at + len(alone)].tolist() == inputs["input_ids"][0, 65:].tolist()
            at += len(alone)


def test_labels_sit_where_the_answer_has_to_be_predicted(recipe):
    tokenizer = build_tokenizer()
    scenes = world.sample_scenes(4, 1)
    packed = _Text(tokenizer).pack([(0, world.ask(scenes, "exist", 0))], world.captions(scenes, 0))
    questions = world.ask(scenes, "exist", 0)
    for i in range(4):
        where = packed["answer"][i].nonzero().flatten().tolist()
        assert tokenizer.decode(packed["labels"][i, where]) == questions.answer[i]
        assert tokenizer.decode(packed["ids"][i, where]) == "?"
        assert packed["kind"][i, where].tolist() == [0] * len(where)
        spoken = packed["labels"][i, packed["caption"][i] > 0]
        assert tokenizer.decode(spoken, skip_special_tokens=True) == world.captions(scenes, 0)[i]


def test_an_interrupted_run_ends_with_the_same_weights_as_one_that_was_not(recipe, tmp_path):
    from safetensors.torch import load_file
    train(tmp_path / "whole", recipe, "cpu")
    train(tmp_path / "parts", recipe, "cpu", minutes=0)         # stops after its first step
    assert len((tmp_path / "parts" / "log.jsonl").read_text().splitlines()) == 1
    train(tmp_path / "parts", recipe, "cpu", minutes=0)
    train(tmp_path / "parts", recipe, "cpu")
    whole, parts = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(8))


def test_another_recipe_in_the_same_folder_is_refused(recipe, tmp_path):
    train(tmp_path / "run", recipe, "cpu", minutes=0)
    with pytest.raises(ValueError, match="another recipe"):
        train(tmp_path / "run", CONFIG, "cpu")


def test_training_lowers_the_loss(recipe, tmp_path):
    config = yaml.safe_load(recipe.read_text())
    config["tower_first"]["steps"] = 60
    recipe.write_text(yaml.safe_dump(config))
    train(tmp_path / "run", recipe, "cpu")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()][:60]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
