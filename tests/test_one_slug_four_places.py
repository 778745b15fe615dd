"""A leaf of the taxonomy, its code, its chapter and its test share one slug; nobody can add one without the others.

A leaf with many methods is a folder with a module for each, and so may be its tests; it still has one chapter.
"""

from pathlib import Path

from mini_lib import taxonomy
from mini_lib.registry import BRANCHES, methods

ROOT = Path(__file__).resolve().parents[1]


def python_slugs(base, prefix):
    """mini_lib/data/input_output.py -> data/input-output; what lies in a leaf's own folder -> the leaf"""
    files = [f for branch in BRANCHES for f in (ROOT / base / branch).rglob(f"{prefix}*.py") if f.name != "__init__.py"]
    slugs = {str(f.relative_to(ROOT / base).with_name(f.stem.removeprefix(prefix))).replace("_", "-") for f in files}
    return {next((leaf for leaf in runnable_slugs() if slug.startswith(f"{leaf}/")), slug) for slug in slugs}


def runnable_slugs():
    return {node.slug for node in taxonomy.load().nodes if node.runnable}


def chapter_slugs():
    folders = [ROOT / "chapters" / branch.replace("_", "-") for branch in BRANCHES]
    return {str(f.relative_to(ROOT / "chapters").with_suffix("")) for folder in folders for f in folder.rglob("*.ipynb")}


def test_nodes_code_chapters_and_tests_match_one_to_one():
    runnable = runnable_slugs()
    assert runnable, "no node is runnable"
    assert python_slugs("mini_lib", "") == runnable
    assert chapter_slugs() == runnable
    assert python_slugs("tests", "test_") == runnable


def test_every_method_belongs_to_a_runnable_node_and_every_runnable_node_has_a_method():
    assert {m.node for m in methods().values()} == runnable_slugs()


def test_every_method_module_says_when_it_misleads_and_names_its_source():
    import importlib
    for method in methods().values():
        text = importlib.import_module(method.explain.__module__).__doc__
        assert "Misleads when" in text and "Source" in text, method.slug
        assert "arXiv:" in method.paper and "pass" in method.cost
