"""A "model" whose every answer can be worked out by hand: additive in the brightness of 16 patches and in three words."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

COEFFICIENTS = np.arange(16).reshape(4, 4) - 5.0         # per patch, in nats from black to white; they sum to 40
WORDS = np.array([3.0, -1.0, 2.0])                       # per word of "a b c", the first of two tokens


class Toy:
    """log p = bend(sum of coefficient x brightness over patches + sum of the words' values), five pictures at a time.

    A stream (K, 16 + 4, 1) of one number a position goes through one block, so that words can be edited before it.
    """

    name, batch_size, slack, backward_passes = "a toy", 5, 1e-6, 0

    def __init__(self, coefficients=COEFFICIENTS, words=WORDS, bend=lambda total: total):
        self.coefficients, self.bend, self.passes = np.asarray(coefficients, float), bend, 0
        self.words = torch.tensor([words[0] / 2, words[0] / 2, *words[1:]], dtype=torch.float64)
        self.parts = SimpleNamespace(blocks=torch.nn.ModuleList([torch.nn.Identity()]), vision=torch.nn.ModuleList())

    def score(self, prompt, target, pictures):
        out, pictures = [], iter(pictures)
        while chunk := list(islice(pictures, self.batch_size)):
            out.append(self.score_inputs(self.showing(prompt, target, chunk), target))
        return torch.cat(out)

    def showing(self, prompt, target, pictures):
        light = np.stack([np.asarray(p, float).mean(2).reshape(4, 8, 4, 8).mean((1, 3)).ravel() / 255 for p in pictures])
        return torch.cat([torch.from_numpy(light * self.coefficients.ravel()), self.words.expand(len(pictures), -1)], 1)[..., None]

    def score_inputs(self, stream, target):
        self.passes += len(stream)
        return self.bend(self.parts.blocks[0](stream).sum((1, 2)))

    def prompt(self, picture=None, question="a b c"):
        boxes = np.array([[8 * c, 8 * r, 8 * c + 8, 8 * r + 8] for r in range(4) for c in range(4)], float)
        words = [("a", [16, 17]), ("b", [18]), ("c", [19])]
        picture = Image.new("RGB", (32, 32), "white") if picture is None else Image.fromarray(np.asarray(picture))
        return SimpleNamespace(picture=picture, question=question, pictures=(picture,),
                               tokens=SimpleNamespace(grid=(4, 4), boxes=boxes, words=words))

    def target(self, prompt, token=None):
        return SimpleNamespace(text="x")

    def answers(self, pictures, questions):
        """ "bright" or "dark", by the mean of the picture."""
        return ["bright" if np.asarray(picture).mean() > 127 else "dark" for picture in pictures]
