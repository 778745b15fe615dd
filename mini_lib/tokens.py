"""The token map: which positions look at which part of which picture, and which are the question's words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .cells import Grid
from .grids import Given, find
from .refusal import Refusal


@dataclass(frozen=True)
class TokenMap:
    """Where everything sits in one prompt of length `T`.

    text: the `T` tokens as strings.
    image: (P,) positions of the image tokens, in the order of the prompt.
    grid: (rows, columns) of the first picture's cells, which are its patches where each has one token.
    boxes: (rows * columns, 4) left, top, right, bottom of each cell in pixels of its own picture; of several pictures one after
    the other.  words: for each word of the question, the positions of its tokens.
    grids: for each picture its cells and which of them its tokens cover; when left out, each token is one cell.
    """

    text: list[str]
    image: torch.Tensor
    grid: tuple[int, int]
    boxes: np.ndarray
    words: list[tuple[str, list[int]]]
    grids: tuple[Grid, ...] = ()

    def __repr__(self) -> str:
        images = self.images
        count = f"{len(images)} pictures of " if len(images) > 1 else ""
        places = ", ".join(f"{int(image[0])}–{int(image[-1])}" for image in images)
        question = " ".join(word for word, _ in self.words)
        return (f"TokenMap({len(self.text)} tokens: {count}{len(images[0])} image tokens on a {self.grid[0]} x "
                f"{self.grid[1]} grid at {places}, question {question!r})")

    @property
    def images(self) -> tuple[torch.Tensor, ...]:
        """Positions of each picture's tokens, in the order of the prompt."""
        return self.image.split([grid.tokens for grid in self.grids] if self.grids else self.grid[0] * self.grid[1])

    def on_grid(self, values) -> np.ndarray:
        """One value per image token (…, P) -> one per cell (…, rows, columns), of a prompt of one picture.

        A token's value is shared among the cells that it covers by area, so that the sum is kept; what tokens hold that cover
        none, such as newlines, is left out. Where each token is one cell, the values as they are.
        Raises Refusal where image tokens stand for no place.
        """
        return self.one.spread(np.asarray(values))

    @property
    def one(self) -> Grid:
        """The grid of the only picture. Raises Refusal for several."""
        if len(self.images) > 1:
            raise Refusal(f"This prompt has {len(self.images)} pictures, and values are laid on one; ask about one picture.")
        return self.grids[0] if self.grids else Grid(self.grid, self.boxes, len(self.image))

    @property
    def question(self) -> list[int]:
        """Positions of all tokens of the question."""
        return [position for _, positions in self.words for position in positions]


def map_tokens(inputs: dict, tokenizer, config, question: str, sizes: list[tuple[int, int]], image_processor,
               look=None) -> TokenMap:
    """Build the map for one prompt.

    inputs: what the model takes, a batch of one.  config: the model's.  question: the last one of the prompt.
    sizes: (width, height) of each picture as given.  look: gives the views of the pictures (`mini_lib.views`), for grids of tiles.
    Raises Refusal when the prompt holds no image token, or when the model's grid is not one that is known.
    """
    ids = inputs["input_ids"][0]
    image_token = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
    image = torch.nonzero(ids == image_token).flatten().cpu()
    if len(image) == 0:
        raise Refusal("The prompt holds no image token, so the model would not look at the picture.")
    grids = find(Given(inputs, config, sizes, len(image), image_processor, look))
    text = [tokenizer.decode([i]) for i in ids.tolist()]
    boxes = np.concatenate([grid.boxes for grid in grids])
    return TokenMap(text, image, grids[0].shape, boxes, _words(text, int(image[-1]) + 1, question), tuple(grids))


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
