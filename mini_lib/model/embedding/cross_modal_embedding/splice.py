"""SpLiCE: write a picture's state as a sum of few words.

    w* = argmin_{w ≥ 0}  |C w - z|² + 2 λ |w|_1

z: (d,) a picture's state, the mean over its tokens, minus the mean over all pictures, of length 1.  C: (d, W) one column a word:
its state minus the mean over all words, of length 1.  w: (W,) how much of each word is in the picture; most are 0.  λ: the penalty.
At the optimum (KKT), with residual r = z - C w:  C_jᵀ r = λ where w_j > 0, and C_jᵀ r ≤ λ where w_j = 0.
If z is a sum of k words and the words are nearly orthogonal, exactly these k come back: k < (1 + 1/μ) / 2, where μ is the
largest |cosine| between two words, is enough for λ → 0.

The centring is to close the modality gap. It can remove a shift and no more: where words and pictures use different directions, a
dictionary of words finds nothing. `dictionary` takes other vectors in the place of the words' own.

Source: Bhalla et al. 2024, arXiv:2402.10376, for CLIP's common space; on the token states of a multimodal LLM it is our extension.
Misleads when a decomposition is read as a description: the program always names some words, also for noise, and never one outside the list.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import Lasso

from ....hooks import points
from ....refusal import Refusal, nearest
from ....registry import Identity, method
from ....results import Matrix
from ....sides import of_pictures, of_words
from ....trial import variants


def identity(mllm, prompt) -> list[Identity]:
    """The optimum's own conditions on this model's states, and words that were planted and come back."""
    words = sorted({word for word, _ in prompt.tokens.words})
    prompts, concepts = variants(mllm, prompt, 4), of_words(mllm, [prompt] * len(words), words)[-1].double().numpy()
    states = of_pictures(mllm, prompts)[-1].double().numpy()
    z, c = direction(states), direction(concepts)
    weights = decompose(states, concepts, 0.05)                                                     # (4, W)
    pull = (z - weights @ c) @ c.T                                                                  # C_jᵀ r
    kkt = max(np.maximum(pull - 0.05, 0).max(), np.abs((pull - 0.05)[weights > 0]).max(initial=0))
    rng = np.random.default_rng(0)
    plain = np.linalg.qr(rng.normal(size=(24, 24)))[0] + 0.02 * rng.normal(size=(24, 24))            # nearly orthogonal
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    planted = np.array([np.isin(np.arange(24), rng.choice(24, 3, replace=False)) for _ in range(8)])
    mixed = planted * rng.uniform(0.5, 1, planted.shape) @ plain
    found = solve(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), plain, 0.05) > 0
    return [Identity("the optimum's conditions hold", float(kkt), 1e-4),
            Identity("three planted words, and no others, come back", float((found != planted).sum()), 0)]


def trial(mllm, prompt, token=None) -> Matrix:
    """A few pictures made from one, written in the words of its question."""
    target = mllm.target(prompt, token)
    words = sorted({word for word, _ in prompt.tokens.words})
    return replace(splice(mllm, variants(mllm, prompt, 4), words), question=prompt.question, target=target.text)


@method("splice", node="model/embedding/cross-modal-embedding", paper="Bhalla et al. 2024, arXiv:2402.10376",
        cost="one forward pass a prompt and one a word; no backward pass", identity=identity, trial=trial)
def splice(mllm, prompts, words, layer: str = "embed", penalty: float = 0.05, dictionary=None) -> Matrix:
    """How much of each word is in each picture.

    words: the concepts.  layer: where the states are taken.  penalty: λ; more of it leaves fewer words.
    dictionary: (W, d) vectors in the place of the words' own, in the same order.
    Returns a Matrix of (pictures, words).  Raises Refusal for an unknown layer, or a dictionary of another form.
    """
    before = mllm.passes
    if layer not in points(mllm):
        raise Refusal(f"There is no layer {layer!r}{nearest(layer, points(mllm))}")
    at = points(mllm).index(layer)
    states = of_pictures(mllm, prompts)[at]
    concepts = of_words(mllm, [prompts[0]] * len(words), words)[at] if dictionary is None else torch.as_tensor(dictionary)
    if concepts.shape != (len(words), states.shape[1]):
        raise Refusal(f"The dictionary is {tuple(concepts.shape)}; {len(words)} words of width {states.shape[1]} are needed.")
    values = decompose(states, concepts, penalty)
    return Matrix(values, [str(k + 1) for k in range(len(prompts))], list(words), ("picture", "word"), "weight", "SpLiCE",
                  measured={"forward_passes": mllm.passes - before, "layer": layer, "penalty": penalty,
                            "words_each": float((values > 0).sum(1).mean())})


def decompose(states, concepts, penalty: float) -> np.ndarray:
    """(N, d) states and (W, d) concepts, both as they come -> (N, W) weights."""
    return solve(direction(states), direction(concepts), penalty)


def direction(vectors) -> np.ndarray:
    """(N, d) -> (N, d) in float64: minus the mean of all, of length 1; zeros where all are the same."""
    vectors = np.asarray(vectors, float)
    vectors = vectors - vectors.mean(0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def solve(z: np.ndarray, c: np.ndarray, penalty: float) -> np.ndarray:
    """(N, d) unit vectors and (W, d) concepts -> (N, W) weights, by coordinate descent."""
    # scikit-learn minimises |z - C w|² / (2 d) + alpha |w|_1: alpha is λ / d, and not λ.
    lasso = Lasso(alpha=penalty / z.shape[1], positive=True, fit_intercept=False, tol=1e-12, max_iter=100_000, random_state=0)
    return np.array([lasso.fit(c.T, one).coef_ for one in z])
