"""The commands: what they print, and their exit codes: 0 all well, 1 something to correct, 2 it could not be done."""

import argparse
import json
import shutil
from pathlib import Path

import pytest

from mini_lib import taxonomy
from mini_lib.taxonomy import commands

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
TREE = taxonomy.load()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    # Without the releases, so that a test may change the data and need not say so in the changelog.
    shutil.copytree(ROOT / "taxonomy", root / "taxonomy", ignore=shutil.ignore_patterns("releases"))
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, root)
    taxonomy.write_pages(root)
    return root


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def change(root, name, old, new):
    path = root / "taxonomy" / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def run(*words):
    parser = argparse.ArgumentParser()
    commands.add_parser(parser.add_subparsers())
    args = parser.parse_args(["taxonomy", *map(str, words)])
    return args.run(args)


def test_validate_counts_and_exits_with_0(copy, capsys):
    assert run("validate", "--root", copy) == 0
    assert capsys.readouterr().out == f"taxonomy: {len(TREE.nodes)} nodes, {len(TREE.works)} works, 0 problems\n"


def test_validate_prints_each_problem_and_exits_with_1(copy, capsys):
    change(copy, "nodes.yaml", 'see_also: ["MX-0022", "MX-0026"]', 'see_also: ["MX-9999"]')
    assert run("validate", "--root", copy) == 1
    out = capsys.readouterr().out
    assert "MX-0003 (Input and output): see_also points to MX-9999" in out and out.endswith("taxonomy: 1 problem\n")


def test_show_prints_the_node_named_by_several_words(capsys):
    assert run("show", "visual", "token") == 0
    out = capsys.readouterr().out
    assert out.startswith("MX-0008  Visual token\n") and "MX-0009 (Visual-textual token)" in out


@pytest.mark.parametrize("node", TREE.nodes, ids=lambda node: node.id)
def test_show_prints_all_that_the_data_say(node, capsys):
    assert run("show", node.slug) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(f"{node.id} {node.label}")
    filings = [(work, work.at(node.id)) for work in node.works]
    said = [node.definition, *node.alt_labels, *node.strengths, *node.limitations, *(said.label for said in node.translations.values()),
            *(match.term for match in node.matches), *(work.title for work, _ in filings), *(filing.reason for _, filing in filings),
            *(filing.role for _, filing in filings), f"Works ({len(filings)})" if filings else "Works: none yet."]
    for text in said:
        assert " ".join(text.split()) in out, text


def test_show_answers_an_unknown_name_with_the_nearest_and_exits_with_2(capsys):
    assert run("show", "visual", "tokne") == 2
    out, err = capsys.readouterr()
    assert out == "" and "Visual token (MX-0008)" in err


def test_commands_other_than_validate_refuse_unsound_data(copy, capsys):
    change(copy, "nodes.yaml", 'broader: ["MX-0001"]', 'broader: ["MX-0003"]')      # a circle
    for words in (["show", "token"], ["search", "token"], ["cite"], ["coverage"], ["lint", HERE / "manuscripts/clean.md"],
                  ["export", "--out", copy / "out"], ["check-work", HERE / "hostile/sound-works.yaml"]):
        assert run(*words, "--root", copy) == 2, words
        assert "leads back to the start" in capsys.readouterr().err
    assert not (copy / "out").exists()


@pytest.mark.parametrize("words, id", [("visual token", "MX-0008"), (TREE.get("MX-0014").translations["zh"].label, "MX-0014"),
                                       (TREE.get("MX-0014").translations["ko"].label, "MX-0014")])
def test_search_prints_id_label_and_why(words, id, capsys):
    assert run("search", *words.split()) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{id}  {TREE.get(id).label}\n    label")


def test_search_without_a_hit_says_so_and_exits_with_1(capsys):
    assert run("search", "xyzzy") == 1
    out, err = capsys.readouterr()
    assert out == "" and "'xyzzy'" in err


@pytest.mark.parametrize("format, said", [("text", "MX-0008"), ("bibtex", "@misc{mx0008_v"), ("latex", r"\mxnode{MX-0008}"),
                                          ("csl", '"type"')])
def test_cite_prints_each_format(format, said, capsys):
    assert run("cite", "visual", "token", "--format", format) == 0
    assert said in capsys.readouterr().out
    assert run("cite", "--format", format) == 0
    assert "MX-0008" not in capsys.readouterr().out


