"""The linter finds what is planted, at its place, and nothing in what is right."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mini_lib import taxonomy
from mini_lib.taxonomy.lint import lint, lint_text
from mini_lib.taxonomy.nodes import Deprecation

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "manuscripts"
TREE = taxonomy.load()


def with_node(id, tree=TREE, **fields):
    return replace(tree, nodes=tuple(replace(node, **fields) if node.id == id else node for node in tree.nodes))


# A later version in which MX-0026 is retired in favour of MX-0022, and MX-0043 was new.
LATER = with_node("MX-0026", replace(TREE, version="1.0.0", versions=("1.0.0", "0.2.0", "0.1.0")), status="deprecated",
                  deprecation=Deprecation("1.0.0", "It was a rest.", ("MX-0022",)))
LATER = with_node("MX-0043", LATER, introduced_in="0.2.0")


# ---------------------------------------------------------------- ten and no more

TEN = [      # line, the word at which it stands, kind, what the reason and the fix must say
    (5, "MX-9999", "unknown", "MX-9999 does not exist. Did you mean MX-0008 (Visual token)?"),
    (6, "MX-0026", "retired", "retired since version 1.0.0: It was a rest. Use MX-0022 (Feature attribution)."),
    (7, "MX-0007", "label", "MX-0007 is 'Token', but the label beside it, 'Neuron', is that of MX-0014."),
    (8, r"\mxnode{Visual", "macro", r"takes one id and nothing else. Write \mxnode{MX-0008}."),
    (9, "MX-42", "malformed", "Write MX-0042 (Training-data attribution)."),
    (10, "MX0042", "malformed", "Write MX-0042 (Training-data attribution)."),
    (12, "mx_0042", "malformed", "Write MX-0042 (Training-data attribution)."),
    (14, "mx9999_v0_1_0", "key", "is of MX-9999, which does not exist."),
    (15, "mx0008_v9_9_9", "version", "there is no version 9.9.9 of the taxonomy. Write mx0008_v1_0_0"),
    (16, "MX-0014", "label", "MX-0014 is 'Neuron', but the label beside it, 'Visual token', is that of MX-0008."),
]


def test_a_manuscript_with_ten_planted_faults_has_exactly_these_ten():
    path = HERE / "faulty.tex"
    lines = path.read_text(encoding="utf-8").splitlines()
    faults = lint(path, LATER)
    assert [(fault.line, fault.kind) for fault in faults] == [(line, kind) for line, _, kind, _ in TEN]
    for fault, (line, word, _, said) in zip(faults, TEN, strict=True):
        assert lines[line - 1].index(word) + 1 == fault.column
        assert said in f"{fault.reason} {fault.fix}" and str(fault).startswith(f"{path}:{line}:{fault.column}: ")


@pytest.mark.parametrize("name", ["clean.tex", "clean.md", "clean.bib"])
def test_a_correct_manuscript_has_none(name):
    assert lint(HERE / name, TREE) == []


@pytest.mark.parametrize("path", sorted([*(ROOT / "taxonomy").rglob("*.md"), ROOT / "README.md", ROOT / "taxonomy/nodes.yaml",
                                         ROOT / "taxonomy/works.yaml", ROOT / "taxonomy/ids.lock"]), ids=lambda p: p.name)
def test_the_project_s_own_texts_have_none(path):
    assert lint(path, TREE) == []


# ---------------------------------------------------------------- one at a time

# Token (MX-0007) called by the name of Neuron (MX-0014), in every way to set a name beside an id.
MISLABELLED = {
    "label in emphasis": r"\emph{Neuron} (MX-0007)",
    "label before the macro": r"Neuron (\mxnode{MX-0007})",
    "label in bold": "**Neuron** (`MX-0007`)",
    "label in quotes": "the node “neuron” (MX-0007)",
    "label behind in brackets": "MX-0007 (Neuron)",
    "label behind with a version": "MX-0007 (Neuron, v0.1.0)",
    "label behind a colon": "- MX-0007: Neuron",
    "label and id in one bracket": "the unit (Neuron, MX-0007) is",
    "id and label in one bracket": "the unit (MX-0007, Neuron) is",
    "label in a table": "| MX-0007 | Neuron |",
    "label in front in a table": "| Neuron | MX-0007 |",
    "label in a TeX table": "Neuron & MX-0007 \\\\",
    "label as a link": "[Neuron](../nodes/MX-0007.md)",
    "label as a TeX link": r"\href{https://x.org/MX-0007.html}{Neuron}",
    "Chinese label": f"{TREE.get('MX-0014').translations['zh'].label}（MX-0007）",
    "Korean label": f"{TREE.get('MX-0014').translations['ko'].label}(MX-0007)",
    "title of an entry": "@misc{x,\n title = {{Neuron (MX-0007)}},\n}",
}
# What stands where MX-0042 was meant.
MALFORMED = {
    "two digits": "MX-42",
    "five digits": "MX-00042",
    "a letter behind": "MX_0042",
    "en dash": "MX–0042",
    "TeX dash": "MX--0042",
    "hyphen that does not break": "MX‑0042",
    "space": "MX 0042",
    "escaped underscore": r"\texttt{mx\_0042}",
    "lower case": "see mx-0042",
    "letter O": "MX-OO42",
    "lower case in an address": "https://x.org/nodes/mx-0042.html",
    "malformed in the macro": r"\mxnode{MX0042}",
    "six digits": "MX-000042",
}
FAULTY = {
    # name of the case: (text, kind, what must be said)
    **{case: (text, "label", "that of MX-0014") for case, text in MISLABELLED.items()},
    **{case: (text, "malformed", "Write MX-0042") for case, text in MALFORMED.items()},
    "unknown with a label in front": ("- Chain of thought (MX-4711)", "unknown", "MX-0035 (Chain of thought)"),
    "unknown with a label behind": ("MX-4711: In-context learning", "unknown", "MX-0036 (In-context learning)"),
    "unknown with a misspelt label": ("Visual tokne (MX-9999)", "unknown", "MX-0008 (Visual token)"),
    "unknown without a label": ("as in MX-9999 and", "unknown", "mini-lib taxonomy search"),
    "unknown in an address": ("https://example.org/nodes/MX-9999.html", "unknown", "MX-9999 does not exist"),
    "unknown in code": ('`tree.get("MX-9999")`', "unknown", "MX-9999 does not exist"),
    "unknown in the macro": (r"\mxnode{MX-9999}", "unknown", "MX-9999 does not exist"),
    "unknown in a notebook's text": ('"see\\nMX-9999\\n"', "unknown", "MX-9999 does not exist"),
    "retired in the macro": (r"\mxnode{MX-0026}", "retired", "Use MX-0022"),
    "retired in an address": ("https://example.org/nodes/MX-0026.html", "retired", "Use MX-0022"),
    "retired, cited when it was retired": (r"\cite{mx0026_v1_0_0}", "retired", "Use MX-0022"),
    "label of several words in prose": ("we prune each visual token (MX-0014) first", "label", "that of MX-0008"),
    "label over a line break": ("we prune each visual\ntoken (MX-0014)", "label", "that of MX-0008"),
    "label in the plural": ("Visual tokens~(MX-0014)", "label", "that of MX-0008"),
    "label with other hyphens": ("In context learning (MX-0035)", "label", "that of MX-0036"),
    "other name of another node": ("image tokens (MX-0014)", "label", "that of MX-0008"),
    "link that says another id": ("[MX-0014](../nodes/MX-0007.md)", "label", "says MX-0014 and leads to MX-0007"),
    "second of two": ("Token (MX-0007) and Layer (MX-0014)", "label", "that of MX-0017"),
    "one digit beside its label": ("Visual token (MX-8)", "malformed", "Write MX-0008 (Visual token)"),
    "one digit in a table": ("| MX-8 | Visual token |", "malformed", "Write MX-0008 (Visual token)"),
    "one digit in the macro": (r"\mxnode{MX-8}", "malformed", "Write MX-0008 (Visual token)"),
    "malformed and unknown": ("Visual token (MX-999)", "malformed", "MX-0008 (Visual token)"),
    "key without a version": (r"\cite{mx0042}", "malformed", "mx0042_v1_0_0"),
    "key with half a version": (r"\cite{mx0042_v0_1}", "key", "mx0042_v1_0_0"),
    "key with dots": ("[@mx0042_v0.1.0]", "key", "mx0042_v1_0_0"),
    "key in capitals": (r"\cite{MX0042_v0_1_0}", "key", "mx0042_v1_0_0"),
    "key of an unknown node": ("@misc{mx0999_v0_1_0,\n}", "key", "MX-0999, which does not exist"),
    "key of an unknown version": (r"\cite{mx0042_v0_3_0}", "version", "no version 0.3.0"),
    "key of a later version": (r"\cite{mx0042_v2_0_0}", "version", "newer data"),
    "key older than its node": (r"\cite{mx0043_v0_1_0}", "version", "came only with version 0.2.0"),
    "key of the whole in an unknown version": (r"\cite{mx_v0_3_0}", "version", "no version 0.3.0"),
    "version beside the id": ("Neuron (MX-0014, v0.3.0)", "version", "no version 0.3.0"),
    "required version": (r"\mxrequire{0.3.0}", "version", "no version 0.3.0"),
    "required nonsense": (r"\mxrequire{latest}", "version", "names no version"),
    "entry that names another node": ("@misc{mx0014_v0_1_0,\n  title = {{Token (MX-0007)}},\n}",
                                      "key", "the title of the entry names MX-0007"),
    "entry that says another version": ("@misc{mx0014_v0_1_0,\n  howpublished = {Taxonomy,\n    version 0.2.0},\n}",
                                        "key", "says 0.2.0"),
    "macro with a label": (r"\mxnode{visual tokens}", "macro", r"\mxnode{MX-0008}"),
    "macro with nothing": (r"\mxnode{}", "macro", "takes one id"),
    "macro with two ids": (r"\mxnode{MX-0007,MX-0008}", "macro", r"\mxnode{MX-0007} and \mxnode{MX-0008}"),
    "macro with a key": (r"\mxnode{mx0008_v0_1_0}", "macro", r"Write \mxnode{MX-0008}."),
    "macro with a hyphen of TeX": (r"\mxnode{MX\-0008}", "macro", r"Write \mxnode{MX-0008}."),
    "macro with a space": (r"\mxnode{ MX-0007}", "macro", r"Write \mxnode{MX-0007}."),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_fault_is_found_once_and_named(case):
    text, kind, said = FAULTY[case]
    faults = lint_text(text, LATER)
    assert [fault.kind for fault in faults] == [kind], faults
    assert said in f"{faults[0].reason} {faults[0].fix}", faults
    assert re.fullmatch(r"\S.*[.?]", faults[0].fix)


RIGHT = [
    "Visual token (MX-0008)", "visual tokens [MX-0008]", "image token (MX-0008)", "the tokens of each layer (MX-0018)",
    "the data (MX-0003)", "Individual components of a Layer (MX-0018)", "MX-0014, MX-0017 and MX-0007: Token",
    "MX-0007–MX-0009", "MX-0001--0038", "in MX-0014. Token (MX-0007)", "MX-0014\n\nToken", "| MX-0014 |\n| Token |",
    "| MX-0008 | Token |", "| MX-0008 | Token | Visual token |", "Neuron, MX-0007 and others", "MX-0007 (see Neuron and others)",
    r"\cite{mx0026_v0_1_0}", "other architecture analysis (MX-0026, v0.1.0)", r"\mxnode{MX-0008}", r"\mxnode{#1}",
    r"\newcommand{\mxnode}[1]{}",
    "a Mazda MX-5 (2 litres)", "A Mazda MX-5. Neuron", "the MX-3, MX-6 and MX-9", "call MX-1234567", "BMX-42", "MX5", "MX450",
    "mx-4", "MX 10", "mx_1", "0xMX", "mxnet_v1_0_0", "mx_v1", "#mx-0008", r"\ref{tab:mx_0008}", "![](fig/mx0008.png)",
    "MX-0008は", "在MX-0008中", "MX-0008's", "MX-0008-based", "MX-0008_figure.png", "MX-0042_v0_1_0.zip",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_may_be_right_is_left_alone(text):
    assert lint_text(text, LATER) == []


def test_a_renamed_node_may_be_called_by_its_old_name():
    tree = with_node("MX-0014", label="Unit", alt_labels=("Neuron",))
    assert lint_text("Neuron (MX-0014), Unit (MX-0014)", tree) == []


# ---------------------------------------------------------------- bad files

def test_a_file_that_is_no_text_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.tex"
    for content, said in {b"one\n\x00\x01": "line 2: It holds a zero byte", b"one\ntwo \xe9": "line 2: The byte 0xe9 is not UTF-8",
                          b"\xff\xfeM\x00": "line 1: The byte 0xff is not UTF-8"}.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            lint(path, TREE)


def test_a_file_too_large_for_a_manuscript_is_refused(tmp_path):
    path = tmp_path / "a.tex"
    with path.open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(ValueError, match="more than 50 MB"):
        lint(path, TREE)


@pytest.mark.parametrize("unit", ["MX-", "mx0042_v", "(", "\\href{", "[", "{", "`", "\\mxnode{", "MX\n", "a ",
                                  "@misc{mx0042_v0_1_0,", "_", "* "])
def test_a_huge_line_is_read_in_a_moment(unit):
    import time
    begin = time.process_time()
    lint_text(unit * (400_000 // len(unit)) + " Neuron (MX-0007) " + unit * 1000, TREE)
    assert time.process_time() - begin < 3


def test_line_and_column_count_characters_from_one_whatever_ends_the_lines(tmp_path):
    path = tmp_path / "a.md"
    for content in (b"\xef\xbb\xbf\xc3\xa9\xc3\xa9 MX-9999\n", b"x\r\n\xc3\xa9\xc3\xa9 MX-9999\r\n"):
        path.write_bytes(content)
        fault, = lint(path, TREE)
        assert (fault.line, fault.column) == (1 + content.startswith(b"x"), 4)
