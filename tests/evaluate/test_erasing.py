"""Sufficiency and comprehensiveness: by hand on an additive scorer, for patches, words and both."""

import numpy as np
import pytest

from mini_lib import world
from mini_lib.evaluate import erase
from mini_lib.refusal import Refusal
from tests.evaluate.toys import Toy

SMALL = np.random.default_rng(1).permutation((np.arange(16) - 5.0) / 20).reshape(4, 4)       # they sum to 2
WORDS = np.array([0.3, -0.1, 0.2])                               # they sum to 0.4


def toy():
    return Toy(SMALL, WORDS)


def test_patches_alone_by_hand():
    m = toy()
    result = erase(m, m.prompt(), None, patches=SMALL[None], cover="black", shares=(0.1, 0.5))
    top = np.sort(SMALL.ravel())[::-1]
    sums = np.array([top[:2].sum(), top[:8].sum()])              # 10 % of 16 patches are 2, a half are 8
    assert result.full == pytest.approx(np.exp(2.4))
    assert result.without[0] == pytest.approx(np.exp(2.4 - sums)) and result.alone[0] == pytest.approx(np.exp(0.4 + sums))
    assert result.comprehensiveness[0] == pytest.approx(np.exp(2.4) - np.exp(2.4 - sums).mean())
    assert result.sufficiency[0] == pytest.approx(np.exp(2.4) - np.exp(0.4 + sums).mean())


def test_words_alone_by_hand_with_at_least_one_word():
    m = toy()
    result = erase(m, m.prompt(), None, words=WORDS[None], shares=(0.01, 0.5))              # 1 word, 2 words
    assert result.without[0] == pytest.approx(np.exp([2.4 - 0.3, 2.4 - 0.5]))
    assert result.alone[0] == pytest.approx(np.exp([2 + 0.3, 2 + 0.5]))


def test_both_go_together():
    m = toy()
    result = erase(m, m.prompt(), None, SMALL[None], WORDS[None], "black", shares=(0.25,))  # 4 patches and 1 word
    best = np.sort(SMALL.ravel())[-4:].sum() + 0.3
    assert result.without[0, 0] == pytest.approx(np.exp(2.4 - best)) and result.alone[0, 0] == pytest.approx(np.exp(best))


def test_several_explanations_are_those_of_one_at_a_time():
    m, rng = toy(), np.random.default_rng(0)
    maps, words = rng.random((4, 4, 4)), rng.random((4, 3))
    many = erase(m, m.prompt(), None, maps, words, "black")
    for i in range(4):
        one = erase(m, m.prompt(), None, maps[i:i + 1], words[i:i + 1], "black")
        assert many.without[i] == pytest.approx(one.without[0]) and many.alone[i] == pytest.approx(one.alone[0])


def test_the_true_order_beats_all_others_and_the_reverse_is_the_worst():
    m, rng = toy(), np.random.default_rng(0)
    result = erase(m, m.prompt(), None, np.concatenate([[SMALL, -SMALL], rng.random((40, 4, 4))]), cover="black")
    assert result.comprehensiveness.argmax() == result.sufficiency.argmin() == 0
    assert result.comprehensiveness.argmin() == result.sufficiency.argmax() == 1


def test_a_constant_explanation_scores_as_random_ones_do():
    m, rng = toy(), np.random.default_rng(0)
    flat = [erase(m, m.prompt(), None, np.ones((1, 4, 4)), cover="black", seed=seed) for seed in range(150)]
    noise = erase(m, m.prompt(), None, rng.random((150, 4, 4)), cover="black")
    spread = noise.comprehensiveness.std() / np.sqrt(150)
    assert np.mean([one.comprehensiveness for one in flat]) == pytest.approx(noise.comprehensiveness.mean(), abs=5 * spread)
    assert np.std([one.comprehensiveness for one in flat]) > 0


def test_it_costs_the_passes_it_says():
    for given, explanations in ((dict(patches=SMALL[None]), 1), (dict(words=np.ones((3, 3))), 3)):
        m = toy()
        assert erase(m, m.prompt(), None, **given).passes == m.passes == 1 + 2 * explanations * 5


def test_what_does_not_fit_is_refused():
    m = toy()
    for given, match in ((dict(), "nothing to judge"), (dict(words=np.ones((1, 4))), "3 words"),
                         (dict(words=np.full((1, 3), np.nan)), "not finite"), (dict(patches=np.ones((1, 2, 2))), "do not fit"),
                         (dict(patches=SMALL[None], words=np.ones((2, 3))), "one of each"),
                         (dict(patches=SMALL[None], shares=(0, 0.5)), "between 0 and 1"),
                         (dict(patches=SMALL[None], shares=()), "between 0 and 1")):
        with pytest.raises(Refusal, match=match):
            erase(m, m.prompt(), None, **given)


def test_on_the_model_the_true_patches_and_words_beat_the_others(mllm):
    gained = []
    for sample in world.sample(10, 21, kinds=("color",), objects=(2, 4)):
        prompt = mllm.prompt(sample.picture, sample.question)
        mask, before = sample.patches.astype(float), mllm.passes
        words = np.zeros(len(prompt.tokens.words))
        words[list(sample.words)] = 1
        target = mllm.target(prompt, sample.answer)
        pictures = erase(mllm, prompt, target, patches=np.stack([mask, 1 - mask]), shares=(0.1, 0.2))
        texts = erase(mllm, prompt, target, words=np.stack([words, 1 - words]), shares=(1 / 3,))
        assert mllm.passes - before == pictures.passes + texts.passes == 9 + 5
        gained.append([np.diff(one)[0] for result in (pictures, texts) for one in (result.sufficiency, -result.comprehensiveness)])
    # Without two thirds of its words `tiny` understands no question, whichever they are: sufficiency of words says nothing.
    sufficiency, comprehensiveness, word_sufficiency, word_comprehensiveness = np.mean(gained, 0)
    assert abs(word_sufficiency) < 0.1, np.mean(gained, 0)
    assert min(sufficiency, comprehensiveness, word_comprehensiveness) > 0.1, np.mean(gained, 0)
