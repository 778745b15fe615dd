"""Works, search and coverage: the shipped data as objects, and what is counted of them."""

import random
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mini_lib import taxonomy
from mini_lib.taxonomy.coverage import NONE_FOUND, NOT_APPLICABLE, NOT_CODED, as_text, coverage, empty
from mini_lib.taxonomy.search import hits
from mini_lib.taxonomy.validate import read_sound
from mini_lib.taxonomy.works import MODALITIES, Filing, Search, Work

ROOT = Path(__file__).resolve().parents[2]
TREE = taxonomy.load()
HOSTILE = ["<script>alert(1)</script>", "a & b", '" onmouseover="x', "</td></table>", "'><img src=x>"]


def work(**fields):
    fields = {"key": "k", "title": "T", "authors": ("Ada Lovelace",), "authors_complete": True, "year": "2024", "venue": "V",
              "venue_verified": True, "arxiv": None, "doi": None, "url": None, "modalities": ("image",), "seen": ("title",),
              "record": None, "filed": (Filing("MX-0008", "introduces", "ours", "title", "R"),)} | fields
    return Work(**fields)


# ---------------------------------------------------------------- objects

def test_a_node_of_the_shipped_taxonomy_has_its_works():
    node = taxonomy.node("MX-0008")
    assert node.works and all(work.at("MX-0008") for work in node.works)
    assert node is taxonomy.node("visual token") is taxonomy.shipped().get("MX-0008")


def test_a_node_is_found_by_its_names_in_chinese_and_korean():
    for node in TREE.nodes:
        for said in node.translations.values():
            assert TREE.find(said.label) is node


def test_each_work_is_at_the_nodes_that_it_names_and_nowhere_else():
    for node in TREE.nodes:
        filed = {work.key for work in TREE.works if node.id in [filing.node for filing in work.filed]}
        assert {work.key for work in node.works} == filed


def test_what_prints_in_a_session_is_short_and_says_what_it_is():
    node = TREE.get("MX-0008")
    assert repr(node) == f"Node(MX-0008: 'Visual token', model/token/visual-token, {len(node.works)} works)"
    assert repr(TREE) == f"Taxonomy(MX {TREE.version}, {len(TREE.nodes)} nodes, {len(TREE.works)} works)"
    assert repr(work(authors=("A B", "C D"))) == "Work(k: A B and C D, 2024, 'T')"
    assert repr(work(authors=("A B", "C D", "E F"))) == "Work(k: A B et al., 2024, 'T')"
    assert "1 work)" in repr(replace(node, works=(work(),)))
    assert {node: 1}[node] == 1          # usable as a key


@pytest.mark.parametrize("fields, address", [({"arxiv": "2412.00001", "doi": "10.1/x"}, "https://arxiv.org/abs/2412.00001"),
                                             ({"doi": "10.1/x", "url": "https://x.org"}, "https://doi.org/10.1/x"),
                                             ({"url": "https://x.org"}, "https://x.org"), ({}, None)])
