"""Each exercise is open as printed, and solved by the solution that the chapter prints."""

import ast
import json
import re

import pytest

from mini_lib.book import lock

CHAPTERS = {slug: path for slug, path in lock.find().items() if "/" in slug}       # those of the tree; other notebooks have no exercises
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)
GROW = "add", "append", "extend", "insert", "setdefault", "update"


def names(statement) -> tuple[set, set]:
    """Which of a notebook's names a statement makes or changes, and which it reads; those of its own loops and functions left out."""
    makes, reads, own = set(), set(), set()
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            makes.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, (ast.FunctionDef, ast.Lambda)):
            own |= {arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
            if isinstance(node, ast.FunctionDef):
                makes.add(node.name)
                own |= stored(node)
        elif isinstance(node, (ast.For, ast.comprehension)):
            own |= stored(node.target)
        elif isinstance(node, ast.Name):
            (makes if isinstance(node.ctx, ast.Store) else reads).add(node.id)
        elif (isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store)
              or isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in GROW):
            base = node.func if isinstance(node, ast.Call) else node
            while isinstance(base, (ast.Attribute, ast.Subscript)):
                base = base.value
            if isinstance(base, ast.Name):
                makes.add(base.id)
    return makes - own, reads - own


def stored(node) -> set:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def needed(cells: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The cells with the statements alone that an exercise or its solution rests on: the notebook as a whole is run elsewhere."""
    wanted, kept = set(), []
    for kind, text in reversed(cells):
        if kind == "markdown":
            text = "".join(SOLUTION.findall(text))
            for statement in ast.parse(text).body:
                wanted |= names(statement)[1]
        else:
            lines = []
            for statement in reversed(ast.parse(text).body):
                makes, reads = names(statement)
                if "def check_" in text or makes & wanted:
                    wanted |= reads
                    lines.insert(0, ast.unparse(statement))
            text = "\n".join(lines)
        kept.insert(0, (kind, text))
    return kept


@pytest.mark.parametrize("slug", CHAPTERS)
def test_the_printed_solution_of_each_exercise_passes_its_own_check(slug, monkeypatch, capsys):
    monkeypatch.chdir(CHAPTERS[slug].parent)
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(CHAPTERS[slug].read_text())["cells"]]
    state, solved, check = {"display": print}, 0, None
    for kind, text in needed(cells):
        exec(compile(text, slug, "exec"), state)
        if kind == "code" and (found := re.findall(r"^def (check_\w+)\(", text, re.MULTILINE)):
            check = state[found[0]]
            assert check().endswith("not done yet")
        elif kind == "markdown" and text:
            assert "right" in check(), f"{slug}: this solution does not pass:\n{text}"
            solved += 1
    assert solved >= 2, "a chapter has at least two exercises"