def test_what_cite_prints_has_no_fault_for_the_linter(tmp_path, capsys):
    for format in ("text", "bibtex", "latex", "csl"):
        for node in TREE.nodes[:8]:
            assert run("cite", node.id, "--format", format) == 0
    path = tmp_path / "all.tex"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert run("lint", path) == 0, capsys.readouterr().out


def test_lint_exits_with_0_1_and_2(tmp_path, capsys):
    assert run("lint", HERE / "manuscripts/clean.tex", HERE / "manuscripts/clean.bib") == 0
    assert capsys.readouterr().out == f"taxonomy {TREE.version}: 2 files, 0 faults\n"
    assert run("lint", HERE / "manuscripts/faulty.tex") == 1
    assert capsys.readouterr().out.count("faulty.tex:") == 9      # the tenth is of a node that is not retired here
    broken = tmp_path / "x.pdf"
    broken.write_bytes(b"%PDF\n\xff\0")
    assert run("lint", broken, tmp_path / "nope.tex", tmp_path, HERE / "manuscripts/clean.tex") == 2
    out, err = capsys.readouterr()
    assert "x.pdf, line 2: The byte 0xff is not UTF-8" in err and "nope.tex: No such file" in err
    assert out.endswith("0 faults, 3 not read\n")


def test_coverage_prints_a_table_or_json(capsys):
    assert run("coverage") == 0
    assert "works with all authors" in capsys.readouterr().out
    assert run("coverage", "--json") == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["works"] == len(TREE.works) and counted["works_per_node"]["MX-0008"] == len(TREE.get("MX-0008").works)


def test_export_writes_files_and_the_linter_finds_nothing_in_them(tmp_path, capsys):
    pytest.importorskip("rdflib")
    assert run("export", "--out", tmp_path / "out") == 0
    files = capsys.readouterr().out.split()
    assert files and all(Path(file).is_file() for file in files)
    assert run("lint", *files) == 0, capsys.readouterr().out


def test_diff_prints_a_section(copy, capsys):
    change(copy, "nodes.yaml", "label: Neuron\n", "label: Unit\n")
    assert run("diff", ROOT / "taxonomy", copy) == 0
    assert "- Renamed: MX-0014 (Unit), before: Neuron." in capsys.readouterr().out
    assert run("diff", copy, copy / "nowhere") == 2
    assert "There is no version of the taxonomy at" in capsys.readouterr().err


def test_release_writes_the_version_once_and_never_over_it(copy, capsys):
    shutil.copytree(ROOT / "taxonomy/releases", copy / "taxonomy/releases", ignore=shutil.ignore_patterns(f"{TREE.version}.json"))
    assert run("release", "--root", copy) == 0 and run("release", "--root", copy) == 0
    assert capsys.readouterr().out == f"taxonomy/releases/{TREE.version}.json\n" * 2
    change(copy, "nodes.yaml", "definition: ", "definition: >-\n      Reworded.\n    #")
    assert run("release", "--root", copy) == 1
    assert "is released, and the data differ" in capsys.readouterr().out


def test_check_work_exits_with_0_and_1(tmp_path, capsys):
    text = (HERE / "hostile/sound-works.yaml").read_text().replace("MX-0002", "MX-0008").replace("2412.00001", "2412.99999")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert run("check-work", path) == 0
    assert capsys.readouterr().out == f"{path}: this work can be proposed\n"
    path.write_text(text.replace("MX-0008", "MX-0001"))
    assert run("check-work", path) == 1
    assert f"{path}, line 14: lamp: it is filed at MX-0001" in capsys.readouterr().out
    assert run("check-work", tmp_path / "nope.yaml") == 2


def test_pages_are_not_written_from_broken_data(copy, capsys):
    before = (copy / "taxonomy/index.md").read_bytes()
    change(copy, "nodes.yaml", 'broader: ["MX-0001"]', 'broader: ["MX-0003"]')
    assert run("pages", "--root", copy) == 1
    assert "leads back to the start" in capsys.readouterr().out
    assert (copy / "taxonomy/index.md").read_bytes() == before


def test_pages_brings_the_pages_back_in_sync(copy, capsys):
    (copy / "taxonomy/nodes/MX-0008.md").unlink()
    assert run("pages", "--root", copy) == 0
    assert "taxonomy/nodes/MX-0008.md" in capsys.readouterr().out
    assert taxonomy.validate(copy) == []
