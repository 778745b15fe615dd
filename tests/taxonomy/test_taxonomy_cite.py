"""Citations name the version in every format; escaping brings any text through TeX, BibTeX and a spreadsheet unharmed."""

import json
import re
from dataclasses import replace

import pytest
from pybtex.database import Person, parse_string

from mini_lib import taxonomy
from mini_lib.taxonomy.cite import FORMATS, cite, cite_csl, cite_latex
from mini_lib.taxonomy.escape import bibtex_name, bibtex_title, cell, tex

SITE = {"url": "https://example.org/code", "baseurl": "https://example.org/book/", "branch": "main",
        "title": "A book", "author": "Its authors"}
TREE = replace(taxonomy.load(), version="1.12.3", released="2027-02-03")
TOKEN = TREE.get("MX-0008")


# ---------------------------------------------------------------- citing

@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("node", [TOKEN, None], ids=["node", "whole"])
def test_every_format_pins_the_version(node, format):
    text = cite(node, TREE, SITE, format)
    assert "1.12.3" in text and "0.1.0" not in text
    newer = cite(node, replace(TREE, version="2.0.0"), SITE, format)
    assert "2.0.0" in newer and "1.12.3" not in newer


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_names_the_node_by_label_and_id(format):
    text = " ".join(cite(TOKEN, TREE, SITE, format).split())
    assert "MX-0008" in text and "Visual token (MX-0008" in text


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no citation format 'word'.*text, bibtex, latex, csl"):
        cite(TOKEN, TREE, SITE, "word")


def test_the_latex_lines_use_the_macro_of_the_node_and_require_its_version():
    code = [line.split("%")[0].strip() for line in cite_latex(TOKEN, TREE, SITE).splitlines()]
    assert code == [r"\input{taxonomy.tex}", r"\mxrequire{1.12.3}", r"\mxnode{MX-0008}"]
    assert cite_latex(TOKEN, TREE, SITE).endswith("% prints: Visual token (MX-0008, v1.12.3)")
    assert r"\mxtaxonomy" in cite_latex(None, TREE, SITE) and r"\mxnode" not in cite_latex(None, TREE, SITE)


def test_a_label_cannot_leave_the_comment_of_the_latex_lines():
    assert len(cite_latex(replace(TOKEN, label="a\nb\r\\end{document}"), TREE, SITE).splitlines()) == 3


def test_csl_has_the_fields_of_a_dictionary_entry():
    assert cite_csl(TOKEN, TREE, SITE) == {
        "id": "mx0008_v1_12_3", "type": "entry-dictionary", "title": "Visual token (MX-0008)",
        "container-title": TREE.title, "author": [{"literal": "Its authors"}], "issued": {"date-parts": [[2027, 2, 3]]},
        "version": "1.12.3", "URL": "https://example.org/book/taxonomy/nodes/MX-0008.html", "language": "en",
        "note": "after Dang et al., arXiv:2412.02104"}


def test_csl_of_the_whole_is_a_data_set_and_in_nothing():
    item = cite_csl(None, TREE, SITE)
    assert item["type"] == "dataset" and item["title"] == TREE.title and "container-title" not in item


def test_csl_as_text_is_a_file_with_one_item():
    assert json.loads(cite(TOKEN, TREE, SITE, "csl")) == [cite_csl(TOKEN, TREE, SITE)]


def test_bibtex_is_read_back_with_label_author_and_year():
    label = r"a {b} 100% \c _d_ $e$ & #f ~ ^ @g, \"h\" and {{i"
    entry = parse_string(cite(replace(TOKEN, label=label), TREE, SITE, "bibtex"), "bibtex").entries["mx0008_v1_12_3"]
    assert printed(entry.fields["title"]) == f"{label} (MX-0008)"
    assert entry.fields["year"] == "2027" and [str(person) for person in entry.persons["author"]] == ["{Its authors}"]


# ---------------------------------------------------------------- TeX

SIGNS = {r"\textbackslash": "\\", r"\textbraceleft": "{", r"\textbraceright": "}", r"\textasciitilde": "~",
         r"\textasciicircum": "^", r"\textless": "<", r"\textgreater": ">", r"\textbar": "|", r"\textasciigrave": "`"}


