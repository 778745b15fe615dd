"""What is asked, ready to run, and what of the answer is explained. Made by `mllm.prompt` and `mllm.target`."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from .tokens import TokenMap


@dataclass(frozen=True)
class Prompt:
    """A picture (or several) and a question, ready to run.

    picture: the first one that the question is about.  inputs: what the model takes, a batch of one.
    tokens: the token map.  notes: what was done to the pictures.  pictures: all of them in order, those of shots too.
    """

    picture: Image.Image
    question: str
    inputs: dict
    tokens: TokenMap
    notes: tuple[str, ...] = ()
    pictures: tuple[Image.Image, ...] = ()

    def __repr__(self) -> str:
        shown = f"{self.picture.width} x {self.picture.height} picture"
        if len(self.pictures) > 1:
            shown = f"{len(self.pictures)} pictures"
        return f"Prompt({self.question!r}, {shown}, {self.tokens!r})"


@dataclass(frozen=True)
class Target:
    """The tokens to explain: `ids` are forced after the prompt, and those from `first` on are scored.

    text: what the scored tokens say.
    """

    ids: tuple[int, ...]
    first: int
    text: str
