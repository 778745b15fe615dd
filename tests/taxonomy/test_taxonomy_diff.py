"""Two versions compared: every kind of change is said, the version that it asks for, and the changelog is held to it."""

import copy as copying
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from mini_lib.taxonomy.diff import KINDS, changes, diff, least, level_of, read_version
from mini_lib.taxonomy.release import agrees_with_releases, freeze

HERE = Path(__file__).parent / "hostile"
OLD = read_version(HERE / "sound-nodes.yaml") | yaml.safe_load((HERE / "sound-works.yaml").read_text(encoding="utf-8"))


def changed(edit):
    """The old version with one edit: `edit(data, its nodes by number, its one work)`."""
    new = copying.deepcopy(OLD)
    edit(new, new["nodes"], new["works"][0])
    return new


def add_node(data, nodes, work):
    nodes.append({**copying.deepcopy(nodes[2]), "id": "MX-0004", "label": "Smell", "slug": "smell"})


def retire(data, nodes, work):
    nodes[2] |= {"status": "deprecated", "deprecation": {"version": "1.0.0", "reason": "Too loud.", "replaced_by": ["MX-0002"]}}


def add_work(data, nodes, work):
    data["works"].append({**copying.deepcopy(work), "key": "torch", "title": "On *torches*"})


EDITS = {
    # name: (edit, level, the lines)
    "added": (add_node, "MINOR", ["- Added: MX-0004 (Smell), below MX-0001 (Everything)."]),
    "retired": (retire, "MAJOR", ["- Retired: MX-0003 (Sound). Too loud. Use instead: MX-0002 (Light)."]),
    "gone": (lambda data, nodes, work: nodes.pop(), "MAJOR", ["- Gone, which must not be: MX-0003 (Sound). Put it back and retire it."]),
    "renamed": (lambda data, nodes, work: nodes[2].update(label="Noise"), "PATCH", ["- Renamed: MX-0003 (Noise), before: Sound."]),
    "moved": (lambda data, nodes, work: nodes[2].update(broader=["MX-0002"]), "MAJOR",
              ["- Moved: MX-0003 (Sound) is now below MX-0002 (Light), before: below MX-0001 (Everything)."]),
    "redefined": (lambda data, nodes, work: nodes[2].update(definition="What is loud."), "MAJOR",
                  ["- Redefined: MX-0003 (Sound). Now: What is loud. Before: What can be heard."]),
    "scope": (lambda data, nodes, work: nodes[1].update(scope={"includes": ["lamps", "stars"], "excludes": []}), "MAJOR",
              ["- Scope changed: MX-0002 (Light); now includes: stars; no longer excludes: noise (see MX-0003)."]),
    "usage": (lambda data, nodes, work: nodes[2].update(usage="discouraged"), "MAJOR",
              ["- Filing changed: MX-0003 (Sound) is now discouraged, before: assign."]),
    "status": (lambda data, nodes, work: nodes[2].update(status="stable"), "PATCH",
               ["- Text and evidence changed: MX-0003 (Sound): status stable, before: draft."]),
    "other": (lambda data, nodes, work: [node.update(strengths=["Quick."]) for node in nodes[1:]], "PATCH",
              ["- Text and evidence changed: strengths of MX-0002 (Light), MX-0003 (Sound)."]),
    "work added": (add_work, "PATCH", ["- Works: 1 added, 0 removed, 0 filed elsewhere, 0 corrected; 2 in all.",
                                       r"- Work added: On \*torches\* (torch, 2024) at MX-0002, introduces."]),
    "work removed": (lambda data, nodes, work: data["works"].clear(), "PATCH",
                     ["- Works: 0 added, 1 removed, 0 filed elsewhere, 0 corrected; 0 in all.",
                      "- Work removed: On lamps (lamp, 2024), before at MX-0002, introduces."]),
    "work refiled": (lambda data, nodes, work: work["filed"][0].update(node="MX-0003", role="applies"), "PATCH",
                     ["- Works: 0 added, 0 removed, 1 filed elsewhere, 0 corrected; 1 in all.",
                      "- Work filed elsewhere: On lamps (lamp, 2024) at MX-0003, applies; before at MX-0002, introduces."]),
    "work corrected": (lambda data, nodes, work: work.update(venue="NeurIPS 2024"), "PATCH",
                       ["- Works: 0 added, 0 removed, 0 filed elsewhere, 1 corrected; 1 in all."]),
    "nothing": (lambda data, nodes, work: None, "PATCH", []),
}


