"""Each exercise is open as printed, and solved by the solution that the chapter prints."""

import json
import re

import pytest

from mini_lib.book import lock

CHAPTERS = {slug: path for slug, path in lock.find().items() if "/" in slug}       # those of the tree; other notebooks have no exercises
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("slug", CHAPTERS)
def test_the_printed_solution_of_each_exercise_passes_its_own_check(slug, monkeypatch, capsys):
    monkeypatch.chdir(CHAPTERS[slug].parent)
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(CHAPTERS[slug].read_text())["cells"]]
    last = max(i for i, (kind, text) in enumerate(cells) if kind == "markdown" and SOLUTION.search(text))
    state, solved, check = {"display": print}, 0, None
    for kind, text in cells[:last + 1]:
        if kind == "code":
            # The results need many pictures; the exercises work on any number.
            exec(compile(text.replace("world.sample(60,", "world.sample(6,"), slug, "exec"), state)
            found = re.findall(r"^def (check_\w+)\(", text, re.MULTILINE)
            if found:
                check = state[found[0]]
                assert check().endswith("not done yet")
        elif match := SOLUTION.search(text):
            exec(compile(match[1], slug, "exec"), state)
            assert "right" in check(), f"{slug}: the solution before {text[-40:]!r} does not pass"
            solved += 1
    assert solved >= 2, "a chapter has at least two exercises"
