"""Every family that people use: its identities, its grid, its batches, and what each method does on it. The table is data (table.py)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import hooks
from mini_lib.conformance import handle
from mini_lib.families import read, small
from mini_lib.families.table import FAMILIES
from mini_lib.refusal import Refusal
from mini_lib.registry import methods
from mini_lib.streams import merged, score

from .matrix import QUESTION, asked, outcome, picture

BUILT = {family.name: family for family in FAMILIES if not family.missing and not family.refused}
SIZES = (96, 96), (150, 70), (60, 140)                              # square, wide, tall
CELLS = 5                                                           # of each picture, painted one after the other


@pytest.fixture(autouse=True)
def one_thread():
    """These models are so small that a second thread costs more than it brings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=BUILT, scope="module")
def family(request):
    """One family after the other, so that each is built once."""
    return BUILT[request.param]


@pytest.fixture(scope="module")
def mllm(family):
    return small(family.name)


def embedded(mllm, pictures):
    """The prompt of some pictures, and its image tokens before block 0: (P, d)."""
    prompt = mllm.prompt(pictures, QUESTION)
    with hooks.record(mllm, "embed") as seen:
        mllm.logits(prompt.inputs)
    return prompt, seen["embed"][0, prompt.tokens.image].float()


def painted(image, box):
    """The picture with one cell painted red."""
    image = image.copy()
    image.paste((200, 30, 30), tuple(int(side) for side in np.round(box)))
    return image


def test_its_identities_hold(family, mllm):
    assert len(mllm.checks) == 4, mllm.checks
    assert mllm.checks["hooks off = hooks on"] == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_painted_cell_changes_a_token_that_covers_it_most(family, mllm, size):
    plain = Image.new("RGB", size, (230, 230, 230))
    prompt, before = embedded(mllm, plain)
    if not family.place:
        with pytest.raises(Refusal, match="cannot be laid on the picture: (learned queries|pictures come in)"):
            prompt.tokens.on_grid(np.ones(len(prompt.tokens.image)))
        return
    grid, rng = prompt.tokens.one, np.random.default_rng(0)
    tried = rng.permutation(len(prompt.tokens.boxes))[:CELLS]
    found = {int(cell): int((embedded(mllm, painted(plain, prompt.tokens.boxes[cell]))[1] - before).norm(dim=-1).argmax()) for cell in tried}
    assert all(cell in grid.cells(token) for cell, token in found.items()), (grid.shape, found)


@pytest.mark.parametrize("size", SIZES)
def test_its_cells_lie_side_by_side_in_the_users_own_pixels(family, mllm, size):
    tokens = mllm.prompt(picture(size), QUESTION).tokens
    boxes = tokens.boxes.reshape(*tokens.grid, 4)
    assert boxes.min() >= 0 and (boxes[..., 2:].reshape(-1, 2).max(0) <= size).all()
    assert np.allclose(boxes[:, 1:, 0], boxes[:, :-1, 2], atol=1e-6) and np.allclose(boxes[1:, :, 1], boxes[:-1, :, 3], atol=1e-6)
    assert (boxes[..., 2:] > boxes[..., :2]).all()
    if family.place:
        values = np.random.default_rng(0).random(len(tokens.image))
        on = [len(tokens.one.cells(token)) > 0 for token in range(len(values))]
        assert tokens.on_grid(values).shape == tokens.grid and np.isclose(tokens.on_grid(values).sum(), values[on].sum())


def test_pictures_of_one_prompt_are_told_apart(family, mllm):
    pictures = [Image.new("RGB", size, (230, 230, 230)) for size in ((96, 64), (64, 96))]
    if family.alone:
        with pytest.raises(Refusal, match="ask about one picture"):
            mllm.prompt(pictures, QUESTION)
        return
    prompt, before = embedded(mllm, pictures)
    assert len(prompt.tokens.images) == 2 == len(prompt.tokens.grids)
    assert torch.equal(torch.cat(prompt.tokens.images), prompt.tokens.image)
    if not family.place:
        return
    for k, grid in enumerate(prompt.tokens.grids):
        cell = len(grid.boxes) // 2 + 1
        changed = [painted(one, grid.boxes[cell]) if k == at else one for at, one in enumerate(pictures)]
        token = int((embedded(mllm, changed)[1] - before).norm(dim=-1).argmax())
        first = sum(one.tokens for one in prompt.tokens.grids[:k])
        assert cell in grid.cells(token - first), (family.name, k, token, first)


def test_a_solved_example_comes_first(family, mllm):
    if family.alone:
        return
    prompt = mllm.prompt(picture(), QUESTION, shots=[(picture(seed=1), "is the ring blue ?", "yes")])
    assert len(prompt.tokens.images) == 2 == len(prompt.pictures)
    assert "".join(prompt.tokens.text).count("ring blue") == 1


def test_a_padded_batch_answers_as_one_by_one(family, mllm):
    questions = [QUESTION, "how many objects are there ? describe the picture .", "color ?"]
    pictures = [picture(seed=3), picture(seed=4), picture((64, 96), seed=5)]
    alone = [mllm.answer(mllm.prompt(*pair), 4) for pair in zip(pictures, questions)]
    assert mllm.answers(pictures, questions, 4) == alone


def test_many_pictures_score_as_each_alone(family, mllm):
    prompt, target = asked(mllm)
    target = replace(target, ids=(*target.ids, *target.ids), text="")       # two tokens, so that one is forced
    pictures = [prompt.picture, *(picture(seed=seed) for seed in range(6, 9))]
    own = torch.cat([mllm.score(mllm.prompt(one, QUESTION), target) for one in pictures])
    for size in (64, 3):
        assert torch.allclose(replace(mllm, batch_size=size).score(prompt, target, pictures), own, atol=mllm.slack), size
    assert len({round(float(value), 5) for value in own}) > 1


def test_the_merged_stream_brings_the_same_answer(family, mllm):
    prompt, target = asked(mllm)
    stream = merged(mllm, prompt, target)
    full = mllm.score(prompt, target)
    assert torch.allclose(score(mllm, prompt, target, stream.repeat(3, 1, 1)), full.expand(3), atol=mllm.slack)


@pytest.mark.parametrize("check", (handle.check_score_is_the_chain_rule, handle.check_edits_reach_every_row), ids=lambda check: check.__name__)
def test_checks_of_a_handle_hold(family, mllm, check):
    found = list(check(mllm))
    assert found and all(finding.error <= finding.limit for finding in found), found


@pytest.mark.parametrize("slug", methods())
def test_each_method_does_what_the_table_says(family, mllm, slug):
    table = {row["family"]: row for row in read()["families"]}
    wanted = table[family.name]["methods"][slug]
    found = outcome(mllm, slug, *asked(mllm), identities=False)
    if found != wanted:                                      # the table has identities run as well, and one of them may refuse
        found = outcome(mllm, slug, *asked(mllm))
    assert found == wanted


def test_no_method_breaks_on_a_family_it_works_or_refuses():
    broken = [f"{row['family']}: {slug}: {found['fails']}" for row in read()["families"] for slug, found in row.get("methods", {}).items()
              if "fails" in found]
    assert not broken


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.missing], ids=lambda family: family.name)
def test_a_family_that_cannot_be_built_here_is_skipped_aloud(family):
    pytest.skip(f"{family.name}: {family.missing}")


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.refused], ids=lambda family: family.name)
def test_a_family_that_is_refused_says_why(family):
    with pytest.raises(Refusal, match=family.refused):
        small(family.name)