@pytest.mark.parametrize("name", EDITS)
def test_each_kind_of_change_is_said_in_one_line_and_has_its_level(name):
    edit, level, lines = EDITS[name]
    found = changes(OLD, changed(edit))
    assert [str(change) for change in found] == lines and level_of(found) == level


def test_a_node_comes_back_into_use():
    assert [str(change) for change in changes(changed(retire), OLD)] == ["- In use again: MX-0003 (Sound)."]


def test_a_new_definition_that_means_the_same_is_wording_only_if_a_person_says_so():
    new = changed(EDITS["redefined"][0])
    found = changes(OLD, new, wording=("MX-0003",))
    assert [str(change) for change in found] == ["- Wording only: MX-0003 (Sound): definition."] and level_of(found) == "PATCH"


def test_the_section_has_all_changes_in_a_fixed_order(tmp_path):
    new = changed(lambda *parts: [edit(*parts) for edit in (add_work, add_node, retire)])
    new["scheme"] |= {"version": "1.0.0", "released": "2027-01-01"}
    (tmp_path / "old.json").write_text(json.dumps(OLD))
    (tmp_path / "new.json").write_text(json.dumps(new))
    text = diff(tmp_path / "old.json", tmp_path / "new.json")
    assert text.startswith("## 1.0.0 (2027-01-01)\n\nSince 0.2.0. The changes ask for MAJOR: version 1.0.0 or higher.\n\n- Retired: ")
    kinds = [line.split(":")[0].removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]
    order = [name for name, _ in KINDS.values()]
    assert len(kinds) == 4 and kinds == sorted(kinds, key=order.index)


@pytest.mark.parametrize("level, version", [("PATCH", "0.9.10"), ("MINOR", "0.10.0"), ("MAJOR", "1.0.0")])
def test_the_least_version_counts_and_does_not_spell(level, version):
    assert least("0.9.9", level) == version


@pytest.mark.parametrize("content, said", [
    ("{", "not valid JSON"), ("[]", "holds no version"), ('{"scheme": {}, "nodes": []}', "holds no version"),
    ('{"scheme": {"version": "x", "released": "y"}, "nodes": []}', "holds no version"),
    ('{"scheme": {"version": "1.0.0", "released": "y"}, "nodes": [{}]}', "holds no version"),
])
def test_what_is_no_version_is_refused(tmp_path, content, said):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_version(tmp_path / "x.json")


# ---------------------------------------------------------------- the changelog is held to it

def repository(root, data, changelog):
    (root / "taxonomy").mkdir(parents=True, exist_ok=True)
    works = {"works": data["works"]}
    dump = lambda value: yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, allow_unicode=True)  # noqa: E731
    (root / "taxonomy/nodes.yaml").write_text(dump({key: value for key, value in data.items() if key != "works"}), encoding="utf-8")
    (root / "taxonomy/works.yaml").write_text(dump(works), encoding="utf-8")
    return list(agrees_with_releases(root, changelog))


FIRST = "## 0.2.0 (2026-11-21)\n\nThe first.\n"


def next_version(version, *edits):
    def edit(data, nodes, work):
        data["scheme"] |= {"version": version, "released": "2027-01-01"}
        for change in edits:
            change(data, nodes, work)
    return changed(edit)


@pytest.fixture
def released(tmp_path):
    repository(tmp_path, OLD, FIRST)
    assert freeze(tmp_path).name == "0.2.0.json"
    return tmp_path


def test_before_the_first_release_there_is_nothing_to_hold_on_to(tmp_path):
    assert repository(tmp_path, OLD, FIRST) == []


