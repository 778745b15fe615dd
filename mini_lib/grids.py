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

from .cells import Grid, clipped, covering, edges, joined, lattice, ones, padding, shares, trimmed
from .refusal import Refusal
from .views import View

NO_PLACE = 8                    # side of the grid of cells where tokens stand for no place, so that pictures can still be covered


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
    return [trimmed(_seen(given, k), side, size) for k, size in enumerate(given.sizes)]


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
        grids.append(covering(parts, [view.box for view in views], side, size))
    return grids


def anyres(given: Given) -> list[Grid]:
    """A thumbnail, then tiles as one grid: padding cut off, a newline after each row (LLaVA-NeXT, LLaVA-OneVision)."""
    vision, grids = given.config.vision_config, []
    side = vision.image_size // vision.patch_size
    for k, size in enumerate(given.sizes):
        base, *parts = given.views(k)
        if not parts:                                                # of several pictures each is one view, and one newline
            boxes, own = lattice(base.box, side, side), np.arange(side * side)
            grids.append(Grid((side, side), clipped(boxes, size), side * side + 1, joined([ones(np.append(own, -1))])))
            continue
        xs, ys = (edges([view.box for view in parts], axis, size) for axis in (0, 1))
        box = xs[0], ys[0], xs[-1], ys[-1]
        rows, columns = side * (len(ys) - 1), side * (len(xs) - 1)
        cut_rows, cut_columns = padding(size, rows, columns)
        high, wide = (box[3] - box[1]) / rows, (box[2] - box[0]) / columns
        box = (box[0] + cut_columns * wide, box[1] + cut_rows * high, box[2] - cut_columns * wide, box[3] - cut_rows * high)
        rows, columns = rows - 2 * cut_rows, columns - 2 * cut_columns
        most = str(getattr(given.config, "vision_aspect_ratio", "")).removeprefix("anyres_max_")
        ratio = sqrt(rows * columns / (int(most) * side * side)) if most.isdigit() else 0
        if ratio > 1.1:                                              # too many: the features are scaled down
            rows, columns = int(rows // ratio), int(columns // ratio)
        boxes, own = lattice(box, rows, columns), np.arange(rows * columns).reshape(rows, columns)
        ends = np.full((rows, 1), -1)                                # of a row: the newline
        cover = joined([shares(lattice(base.box, side, side), boxes), ones(np.hstack([own, ends]).ravel())])
        grids.append(Grid((rows, columns), clipped(boxes, size), side * side + rows * (columns + 1), cover))
    return grids


def no_place(why: str) -> Callable[[Given], list[Grid]]:
    """The rule of a family whose image tokens each draw on the whole picture: cells to cover, and a reason."""
    def rule(given: Given) -> list[Grid]:
        """No place: image tokens are not of a part of the picture; it is cut into cells that can be covered."""
        each = getattr(given.config, "num_query_tokens", given.tokens // len(given.sizes))
        if each * len(given.sizes) != given.tokens:
            raise Refusal(f"This model has {given.tokens} image tokens for {len(given.sizes)} pictures, so it cannot see each of them; "
                          "ask about one picture.")
        return [Grid((NO_PLACE, NO_PLACE), lattice((0, 0, *size), NO_PLACE, NO_PLACE), each, why=why) for size in given.sizes]
    rule.__name__ = "no_place"
    return rule


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

# What is proven of each, and which could not be run here: chapters/families.md.
RULES = {
    **dict.fromkeys(("llava", "vipllava", "video_llava", "paligemma", "janus", "deepseek_vl"), square),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v", "glm4v_moe", "glm46v",
                     "paddleocr_vl", "exaone4_5", "video_llama_3", "ernie4_5_vl_moe"), merged),
    **dict.fromkeys(("mistral3", "lighton_ocr"), sized), "gemma4": pooled,
    **dict.fromkeys(("gemma3", "idefics3", "smolvlm", "internvl", "ovis2", "aya_vision", "cohere2_vision", "got_ocr2",
                     "qianfan_ocr"), tiles),
    **dict.fromkeys(("llava_next", "llava_onevision", "llava_next_video"), anyres),
    **dict.fromkeys(("idefics2", "aria", "instructblip", "blip-2"), no_place(RESAMPLED)),
    "mllama": no_place("pictures come in by cross-attention, and one token marks where each of them was shown"),
}


# What rules look up.

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
