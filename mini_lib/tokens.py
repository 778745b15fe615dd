"""The token map: which positions are which patches of which picture, and which are the question's words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .refusal import Refusal


@dataclass(frozen=True)
class TokenMap:
    """Where everything sits in one prompt of length `T`.

    text: the `T` tokens as strings.
    image: (P,) positions of the image tokens, in reading order of the grid; one picture after the other.
    grid: (rows, columns) of one picture's patches; P = rows * columns * number of pictures.
    boxes: (P, 4) left, top, right, bottom of each patch in pixels of its own picture.
    words: for each word of the question, the positions of its tokens.
    """

    text: list[str]
    image: torch.Tensor
    grid: tuple[int, int]
    boxes: np.ndarray
    words: list[tuple[str, list[int]]]

    def __repr__(self) -> str:
        images = self.images
        count = f"{len(images)} pictures of " if len(images) > 1 else ""
        places = ", ".join(f"{int(image[0])}–{int(image[-1])}" for image in images)
        question = " ".join(word for word, _ in self.words)
        return (f"TokenMap({len(self.text)} tokens: {count}{len(images[0])} image tokens on a {self.grid[0]} x "
                f"{self.grid[1]} grid at {places}, question {question!r})")

    @property
    def images(self) -> tuple[torch.Tensor, ...]:
        """Positions of each picture's tokens, (rows * columns,) a picture, in the order of the prompt."""
        return self.image.split(self.grid[0] * self.grid[1])

    @property
    def question(self) -> list[int]:
        """Positions of all tokens of the question."""
        return [position for _, positions in self.words for position in positions]


def map_tokens(inputs: dict, tokenizer, config, question: str, sizes: list[tuple[int, int]],
               image_processor) -> TokenMap:
    """Build the map for one prompt.

    inputs: what the model takes, a batch of one.  config: the model's.  question: the last one of the prompt.
    sizes: (width, height) of each picture as given.
    Raises Refusal when the prompt holds no image token, or when the model's grid is not one that is known.
    """
    ids = inputs["input_ids"][0]
    image_token = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
    image = torch.nonzero(ids == image_token).flatten().cpu()
    if len(image) == 0:
        raise Refusal("The prompt holds no image token, so the model would not look at the picture.")
    each, rest = divmod(len(image), len(sizes))
    side = round(each ** 0.5)
    # A square number of tokens is no proof of a square grid: 16 x 9 patches are 144 as well.
    if "image_grid_thw" in inputs or rest or each not in _square_grids(config):
        shown = "the picture" if len(sizes) == 1 else f"{len(sizes)} pictures"
        raise Refusal(f"This model turned {shown} into {len(image)} tokens on a grid that is not one fixed square; "
                      "so far fixed square grids (LLaVA-1.5, PaliGemma, Gemma 3) can be mapped to patches.")
    text = [tokenizer.decode([i]) for i in ids.tolist()]
    boxes = np.concatenate([_boxes(side, size, image_processor) for size in sizes])
    return TokenMap(text, image, (side, side), boxes, _words(text, int(image[-1]) + 1, question))


def _square_grids(config) -> set[int]:
    """Numbers of image tokens that this model's config declares for one square grid."""
    vision = config.vision_config
    counts = {getattr(config, "mm_tokens_per_image", None)}
    if isinstance(getattr(vision, "image_size", None), int) and isinstance(getattr(vision, "patch_size", None), int):
        counts.add((vision.image_size // vision.patch_size) ** 2)
    return {n for n in counts if n}


def _boxes(side: int, size: tuple[int, int], image_processor) -> np.ndarray:
    """Pixel boxes of a side x side grid over the part of the picture that the model sees."""
    width, height = size
    left, top, seen_w, seen_h = 0.0, 0.0, float(width), float(height)
    target = getattr(image_processor, "size", None) or {}
    if getattr(image_processor, "do_center_crop", False) and "shortest_edge" in target:
        # Shortest edge is scaled to `size`, then the middle `crop_size` is kept: a wide picture loses its flanks.
        scale, crop = min(width, height) / target["shortest_edge"], image_processor.crop_size
        seen_w, seen_h = min(width, crop["width"] * scale), min(height, crop["height"] * scale)
        left, top = (width - seen_w) / 2, (height - seen_h) / 2
    xs, ys = left + seen_w * np.arange(side + 1) / side, top + seen_h * np.arange(side + 1) / side
    return np.array([[xs[c], ys[r], xs[c + 1], ys[r + 1]] for r in range(side) for c in range(side)])


def _words(text: list[str], start: int, question: str) -> list[tuple[str, list[int]]]:
    """Match the question's words to tokens after `start`, ignoring white space and capitals."""
    owner, said = [], ""
    for position in range(start, len(text)):
        piece = "".join(text[position].split()).lower()
        said += piece
        owner += [position] * len(piece)
    wanted = "".join(question.split()).lower()
    at = said.rfind(wanted)
    if at < 0:                              # a tokenizer that rewrites text: keep the positions, lose the words
        return [(question, list(range(start, len(text))))]
    words = []
    for word in question.split():
        positions = sorted(set(owner[at:at + len(word)]))
        words.append((word, positions))
        at += len(word)
    return words
