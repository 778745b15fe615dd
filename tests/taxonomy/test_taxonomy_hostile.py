"""Files that are broken on purpose: each planted fault is named with its line, and nothing else is reported."""

import re
import shutil
from pathlib import Path

import pytest

from mini_lib.taxonomy import load
from mini_lib.taxonomy.strict import Malformed, read_yaml
from mini_lib.taxonomy.validate import check_work, read_sound

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "hostile"

# file: the line and words of every fault in it
HOSTILE = {
    # no YAML, or YAML that means something else than it shows
    "nodes-unclosed.yaml": [(36, "is not valid YAML")],
    "nodes-tab.yaml": [(34, "tab character")],
    "nodes-twice.yaml": [(10, "sources.E1 stands here a second time; the first is in line 9"),
                         (36, "nodes.1.label stands here a second time"), (62, "nodes.2.slug stands here a second time")],
    "nodes-look-alikes.yaml": [(4, "scheme.version must be text, but YAML reads it as 0.2 (float)"), (5, "(date)"),
                               (7, "2412.02104 (float)"), (32, "34 (int)"), (34, "False (bool)"), (35, "None (NoneType)"),
                               (49, "runnable must be yes or no"), (52, "nodes.2.label")],
    "nodes-aliases.yaml": [(16, "has an anchor (&none)"), (22, "by an alias (*)"), (36, "has a tag"), (52, "The field name '<<'")],
    "nodes-unseen.yaml": [(34, "(U+202E)"), (36, "(U+001B)"), (52, "(U+200B)"), (54, "holds a line break")],
    "nodes-two-documents.yaml": [(68, "A second document")],
    "nodes-a-list.yaml": [(1, "must be a mapping")],
    "nodes-empty.yaml": [(1, "must be a mapping")],
    "nodes-latin1.yaml": [(34, "0xe8 is not UTF-8")],
    "nodes-binary.yaml": [(34, "zero byte")],
    "nodes-control.yaml": [(34, "YAML forbids (U+0007)")],
    "nodes-sound-crlf.yaml": [],
    # the wrong form
    "nodes-form.yaml": [(32, "MX-2: id"), (33, "MX-2: slug"), (34, "MX-2: label"), (37, "'see' is a required property"),
                        (38, "'maybe' is not one of"), (43, "'sure' is not one of"), (48, "'tight' is not one of"),
                        (50, "'slug' is a required property"), (59, "'colour' was unexpected")],
    # what a schema cannot say
    "nodes-circle.yaml": [(39, "MX-0002, MX-0003: following `broader` from here leads back"), (39, "never reaches the root"),
                          (51, "does not follow the tree"), (57, "never reaches the root")],
    "nodes-dangling.yaml": [(37, "points to MX-0098"), (40, "points to MX-0099"), (43, "names E9"), (48, "names R9"),
                            (57, "points to MX-0097"), (57, "never reaches the root"), (58, "points to the node itself")],
    "nodes-names.yaml": [(50, "its id"), (51, "its slug"), (52, "its name 'BRIGHTNESS'"), (65, "its Chinese name"),
                         (65, "its Korean name"), (2, "S1: it covers MX-0003, which does not exist")],
    "nodes-retired.yaml": [(41, "without a deprecation"), (60, "points to the node itself"), (60, "0.3.0, later than"),
                           (14, "lamp: it is filed at MX-0002 (Light), which is retired"),
                           (2, "S1: it covers MX-0003 (Sound), where no work")],
    "nodes-roots.yaml": [(5, "is no date"), (39, "The tree has 2 roots"), (60, "0.10.0, later than"), (2, "after the release")],
    "nodes-claims.yaml": [(19, "without a usage_note"), (24, "yet no source shows it"), (30, "yet it is runnable"),
                          (42, "it is recalled"), (60, "it is ours")],
    "works-places.yaml": [(14, "MX-0099, which does not exist"), (15, "which is a heading"), (17, "at MX-0002 twice")],
    "works-twice.yaml": [(16, "its key"), (17, "its title"), (23, "its arxiv"), (26, "its doi")],
    "works-look-alikes.yaml": [(2, "31 (int)"), (6, "2024 (int)"), (8, "must be yes or no"), (9, "(float)"), (10, "True (bool)")],
    "works-form.yaml": [(2, "'venue' is a required property"), (2, "key: 'Lamp!'"), (3, "title: ''"), (4, "'stars' was unexpected"),
                        (5, "authors: []"), (7, "year: '24'"), (9, "arxiv: '2413.00001'"), (10, "javascript:alert(1)"), (11, "doi"),
                        (12, "'smell' is not one of"), (14, "<script>"), (16, "'likes' is not one of")],
    "works-claims.yaml": [(2, "no arxiv, doi or url"), (4, "'Ada Lovelace; Alan Turing' holds a semicolon"),
                          (6, "after the release"), (10, "Name the record"), (12, "which was not seen"), (12, "has 31 words")],
    "works-too-young.yaml": [(6, "posted in 2024"), (6, "the year is 2026, after that of its venue, 'CVPR 2025'")],
    "works-not-entries.yaml": [(3, "must be text")],
    "works-sound-strings.yaml": [],      # markup, TeX and formulas are text like any other; the exports escape them
    "protocol-places.yaml": [(2, "is no date"), (2, "it covers MX-0099"), (2, "it covers MX-0001 (Everything)")],
    "protocol-late.yaml": [(2, "after the release of 2026-11-21")],
    "protocol-form.yaml": [(2, "'Z1' does not match")],
}