def test_the_address_of_a_work(fields, address):
    assert work(**fields).address == address


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text, self.links = [], [], "", []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(name for name, _ in attributes)))
        self.open.append(tag)
        self.links += [value for name, value in attributes if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(html):
    reader = Tags()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_is_escaped_in_a_notebook(text):
    bad = work(title=text, authors=(text,), venue=text, year=text, url="https://x.org/" + text)
    plain = work(url="https://x.org/")
    node = TREE.get("MX-0008")
    spoiled = replace(node, label=text, definition=text, slug=text, works=(bad,),
                      translations={text: replace(node.translations["zh"], label=text)})
    for thing, like in ((bad, plain), (spoiled, replace(node, works=(plain,), translations={"zh": node.translations["zh"]})),
                        (replace(TREE, title=text, nodes=(spoiled,)), replace(TREE, nodes=(node,)))):
        reader = parsed(thing._repr_html_())
        assert reader.tags == parsed(like._repr_html_()).tags and text in reader.text


def test_an_address_that_runs_a_script_is_not_made_a_link():
    assert parsed(work(url="javascript:alert(1)")._repr_html_()).links == []
    assert parsed(work(url="https://x.org/?a=1&b=2")._repr_html_()).links == ["https://x.org/?a=1&b=2"]


# ---------------------------------------------------------------- search

@pytest.mark.parametrize("words, id", [
    ("neuron", "MX-0014"), ("Neurons", "MX-0014"), ("visual tokens", "MX-0008"), ("image token", "MX-0008"), ("MX-0042", "MX-0042"),
    ("model/token", "MX-0007"), ("concept bottleneck", "MX-0029"), ("sparse autoencoder", "MX-0040"), ("hallucination", "MX-0037"),
    ("chain-of-thought", "MX-0035"), ("projector", "MX-0039"),
])
def test_search_puts_the_node_first(words, id):
    assert taxonomy.search(words, TREE)[0].id == id


@pytest.mark.parametrize("node", TREE.nodes, ids=lambda node: node.id)
def test_every_node_is_first_for_its_own_label_in_each_language(node):
    for label in (node.label, node.label.upper(), *(said.label for said in node.translations.values())):
        assert taxonomy.search(label, TREE)[0] is node, label


def test_search_says_why():
    hit = hits("神经元", TREE)[0]
    assert hit.why[0] == ("label in Chinese or Korean", TREE.get("MX-0014").translations["zh"].label)


def test_a_part_of_a_chinese_definition_and_a_korean_word_with_its_particle_are_enough():
    node = TREE.get("MX-0014")
    assert node in taxonomy.search(node.translations["zh"].definition[3:9], TREE)
    assert taxonomy.search(node.translations["ko"].label + "을", TREE)[0] is node


def test_titles_of_works_are_looked_through_only_when_asked():
    tree = replace(TREE, nodes=tuple(replace(node, works=(work(title="The xyzzy effect"),)) if node.id == "MX-0042" else node
                                     for node in TREE.nodes))
    assert taxonomy.search("xyzzy", tree) == []
    assert [node.id for node in taxonomy.search("xyzzy", tree, works=True)] == ["MX-0042"]


@pytest.mark.parametrize("words", ["", "  ", "!?", "\0", "𝕏" * 10, "a" * 100_000, "(" * 1000, "词" * 10_000])
def test_odd_words_find_nothing_and_harm_nothing(words):
    begin = time.process_time()
    taxonomy.search(words, TREE)
    assert time.process_time() - begin < 2


def test_retired_nodes_come_last():
    tree = replace(TREE, nodes=tuple(replace(node, status="deprecated") if node.id == "MX-0014" else node for node in TREE.nodes))
    assert taxonomy.search("neuron", tree)[-1].id == "MX-0014"


# ---------------------------------------------------------------- coverage

def small(works=(), searches=()):
    """The shipped tree with other works: each at MX-0008."""
    nodes = tuple(replace(node, works=tuple(works) if node.id == "MX-0008" else ()) for node in TREE.nodes)
    return replace(TREE, nodes=nodes, works=tuple(works), searches=tuple(searches))


def searched(nodes, modalities, date="2026-11-21"):
    return Search("S1", date, ("a list",), ("words",), "8", nodes, modalities, "Nothing.")


def test_shares_count_what_they_say():
    counted = coverage(small([
        work(key="a", seen=("title", "abstract"), filed=(Filing("MX-0008", "introduces", "ours", "abstract", "R"),)),
        work(key="b", authors_complete=False), work(key="c", venue_verified=False, seen=("code",)), work(key="d", seen=())]))
    assert counted["shares"] == {"works_with_all_authors": 0.75, "works_with_verified_venue": 0.75,
                                 "works_with_abstract_or_more_seen": 0.5, "filings_with_evidence_beyond_the_title": 0.25}
    assert counted["works_per_node"]["MX-0008"] == 4 and counted["works"] == counted["filings"] == 4


def test_without_works_there_is_no_share_and_no_accident():
    counted = coverage(small())
    assert set(counted["shares"].values()) == {None} and counted["works"] == 0
    assert "none to count" in as_text(counted, small())


def test_the_three_kinds_of_empty_are_kept_apart():
    tree = small([work(year="2025")], [searched(("MX-0008",), ("audio",))])
    token, heading, other = tree.get("MX-0008"), tree.get("MX-0006"), tree.get("MX-0042")
    assert empty(token, "audio", tree) == NONE_FOUND
    assert empty(token, "video", tree) == empty(other, "audio", tree) == NOT_CODED
    assert empty(heading, "audio", tree) == NOT_APPLICABLE
    assert empty(token, None, tree) == NOT_CODED          # one modality searched is not all of them
    cells = coverage(tree)["cells"]
    assert cells["MX-0006"] == NOT_APPLICABLE and cells["MX-0042"]["audio"] == NOT_CODED
    assert cells["MX-0008"]["audio"] == NONE_FOUND and cells["MX-0008"]["image"] == {"2025": 1, "2026": NOT_CODED}


def test_a_search_says_nothing_of_the_years_after_it():
    tree = replace(small([work(year="2024")], [searched(("MX-0008",), ("audio",), "2025-01-31")]), released="2026-11-21")
    assert coverage(tree)["cells"]["MX-0008"]["audio"] == {"2024": NONE_FOUND, "2025": NONE_FOUND, "2026": NOT_CODED}


def test_the_cells_add_up_to_the_works():
    cells = coverage(TREE)["cells"]
    for node in TREE.nodes:
        for modality in MODALITIES if isinstance(cells[node.id], dict) else ():
            row = cells[node.id][modality]
            number = sum(count for count in row.values() if isinstance(count, int)) if isinstance(row, dict) else 0
            assert number == sum(modality in work.modalities for work in node.works)


def test_the_schema_and_the_code_know_the_same_modalities():
    import json
    for name, part in (("works", "work"), ("protocol", "search")):
        schema = json.loads((ROOT / f"taxonomy/schema/{name}.schema.json").read_text(encoding="utf-8"))
        assert tuple(schema["$defs"][part]["properties"]["modalities"]["items"]["enum"]) == MODALITIES


# ---------------------------------------------------------------- ten thousand works

ENTRY = """  - key: "work{n}"
    title: "Title number {n}: what a model sees and says"
    authors: ["Ada Lovelace", "Alan Turing {n}", "Grace Hopper", "Kurt Gödel", "Emmy Noether"]
    authors_complete: true
    year: "2024"
    venue: "NeurIPS 2024"
    venue_verified: true
    arxiv: "{month}.{n:05d}"
    modalities: [image, text]
    seen: [title, authors, abstract]
    record: "https://example.org/paper/{n}"
    filed:
      - {{node: "{node}", role: introduces, ground: ours, locator: "abstract", reason: "It measures which patches an answer rests on."}}
"""


def test_ten_thousand_works_are_checked_in_seconds(tmp_path):
    import shutil
    shutil.copytree(ROOT / "taxonomy", tmp_path / "taxonomy", ignore=shutil.ignore_patterns("*.md", "*.svg"))
    nodes = [node.id for node in TREE.nodes if node.usage == "assign"]
    choose = random.Random(0)
    entries = [ENTRY.format(n=n, month=choose.choice(["2401", "2406", "2412"]), node=choose.choice(nodes)) for n in range(10_000)]
    entries[7000] = entries[7000].replace("work7000", "work6999")
    (tmp_path / "taxonomy/works.yaml").write_text("works:\n" + "".join(entries), encoding="utf-8")
    begin = time.process_time()
    tree, problems = read_sound(tmp_path)
    seconds = time.process_time() - begin
    print(f"10,000 works: {seconds:.1f} CPU seconds")
    assert problems == [f"taxonomy/works.yaml, line {7000 * 13 + 2}: work6999: its key 'work6999' is already that of "
                        "work6999. Remove one of the two."]
    assert len(tree.works) == 10_000 and seconds < 15
    begin = time.process_time()
    coverage(tree)
    taxonomy.search("patches of the picture", tree, works=True)
    assert time.process_time() - begin < 10


def test_nothing_here_imports_torch():
    code = ("import sys; from mini_lib import taxonomy; from mini_lib.taxonomy import commands; taxonomy.coverage(taxonomy.shipped()); "
            "taxonomy.search('token', taxonomy.shipped()); print(sorted({'torch', 'transformers', 'rdflib'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
