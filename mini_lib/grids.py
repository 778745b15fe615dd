"""Grid rules: where in the user's picture each image token looks. All that a family of models needs from us is one rule.

    RULES["qwen2_vl"] = merged                       # model_type of the config -> rule

A rule takes a `Given` and returns one `Grid` a picture: cells of the picture in its own pixels, and for each of its image tokens
the cells that it covers. A token of a thumbnail covers many cells, a newline none.

Where a processor cuts pictures into tiles, pads or crops them, nothing of that is computed again here. It is asked instead
(`mini_lib.views`): pictures whose red says how far to the right and whose green says how far down are sent through it, and
what comes out says where each tile lies, in any version of the processor. Whether a rule is right shows when one cell is
painted and its own token changes most (`mini-lib check`, tests/families).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt, sqrt

import numpy as np

from .refusal import Refusal
from .views import View

NO_PLACE = 8                    # side of the grid of cells where tokens stand for no place, so that pictures can still be covered


@dataclass(frozen=True)
class Grid:
    """The cells of one picture, and which of them each of its image tokens covers.

    shape: (rows, columns).  boxes: (rows * columns, 4) left, top, right, bottom of each cell in the user's own pixels.
    tokens: how many image tokens the picture has.  cover: three arrays (N,), a token, a cell of it, and the share of the token
    that lies there; a token's shares sum to 1, and one that covers no cell is not there; None where token k is cell k.  why: where tokens stand for no place, the reason; otherwise "".
    """

    shape: tuple[int, int]
    boxes: np.ndarray
    tokens: int
    cover: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    why: str = ""

    def spread(self, values: np.ndarray) -> np.ndarray:
        """One value per image token (..., tokens) -> (..., rows, columns); a token's is shared among its cells by area.

        Sums are kept, but for tokens that cover no cell.  Raises Refusal where tokens stand for no place.
        """
        self.placed()
        values = np.asarray(values)
        if self.cover is not None:
            tokens, cells, shares = self.cover
            spread = np.zeros((*values.shape[:-1], len(self.boxes)))
            np.add.at(spread, (..., cells), values[..., tokens] * shares)
            values = spread
        return values.reshape(*values.shape[:-1], *self.shape)

    def finest(self) -> np.ndarray:
        """(rows, columns) for each cell, the image token of which most lies there: a tile's own, not that of a thumbnail."""
        self.placed()
        found = np.arange(len(self.boxes))
        if self.cover is not None:
            tokens, cells, shares = (one[np.argsort(self.cover[2], kind="stable")] for one in self.cover)
            found[cells] = tokens                                    # the largest share comes last, and stays
        return found.reshape(self.shape)

    def cells(self, token: int) -> np.ndarray:
        """Indices of the cells that an image token covers; none for a newline."""
        self.placed()
        return np.array([token]) if self.cover is None else self.cover[1][self.cover[0] == token]

    def placed(self) -> None:
        """Raises Refusal where tokens stand for no place."""
        if self.why:
            raise Refusal(f"Its image tokens cannot be laid on the picture: {self.why}. Methods that cover parts of the picture "
                          "(occlusion, rise, shapley, modality-shares) work.")


@dataclass(frozen=True)
class Given:
    """What a rule may look at.

    inputs: what the model takes, a batch of one.  config: the model's.  sizes: (width, height) of each picture as given.
    tokens: number of image tokens of all pictures.  processor: the image processor.  look: gives the views, when asked.
    """

    inputs: dict
    config: object
    sizes: list[tuple[int, int]]
    tokens: int
    processor: object = None
    look: Callable[[], list[View]] | None = None

    def views(self, picture: int) -> list[View]:
        """The views of one picture, in the order in which the tower gets them."""
        return [view for view in self.look() if view.picture == picture]


# Rules. Each is one kind of grid; `RULES` below says which family has which.

def square(given: Given) -> list[Grid]:
    """One view a picture, and as many tokens a side as the config declares (LLaVA-1.5, PaliGemma, Gemma 3 …)."""
    each, rest = divmod(given.tokens, len(given.sizes))
    side = isqrt(each)
    # A square number of tokens is no proof of a square grid: 16 x 9 patches are 144 as well.
    if rest or each not in _declared(given.config) or "image_grid_thw" in given.inputs:
        shown = "the picture" if len(given.sizes) == 1 else f"{len(given.sizes)} pictures"
        raise Refusal(f"This model turned {shown} into {given.tokens} tokens on a grid that is not one fixed square, and "
                      f"mini_lib.grids has no other rule for {getattr(given.config, 'model_type', 'its family')!r}; "
                      "chapters/families.md says how to add one.")
    return [_trimmed(_seen(given, k), side, size) for k, size in enumerate(given.sizes)]


