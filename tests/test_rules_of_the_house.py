"""Who may import whom, what is fetched, and what is never done."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "mini_lib").rglob("*.py"))


def imports(path):
    """Full names of what a module imports from mini_lib."""
    package = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[:-node.level] if node.level else ()
            name = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("mini_lib")}


METHODS = re.compile(r"mini_lib\.(data|model|training_inference)(\.|$)")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_registry_may_reach_methods_and_methods_never_reach_each_other(path):
    reached = {name for name in imports(path) if METHODS.match(name)}
    if path.name != "__init__.py":
        assert not reached, f"{path.name} imports {reached}"


def test_the_world_knows_nothing_of_models():
    for path in (ROOT / "mini_lib" / "world").glob("*.py"):
        assert "torch" not in path.read_text() and all(".world" in name for name in imports(path)), path.name


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_sitting(path):
    assert path.read_text().count("\n") <= 320


def test_nothing_unsafe_is_called():
    unsafe = re.compile(r"trust_remote_code\s*=\s*True|torch\.load\(|pickle|yaml\.load\(|\beval\(|\bexec\(|os\.system|shell=True")
    for path in MODULES:
        hits = [m for m in unsafe.findall(path.read_text()) if m != "eval("]
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
                 and isinstance(n.func, ast.Name) and n.func.id in ("eval", "exec")]
        assert not hits and not calls, path


def test_importing_the_library_fetches_nothing_and_is_light():
    code = "import sys, mini_lib, mini_lib.taxonomy, mini_lib.book; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
