"""Every export is read back by the program it is for, with equal contents, also where the text is hostile."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from pybtex.database import parse_string
from rdflib import OWL, RDF, RDFS, Graph, Literal, URIRef
from rdflib.compare import isomorphic
from rdflib.namespace import DCTERMS, SKOS

import mini_lib.taxonomy
from mini_lib import taxonomy
from mini_lib.taxonomy.cite import address, cite_csl
from mini_lib.taxonomy.export import COLUMNS, WRITERS, as_csv, as_latex, as_turtle, export, plain
from mini_lib.taxonomy.load import build
from mini_lib.taxonomy.nodes import Deprecation, Exclusion, Match, Node, Rival, Source, Taxonomy, Translation
from mini_lib.taxonomy.strict import read_yaml
from mini_lib.taxonomy.works import Filing, Work

ROOT = Path(__file__).resolve().parents[2]
SITE = {"url": "https://example.org/code", "baseurl": "https://example.org/book/", "branch": "main",
        "title": "A book", "author": "Its authors"}
TREE = taxonomy.load()
HOSTILE = [
    '=HYPERLINK("http://x.y","z")', "+1", "-2+3", "@SUM(A1:A9)", "'=1", "; DROP", "0042", "2412.02104", "no",
    "NA", "null", "2026-11-21", "<script>alert('x')</script> & <b>", "]]> --> */", r"100% of $x_1^2$ \textbf{#1} ~", "{open",
    "close}", "\\", "\\\\", r"\input{x}\end{document}", "a -- b ``c'' `d`", 'say "hi", it\'s', '"""', "'''", "key: [a, {b: c}] # d",
    "@misc{evil, title = {x}}", "a and b", "https://x.y/<z> .", "^^xsd:date@en", "_:b0", "Höhne, Bălan, Groß", "视觉词元 시각 토큰", "😀",
]


def hostile_tree() -> Taxonomy:
    """A root, a node for each hostile string, which stands in every field of free text, and a retired node at the end."""
    def node(number, label, *, broader=("MX-0001",), texts=(), **fields):
        return replace(Node(
            id=f"MX-{number:04d}", slug=f"n{number}", label=label, alt_labels=tuple(f"also {text}" for text in texts),
            definition=f"{label}", includes=tuple(texts), excludes=tuple(Exclusion(text, "MX-0001") for text in texts),
            usage="assign", usage_note=None, broader=broader, see_also=(), status="stable", deprecation=None,
            introduced_in="0.1.0", relation="added", confirmation=None, seen=(), survey_note=None, strengths=tuple(texts),
            limitations=(), open_problems=(), runnable=False,
            translations={language: Translation(f"{language} {label}", label) for language in ("zh", "ko")},
            matches=tuple(Match("R1", text, "close", None) for text in texts), works=()), **fields)

    nodes = [node(1, "Root", broader=()), *(node(n, text, texts=(text,)) for n, text in enumerate(HOSTILE, 2))]
    nodes[1] = replace(nodes[1], see_also=("MX-0001", "MX-0003"), matches=(
        Match("R1", "a term with an address", "broad", "https://rival.example/terms#t1"),
        Match("R1", "a term of a paper", "exact", "section 5, https://rival.example")))
    last = len(HOSTILE) + 2
    nodes.append(node(last, "Retired", status="deprecated", deprecation=Deprecation("0.2.0", HOSTILE[0], ("MX-0002",))))
    works = tuple(Work(
        key=f"w{number}", title=text, authors=(text.replace("; ", ";"), "Ada Lovelace"), authors_complete=number % 2 == 0,
        year="2024", venue=text, venue_verified=False, arxiv="2412.02104", doi="10.1/x_y", url=None, modalities=("image", "text"),
        seen=(), record=None,
        filed=(Filing("MX-0002", "introduces", "ours", text, text), Filing("MX-0003", "applies", "ours", text, text)),
    ) for number, text in enumerate(HOSTILE))
    filed = {"MX-0002": works, "MX-0003": works}
    nodes = tuple(replace(each, works=filed.get(each.id, ())) for each in nodes)
    source = Source("E1", HOSTILE[0], HOSTILE[1], HOSTILE[2], ("https://x.y/z",))
    rival = Rival("R1", HOSTILE[14], ("A B",), "2024", "2412.14056", None, "text", "text", True)
    return Taxonomy("MX", "A tree @ 100% {of} \\trouble", "0.2.0", "2026-11-21", "CC-BY-4.0", "Dang et al.", "A survey", "2412.02104",
                    "2", (source,), (rival,), nodes, works)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Our own data and the folder of their exports."""
    folder = tmp_path_factory.mktemp("data") / "out"
    export(TREE, SITE, folder)
    return TREE, folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The same for the made-up taxonomy."""
    tree, folder = hostile_tree(), tmp_path_factory.mktemp("hostile") / "out"
    export(tree, SITE, folder)
    return tree, folder


