"""Grid rules by themselves: what a wrong one looks like, what is refused, and the arithmetic of cells."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaNextImageProcessorPil, Qwen2AudioConfig

from mini_lib import families, grids, load
from mini_lib.cells import Grid, covering, lattice, shares, trimmed
from mini_lib.families import small
from mini_lib.families.build import build
from mini_lib.families.table import FAMILIES
from mini_lib.refusal import Refusal
from mini_lib.registry import methods
from mini_lib.views import View, rulers, views

from .__main__ import PAGE, page
from .matrix import QUESTION, picture
from .test_families import embedded, painted


def hits(mllm, size, cells=8):
    """How many of some painted cells change a token of their own most."""
    plain = Image.new("RGB", size, (230, 230, 230))
    prompt, before = embedded(mllm, plain)
    tried = np.random.default_rng(1).permutation(len(prompt.tokens.boxes))[:cells]
    return np.mean([cell in prompt.tokens.one.cells(int((embedded(mllm, painted(plain, prompt.tokens.boxes[cell]))[1] - before)
                                                        .norm(dim=-1).argmax())) for cell in tried])


def swapped(rule):
    """The rule with rows and columns changed for one another."""
    def wrong(given):
        return [replace(grid, shape=grid.shape[::-1], boxes=grid.boxes.reshape(*grid.shape, 4).transpose(1, 0, 2).reshape(-1, 4))
                for grid in rule(given)]
    return wrong


def without_newlines(rule):
    """The rule as if every token after the thumbnail were a cell."""
    def wrong(given):
        return [replace(grid, cover=(grid.cover[0], np.arange(len(grid.cover[0])) % len(grid.boxes), grid.cover[2])) for grid in rule(given)]
    return wrong


@pytest.mark.parametrize("name, rule", [("Qwen2-VL", swapped), ("Gemma 4", swapped), ("LightOnOCR", swapped), ("LLaVA-NeXT", without_newlines)])
def test_a_wrong_rule_is_noticed(name, rule, monkeypatch):
    mllm, kind = small(name), next(family.kind for family in FAMILIES if family.name == name)
    assert hits(mllm, (150, 70)) == 1
    monkeypatch.setitem(grids.RULES, kind, rule(grids.RULES[kind]))
    assert hits(mllm, (150, 70)) < 0.7


def test_features_that_are_scaled_down_are_mapped_too(tmp_path):
    """LLaVA-OneVision shrinks the grid of tiles where it would give more tokens than it may."""
    family = next(family for family in FAMILIES if family.name == "LLaVA-OneVision")
    small = replace(family, config=family.config | {"vision_aspect_ratio": "anyres_max_1"},
                    processor=(family.processor[0], family.processor[1] | {"vision_aspect_ratio": "anyres_max_1"}))
    mllm = load(build(small, tmp_path / "small"), device="cpu")
    tokens = mllm.prompt(picture((96, 96)), QUESTION).tokens
    assert tokens.grid == (4, 4) and len(tokens.image) == 16 + 4 * 5
    assert hits(mllm, (96, 96)) == 1


def test_the_processor_itself_says_where_its_tiles_lie():
    sizes = [(300, 100)]
    processor = LlavaNextImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32},
                                           image_grid_pinpoints=[[32, 64], [64, 64]])
    found = views(processor(images=rulers(sizes), return_tensors="pt")["pixel_values"], processor, sizes)
    assert [view.picture for view in found] == [0, 0, 0] and found[0].box == (0, 0, 300, 100)
    # 300 x 100 becomes 64 x 21 (rounded up: 22) on 64 x 32 pixels: 5 rows of padding above and below.
    for view, (left, right) in zip(found[1:], ((0, 150), (150, 300))):
        assert np.allclose(view.box, (left, -5 * 100 / 22, right, 100 + 5 * 100 / 22), atol=3)


def test_padded_views_are_told_from_pictures_and_pictures_from_one_another():
    sizes = [(64, 64), (64, 32)]
    both = [torch.from_numpy(np.asarray(one.resize((32, 32)), np.float32)).permute(2, 0, 1) for one in rulers(sizes)]
    processor = SimpleNamespace(do_normalize=False, do_rescale=False)
    found = views(torch.stack([torch.zeros(3, 32, 32), both[1], both[0], torch.full((3, 32, 32), 255.0)]), processor, sizes)
    assert [view.picture for view in found] == [1, 0] and found[0].box == (0, 0, 64, 32)
    with pytest.raises(Refusal, match="give 24 or fewer"):
        rulers([(8, 8)] * 25)


def test_a_token_of_a_thumbnail_is_shared_by_area_and_sums_are_kept():
    cells, size = lattice((0, 0, 8, 8), 4, 4), (8, 8)
    tiles = [View(0, (4 * c, 4 * r, 4 * c + 4, 4 * r + 4), (2, 2)) for r in range(2) for c in range(2)]
    grid = covering(tiles, [tile.box for tile in tiles] + [(0, 0, 8, 8)], 2, size)
    assert grid.shape == (4, 4) and grid.tokens == 20 and np.array_equal(grid.boxes, cells)
    assert grid.finest()[0].tolist() == [0, 1, 4, 5] and sorted(grid.cells(16)) == [0, 1, 4, 5]
    values = np.random.default_rng(0).random((3, 20))
    spread = grid.spread(values)
    assert spread.shape == (3, 4, 4) and np.allclose(spread.sum((1, 2)), values.sum(1))
    assert np.isclose(spread[0, 0, 0], values[0, 0] + values[0, 16] / 4)
    found = shares(np.array([[-4.0, 0, 4, 4]]), np.array([[0.0, 0, 2, 4], [2, 0, 8, 4]]))
    assert found[1].tolist() == [0, 1] and found[2].tolist() == [0.5, 0.5]      # what lies outside the picture does not count


def test_where_each_token_is_a_cell_values_stay_as_they_are():
    grid = Grid((2, 3), lattice((0, 0, 6, 4), 2, 3), 6)
    values = np.arange(6.0, dtype=np.float32)
    assert grid.spread(values).base is values.base or np.shares_memory(grid.spread(values), values)
    assert grid.finest().tolist() == [[0, 1, 2], [3, 4, 5]] and grid.cells(4).tolist() == [4]


def test_rows_of_padding_are_left_out():
    grid = trimmed((0, -2, 8, 6), 4, (8, 4))
    assert grid.shape == (2, 4) and grid.tokens == 16 and grid.boxes[0].tolist() == [0, 0, 2, 2]
    assert grid.cells(0).size == 0 and grid.cells(4).tolist() == [0]


def test_tiles_that_stand_in_no_rows_are_refused():
    parts = [View(0, box, (2, 2)) for box in ((0, 0, 4, 4), (4, 0, 8, 4), (0, 4, 8, 8))]
    with pytest.raises(Refusal, match="3 tiles of the picture do not stand in rows and columns"):
        covering(parts, [part.box for part in parts], 2, (8, 8))


def test_a_rule_that_does_not_account_for_every_token_is_refused(monkeypatch):
    mllm = small("Qwen2-VL")
    rule = grids.RULES["qwen2_vl"]
    monkeypatch.setitem(grids.RULES, "qwen2_vl", lambda given: [replace(grid, tokens=grid.tokens - 1) for grid in rule(given)])
    with pytest.raises(Refusal, match="grid rule of 'qwen2_vl' gives 23 image tokens and the prompt has 24"):
        mllm.prompt(picture(), QUESTION)


def test_a_family_without_a_rule_is_refused_with_the_way_to_add_one(monkeypatch):
    mllm = small("Qwen2-VL")
    monkeypatch.delitem(grids.RULES, "qwen2_vl")
    with pytest.raises(Refusal, match="no other rule for 'qwen2_vl'; chapters/families.md says how to add one"):
        mllm.prompt(picture(), QUESTION)


def test_pictures_of_another_shape_cannot_take_the_place_of_the_prompts_own():
    mllm = small("Qwen2-VL")
    prompt = mllm.prompt(picture((96, 64)), QUESTION)
    with pytest.raises(Refusal, match="same tokens as the prompt's own of 96 x 64 pixels; resize"):
        mllm.score(prompt, mllm.target(prompt), [picture((64, 64))])


def test_values_of_several_pictures_are_not_laid_on_one():
    prompt = small("Qwen2-VL").prompt([picture(), picture()], QUESTION)
    with pytest.raises(Refusal, match="has 2 pictures, and values are laid on one"):
        prompt.tokens.on_grid(np.zeros(len(prompt.tokens.image)))


def test_a_method_refuses_before_it_works_where_tokens_stand_for_no_place():
    mllm = small("Idefics2")
    prompt = mllm.prompt(picture(), QUESTION)
    before = mllm.passes
    for slug in ("smoothgrad", "logit-lens", "attention-lrp"):
        with pytest.raises(Refusal, match=r"learned queries gather them .*\(occlusion, rise, shapley, modality-shares\) work"):
            methods()[slug].explain(mllm, prompt)
    assert mllm.passes == before


def test_a_model_of_sound_alone_is_refused(tmp_path):
    Qwen2AudioConfig().save_pretrained(tmp_path / "sound")
    with pytest.raises(Refusal, match="'qwen2_audio' model, which takes no pictures"):
        load(tmp_path / "sound")


def test_the_page_and_the_table_are_what_the_code_gives():
    """The outcome of every method is held to the table in test_families.py; here the rest."""
    table = families.read()
    assert [row["family"] for row in table["families"]] == [family.name for family in FAMILIES]
    assert PAGE.read_text(encoding="utf-8") == page(table)
    ran = [row for row in table["families"] if "methods" in row]
    assert len(ran) >= 25 and all(set(row["methods"]) == set(methods()) for row in ran)
    assert not [(row["family"], slug) for row in ran for slug, found in row["methods"].items() if "fails" in found]


def test_the_command_prints_the_table(capsys):
    from mini_lib.cli import main
    assert main(["families"]) == 0 and "Qwen3-VL " in capsys.readouterr().out
    assert main(["families", "qwen2_vl"]) == 0 and "occlusion              works" in capsys.readouterr().out
    assert main(["families", "Qwen3-VL", "--json"]) == 0
    assert [row["kind"] for row in json.loads(capsys.readouterr().out)["families"]] == ["qwen3_vl"]
    assert main(["families", "Quen3-VL"]) == 2
    assert "no family 'Quen3-VL' in the table; did you mean" in capsys.readouterr().err