def test_a_release_file_is_read_back_as_it_was(released):
    assert read_version(released / "taxonomy/releases/0.2.0.json") == OLD
    assert all(len(line) < 2000 for line in (released / "taxonomy/releases/0.2.0.json").read_text().splitlines())


def test_what_is_released_may_not_change(released):
    assert repository(released, OLD, FIRST) == []
    problem, = repository(released, changed(EDITS["renamed"][0]), FIRST)
    assert "0.2.0 is released, and the data differ from it. Raise scheme.version." in problem


def test_the_section_that_diff_prints_is_accepted_with_prose_between(released):
    new = next_version("0.3.0", add_node, EDITS["renamed"][0])
    repository(released, new, FIRST)
    section = diff(released / "taxonomy/releases/0.2.0.json", released / "taxonomy").replace("- Added", "Some prose.\n\n- Added")
    assert repository(released, new, section + "\n" + FIRST) == []


def test_a_change_that_the_changelog_does_not_tell_is_named(released):
    new = next_version("0.3.0", add_node)
    problem, = repository(released, new, "## 0.3.0 (2027-01-01)\n\nSome small things.\n\n" + FIRST)
    assert "CHANGELOG.md: the section on 0.3.0 lacks the line '- Added: MX-0004 (Smell)" in problem
    assert "mini-lib taxonomy diff" in problem


def test_a_line_in_an_older_section_does_not_count(released):
    new = next_version("0.3.0", add_node)
    assert repository(released, new, "## 0.3.0 (2027-01-01)\n\n" + FIRST + EDITS["added"][2][0])


@pytest.mark.parametrize("version, edit, wanted", [
    ("0.2.1", add_node, "MINOR. Make it 0.3.0"), ("0.3.0", retire, "MAJOR. Make it 1.0.0"),
    ("0.2.1", EDITS["moved"][0], "MAJOR. Make it 1.0.0"),
])
def test_a_version_that_rises_too_little_is_refused(released, version, edit, wanted):
    new = next_version(version, edit)
    repository(released, new, FIRST)
    section = diff(released / "taxonomy/releases/0.2.0.json", released / "taxonomy")
    problem, = repository(released, new, section + FIRST)
    assert f"scheme.version is {version}, but the changes since 0.2.0 ask for {wanted}" in problem


def test_a_draft_node_and_a_version_below_one_are_no_exception():
    """Who has cited an id is hit the same; see the docstring of `diff.py`."""
    assert OLD["nodes"][2]["status"] == "draft" and OLD["scheme"]["version"] == "0.2.0"
    for name in ("moved", "redefined", "retired"):
        level = level_of(changes(OLD, changed(EDITS[name][0])))
        assert least(OLD["scheme"]["version"], level) == "1.0.0"


def test_wording_only_in_the_changelog_lowers_the_level(released):
    new = next_version("0.2.1", EDITS["redefined"][0])
    repository(released, new, FIRST)
    old = released / "taxonomy/releases/0.2.0.json"
    assert repository(released, new, diff(old, released / "taxonomy") + FIRST)
    assert repository(released, new, diff(old, released / "taxonomy", ("MX-0003",)) + FIRST) == []


def test_the_last_release_counts_by_number_and_not_by_name(released):
    shutil.copy(released / "taxonomy/releases/0.2.0.json", released / "taxonomy/releases/0.10.0.json")
    text = (released / "taxonomy/releases/0.10.0.json").read_text()
    (released / "taxonomy/releases/0.10.0.json").write_text(text.replace('"version": "0.2.0"', '"version": "0.10.0"'))
    problems = repository(released, next_version("0.3.0"), "## 0.3.0 (2027-01-01)\n\n" + FIRST)
    assert any("since 0.10.0" in problem for problem in problems)


def test_a_version_in_the_changelog_without_its_release_file_is_named(released):
    new = next_version("0.3.0", add_node)
    repository(released, new, FIRST)
    section = diff(released / "taxonomy/releases/0.2.0.json", released / "taxonomy")
    problem, = repository(released, new, section + "## 0.2.5 (2026-12-01)\n\n" + FIRST)
    assert re.search(r"releases/0\.2\.5\.json is missing, though 0\.2\.5 is in the changelog", problem)