def merged(given: Given) -> list[Grid]:
    """The whole picture in patches, `spatial_merge_size` squared of which become one token (Qwen-VL, GLM-V, PaddleOCR-VL)."""
    side, grids = _merge(given), []
    for (_, high, wide), (width, height) in zip(given.inputs["image_grid_thw"].tolist(), given.sizes):
        rows, columns = high // side, wide // side
        grids.append(Grid((rows, columns), lattice((0, 0, width, height), rows, columns), rows * columns))
    return grids


def sized(given: Given) -> list[Grid]:
    """The whole picture at its own shape, rows and columns by the size it was brought to (Pixtral's processor).

    What ends a row and the picture are tokens of their own, and not image tokens.
    """
    side, grids = given.config.vision_config.patch_size * getattr(given.config, "spatial_merge_size", 1), []
    for (high, wide), (width, height) in zip(given.inputs["image_sizes"].tolist(), given.sizes):
        rows, columns = high // side, wide // side
        grids.append(Grid((rows, columns), lattice((0, 0, width, height), rows, columns), rows * columns))
    return grids


def pooled(given: Given) -> list[Grid]:
    """The whole picture in patches, each with its place; squares of them are pooled into one token (Gemma 4)."""
    side, grids = given.config.vision_config.pooling_kernel_size, []
    for places, (width, height) in zip(given.inputs["image_position_ids"], given.sizes):
        columns, rows = ((places.amax(0) + 1) // side).tolist()
        grids.append(Grid((rows, columns), lattice((0, 0, width, height), rows, columns), rows * columns))
    return grids


def tiles(given: Given) -> list[Grid]:
    """Tiles and a thumbnail, all with the same square of tokens (InternVL, Idefics3, SmolVLM, Ovis2, Aya Vision …)."""
    side = isqrt(given.tokens // len(given.look()))
    grids = []
    for k, size in enumerate(given.sizes):
        views = given.views(k)
        parts = [view for view in views if not _whole(view, size)] or views[-1:]
        grids.append(_covering(parts, [view.box for view in views], side, size))
    return grids


def anyres(given: Given) -> list[Grid]:
    """A thumbnail, then tiles as one grid: padding cut off, a newline after each row (LLaVA-NeXT, LLaVA-OneVision)."""
    vision, grids = given.config.vision_config, []
    side = vision.image_size // vision.patch_size
    for k, size in enumerate(given.sizes):
        base, *parts = given.views(k)
        if not parts:                                                # of several pictures each is one view, and one newline
            boxes, own = lattice(base.box, side, side), np.arange(side * side)
            grids.append(Grid((side, side), _clipped(boxes, size), side * side + 1, _joined([_ones(np.append(own, -1))])))
            continue
        xs, ys = (_edges([view.box for view in parts], axis, size) for axis in (0, 1))
        box = xs[0], ys[0], xs[-1], ys[-1]
        rows, columns = side * (len(ys) - 1), side * (len(xs) - 1)
        cut_rows, cut_columns = _padding(size, rows, columns)
        high, wide = (box[3] - box[1]) / rows, (box[2] - box[0]) / columns
        box = (box[0] + cut_columns * wide, box[1] + cut_rows * high, box[2] - cut_columns * wide, box[3] - cut_rows * high)
        rows, columns = rows - 2 * cut_rows, columns - 2 * cut_columns
        most = str(getattr(given.config, "vision_aspect_ratio", "")).removeprefix("anyres_max_")
        ratio = sqrt(rows * columns / (int(most) * side * side)) if most.isdigit() else 0
        if ratio > 1.1:                                              # too many: the features are scaled down
            rows, columns = int(rows // ratio), int(columns // ratio)
        boxes, own = lattice(box, rows, columns), np.arange(rows * columns).reshape(rows, columns)
        ends = np.full((rows, 1), -1)                                # of a row: the newline
        cover = _joined([_shares(lattice(base.box, side, side), boxes), _ones(np.hstack([own, ends]).ravel())])
        grids.append(Grid((rows, columns), _clipped(boxes, size), side * side + rows * (columns + 1), cover))
    return grids


def no_place(why: str) -> Callable[[Given], list[Grid]]:
    """The rule of a family whose image tokens each draw on the whole picture: cells to cover, and a reason."""
    def rule(given: Given) -> list[Grid]:
        each = given.tokens // len(given.sizes)
        return [Grid((NO_PLACE, NO_PLACE), lattice((0, 0, *size), NO_PLACE, NO_PLACE), each, why=why) for size in given.sizes]
    return rule


def lattice(box, rows: int, columns: int) -> np.ndarray:
    """(rows * columns, 4) boxes of equal cells in a box (left, top, right, bottom), in reading order."""
    left, top, right, bottom = box
    xs, ys = left + (right - left) * np.arange(columns + 1) / columns, top + (bottom - top) * np.arange(rows + 1) / rows
    return np.array([[xs[c], ys[r], xs[c + 1], ys[r + 1]] for r in range(rows) for c in range(columns)])


def find(given: Given) -> list[Grid]:
    """The grids of a prompt's pictures, by the family's rule; a family without one is tried as one fixed square.

    Raises Refusal where the rule does not account for every image token.
    """
    kind = getattr(given.config, "model_type", None)
    grids = RULES.get(kind, square)(given)
    if sum(grid.tokens for grid in grids) != given.tokens:
        raise Refusal(f"The grid rule of {kind!r} gives {' + '.join(str(grid.tokens) for grid in grids)} image tokens and the prompt "
                      f"has {given.tokens}, so maps would be wrong; transformers may have changed this family.")
    return grids


RESAMPLED = "learned queries gather them from the whole picture (a resampler or Q-Former), so that none stands for a place"

RULES = {
    **dict.fromkeys(("llava", "vipllava", "video_llava", "paligemma", "janus", "deepseek_vl"), square),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v", "glm46v",
                     "paddleocr_vl", "exaone4_5"), merged),
    **dict.fromkeys(("mistral3", "lighton_ocr"), sized), "gemma4": pooled,
    **dict.fromkeys(("gemma3", "idefics3", "smolvlm", "internvl", "ovis2", "aya_vision", "cohere2_vision", "got_ocr2"), tiles),
    **dict.fromkeys(("llava_next", "llava_onevision", "llava_next_video"), anyres),
    **dict.fromkeys(("idefics2", "aria", "instructblip", "blip-2"), no_place(RESAMPLED)),
    "mllama": no_place("pictures come in by cross-attention, and one token marks where each of them was shown"),
}


# What rules share.

def _declared(config) -> set[int]:
    """Numbers of image tokens that this model's config declares for one square grid."""
    vision = config.vision_config
    counts = {getattr(config, "mm_tokens_per_image", None)}
    if isinstance(getattr(vision, "image_size", None), int) and isinstance(getattr(vision, "patch_size", None), int):
        counts.add((vision.image_size // vision.patch_size) ** 2)
    return {n for n in counts if n}


def _seen(given: Given, picture: int) -> tuple[float, float, float, float]:
    """The part of a picture that a model with one view sees; where the processor pads to a square, more than the picture."""
    width, height = given.sizes[picture]
    target = getattr(given.processor, "size", None) or {}
    if getattr(given.processor, "do_pad", False) and given.look is not None:
        return given.views(picture)[0].box
    if getattr(given.processor, "do_center_crop", False) and "shortest_edge" in target:
        # Shortest edge is scaled to `size`, then the middle `crop_size` is kept: a wide picture loses its flanks.
        scale, crop = min(width, height) / target["shortest_edge"], given.processor.crop_size
        seen_w, seen_h = min(width, crop["width"] * scale), min(height, crop["height"] * scale)
        left, top = (width - seen_w) / 2, (height - seen_h) / 2
        return left, top, left + seen_w, top + seen_h
    return 0.0, 0.0, float(width), float(height)


def _trimmed(box, side: int, size: tuple[int, int]) -> Grid:
    """The grid of a view of side x side tokens at `box`, without rows and columns that show next to nothing but padding."""
    kept = []
    for axis in (0, 1):
        edges = np.linspace(box[axis], box[axis + 2], side + 1)
        inside = np.clip(edges, 0, size[axis])
        kept.append(np.flatnonzero(np.diff(inside) > 0.1 * np.diff(edges)))
    columns, rows = kept
    boxes = _clipped(lattice(box, side, side), size)
    if len(rows) == len(columns) == side:
        return Grid((side, side), boxes, side * side)
    tokens = (rows[:, None] * side + columns).ravel()
    cells = np.full(side * side, -1)
    cells[tokens] = np.arange(len(tokens))
    return Grid((len(rows), len(columns)), boxes[tokens], side * side, _joined([_ones(cells)]))


def _merge(given: Given) -> int:
    """How many patches a side become one token."""
    for place in (given.config.vision_config, given.processor):
        for name in ("spatial_merge_size", "merge_size"):
            if getattr(place, name, None):
                return getattr(place, name)
    return 1


def _whole(view: View, size: tuple[int, int]) -> bool:
    """Whether a view shows all of its picture."""
    left, top, right, bottom = view.box
    return max(left, top) <= 0 and right >= size[0] and bottom >= size[1]


def _edges(boxes: list[tuple], axis: int, size: tuple[int, int]) -> np.ndarray:
    """Where tiles begin and end along an axis, each place once: measured edges of neighbours differ by a hair."""
    ends = np.sort([end for box in boxes for end in (box[axis], box[axis + 2])])
    groups = np.split(ends, np.flatnonzero(np.diff(ends) > 0.02 * size[axis]) + 1)
    return np.array([group.mean() for group in groups])


def _covering(parts: list[View], boxes: list[tuple], side: int, size: tuple[int, int]) -> Grid:
    """The grid of tiles (`parts`) of side x side tokens, for the tokens of all views at `boxes`."""
    xs, ys = (_edges([view.box for view in parts], axis, size) for axis in (0, 1))
    if (len(xs) - 1) * (len(ys) - 1) != len(parts):
        raise Refusal(f"The {len(parts)} tiles of the picture do not stand in rows and columns, so they cannot be laid on one grid.")
    rows, columns = side * (len(ys) - 1), side * (len(xs) - 1)
    across, down = (np.concatenate([np.linspace(a, b, side, endpoint=False) for a, b in zip(ends[:-1], ends[1:])] + [ends[-1:]])
                    for ends in (xs, ys))
    cells = np.array([[across[c], down[r], across[c + 1], down[r + 1]] for r in range(rows) for c in range(columns)])
    own, blocks = np.arange(rows * columns).reshape(rows, columns), []
    for box in boxes:
        column, row = (int(abs(ends[:-1] - box[axis]).argmin()) for axis, ends in ((0, xs), (1, ys)))
        tile = xs[column], ys[row], xs[column + 1], ys[row + 1]
        if np.allclose(tile, box, atol=0.02 * max(size)):             # a tile's own cells, exactly
            blocks.append(_ones(own[row * side:(row + 1) * side, column * side:(column + 1) * side].ravel()))
        else:
            blocks.append(_shares(lattice(box, side, side), cells))
    cover, tokens = _joined(blocks), side * side * len(boxes)
    same = tokens == rows * columns and np.array_equal(cover[0], cover[1])
    return Grid((rows, columns), _clipped(cells, size), tokens, None if same else cover)


def _ones(cells: np.ndarray) -> tuple:
    """The cover of tokens that have one cell each, or -1 for none; and how many tokens these are."""
    placed = np.flatnonzero(cells >= 0)
    return placed, cells[placed], np.ones(len(placed)), len(cells)


def _shares(tokens: np.ndarray, cells: np.ndarray) -> tuple:
    """The same for tokens and cells at boxes (…, 4): the share of a token's area on the picture that lies in each cell."""
    over = [np.clip(np.minimum(tokens[:, None, k + 2], cells[None, :, k + 2]) - np.maximum(tokens[:, None, k], cells[None, :, k]), 0, None)
            for k in (0, 1)]
    area = over[0] * over[1]                                          # (tokens, cells)
    total = area.sum(1, keepdims=True)
    shares = np.divide(area, total, out=np.zeros_like(area), where=total > 1e-9)
    return *np.nonzero(shares), shares[shares > 0], len(tokens)


def _joined(blocks: list[tuple]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covers of tokens that follow one another as one."""
    starts = np.cumsum([0, *(block[3] for block in blocks)])
    return (np.concatenate([block[0] + start for block, start in zip(blocks, starts)]),
            *(np.concatenate([block[k] for block in blocks]) for k in (1, 2)))


def _padding(size: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    """How many rows at the top and at the bottom, and columns on each side, of a padded grid show no picture."""
    width, height = size
    if width / height > columns / rows:
        return (rows - int(round(height * columns / width, 7))) // 2, 0
    return 0, (columns - int(round(width * rows / height, 7))) // 2


def _clipped(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The boxes, cut off where they reach beyond the picture."""
    return np.clip(boxes, 0, [*size, *size])
