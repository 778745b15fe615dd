"""CKA: do pictures that are alike have captions that are alike? Centred kernel alignment of the two sides, layer by layer.

    CKA(X, Y) = <A, B> / (|A| |B|),      A = X Xᵀ and B = Y Yᵀ, centred

X: (N, d) one state a picture, Y: (N, d') one a caption, in the same order.  A, B: (N, N), how alike each two pictures, and
each two captions, are.  Turning, shifting or scaling X changes nothing: CKA compares shapes and not places.

Centring decides. The usual one leaves the diagonal in, where each state meets itself: few samples of wide states then look alike
whatever they are. Here (U-centring) the diagonal is left out, and every row sums to 0 without it:

    A_ij = K_ij - r_i - r_j + s for i ≠ j, else 0,      r_i = Σ_k K_ik / (N - 2),      s = Σ_ik K_ik / ((N - 1)(N - 2))

Then <A, B> / (N (N - 3)) is the unbiased estimator of HSIC, and over all orders of the pairs its mean is 0 exactly.

Sources: Kornblith et al. 2019, arXiv:1905.00414; the unbiased estimator in it: Nguyen et al. 2020, arXiv:2010.15327.
Misleads when the biased form is used on few samples; when something simple, such as the number of objects, drives both sides; and when
it is taken for a common space: two sides can have one shape along different directions.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import torch
from PIL import Image

from ....hooks import points
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import Matrix
from ....sides import of_pictures, of_words
from ....trial import variants


def identity(mllm, prompt) -> list[Identity]:
    """What must hold of the states of six pictures, and of words that do not see theirs."""
    prompts = variants(mllm, prompt, 6)
    x = of_pictures(mllm, prompts)[-1].double()                                                     # (6, d)
    noise = torch.Generator().manual_seed(0)
    y, turn = torch.randn(6, 9, generator=noise, dtype=torch.float64), torch.linalg.qr(torch.randn(len(x[0]), len(x[0]), generator=noise, dtype=torch.float64))[0]
    orders = [alignment(x, y[list(order)]) for order in permutations(range(6))]
    other = mllm.prompt(Image.fromarray(255 - np.asarray(prompt.picture)), prompt.question)
    seen, unseen = (of_words(mllm, [one], [prompt.question]) for one in (prompt, other))
    return [Identity("a turned, scaled and shifted copy has CKA 1", abs(alignment(x, 3 * x @ turn + 5) - 1), 1e-5),
            Identity("the mean over all orders of the pairs is 0", abs(float(np.mean(orders))), 1e-6),
            Identity("<A, B> is N (N - 3) times the unbiased HSIC of Song et al.", hsic_apart(x, y), 1e-6),
            Identity("a caption's words are the same behind another picture", float((seen - unseen).abs().max()), mllm.slack)]


def trial(mllm, prompt, token=None) -> Matrix:
    """CKA between a few pictures made from one and the words of its question, which see them."""
    target = mllm.target(prompt, token)
    return replace(cka(mllm, variants(mllm, prompt, 8)), question=prompt.question, target=target.text)


@method("cka", node="model/embedding/cross-modal-embedding", paper="Kornblith et al. 2019, arXiv:1905.00414",
        cost="two forward passes a prompt; no backward pass", identity=identity, trial=trial)
def cka(mllm, prompts, texts=None) -> Matrix:
    """Unbiased linear CKA of pictures at each layer (rows) with words at each layer (columns).

    texts: the caption of each picture; its words do not see the picture.  Left out: the words of the question, which do.
    """
    before = mllm.passes
    pictures, words = of_pictures(mllm, prompts), of_words(mllm, prompts, texts)
    values = np.array([[alignment(x, y) for y in words] for x in pictures])
    return Matrix(values, points(mllm), points(mllm), ("layer of the pictures", "layer of the words"), "unbiased CKA", "CKA",
                  measured={"forward_passes": mllm.passes - before, "prompts": len(prompts)})


def alignment(x, y) -> float:
    """Unbiased linear CKA of (N, d) and (N, d') states of the same N things; 0 where one side is all the same.

    Raises Refusal for fewer than four.
    """
    a, b = centred(x), centred(y)
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-300))


def centred(x) -> torch.Tensor:
    """(N, d) -> (N, N) how alike each two are, U-centred."""
    x = torch.as_tensor(x, dtype=torch.float64)
    n = len(x)
    if n < 4:
        raise Refusal(f"Unbiased CKA needs at least four prompts; there are {n}.")
    kernel = gram(x)
    rows, total = kernel.sum(1) / (n - 2), kernel.sum() / ((n - 1) * (n - 2))
    return (kernel - rows[:, None] - rows + total).fill_diagonal_(0)


def gram(x: torch.Tensor) -> torch.Tensor:
    """(N, d) -> (N, N) inner products without the diagonal. The mean is taken off first: it would cost digits."""
    x = x - x.mean(0)
    return (x @ x.T).fill_diagonal_(0)


def biased(x, y) -> float:
    """CKA as usually centred, diagonal and all: what goes wrong on few samples of wide states."""
    x, y = (torch.as_tensor(side, dtype=torch.float64) - torch.as_tensor(side, dtype=torch.float64).mean(0) for side in (x, y))
    return float((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def hsic_apart(x, y) -> float:
    """How far <A, B> is from the formula of Song et al. 2012 (Journal of Machine Learning Research 13), as a share of |A| |B|."""
    n, (k, q), one = len(x), (gram(x), gram(y)), torch.ones(len(x), dtype=torch.float64)
    hsic = ((k @ q).trace() + (one @ k @ one) * (one @ q @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ q @ one)) / (n * (n - 3))
    a, b = centred(x), centred(y)
    return float(((a * b).sum() - n * (n - 3) * hsic).abs() / (a.norm() * b.norm()))
