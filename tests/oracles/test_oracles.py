"""mini_lib against maintained libraries: each pair within its limit, or as far apart as its docstring says."""

import json

import pytest
import torch

from .__main__ import main
from .pairs import Pair, pairs, run, subject


@pytest.fixture(scope="module")
def on(mllm):
    return subject(mllm)


def test_the_plain_functions_are_the_model(on):
    """What libraries are handed is what mini_lib scores, by the picture's pixels, by the merged stream and by patches."""
    wanted = float(on.mllm.score(on.prompt, on.target)[0])
    with torch.no_grad():
        forced = on.of_inputs(**on.mllm.forced(on.prompt, on.target))
        for found in (forced, on.of_stream(on.stream), on.of_patches(torch.ones(1, 8, 8))):
            assert float(found[0]) == pytest.approx(wanted, abs=1e-4)
    assert wanted < -3, "the answer must not be sure, or every gradient is nearly 0"


@pytest.mark.parametrize("one", pairs(), ids=lambda one: f"{one.library}: {one.ours} and {one.theirs}")
def test_it_is_what_the_library_says(on, one):
    if not one.installed:
        pytest.skip(f"{one.library} is not installed, so {one.ours} is not compared with it: pip install 'mini_lib[compare]'")
    difference, largest = run(one, on)
    assert one.holds(difference), f"{one.says}\n{difference:.2e} apart, at most {one.limit:.0e} and at least {one.differs:g} allowed"
    assert one.differs or one.limit <= 0.01 * largest, f"a limit of {one.limit:.0e} proves nothing of numbers up to {largest:.1e}"


def test_every_pair_says_what_it_compares():
    assert [one for one in pairs() if not one.says.endswith(".")] == []
    assert len({(one.ours, one.library, one.theirs) for one in pairs()}) == len(pairs())


def test_the_table_tells_what_is_missing_and_what_is_broken(monkeypatch, capsys, on):
    told = {"fine": ("numpy", 1.0), "broken": ("numpy", 0.1), "missing": ("nobody_has_this", 1.0)}

    def compare(on):
        """Two numbers."""
        return [2.0, 3.0], [2.0, 3.5]

    made = [Pair(library, name, "theirs", compare, limit) for name, (library, limit) in told.items()]
    monkeypatch.setattr("tests.oracles.pairs.pairs", lambda: made)
    monkeypatch.setattr("tests.oracles.__main__.subject", lambda: on)
    assert main([]) == 1
    lines = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "5.0e-01 |" in lines["fine"] and "5.0e-01 **broken**" in lines["broken"] and "not installed" in lines["missing"]
    assert main(["--json"]) == 1
    assert [row["holds"] for row in json.loads(capsys.readouterr().out)] == [True, False, None]
