"""Modality shares: tasks whose shares and interaction are known, games worked by hand, and the planted prior of `tiny`."""

from itertools import permutations
from math import isnan, log

import numpy as np
import pytest
import torch
from PIL import Image

from mini_lib import games, world
from mini_lib.evaluate import redrawn
from mini_lib.model.architecture.analysis.feature_attribution.modality_shares import identity, modality_shares
from mini_lib.refusal import Refusal
from mini_lib.world.plants import ask_absent
from tests.evaluate.toys import COEFFICIENTS, WORDS, Toy

ONE = [np.arange(16)]                            # the whole picture as one region


class Spender(Toy):
    """The toy, with the count of what methods say they spent."""

    backward_passes = 0

    def spent(self, before):
        return {"forward_passes": self.passes - before[0], "backward_passes": 0}


def task(none, one, both):
    """A question of one bit and a picture of one bit: log-probability of the right answer with so many of the two there."""
    return Spender(np.full((4, 4), 1 / 16), [1, 0, 0], lambda total: torch.from_numpy(np.interp(total, [0, 1, 2], [none, one, both])))


# What an observer who knows the rule, and guesses evenly what it cannot see, says of the right answer.
TASKS = {"name both bits": (task(-2 * log(2), -log(2), 0), 0.0),
         "the xor of the bits": (task(-log(2), -log(2), 0), log(2)),
         "the bit that both hold": (task(-log(2), 0, 0), -log(2))}


@pytest.mark.parametrize("name", TASKS)
def test_the_interaction_tells_apart_what_the_shares_call_even(name):
    toy, interaction = TASKS[name]
    found = modality_shares(toy, toy.prompt(), regions=ONE, cover="black")
    assert found.text_share == pytest.approx(0.5, abs=1e-9)
    assert found.interaction == pytest.approx(interaction, abs=1e-9)
    assert found.text_alone == pytest.approx(found.picture_alone, abs=1e-9)
    total = found.values.sum() + sum(value for _, value in found.words)
    assert total == pytest.approx(found.measured["gap"]) == pytest.approx(found.text_alone + found.picture_alone + interaction)
    assert found.interaction_share == pytest.approx(abs(interaction) / (abs(interaction) + 2 * abs(found.text_alone)), abs=1e-9)


def test_what_is_always_lost_together_has_no_share():
    toy = task(0, -1, 0)                         # one alone is worse than none: every Shapley value is 0
    found = modality_shares(toy, toy.prompt(), regions=ONE, cover="black")
    assert isnan(found.text_share) and found.interaction == pytest.approx(2) and found.interaction_share == pytest.approx(0.5)
    assert found.to_dict()["text_share"] is None


@pytest.mark.parametrize("exact", [True, False])
def test_an_additive_scorer_gives_its_coefficients_back(exact):
    toy = Spender()
    found = modality_shares(toy, toy.prompt(), cover="black", exact=exact)
    blocks = COEFFICIENTS.reshape(2, 2, 2, 2).sum((1, 3))                   # three words: 2 x 2 regions
    assert [value for _, value in found.words] == pytest.approx(WORDS)
    assert found.measured["regions"] == pytest.approx(blocks.ravel())
    assert found.values.reshape(2, 2, 2, 2).sum((1, 3)) == pytest.approx(blocks)
    assert found.text_share == pytest.approx(6 / (6 + abs(blocks).sum())) and found.interaction == pytest.approx(0, abs=1e-9)
    assert (found.text_alone, found.picture_alone) == (pytest.approx(WORDS.sum()), pytest.approx(COEFFICIENTS.sum()))
    assert found.measured["forward_passes"] == toy.passes == 2 ** 7 + 2 and found.measured["text_share_error"] == 0


@pytest.mark.parametrize("side, share", [("question", 1), ("picture", 0)])
def test_a_scorer_that_looks_at_one_side_only_gives_it_all(side, share):
    toy = Spender(COEFFICIENTS * (side == "picture"), WORDS * (side == "question"), lambda total: total ** 3 / 100)
    found = modality_shares(toy, toy.prompt(), cover="black", exact=True)
    assert found.text_share == pytest.approx(share) and found.interaction == pytest.approx(0, abs=1e-9)


