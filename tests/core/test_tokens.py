"""The token map: proven with a moving dot, not believed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import hooks
from mini_lib.refusal import Refusal
from mini_lib.tokens import map_tokens


def test_a_moving_dot_changes_the_token_of_its_own_patch_most(mllm):
    """Paint one patch after the other: the image token that changes most has to be the mapped one."""
    blank = Image.new("RGB", (64, 64), (230, 230, 230))
    with hooks.record(mllm, "embed") as seen:
        prompt = mllm.prompt(blank, "what color is the star ?")
        mllm.logits(prompt.inputs)
    plain = seen["embed"][0, prompt.tokens.image]
    hits = []
    for k, box in enumerate(np.round(prompt.tokens.boxes).astype(int)):
        dotted = blank.copy()
        dotted.paste((200, 30, 30), tuple(int(v) for v in box))
        with hooks.record(mllm, "embed") as seen:
            mllm.logits(mllm.prompt(dotted, "what color is the star ?").inputs)
        hits.append((seen["embed"][0, prompt.tokens.image] - plain).norm(dim=-1).argmax().item() == k)
    assert np.mean(hits) == 1


def test_boxes_tile_the_picture_in_its_own_pixels(mllm):
    boxes = mllm.prompt(Image.new("RGB", (300, 100)), "is there a star ?").tokens.boxes
    assert boxes[0, :2].tolist() == [0, 0] and boxes[-1, 2:].tolist() == [300, 100]
    assert np.isclose(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum(), 300 * 100)


def make(ids, pieces, question, size=(8, 8), processor=None, patches=2, **more):
    """A token map of a made-up model with patches x patches image tokens of id 0."""
    config = SimpleNamespace(image_token_id=0, vision_config=SimpleNamespace(image_size=14 * patches, patch_size=14))
    tokenizer = SimpleNamespace(decode=lambda i: pieces[i[0]])
    sizes = size if isinstance(size, list) else [size]
    return map_tokens({"input_ids": torch.tensor([ids]), **more}, tokenizer, config, question, sizes, processor)


def test_a_centre_crop_leaves_the_flanks_unmapped():
    """LLaVA-1.5 scales the shortest edge and keeps the middle: a wide picture's flanks belong to no patch."""
    cropping = SimpleNamespace(do_center_crop=True, size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    boxes = make([0] * 16 + [1], ["<image>", "hi"], "hi", (300, 100), cropping, 4).boxes
    assert boxes[:, 0].min() == 100 and boxes[:, 2].max() == 200 and boxes[:, 3].max() == 100


def test_each_word_of_the_question_has_its_own_positions(mllm):
    tokens = mllm.prompt(Image.new("RGB", (64, 64)), "What color is the star?").tokens
    assert [w for w, _ in tokens.words] == ["What", "color", "is", "the", "star?"]
    assert [[tokens.text[p] for p in at] for _, at in tokens.words] == [["what"], ["color"], ["is"], ["the"], ["star", "?"]]
    assert tokens.question == list(range(65, 71))


def test_tokens_of_several_pictures_are_told_apart():
    tokens = make([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2], ["<image>", "a", "hi"], "hi", [(8, 8), (40, 20)])
    assert [image.tolist() for image in tokens.images] == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert tokens.image.tolist() == [1, 2, 3, 4, 6, 7, 8, 9] and tokens.grid == (2, 2)
    assert tokens.boxes[3].tolist() == [4, 4, 8, 8] and tokens.boxes[7].tolist() == [20, 10, 40, 20]
    assert "2 pictures of 4 image tokens on a 2 x 2 grid at 1–4, 6–9" in repr(tokens)


def test_a_picture_without_its_tokens_is_refused():
    with pytest.raises(Refusal, match="turned 2 pictures into 4 tokens"):
        make([0] * 4 + [1], ["<image>", "x"], "x", [(8, 8), (8, 8)])
    with pytest.raises(Refusal, match="turned 3 pictures into 4 tokens"):
        make([0] * 4 + [1], ["<image>", "x"], "x", [(8, 8)] * 3)


def test_words_split_into_pieces_are_put_together_again():
    pieces = ["<image>", "User", ":", " Wh", "at", " is", " th", "is", "?", " As", "sistant"]
    words = make([0] * 4 + list(range(1, 11)), pieces, "What is this?").words
    assert words == [("What", [6, 7]), ("is", [8]), ("this?", [9, 10, 11])]


def test_a_prompt_without_a_picture_or_with_an_unknown_grid_is_refused():
    with pytest.raises(Refusal, match="no image token"):
        make([1, 1], ["<image>", "x"], "x")
    with pytest.raises(Refusal, match="not one fixed square"):
        make([0] * 6 + [1], ["<image>", "x"], "x")


def test_a_square_number_of_tokens_is_no_proof_of_a_square_grid():
    """16 x 9 patches are 144 tokens, as 12 x 12 would be."""
    with pytest.raises(Refusal, match="not one fixed square"):
        make([0] * 144 + [1], ["<image>", "x"], "x", (448, 252), patches=24)
    with pytest.raises(Refusal, match="not one fixed square"):
        make([0] * 4 + [1], ["<image>", "x"], "x", image_grid_thw=torch.tensor([[1, 2, 2]]))