@pytest.fixture(scope="module", params=["data", "hostile"])
def exported(request):
    return request.getfixturevalue(request.param)


def read(folder: Path, name: str) -> str:
    return (folder / name).read_bytes().decode()


def one_line(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- YAML and JSON

def test_yaml_and_json_hold_all_that_the_taxonomy_holds(exported):
    tree, folder = exported
    as_written, _ = read_yaml(folder / "taxonomy.yaml")      # strict: it refuses what YAML reads as another type
    assert build(as_written, as_written, as_written, tree.versions) == tree
    assert json.loads(read(folder, "taxonomy.json")) == as_written


def test_the_exported_document_equals_the_files_it_comes_from():
    files = {}
    for name in ("nodes.yaml", "works.yaml", "protocol.yaml"):
        files |= read_yaml(ROOT / "taxonomy" / name)[0]
    for node in files["nodes"]:
        if not node["survey"].get("seen", True):
            del node["survey"]["seen"]      # an empty list says no more than none
    assert plain(TREE) == files


# ---------------------------------------------------------------- SKOS

def graph_of(text: str, format: str = "turtle") -> Graph:
    return Graph().parse(data=text, format=format)


def skos_faults(graph: Graph) -> set[str]:
    """The integrity rules of SKOS (S9, S13, S14, S27, S46 and inverses) and those of a taxonomy with one scheme."""
    faults = set()
    concepts, schemes = set(graph.subjects(RDF.type, SKOS.Concept)), set(graph.subjects(RDF.type, SKOS.ConceptScheme))
    if len(schemes) != 1 or concepts & schemes:
        faults.add("one scheme, which is no concept")
    above = {concept: set(graph.transitive_objects(concept, SKOS.broader)) - {concept} for concept in concepts}
    tops = set(graph.objects(None, SKOS.hasTopConcept))
    for concept in concepts:
        languages = sorted(label.language or "" for label in graph.objects(concept, SKOS.prefLabel))
        if languages != ["en", "ko", "zh"]:
            faults.add("one preferred label a language")
        if set(graph.objects(concept, SKOS.prefLabel)) & set(graph.objects(concept, SKOS.altLabel)):
            faults.add("labels are disjoint")
        if any(concept in graph.transitive_objects(parent, SKOS.broader) for parent in graph.objects(concept, SKOS.broader)):
            faults.add("broader is acyclic")
        if set(graph.objects(concept, SKOS.inScheme)) != schemes:
            faults.add("every concept is in the scheme")
        if not (above[concept] | {concept}) & tops:
            faults.add("every concept reaches a top concept")
        for other in graph.objects(concept, SKOS.related):
            if other in above[concept] or concept in above.get(other, ()):
                faults.add("related is disjoint from what lies above")
        other_matches = {*graph.objects(concept, SKOS.broadMatch), *graph.objects(concept, SKOS.relatedMatch)}
        if set(graph.objects(concept, SKOS.exactMatch)) & other_matches:
            faults.add("an exact match is no other match")
        if len(set(graph.objects(concept, SKOS.notation))) != 1:
            faults.add("one notation")
    for verb, back in [(SKOS.broader, SKOS.narrower), (SKOS.narrower, SKOS.broader), (SKOS.related, SKOS.related),
                       (SKOS.hasTopConcept, SKOS.topConceptOf), (SKOS.topConceptOf, SKOS.hasTopConcept)]:
        if any((b, back, a) not in graph for a, b in graph.subject_objects(verb)):
            faults.add("the way back is said")
    if any(set(graph.objects(top, SKOS.broader)) for top in tops):
        faults.add("nothing is above a top concept")
    if {b for verb in (SKOS.broader, SKOS.related, RDFS.seeAlso, DCTERMS.isReplacedBy) for b in graph.objects(None, verb)} - concepts:
        faults.add("links lead to concepts")
    return faults


def concept(number: int) -> URIRef:
    return URIRef(f"https://example.org/book/taxonomy/nodes/MX-{number:04d}.html")


SCHEME = URIRef("https://example.org/book/taxonomy/index.html")


def test_skos_is_sound(exported):
    assert skos_faults(graph_of(read(exported[1], "taxonomy.ttl"))) == set()


@pytest.fixture(scope="module")
def sound():
    return graph_of(as_turtle(TREE, SITE))


@pytest.mark.parametrize("fault, sign, said", [
    ("one scheme, which is no concept", "+", (SCHEME, RDF.type, SKOS.Concept)),
    ("one preferred label a language", "+", (concept(8), SKOS.prefLabel, Literal("Second", lang="en"))),
    ("one preferred label a language", "-", (concept(8), SKOS.prefLabel, None)),
    ("labels are disjoint", "+", (concept(8), SKOS.altLabel, Literal("Visual token", lang="en"))),
    ("broader is acyclic", "+", (concept(7), SKOS.broader, concept(8))),
    ("every concept is in the scheme", "-", (concept(8), SKOS.inScheme, None)),
    ("every concept reaches a top concept", "-", (concept(8), SKOS.broader, None)),
    ("related is disjoint from what lies above", "+", (concept(8), SKOS.related, concept(1))),
    ("one notation", "-", (concept(8), SKOS.notation, None)),
    ("the way back is said", "-", (None, SKOS.narrower, concept(8))),
    ("nothing is above a top concept", "+", (concept(1), SKOS.broader, concept(8))),
    ("links lead to concepts", "+", (concept(8), SKOS.related, concept(9999))),
])
def test_a_broken_graph_is_noticed(fault, sign, said, sound):
    graph = Graph() + sound
    graph.add(said) if sign == "+" else graph.remove(said)
    assert fault in skos_faults(graph)


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")      # rdflib's own reader of JSON-LD
def test_turtle_and_json_ld_are_the_same_graph(exported):
    turtle, linked = graph_of(read(exported[1], "taxonomy.ttl")), graph_of(read(exported[1], "taxonomy.jsonld"), "json-ld")
    assert len(turtle) > 15 * len(exported[0].nodes) and isomorphic(turtle, linked)


def test_skos_says_what_the_data_say(exported):
    tree, folder = exported
    graph = graph_of(read(folder, "taxonomy.ttl"))
    for node in tree.nodes:
        uri = URIRef(address(node, SITE))
        said = {tag: (words.label, words.definition) for tag, words in node.translations.items()}
        said["en"] = node.label, node.definition
        for verb, place in ((SKOS.prefLabel, 0), (SKOS.definition, 1)):
            written = {(value.language, str(value)) for value in graph.objects(uri, verb)}
            assert written == {(tag, words[place]) for tag, words in said.items()}
        assert {*map(str, graph.objects(uri, SKOS.altLabel))} == {*node.alt_labels}
        assert {*map(str, graph.objects(uri, SKOS.notation))} == {node.id}
        assert {*graph.objects(uri, SKOS.broader)} == {URIRef(address(tree.get(id), SITE)) for id in node.broader}
        notes = " ".join(graph.objects(uri, SKOS.scopeNote))
        assert all(text in notes for text in (*node.includes, *(item.text for item in node.excludes), node.usage))
        near = {*graph.objects(uri, SKOS.related), *graph.objects(uri, RDFS.seeAlso)}
        assert near >= {URIRef(address(tree.get(id), SITE)) for id in node.see_also}
    assert len({*graph.subjects(RDF.type, SKOS.Concept)}) == len(tree.nodes)
    assert graph.value(SCHEME, OWL.versionInfo) == Literal(tree.version)
    assert graph.value(SCHEME, DCTERMS.license) == URIRef("https://creativecommons.org/licenses/by/4.0/")


def test_see_also_up_the_tree_is_not_related_and_a_match_without_an_address_is_a_note():
    graph = graph_of(as_turtle(hostile_tree(), SITE))
    assert {*graph.objects(concept(2), RDFS.seeAlso)} == {concept(1)} and {*graph.objects(concept(2), SKOS.related)} == {concept(3)}
    assert {*graph.objects(concept(2), SKOS.broadMatch)} == {URIRef("https://rival.example/terms#t1")}
    assert not {*graph.objects(concept(2), SKOS.exactMatch)}
    assert "exact" in graph.value(concept(2), SKOS.note) and "a term of a paper" in graph.value(concept(2), SKOS.note)


def test_our_matches_are_all_notes_since_no_rival_gives_its_terms_addresses(sound):
    assert len([*sound.subject_objects(SKOS.note)]) == len({(node.id, match) for node in TREE.nodes for match in node.matches})


def test_a_tombstone_is_deprecated_and_says_by_what_it_is_replaced():
    tree = hostile_tree()
    graph, last = graph_of(as_turtle(tree, SITE)), concept(len(HOSTILE) + 2)
    assert {*graph.subjects(OWL.deprecated, Literal(True))} == {last}
    assert {*graph.objects(last, DCTERMS.isReplacedBy)} == {concept(2)}
    assert Literal(f"Deprecated in version 0.2.0: {HOSTILE[0]}", lang="en") in {*graph.objects(last, SKOS.changeNote)}


def test_a_link_to_nowhere_is_refused_by_name():
    node = replace(TREE.get("MX-0008"), see_also=("MX-9999",))
    with pytest.raises(ValueError, match=r"MX-0008 \(Visual token\): it points to MX-9999"):
        as_turtle(replace(TREE, nodes=tuple(node if each.id == node.id else each for each in TREE.nodes)), SITE)


def test_without_rdflib_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdflib", None)
    monkeypatch.delitem(sys.modules, "mini_lib.taxonomy.skos", raising=False)
    monkeypatch.delattr(mini_lib.taxonomy, "skos", raising=False)
    with pytest.raises(ImportError, match=r"rdflib.*pip install"):
        as_turtle(TREE, SITE)


# ---------------------------------------------------------------- CSV

def unguarded(value: str) -> str:
    return value[1:] if re.match(r"'+[=+\-@\t\r＝＋－＠]", value) else value


def test_pandas_reads_the_table_back_with_equal_contents(exported):
    tree, folder = exported
    table = pandas.read_csv(folder / "works.csv", dtype=str, keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    labels = {node.id: node.label for node in tree.nodes}
    wanted = [(work.key, work.title, "; ".join(work.authors), str(work.authors_complete).lower(), work.year, work.venue,
               str(work.venue_verified).lower(), work.arxiv or "", work.doi or "", work.url or "", "; ".join(work.modalities),
               "; ".join(work.seen), work.record or "", filing.node, labels[filing.node], filing.role, filing.ground, filing.locator,
               filing.reason, tree.version) for work in tree.works for filing in work.filed]
    assert [tuple(map(unguarded, row)) for row in table.itertuples(index=False)] == wanted


def test_no_cell_can_be_a_formula(exported):
    cells = [value for row in csv.reader(io.StringIO(read(exported[1], "works.csv"), newline="")) for value in row]
    assert len(cells) > 20 * len(exported[0].works) and not [value for value in cells if value[:1] in ("=", "+", "-", "@", "\t", "\r")]


def test_a_carriage_return_stays_within_its_cell():
    work = replace(TREE.works[0], title="a\rb")      # `strict.py` refuses it in the files; objects may still hold it
    [row] = pandas.read_csv(io.StringIO(as_csv(replace(TREE, works=(work,)), SITE), newline=""), dtype=str).to_dict("records")[:1]
    assert row["title"] == "a\rb" and row["taxonomy_version"] == TREE.version


def test_a_name_that_would_part_in_two_is_refused(tmp_path):
    work = replace(TREE.works[0], authors=("Ada; Lovelace",))
    with pytest.raises(ValueError, match=f"{work.key}: 'Ada; Lovelace' holds a semicolon"):
        export(replace(TREE, works=(work,)), SITE, tmp_path / "out")
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------- BibTeX, CSL-JSON

SIGNS = {"textbackslash": "\\", "textbraceleft": "{", "textbraceright": "}", "textasciitilde": "~", "textasciicircum": "^",
         "textless": "<", "textgreater": ">", "textbar": "|", "textasciigrave": "`"}


def printed(code: str) -> str:
    """What TeX prints; an unknown command is a KeyError."""
    return re.sub(r"\\([a-zA-Z]+)|\\([%&$#_])|[{}]", lambda m: SIGNS[m[1]] if m[1] else m[2] or "", code)


def entry_venue(work: Work) -> tuple[str, str]:
    """Place and year of an entry, told apart by words and not by a pattern."""
    words = work.venue.split(", as ")[0].split()
    years = [word for word in words if word[:2] in ("19", "20") and len(word) == 4 and word.isdigit()]
    return (" ".join(word for word in words if word not in years), years[0]) if years else (work.venue, work.year)


@pytest.mark.parametrize(("venue", "place", "year", "note"), [
    ("CVPR 2016", "CVPR", "2016", None),
    ("NeurIPS 2023 Datasets and Benchmarks", "NeurIPS Datasets and Benchmarks", "2023", None),
    ("2024 IEEE Conference", "IEEE Conference", "2024", None), ("TMLR 2025, as A & B", "TMLR", "2025", r"published as: A \& B"),
    ("arXiv", "arXiv", "2015", None), ("2016", "2016", "2015", None), ("CVPR 2016, 2017", "CVPR 2016, 2017", "2015", None),
    ("2016-05-01", "2016-05-01", "2015", None),
])
def test_an_entry_says_the_year_of_its_venue_once(venue, place, year, note):
    tree = replace(TREE, works=(replace(TREE.works[0], venue=venue, venue_verified=True, year="2015"),))
    fields = parse_string(WRITERS["works.bib"](tree, SITE), "bibtex").entries[TREE.works[0].key].fields
    [said] = [fields[name] for name in ("journal", "booktitle", "howpublished") if name in fields]
    assert (said, fields["year"], fields.get("note")) == (place, year, note)


def test_pybtex_reads_the_works_back(exported):
    tree, folder = exported
    entries = parse_string(read(folder, "works.bib"), "bibtex").entries
    assert [*entries] == [work.key for work in tree.works]
    for work in tree.works:
        entry = entries[work.key]
        assert printed(entry.fields["title"]) == one_line(work.title)
        assert (entry.fields.get("eprint"), entry.fields.get("doi")) == (work.arxiv, work.doi)
        [venue] = [entry.fields[name] for name in ("journal", "booktitle", "howpublished") if name in entry.fields]
        place, year = entry_venue(work)
        assert (printed(venue), entry.fields["year"]) == (one_line(place), year)
        assert entry.fields["keywords"].split(", ") == [filing.node for filing in work.filed]
        names = [person.first_names + person.middle_names + person.prelast_names + person.last_names + person.lineage_names
                 for person in entry.persons["author"]]
        authors = [printed(" ".join(parts)) for parts in names]
        assert authors == [*map(one_line, work.authors), *([] if work.authors_complete else ["others"])]


def test_an_entry_has_the_type_of_its_venue():
    def kind(venue):
        tree = replace(TREE, works=(replace(TREE.works[0], venue=venue),))
        return parse_string(WRITERS["works.bib"](tree, SITE), "bibtex").entries[TREE.works[0].key].type
    assert {kind(venue) for venue in ("CVPR 2024", "Findings of ACL 2023", "ICLR 2014 Workshop")} == {"inproceedings"}
    assert {kind(venue) for venue in ("TMLR 2024", "IEEE TPAMI 2023", "Science China Information Sciences")} == {"article"}
    assert {kind(venue) for venue in ("arXiv", "Somewhere 2024")} == {"misc"}


def test_pybtex_reads_the_citations_back_with_the_version_in_every_key(exported):
    tree, folder = exported
    entries = parse_string(read(folder, "taxonomy.bib"), "bibtex").entries
    version = tree.version.replace(".", "_")
    assert [*entries] == [f"mx_v{version}", *(f"{node.id.lower().replace('-', '')}_v{version}" for node in tree.nodes)]
    for node, entry in zip(tree.nodes, [*entries.values()][1:], strict=True):
        assert printed(entry.fields["title"]) == one_line(f"{node.label} ({node.id})") and entry.type == "misc"
        assert f"version {tree.version}" in printed(entry.fields["howpublished"])


def test_csl_holds_the_whole_and_every_node(exported):
    tree, folder = exported
    items = json.loads(read(folder, "taxonomy.csl.json"))
    assert items == [cite_csl(node, tree, SITE) for node in (None, *tree.nodes)]
    assert len({item["id"] for item in items}) == len(items)
    known = {"id", "type", "title", "container-title", "author", "issued", "version", "URL", "language", "note"}
    for item in items:
        assert {*item} <= known and item["type"] in ("dataset", "entry-dictionary") and item["version"] == tree.version


# ---------------------------------------------------------------- LaTeX

def latex_labels(text: str) -> dict[str, str]:
    """Read the macro file as TeX would: braces, commands and definitions; returns what each id prints."""
    code = re.sub(r"(?<!\\)%.*", "", text)
    depth = 0
    for sign in re.findall(r"\\.|[{}]", code):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0, "a brace closes what none opened"
    assert depth == 0, "a brace stays open"
    known = {"makeatletter", "makeatother", "newcommand", "mxversion", "mxtaxonomy", "mxnode", "mxrequire", "ifcsname",
             "endcsname", "csname", "else", "fi", "edef", "ifx", "protected", "def", "detokenize", "space", "PackageError", "PackageWarning", "@namedef",
             "mx@wanted", "mx@unknown", "mx@retired", *SIGNS}
    assert {*re.findall(r"\\([a-zA-Z@]+)", code)} <= known
    lines = re.findall(r"^\\@namedef\{mx@(MX-\d{4})\}\{(?:\\mx@retired\{.*?\}\{.*?\}\{.*?\})?(.*)\}$", code, re.M)
    for _, body in lines:
        assert not re.search(r"(?<!\\)[%&$#_~^]", body)
    assert len(lines) == code.count(r"\@namedef")
    return {id: printed(body) for id, body in lines}


def test_the_macros_print_label_id_and_version(exported):
    tree, folder = exported
    assert latex_labels(read(folder, "taxonomy.tex")) == {
        node.id: one_line(f"{node.label} ({node.id}, v{tree.version})") for node in tree.nodes}


@pytest.mark.parametrize("break_it", [lambda s: s + "}", lambda s: s.replace(r"\textbraceleft", "{"), lambda s: s.replace(r"\&", "&"),
                                      lambda s: s + r"\unknown"])
def test_a_broken_macro_file_is_noticed(break_it):
    with pytest.raises(AssertionError):
        latex_labels(break_it(as_latex(hostile_tree(), SITE)))


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed; the reader above stands in for it")
def test_latex_sets_every_node_and_stops_at_an_unknown_one(tmp_path):
    tree = hostile_tree()
    latin = [node.id for node in tree.nodes if not re.search(r"[^\x00-\u017f]", node.label)]
    (tmp_path / "taxonomy.tex").write_text(as_latex(tree, SITE), encoding="utf-8")

    def run(body):
        head = r"\documentclass{article}\usepackage[T1]{fontenc}\input{taxonomy.tex}"
        (tmp_path / "m.tex").write_text(f"{head}\\begin{{document}}{body}\\end{{document}}", encoding="utf-8")
        return subprocess.run(["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "m.tex"],
                              cwd=tmp_path, capture_output=True, encoding="latin-1", timeout=120)

    uses = "\n\n".join(rf"\section{{\mxnode{{{id}}}}} \mxnode{{{id}}}" for id in latin)
    for _ in range(2):      # the second time it reads the table of contents that the first time wrote
        good = run(rf"\mxrequire{{0.2.0}}\tableofcontents \mxtaxonomy {uses} \mxnode{{{tree.nodes[-1].id}}}")
        assert good.returncode == 0, good.stdout[-2000:]
    assert "is retired since" in good.stdout
    assert "No node MX-9999 in version 0.2.0" in run(r"\mxnode{MX-9999}").stdout and run(r"\mxnode{MX-9999}").returncode
    assert "version 9.9.9 was asked for" in "".join(run(r"\mxrequire{9.9.9}").stdout.split("\n"))


# ---------------------------------------------------------------- the folder

def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_holds_every_file_and_its_sum(exported):
    _, folder = exported
    found = files(folder)
    sums = dict(reversed(line.split("  ")) for line in found.pop("SHA256SUMS").decode().splitlines())
    assert {*found} == {*WRITERS} and sums == {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def test_two_exports_are_the_same_bytes_and_replace_each_other(exported, small, tmp_path):
    tree, folder = exported
    paths = export(tree, SITE, tmp_path / "deep" / "out")
    assert paths == [tmp_path / "deep" / "out" / name for name in (*WRITERS, "SHA256SUMS")]
    assert files(tmp_path / "deep" / "out") == files(folder)
    export(replace(small, version="9.9.9"), SITE, tmp_path / "deep" / "out")
    assert files(tmp_path / "deep" / "out").keys() == files(folder).keys() and "9.9.9" in read(tmp_path / "deep" / "out", "works.csv")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_another_hash_seed_gives_the_same_bytes_and_loading_needs_no_rdflib(data, tmp_path):
    code = ("import json, sys\nfrom mini_lib import taxonomy\nfrom mini_lib.taxonomy.export import export\ntree = taxonomy.load()\n"
            "assert 'rdflib' not in sys.modules\nexport(tree, json.loads(sys.argv[1]), sys.argv[2])")
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    subprocess.run([sys.executable, "-c", code, json.dumps(SITE), tmp_path / "out"], cwd=ROOT, check=True, timeout=300,
                   env=os.environ | {"PYTHONHASHSEED": seed})
    assert files(tmp_path / "out") == files(data[1])


def boom(*_):
    raise RuntimeError("boom")


@pytest.fixture
def small():
    """One node and three works, quick to write."""
    return replace(TREE, nodes=(replace(TREE.nodes[0], see_also=(), works=()),), works=TREE.works[:3])


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_fails_leaves_the_old_folder_as_it_was(name, small, monkeypatch, tmp_path):
    out = tmp_path / "out"
    export(small, SITE, out)
    before = files(out)
    monkeypatch.setitem(WRITERS, name, boom)
    with pytest.raises(RuntimeError, match="boom"):
        export(replace(small, version="9.9.9"), SITE, out)
    assert files(out) == before and [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("step", ["write_bytes", "rename"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_disk_that_fails_leaves_the_old_folder_as_it_was(step, count, small, monkeypatch, tmp_path):
    out, calls, real = tmp_path / "out", [], getattr(Path, step)
    export(small, SITE, out)
    before = files(out)

    def failing(self, *args):
        calls.append(self)
        if len(calls) == count:
            raise OSError("the disk is full")
        return real(self, *args)

    monkeypatch.setattr(Path, step, failing)
    with pytest.raises(OSError, match="the disk is full"):
        export(replace(small, version="9.9.9"), SITE, out)
    assert files(out) == before and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_things_is_never_replaced(small, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="'mine.txt', which no export wrote.*Name a folder"):
        export(small, SITE, tmp_path)
    with pytest.raises(FileExistsError, match="is a file. Name a folder"):
        export(small, SITE, tmp_path / "mine.txt")
    assert files(tmp_path) == {"mine.txt": b"mine"}


def test_an_empty_folder_and_a_link_to_one_are_filled(small, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(small, SITE, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and {*files(tmp_path / "real")} == {*WRITERS, "SHA256SUMS"}