def test_words_and_regions_that_bend_together_are_shared_by_the_definition():
    """Against the mean over all orders of arrival, which is Shapley's own definition."""
    toy = Spender(bend=lambda total: (total / 10).tanh() * total)
    found = modality_shares(toy, toy.prompt(), regions=[np.arange(8), np.arange(8, 16)], cover="black", exact=True)
    amounts = [*WORDS, COEFFICIENTS[:2].sum(), COEFFICIENTS[2:].sum()]
    worth, phi = (lambda total: np.tanh(total / 10) * total), np.zeros(5)
    for order in permutations(range(5)):
        for k, player in enumerate(order):
            before = sum(amounts[i] for i in order[:k])
            phi[player] += (worth(before + amounts[player]) - worth(before)) / 120
    assert [*(value for _, value in found.words), *found.measured["regions"]] == pytest.approx(phi, rel=1e-3)
    assert found.text_share == pytest.approx(abs(phi[:3]).sum() / abs(phi).sum())


def test_the_error_of_the_share_shrinks_with_the_samples_and_covers_the_exact_share():
    rng, n = np.random.default_rng(0), 11
    alone, threes = rng.normal(size=n), rng.normal(size=(n, n, n)) / 4       # each set with its complement: pairs alone would be exact

    def value(sets):
        x = sets.astype(float)
        return x @ alone + np.einsum("ki,kj,kl,ijl->k", x, x, x, threes)

    def share(phi):
        return np.abs(phi[..., :5]).sum(-1) / np.abs(phi).sum(-1)

    exact, errors = share(games.shared(value, n, 0, exact=True)[0]), {}
    for samples in (64, 512):
        runs = [games.shared(value, n, samples, exact=False, seed=seed) for seed in range(20)]
        told = np.array([share(games.redrawn(sets, scores, 100)).std() for _, sets, scores in runs])
        off = np.array([share(phi) for phi, _, _ in runs]) - exact
        assert (abs(off) < 3 * told).mean() >= 0.9
        errors[samples] = told.mean()
        assert abs(off).mean() > 0.2 * told.mean()
    assert 0 < errors[512] < errors[64] / 2 < 0.1, errors


# ---------------------------------------------------------------- on the model

@pytest.fixture(scope="module")
def samples():
    return world.sample(5, 21, kinds=("color",), objects=(2, 4))


@pytest.fixture(scope="module")
def prompt(mllm, samples):
    return mllm.prompt(samples[0].picture, samples[0].question)


@pytest.mark.parametrize("seed", [None, 0])
def test_its_identities_hold_on_the_trained_and_on_a_random_model(mllm, prompt, seed):
    model = mllm if seed is None else redrawn(mllm, seed)
    assert [str(one) for one in identity(model, prompt) if not one.passed] == []


def test_a_prior_needs_no_picture_and_a_question_about_an_object_does(mllm, samples):
    """What `tiny` says of a shape that is not there was planted as a prior of the words: the question alone brings it all."""
    absent = ask_absent(samples.scenes)
    found = {name: [modality_shares(mllm, mllm.prompt(sample.picture, text), samples=36) for sample, text in zip(samples, texts)]
             for name, texts in (("there", [sample.question for sample in samples]), ("absent", absent.text))}
    alone = {name: np.mean([one.text_alone / one.measured["gap"] for one in results]) for name, results in found.items()}
    together = {name: np.mean([one.interaction_share for one in results]) for name, results in found.items()}
    assert alone["absent"] > 0.9 and alone["there"] < 0.75, alone
    assert together["there"] > together["absent"] + 0.1, together


def test_it_reads_and_draws(mllm, prompt):
    found = modality_shares(mllm, prompt, samples=36)
    assert "% text" in repr(found) and "interaction" in repr(found)
    assert [ax.get_title() != "" for ax in found.plot(np.eye(64, dtype=bool)).axes] == [True] * 3
    shown = found.to_dict()
    assert shown["text_share"] == pytest.approx(found.text_share, rel=1e-3) and np.allclose(shown["game"], found.game, rtol=1e-4)
    assert 0 < found.measured["text_share_error"] < 0.5 and found.measured["forward_passes"] == 38


@pytest.mark.parametrize("arguments, say", [({"regions": []}, "one or more"), ({"regions": [[0, 1], [1, 2]]}, "in two of them"),
                                            ({"samples": 20}, "give samples=32"), ({"cover": "grey"}, "no cover 'grey'"),
                                            ({"cover": Image.new("RGB", (8, 8))}, "same size")])
def test_what_it_cannot_share_is_refused(mllm, prompt, arguments, say):
    with pytest.raises(Refusal, match=say):
        modality_shares(mllm, prompt, **arguments)
