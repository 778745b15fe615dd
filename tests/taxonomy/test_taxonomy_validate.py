"""Each rule of `mini_lib.taxonomy.validate` is proven by breaking one thing in a good copy of the data."""

import copy as copying
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mini_lib import taxonomy
from mini_lib.taxonomy.load import build

ROOT = Path(__file__).resolve().parents[2]
SITE = {"url": "https://example.org/code", "baseurl": "https://example.org/book/", "branch": "main",
        "title": "A book", "author": "Its authors"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A copy of the taxonomy with pages written for SITE; made once, since that takes a second."""
    root = tmp_path_factory.mktemp("written")
    # Without the releases, so that a test may change the data and need not say so in the changelog.
    shutil.copytree(ROOT / "taxonomy", root / "taxonomy", ignore=shutil.ignore_patterns("releases"))
    taxonomy.write_pages(root, SITE)
    return root


@pytest.fixture
def copy(written, tmp_path):
    """A copy of it for one test to break."""
    shutil.copytree(written / "taxonomy", tmp_path / "taxonomy")
    return tmp_path


def change_data(root, change):
    """Load the YAML, let `change(data, nodes by id)` alter it, and write it back."""
    path = root / "taxonomy" / "nodes.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(data, {node["id"]: node for node in data["nodes"]})
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def change_text(root, name, old, new):
    path = root / "taxonomy" / name
    text = path.read_text(encoding="utf-8")
    assert old in text, f"nothing to change: {old!r} is not in {name}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def put(id, field, value):
    """A change: in node `id`, set a field; a dot leads into a nested one."""
    def change(data, nodes):
        *path, last = field.split(".")
        place = nodes[id]
        for key in path:
            place = place[key]
        place[last] = value
    return change


def drop(id, field):
    """A change: take a field out of node `id`."""
    def change(data, nodes):
        *path, last = field.split(".")
        place = nodes[id]
        for key in path:
            place = place[key]
        del place[last]
    return change


def remove_node(id):
    return lambda data, nodes: data["nodes"].remove(nodes[id])


def add_copy_of(id, /, **fields):
    def change(data, nodes):
        data["nodes"].append({**copying.deepcopy(nodes[id]), **fields})
    return change


def circle(data, nodes):
    nodes["MX-0006"]["broader"] = ["MX-0007"]      # Model below Token, which is below Model


# name of the case: (what is broken, what the sentence must name, what it must say)
BROKEN_DATA = {
    "unknown field": (put("MX-0008", "colour", "red"), "MX-0008", "'colour' was unexpected"),
    "unknown field in scope": (put("MX-0008", "scope.colour", "red"), "MX-0008: scope", "'colour' was unexpected"),
    "missing field": (drop("MX-0008", "definition"), "MX-0008", "'definition' is a required property"),
    "unknown usage": (put("MX-0008", "usage", "maybe"), "MX-0008: usage", "'maybe' is not one of"),
    "unknown confirmation": (put("MX-0008", "survey.confirmation", "sure"), "MX-0008: survey.confirmation", "'sure'"),
    "malformed id": (put("MX-0008", "id", "MX-8"), "MX-8: id", "does not match"),
    "malformed slug": (put("MX-0008", "slug", "Model/Token"), "MX-0008: slug", "does not match"),
    "malformed version": (put("MX-0008", "introduced_in", "0.1"), "MX-0008: introduced_in", "does not match"),
    "empty definition": (put("MX-0008", "definition", ""), "MX-0008: definition", "does not match"),
    "label over two lines": (put("MX-0008", "label", "a\nb"), "nodes.7.label", "holds a line break"),
    "id used twice": (add_copy_of("MX-0008", slug="model/token/x", label="X", alt_labels=[]),
                      "MX-0008 (X)", "its id 'MX-0008' is already used"),
    "slug used twice": (put("MX-0009", "slug", "model/token/visual-token"),
                        "MX-0009", "slug 'model/token/visual-token' is already used by MX-0008"),
    "label used twice": (put("MX-0009", "label", "visual TOKEN"), "MX-0009", "is already used by MX-0008"),
    "label is another's alternative name": (put("MX-0009", "alt_labels", ["image token"]),
                                            "MX-0009", "'image token' is already used by MX-0008"),
    "broader points nowhere": (put("MX-0008", "broader", ["MX-9999"]), "MX-0008", "broader points to MX-9999"),
    "see_also points nowhere": (put("MX-0008", "see_also", ["MX-9999"]), "MX-0008", "see_also points to MX-9999"),
    "see_also points to itself": (put("MX-0008", "see_also", ["MX-0008"]), "MX-0008", "points to the node itself"),
    "excludes points nowhere": (put("MX-0008", "scope.excludes", [{"text": "x", "see": "MX-9999"}]),
                                "MX-0008", "scope.excludes points to MX-9999"),
    "excludes without a pointer": (put("MX-0008", "scope.excludes", [{"text": "x"}]),
                                   "MX-0008: scope.excludes.0", "'see' is a required property"),
    "circle": (circle, "MX-0006, MX-0007", "leads back to the start"),
    "two roots": (put("MX-0006", "broader", []), "MX-0006 (Model)", "2 roots"),
    "no root": (put("MX-0001", "broader", ["MX-0002"]), "The tree", "0 roots (none)"),
    "never reaches the root": (circle, "MX-0008 (Visual token)", "never reaches the root MX-0001"),
    "slug outside its parent": (put("MX-0008", "slug", "model/visual-token"),
                                "MX-0008", "Make it 'model/token/visual-token'"),
    "slug two steps below its parent": (put("MX-0008", "slug", "model/token/a/b"), "MX-0008", "does not follow"),
    "slug not moved with its parent": (put("MX-0008", "broader", ["MX-0010"]),
                                       "MX-0008", "Make it 'model/embedding/visual-token'"),
    "confirmed by an unknown source": (put("MX-0008", "survey.seen", ["E9"]), "MX-0008", "names E9"),
    "confirmed by no source": (put("MX-0008", "survey.seen", []), "MX-0008", "yet no source shows it"),
    "recalled with a source": (put("MX-0008", "survey.confirmation", "recalled"), "MX-0008", "is recalled, yet"),
    "no confirmation": (drop("MX-0008", "survey.confirmation"), "MX-0008", "survey.confirmation is missing"),
    "ours but confirmed": (put("MX-0039", "survey.confirmation", "confirmed"), "MX-0039", "it is ours"),
    "ours but seen": (put("MX-0039", "survey.seen", ["E3"]), "MX-0039", "it is ours"),
    "heading without a reason": (drop("MX-0002", "usage_note"), "MX-0002", "without a usage_note"),
    "heading that runs": (put("MX-0002", "runnable", True), "MX-0002", "yet it is runnable"),
    "deprecated without a reason": (put("MX-0008", "status", "deprecated"), "MX-0008", "without a deprecation"),
    "deprecation of a living node": (
        put("MX-0008", "deprecation", {"version": "0.1.0", "reason": "x", "replaced_by": []}),
        "MX-0008", "its status is stable"),
    "replaced by nothing known": (
        put("MX-0008", "deprecation", {"version": "0.1.0", "reason": "x", "replaced_by": ["MX-9999"]}),
        "MX-0008", "deprecation.replaced_by points to MX-9999"),
    "younger than the taxonomy": (put("MX-0008", "introduced_in", "0.10.0"), "MX-0008", "later than the taxonomy"),
    "no such day": (lambda data, nodes: data["scheme"].update(released="2026-02-30"), "The scheme", "is no date"),
    "unknown field of the scheme": (lambda data, nodes: data["scheme"].update(url="x"), "The file: scheme", "'url'"),
    "id not in the lock": (
        add_copy_of("MX-0008", id="MX-0044", slug="model/token/new", label="New", alt_labels=[]),
        "MX-0044", "Add the line 'MX-0044  0.1.0  New'"),
    "id removed from the data": (remove_node("MX-0043"), "MX-0043 (Evaluation of faithfulness)", "not in the data"),
    "first version changed": (put("MX-0008", "introduced_in", "0.0.9"), "MX-0008", "ids.lock says 0.1.0"),
    "old label forgotten": (put("MX-0008", "label", "Patch token"), "MX-0008", "first label was 'Visual token'"),
    "version without a changelog entry": (lambda data, nodes: data["scheme"].update(version="0.2.0"),
                                          "CHANGELOG.md", "Add the heading '## 0.2.0 (2026-11-21)'"),
}


@pytest.mark.parametrize("case", BROKEN_DATA)
def test_a_broken_copy_is_reported_by_name_with_what_to_do(copy, case):
    change, name, reason = BROKEN_DATA[case]
    change_data(copy, change)
    problems = taxonomy.validate(copy, SITE)
    assert any(name in problem and reason in problem for problem in problems), problems
    for problem in problems:      # a reason, then what to do, as sentences
        assert problem.endswith(".") and ". " in problem, problem


def test_the_good_copy_has_no_problem_even_after_a_round_trip_through_yaml(copy):
    change_data(copy, lambda data, nodes: None)
    assert taxonomy.validate(copy, SITE) == []


def test_a_renamed_node_is_sound_when_its_first_label_stays_findable(copy):
    change_data(copy, put("MX-0008", "label", "Patch token"))
    change_data(copy, put("MX-0008", "alt_labels", ["Visual token"]))
    taxonomy.write_pages(copy, SITE)
    assert taxonomy.validate(copy, SITE) == []


def test_a_deprecated_node_is_sound_when_it_says_what_to_use_instead(copy):
    gone = {"version": "0.1.0", "reason": "It was split.", "replaced_by": ["MX-0009"]}
    for name in ("works.yaml", "protocol.yaml"):      # where it was, works go to the other node
        path = copy / "taxonomy" / name
        path.write_text(path.read_text(encoding="utf-8").replace("MX-0008", "MX-0007"), encoding="utf-8")
    change_data(copy, put("MX-0008", "status", "deprecated"))
    change_data(copy, put("MX-0008", "deprecation", gone))
    taxonomy.write_pages(copy, SITE)
    assert taxonomy.validate(copy, SITE) == []
    page = (copy / "taxonomy/nodes/MX-0008.md").read_text(encoding="utf-8")
    assert "Retired since version 0.1.0. It was split." in page.replace("**", "") and "[Visual-textual token](MX-0009.md)" in page


def test_two_broken_things_are_both_reported(copy):
    change_data(copy, put("MX-0008", "see_also", ["MX-9999"]))
    change_data(copy, put("MX-0003", "survey.seen", []))
    problems = " ".join(taxonomy.validate(copy, SITE))
    assert "MX-0008" in problems and "MX-0003" in problems


# ---------------------------------------------------------------- the files beside the data

VERSION = taxonomy.load().version
BROKEN_FILES = {
    "line removed from the middle of the lock": (
        "ids.lock", "MX-0008  0.1.0  Visual token\n", "", "MX-0008 (Visual token): it is not in"),
    "lines of the lock swapped": (
        "ids.lock", "MX-0007  0.1.0  Token\nMX-0008  0.1.0  Visual token\n",
        "MX-0008  0.1.0  Visual token\nMX-0007  0.1.0  Token\n", "line 7: the id is MX-0008, not MX-0007"),
    "line of the lock without a label": ("ids.lock", "  Visual token", "", "line 8: 'MX-0008  0.1.0' is not"),
    "date of the changelog wrong": ("CHANGELOG.md", "(2026-11-21)", "(2026-11-20)", f"'{VERSION} (2026-11-20)'"),
    "changelog without headings": ("CHANGELOG.md", f"## {VERSION}", VERSION, "its first heading is"),
    "schema requires what it does not describe": (
        "schema/nodes.schema.json", '"id", "slug",', '"id", "slug", "ghost",', "requires 'ghost'"),
    "schema accepts any field": (
        "schema/nodes.schema.json", '"additionalProperties": false,\n          "required": ["includes"',
        '"required": ["includes"', "scope accepts any field"),
    "page edited by hand": ("nodes/MX-0008.md", "# Visual token", "# Visual tokens", "MX-0008.md is not what"),
    "index edited by hand": ("index.md", "# Taxonomy", "# The taxonomy", "index.md is not what"),
    "file that is not YAML": ("nodes.yaml", "scheme:", "scheme: [", "is not valid YAML"),
    "file without nodes": ("nodes.yaml", "\nnodes:", "\nknots:", "'nodes' is a required property"),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_beside_the_data_is_reported(copy, case):
    name, old, new, reason = BROKEN_FILES[case]
    change_text(copy, name, old, new)
    problems = taxonomy.validate(copy, SITE)
    assert any(reason in problem for problem in problems), problems


@pytest.mark.parametrize("name", ["nodes.yaml", "ids.lock", "CHANGELOG.md", "schema/nodes.schema.json",
                                  "index.md", "nodes/MX-0008.md"])
def test_a_missing_file_is_reported(copy, name):
    (copy / "taxonomy" / name).unlink()
    problems = taxonomy.validate(copy, SITE)
    assert any(name in problem and "missing" in problem for problem in problems), problems


def test_a_page_of_no_node_is_reported_and_removed_when_pages_are_written(copy):
    stray = copy / "taxonomy/nodes/MX-0999.md"
    stray.write_text("old", encoding="utf-8")
    assert any("MX-0999.md belongs to no node" in problem for problem in taxonomy.validate(copy, SITE))
    taxonomy.write_pages(copy, SITE)
    assert not stray.exists()


# ---------------------------------------------------------------- what YAML guesses

LOOK_ALIKES = {
    "id as a number": ('- id: "MX-0008"', "- id: 0042", "nodes.7.id must be text", "34 (int)"),
    "version as a number": ('introduced_in: "0.1.0"', "introduced_in: 0.1", "nodes.0.introduced_in", "0.1 (float)"),
    "arXiv id as a number": ('arxiv: "2412.02104"', "arxiv: 2412.02104", "scheme.source.arxiv", "(float)"),
    "release as a date": ('released: "2026-11-21"', "released: 2026-11-21", "scheme.released", "(date)"),
    "label as a truth value": ("label: Visual token", "label: no", "nodes.7.label", "False (bool)"),
    "name as nothing": ("alt_labels: [image token,", "alt_labels: [null,", "nodes.7.alt_labels.0", "None (NoneType)"),
    "definition left empty": ("label: Token\n", "label:\n", "nodes.6.label", "None (NoneType)"),
    "runnable as text": ("runnable: true", 'runnable: "true"', "MX-0003", "'true' is not of type 'boolean'"),
    "runnable as a number": ("runnable: true", "runnable: 1", "runnable must be yes or no", "1 (int)"),
    "a field twice": ("label: Token\n", "label: Token\n    label: Token\n", "nodes.6.label", "a second time"),
    "an alias": ("broader: [\"MX-0001\"]\n", "broader: &x [\"MX-0001\"]\n    see_also: *x\n", "nodes.1.see_also", "alias"),
    "a field name that is no text": ("label: Token\n", "label: Token\n    1: x\n", "The field name '1'", "not text"),
}


@pytest.mark.parametrize("case", LOOK_ALIKES)
def test_what_yaml_does_not_read_as_text_is_refused_by_node_and_field(copy, case):
    old, new, name, reason = LOOK_ALIKES[case]
    change_text(copy, "nodes.yaml", old, new)
    problems = taxonomy.validate(copy, SITE)
    assert any(name in problem and reason in problem for problem in problems), problems


def test_loading_refuses_a_look_alike_too(copy):
    change_text(copy, "nodes.yaml", 'introduced_in: "0.1.0"', "introduced_in: 0.1")
    with pytest.raises(ValueError, match=r"nodes.yaml, line \d+: nodes.0.introduced_in must be text.*0\.1 \(float\).*quotes"):
        taxonomy.load(copy / "taxonomy/nodes.yaml")


def test_loading_names_the_node_that_lacks_a_field(copy):
    change_data(copy, drop("MX-0008", "slug"))
    with pytest.raises(ValueError, match="MX-0008: the field 'slug' is missing"):
        taxonomy.load(copy / "taxonomy/nodes.yaml")


def test_what_is_built_from_plain_data_names_the_entry_that_lacks_a_field():
    with pytest.raises(ValueError, match="The data: the field 'scheme' is missing. Add it."):
        build({}, {"works": []})
    with pytest.raises(ValueError, match="Work number 1: the field 'key' is missing. Add it."):
        build({}, {"works": [{}]})
    with pytest.raises(ValueError, match="lamp: the field 'title' is missing. Add it."):
        build({}, {"works": [{"key": "lamp"}]})


def test_loading_without_a_file_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no taxonomy at .*nodes.yaml"):
        taxonomy.load(tmp_path / "nodes.yaml")


# ---------------------------------------------------------------- looking up

@pytest.mark.parametrize("query", ["MX-0008", "mx-0008", "model/token/visual-token", "Visual token", " visual TOKEN ",
                                   "image token"])
def test_a_node_is_found_by_id_slug_label_or_other_name(query):
    assert taxonomy.load().find(query).id == "MX-0008"


@pytest.mark.parametrize("query, nearest", [("visual tokne", "Visual token (MX-0008)"),
                                            ("data/input-ouput", "Input and output (MX-0003)"),
                                            ("in-context-lerning", "In-context learning (MX-0036)"),
                                            ("projektor", "Connector (MX-0039)")])
def test_an_unknown_name_is_answered_with_the_nearest_ones(query, nearest):
    with pytest.raises(LookupError) as error:
        taxonomy.load().find(query)
    assert query in str(error.value) and nearest in str(error.value)


def test_a_name_like_no_other_is_answered_plainly():
    with pytest.raises(LookupError, match="Nothing has a similar name"):
        taxonomy.load().find("qqqqqqqq")


def test_the_tree_can_be_walked_down_and_up():
    tree = taxonomy.load()
    token = tree.find("token")
    assert [node.label for node in tree.narrower(token)] == ["Visual token", "Visual-textual token"]
    assert [[node.id for node in path] for path in tree.paths(token)] == [["MX-0001", "MX-0006", "MX-0007"]]
    assert tree.above(token) == {"MX-0001", "MX-0006"} and tree.below(token) == {"MX-0008", "MX-0009"}
    assert tree.below(tree.get("MX-0001")) == {node.id for node in tree.nodes} - {"MX-0001"}


def test_a_node_with_two_broader_nodes_has_two_paths(copy):
    change_data(copy, put("MX-0039", "broader", ["MX-0006", "MX-0007"]))
    tree = taxonomy.load(copy / "taxonomy/nodes.yaml")
    assert [len(path) for path in tree.paths(tree.get("MX-0039"))] == [3, 4]
    assert tree.above(tree.get("MX-0039")) == {"MX-0001", "MX-0006", "MX-0007"}


def test_walking_a_circle_comes_to_an_end_and_leads_back_to_the_start(copy):
    change_data(copy, circle)
    tree = taxonomy.load(copy / "taxonomy/nodes.yaml")
    assert tree.above(tree.get("MX-0006")) == {"MX-0006", "MX-0007"} and "MX-0007" in tree.below(tree.get("MX-0007"))


# ---------------------------------------------------------------- the data as they are

def test_the_repository_s_own_taxonomy_is_sound():
    assert taxonomy.validate(ROOT) == []


def test_the_schema_is_a_valid_json_schema():
    from jsonschema import Draft202012Validator
    Draft202012Validator.check_schema(json.loads((ROOT / "taxonomy/schema/nodes.schema.json").read_text()))


def test_the_data_hold_no_address_of_the_book():
    from mini_lib.book import site
    text = (ROOT / "taxonomy/nodes.yaml").read_text(encoding="utf-8")
    address = site(ROOT)
    assert address["url"] not in text and address["baseurl"].rstrip("/") not in text


def test_what_is_ours_is_marked_as_ours():
    ours = {node.label for node in taxonomy.load().nodes if node.relation == "added"}
    assert ours == {"Connector", "Sparse features", "Steering and editing", "Training-data attribution",
                    "Evaluation of faithfulness"}


def test_reading_and_checking_imports_neither_torch_nor_transformers():
    code = ("import sys; from mini_lib import taxonomy; from mini_lib.taxonomy import commands; taxonomy.validate('.');"
            "print(sorted({'torch', 'transformers'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
