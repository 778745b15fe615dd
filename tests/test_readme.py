"""What the README promises is run: its example, its commands, its version."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from mini_lib import __version__, taxonomy, world
from mini_lib.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A folder with the picture that the example speaks of."""
    monkeypatch.chdir(tmp_path)
    sample = next(s for s in world.sample(60, 0, kinds=("color",)) if s.question == "what color is the star ?")
    sample.picture.save("scene.png")
    return sample


def test_the_ten_lines_run_and_answer(scene, capsys):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[0] == scene.answer
    assert Path("map.png").exists()


def test_the_shell_commands_run(scene):
    block = next(b for b in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "mini-lib" in b)
    commands = [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("mini-lib")]
    assert len(commands) >= 5
    for command in commands:
        assert main(command[1:]) == 0, command


def test_every_version_is_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__ == taxonomy.load().version
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_address_is_set_in_one_place_only():
    """Generated files repeat it, so that they can be read by themselves; nothing written by hand does."""
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"].removeprefix("https://")
    generated = ("chapters.lock", *(f"taxonomy/{page}" for page in ("index.md", "works.md", "coverage.md", "reviewers.md", "nodes/")))
    files = [f for f in ROOT.rglob("*") if f.suffix in (".py", ".md", ".yml", ".yaml", ".toml", ".cff", ".bib")
             and not {".venv", "_build", ".git"} & set(f.relative_to(ROOT).parts)]
    hits = [str(f.relative_to(ROOT)) for f in files if address in f.read_text()]
    assert [h for h in hits if not h.startswith(generated)] == ["_config.yml"]