def printed(code: str) -> str:
    """What TeX prints for this code, written apart from `tex`; fails on what TeX would not print as it stands."""
    out, rest = "", code
    while rest:
        command = re.match(r"\\[a-zA-Z]+|\\[%&$#_]", rest)
        if command:
            out += SIGNS[command[0]] if len(command[0]) > 2 else command[0][1]
        else:
            assert rest[0] not in "\\%&$#_~^<>|`", f"{rest[0]!r} is bare in {code!r}"
            assert rest[:2] not in ("--", "''"), f"{rest[:2]!r} prints as one sign in {code!r}"
            out += rest[0] if rest[0] not in "{}" else ""
        rest = rest[len(command[0]) if command else 1:]
    return out


@pytest.mark.parametrize("text", [
    r"100% of $x_1^2$ & \textbf{#} ~", "{{{", "}}}", "}{", "\\", "\\\\input{/etc/passwd}", "a -- b --- c", "``x''", "?`",
    "Höhne, Bălan, Łukasz Ćwiek, Groß", "视觉词元 시각", "<script>", "a|b", "\"quoted\"", "it's", "^^41"])
def test_tex_prints_any_text_as_it_is(text):
    assert printed(tex(text)) == text
    depth = [tex(text)[:end].count("{") - tex(text)[:end].count("}") for end in range(len(tex(text)) + 1)]
    assert min(depth) == 0 and depth[-1] == 0      # BibTeX counts every brace


def test_tex_makes_one_line():
    assert tex("a\n\nb\tc\r") == "a b c"      # an empty line would be \par, an error in many arguments


# ---------------------------------------------------------------- BibTeX

@pytest.mark.parametrize("name, parts", {
    "Ada Lovelace": ("Ada", "", "Lovelace", ""),
    "Jurgen P. Schulze": ("Jurgen P.", "", "Schulze", ""),
    "Marina M.-C. Höhne": ("Marina M.-C.", "", "Höhne", ""),
    "Laurens van der Maaten": ("Laurens", "van der", "Maaten", ""),
    "Blaise Aguera y Arcas": ("Blaise", "", "{Aguera y Arcas}", ""),
    "Ronan Le Bras": ("Ronan", "", "Le Bras", ""),
    "Quoc V. Le": ("Quoc V.", "", "Le", ""),
    "Gabriela Ben Melech Stan": ("Gabriela", "", "Ben Melech Stan", ""),
    "Sammy Davis Jr.": ("Sammy", "", "Davis", "Jr."),
    "Divyansh": ("", "", "{Divyansh}", ""),
    "Gemini Team": ("", "", "{Gemini Team}", ""),
    "The LLaVA Authors": ("", "", "{The LLaVA Authors}", ""),
    "Barnes and Noble": ("", "", "{Barnes and Noble}", ""),
    "Google, Inc.": ("", "", "{Google, Inc.}", ""),
    "others": ("", "", "{others}", ""),
}.items())
def test_bibtex_takes_a_name_apart_as_it_is_meant(name, parts):
    [person] = parse_string(f"@misc{{k, author = {{{bibtex_name(name)}}}}}", "bibtex").entries["k"].persons["author"]
    found = [person.first_names + person.middle_names, person.prelast_names, person.last_names, person.lineage_names]
    assert tuple(map(" ".join, found)) == parts


@pytest.mark.parametrize("name", ["A {B", "A and B", "a \\and} b", "x, y, z, w", "100% Sure", "=1 +1"])
def test_a_hostile_name_stays_one_name(name):
    listed = f"{bibtex_name(name)} and {bibtex_name('Ada Lovelace')}"
    hostile, other = parse_string(f"@misc{{k, author = {{{listed}}}}}", "bibtex").entries["k"].persons["author"]
    assert other == Person("Lovelace, Ada")
    assert {*printed(str(hostile)).replace(",", "").split()} == {*name.replace(",", "").split()}


def test_a_title_keeps_its_capitals_in_braces():
    assert bibtex_title("MM-SHAP & Flamingo") == r"{MM-SHAP \& Flamingo}"


# ---------------------------------------------------------------- cells

@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "'=1", "''@x"])
def test_a_cell_that_would_be_a_formula_gets_an_apostrophe(text):
    assert cell(text) == "'" + text


@pytest.mark.parametrize("text", ["", "a=b", "1-2", "'tis", "''", " =1", "MX-0008", "\"=1"])
def test_another_cell_stays_as_it_is(text):
    assert cell(text) == text