# Broken in their bytes: made here, since editors, git and other tests take every stored file for UTF-8.
BYTES = {
    "nodes-latin1.yaml": lambda raw: raw.replace(b"label: Light", "label: Lumi\u00e8re".encode("latin-1"), 1),
    "nodes-binary.yaml": lambda raw: raw.replace(b"label: Light", b"label: Li\0ght", 1),
    "nodes-control.yaml": lambda raw: raw.replace(b"label: Light", b"label: Li\7ght", 1),
    "nodes-sound-crlf.yaml": lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"),
}


def planted(root, name="sound"):
    """A repository with the sound files, one of them replaced by a broken one."""
    shutil.copytree(ROOT / "taxonomy/schema", root / "taxonomy/schema")
    for kind in ("nodes", "works", "protocol"):
        stored = name if name.startswith(kind) and name not in BYTES else f"sound-{kind}.yaml"
        shutil.copy(HERE / stored, root / "taxonomy" / f"{kind}.yaml")
    if name in BYTES:
        path = root / "taxonomy/nodes.yaml"
        path.write_bytes(BYTES[name](path.read_bytes()))
    return root


@pytest.mark.parametrize("name", HOSTILE)
def test_every_planted_fault_is_named_with_its_line_and_nothing_else(tmp_path, name):
    taxonomy, problems = read_sound(planted(tmp_path, name))
    wanted = list(HOSTILE[name])
    for problem in problems:
        line = int(re.match(r"taxonomy/\w+\.yaml, line (\d+): ", problem)[1])
        hit = next((fault for fault in wanted if fault[0] == line and fault[1] in problem), None)
        assert hit, f"not planted: {problem}"
        wanted.remove(hit)
    assert not wanted, f"not found: {wanted}"


def test_no_hostile_file_is_forgotten():
    sound = {"sound-nodes.yaml", "sound-works.yaml", "sound-protocol.yaml"}
    assert {path.name for path in HERE.glob("*.yaml")} == {*HOSTILE, *sound} - {*BYTES}


def test_the_sound_files_are_sound(tmp_path):
    taxonomy, problems = read_sound(planted(tmp_path))
    assert problems == [] and repr(taxonomy) == "Taxonomy(MX 0.2.0, 3 nodes, 1 works)"


@pytest.mark.parametrize("text", ["[" * 200_000, "a: " + "[" * 200_000 + "]" * 200_000, "{a: " * 50_000, "? " * 50_000, "- " * 50_000])
def test_a_file_of_brackets_is_refused_and_does_not_crash_python(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(Malformed, match="line 1: It is not valid YAML: more than 30 levels"):
        read_yaml(path)


def test_an_alias_bomb_is_refused_at_its_first_alias(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)))
    with pytest.raises(Malformed, match="line 2: a1.0 repeats another part by an alias"):
        read_yaml(path)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name.startswith("nodes-")])
def test_loading_a_broken_file_gives_a_sentence_or_a_taxonomy_but_no_accident(tmp_path, name):
    try:
        load(planted(tmp_path, name) / "taxonomy/nodes.yaml")
    except ValueError as error:
        assert "nodes.yaml, line" in str(error) or "is missing. Add it." in str(error)


# ---------------------------------------------------------------- a proposed work alone

ENTRY = (HERE / "sound-works.yaml").read_text(encoding="utf-8")
ALONE = re.sub(r"^ {4}", "", ENTRY.split("works:\n")[1].replace("  - key", "    key"), flags=re.M)


def proposed(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("text", [ENTRY, ALONE])
def test_a_new_work_may_be_proposed_with_or_without_the_word_works(tmp_path, text):
    text = text.replace('"lamp"', '"torch"').replace("On lamps", "On torches").replace("2412.00001", "2412.00002")
    assert check_work(proposed(tmp_path, text), planted(tmp_path)) == []


@pytest.mark.parametrize("text, line", [(ENTRY, 2), (ALONE, 1)])
def test_a_work_that_is_listed_already_is_told_so_at_its_own_line(tmp_path, text, line):
    path = proposed(tmp_path, text)
    problems = check_work(path, planted(tmp_path))
    assert len(problems) == 3 and problems[0].startswith(f"{path}, line {line}: lamp: its key 'lamp' is already that of lamp")


@pytest.mark.parametrize("old, new, line, said", [
    ('year: "2024"', "year: 2024", 5, "year must be text"), ("introduces", "likes", 13, "'likes' is not one of"),
    ("MX-0002", "MX-0099", 13, "MX-0099, which does not exist"), ("key:", "name:", 1, "'key' is a required property"),
])
def test_a_faulty_proposal_is_told_line_and_reason(tmp_path, old, new, line, said):
    text = ALONE.replace("On lamps", "On torches").replace("2412.00001", "2412.00002").replace('"lamp"', '"torch"')
    path = proposed(tmp_path, text.replace(old, new, 1))
    problems = check_work(path, planted(tmp_path))
    assert any(said in problem and problem.startswith(f"{path}, line {line}: ") for problem in problems), problems


def test_two_proposals_in_one_file_are_refused(tmp_path):
    text = ENTRY + ENTRY.split("works:\n")[1]
    assert check_work(proposed(tmp_path, text), planted(tmp_path)) == [
        f"{tmp_path / 'mine.yaml'}: it must hold one work. Give each its own file."]


def test_a_proposal_against_a_broken_taxonomy_or_without_a_file_is_refused(tmp_path):
    planted(tmp_path, "nodes-circle.yaml")
    with pytest.raises(ValueError, match="itself is not sound"):
        check_work(proposed(tmp_path, ALONE), tmp_path)
    shutil.copy(HERE / "sound-nodes.yaml", tmp_path / "taxonomy/nodes.yaml")
    with pytest.raises(FileNotFoundError, match="no file .*nope.yaml"):
        check_work(tmp_path / "nope.yaml", tmp_path)
