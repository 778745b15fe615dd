"""The contextual lens: name an image token by the word that it lies nearest to, among words as they stand in sentences.

    L_l(p) = word of argmax_i  cos( h_l(p), c_i )

h_l(p): (d,) residual stream at image token p after l blocks.  c_i: (d,) the stream at a word of a sentence that the model reads without
any picture, after any number of blocks; the same word in other sentences, and at other layers, is another i.  cos: cosine similarity.
No unembedding is used. An index of the c_i is made once, from sentences of your own if you like: `texts = index(mllm, sentences)`.

Text alone is what the sentences have to be read as: with a picture in front, a word would hold what it has seen there, and a near
neighbour would only say that two pictures are alike. What stands first in a sequence is left out: it draws attention whatever it is,
and its state says more of that than of a word.

Source: Krojer et al. 2026, LatentLens, arXiv:2602.00462, in small: an index made on the spot in the place of a large corpus; `among` is ours.
Misleads when the index lacks the word (some word is always nearest), when all similarities are low, when words of one kind lie nearest to
everything, and when a model has never read text alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .... import world
from ....batches import in_batches
from ....hooks import points, record
from ....refusal import Refusal
from ....registry import Identity, method
from ....results import LensGrid

CHUNK = 16384               # states compared at once, so that memory stays flat however large the index is


@dataclass(frozen=True)
class Index:
    """N words in their sentences, as they are at each layer.

    states: (N, d) of length 1, on the CPU; in half precision where the model is.  words, layers, sentences: (N,) strings.
    """

    states: torch.Tensor
    words: np.ndarray
    layers: np.ndarray
    sentences: np.ndarray

    def __repr__(self) -> str:
        return (f"Index({len(self.words)} states of {len(set(self.words))} words in {len(set(self.sentences))} sentences, "
                f"{len(set(self.layers))} layers)")

    def only(self, words) -> Index:
        """The index with only these words in it; may be empty."""
        rows = np.isin(self.words, list(words))
        return Index(self.states[torch.from_numpy(rows)], self.words[rows], self.layers[rows], self.sentences[rows])

    def nearest(self, states: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """For each of (Q, d) states the cosine similarity of the nearest in the index, and its row: (Q,), (Q,)."""
        states = unit(states)
        best, row = torch.full((len(states),), -2.0, device=states.device), torch.zeros(len(states), dtype=torch.long, device=states.device)
        for at in range(0, len(self.states), CHUNK):
            top = (states @ self.states[at:at + CHUNK].to(states).T).max(1)         # (Q,)
            row, best = torch.where(top.values > best, top.indices + at, row), torch.maximum(top.values, best)
        return best.cpu().numpy(), row.cpu().numpy()


def index(mllm, sentences=None, layers: list[str] | None = None) -> Index:
    """Read sentences without any picture, and keep every word but what stands first.

    sentences: texts; by themselves captions and questions of Shapeland.  layers: points of the residual stream; all by default.
    Cost: one forward pass a sentence, those of one length together.  Raises Refusal for words that the model does not know.
    """
    layers, special = layers or points(mllm), set(mllm.tokenizer.all_special_ids)
    by_length: dict[int, list] = {}
    for text in dict.fromkeys(shapeland() if sentences is None else sentences):
        ids = mllm.tokenizer(text)["input_ids"]
        if mllm.tokenizer.unk_token_id in ids:
            raise Refusal(f"{mllm.name} does not know every word of {text!r}; leave it out of the index.")
        by_length.setdefault(len(ids), []).append((text, ids))

    def run(batch):
        """(states, words, layers, sentences) of what is kept of some sentences of one length, layer after layer."""
        ids = torch.tensor([ids for _, ids in batch], device=mllm.device)           # (B, T)
        kept = [(row, k) for row, (_, ids_) in enumerate(batch) for k, i in enumerate(ids_) if k and i not in special]
        if not kept:
            return []
        with record(mllm, *layers) as seen:
            mllm.logits({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        pick, names = tuple(torch.tensor(kept).T), [mllm.tokenizer.decode([batch[row][1][k]]).strip() for row, k in kept]
        return [(unit(seen[layer][tuple(part.to(seen[layer].device) for part in pick)]).to(mllm.model.dtype).cpu(), names,
                 [layer] * len(kept), [batch[row][0] for row, _ in kept]) for layer in layers]

    found = [one for rows in by_length.values() for part in in_batches(mllm, rows, run) for one in part]     # of one length: no padding
    if not found:
        raise Refusal("There is no word to compare with; give sentences of two words or more.")
    states, *names = zip(*found)
    return Index(torch.cat(states), *(np.array([name for part in one for name in part], object) for one in names))


def unit(states: torch.Tensor) -> torch.Tensor:
    """(N, d) vectors brought to length 1, float32."""
    return torch.nn.functional.normalize(states.float(), dim=-1)


def shapeland() -> list[str]:
    """Sentences of the world: a caption and a question for each of some pictures."""
    return [*world.captions(world.sample_scenes(48, 0)), *world.sample(48, 0).questions.text]


def identity(mllm, prompt) -> list[Identity]:
    """A word that is read by itself finds itself in the index, and nothing nearer."""
    sentences = [*shapeland()[:5], prompt.question]
    texts, far, nearer = index(mllm, sentences), [], []
    for sentence in dict.fromkeys(sentences):
        ids = torch.tensor([mllm.tokenizer(sentence)["input_ids"]], device=mllm.device)
        with record(mllm, *points(mllm)) as seen:
            mllm.logits({"input_ids": ids})
        for k in range(1, ids.shape[1]):
            if int(ids[0, k]) not in mllm.tokenizer.all_special_ids:
                state = torch.stack([seen[layer][0, k] for layer in points(mllm)])  # (layers, d)
                own = texts.only([mllm.tokenizer.decode(ids[0, k]).strip()]).nearest(state)[0]
                far, nearer = [*far, np.abs(1 - own).max()], [*nearer, (texts.nearest(state)[0] - own).max()]
    return [Identity("a word of the index finds itself, with similarity 1", float(max(far)), mllm.slack / 10),
            Identity("nothing lies nearer to a word of the index than itself", float(max(nearer)), mllm.slack / 10)]


@method("contextual-lens", node="model/token/visual-token", paper="Krojer et al. 2026, arXiv:2602.00462", identity=identity,
        cost="one forward pass, once the answer is known, and one a sentence for an index that is not given; no backward pass")
def contextual_lens(mllm, prompt, token: str | None = None, texts: Index | None = None, among: list[str] | None = None) -> LensGrid:
    """The word that each image token lies nearest to, layer by layer, among words in their sentences.

    token: the word to follow; by itself the first word of the model's answer.  texts: what `index` made; by itself made anew.
    among: the only words that compete, such as all colours; by itself all of the index.
    Returns a LensGrid of (layers + 1, rows, columns). Its numbers are cosine similarities to the nearest such word, 0 where that is
    negative or the index does not hold the word; they do not add up to 1.  Raises Refusal when no word of `among` is in the index.
    """
    target, before = mllm.target(prompt, token), mllm.passes
    texts = index(mllm) if texts is None else texts
    word, layers, own = mllm.tokenizer.decode([target.ids[target.first]]).strip(), points(mllm), prompt.tokens.one.finest()
    rivals, followed = texts if among is None else texts.only(among), texts.only([word])
    if not len(rivals.words):
        raise Refusal(f"No sentence of the index holds any of {', '.join(among)}; make one of sentences that do.")
    with record(mllm, *layers) as seen:
        mllm.logits(prompt.inputs)
    names, near, said = [], [], []
    for layer in layers:
        states = seen[layer][0, prompt.tokens.image]                # (image tokens, d)
        similar, rows = rivals.nearest(states)
        names, near, said = [*names, rivals.words[rows][own]], [*near, similar[own]], [*said, followed.nearest(states)[0][own]]
    return LensGrid(np.stack(names), np.clip(near, 0, 1), np.clip(said, 0, 1), layers, prompt.picture, prompt.tokens.boxes, prompt.question,
                    word, "contextual lens", {"forward_passes": mllm.passes - before, "index": len(texts.words)}, "cosine similarity")
