"""A small book for tests that write: one chapter that keeps every house rule, and its own `mini_lib.book`."""

import shutil
from pathlib import Path

import nbformat

from mini_lib.book import lint
from mini_lib.book.stamp import stamp

REPOSITORY = Path(__file__).resolve().parents[2]
SLUG = "model/sample"

QUESTIONS = """
model/sample:
  - ask: Is `a < b` here?
    options:
      - {text: "Yes & no", why: It is "quoted" <b>text</b>.}
      - {text: "Yes", right: true, why: Because of the apostrophe's rule.}
  - ask: And now?
    options:
      - {text: "No", right: true, why: "So it is."}
      - {text: "Perhaps", why: "It is not."}
"""

PICTURE = """# alt: One bar of height 0.87 beside one of 0.06
import matplotlib.pyplot as plt
fig, axis = plt.subplots(figsize=(4, 2))
axis.bar(["found", "chance"], [0.87, 0.06])
plt.show()"""

SCRUBBER = '''from IPython.display import HTML
frames = "".join(f'<div class="frame" data-frame="{k}"{" hidden" if k else ""}><p>layer {k}</p></div>' for k in range(4))
HTML(f"""<figure class="scrubber" id="scrub-1"><label for="scrub-1-in">Layer</label>
<input type="range" id="scrub-1-in" min="0" max="3" value="0"> <output for="scrub-1-in" aria-live="polite">layer 0</output>
{frames}<figcaption>What each layer knows.</figcaption>
<script>(() => {{ const f = document.getElementById("scrub-1"), s = f.querySelector("input");
s.addEventListener("input", () => {{ f.querySelectorAll(".frame").forEach((d, k) => d.hidden = k != s.value);
f.querySelector("output").textContent = "layer " + s.value; }}); }})()</script></figure>""")'''


def make_chapter(code=("x = 1\nprint(x)", PICTURE, SCRUBBER), **sections) -> nbformat.NotebookNode:
    """A chapter that keeps all house rules. `sections` replaces the text below a heading: result="…"."""
    new = nbformat.v4
    texts = {"result": "It finds $p = 0.87$ and\n\n$$\\mathrm{softmax}(z)_i = \\frac{e^{z_i}}{\\sum_j e^{z_j}}$$",
             "takeaways": "> **Key takeaway.** Compare with chance.\n\n> **Caution.** One picture is no proof.",
             "limitations": "> **Our extension.** The survey's tree lacks this.", **sections}
    cells = [new.new_markdown_cell(
        "# A sample chapter\n\n> **The claim.** A bar of 0.87 is higher than one of 0.06.\n\n"
        "> **Learning goals.**\n>\n> - read a bar\n> - doubt a bar\n\n> **Prerequisites.** None.", id="head")]
    rest = list(code)
    for number, heading in enumerate(lint.SPINE):
        body = texts.get(heading.split(",")[0].lower().replace(" ", "_"), "Plain words.")
        cells.append(new.new_markdown_cell(f"## {heading}\n\n{body}", id=f"text-{number}"))
        if heading in ("Idea, equation, shapes, code", "Result", "Play with it") and rest:
            cells.append(new.new_code_cell(rest.pop(0), id=f"code-{number}"))
        if heading == "Check yourself":
            cells.append(new.new_code_cell(f'book.check_yourself("{SLUG}")', id="quiz"))
        if heading == "Cite this chapter":
            cells.append(new.new_code_cell(f'book.cite("{SLUG}")', id="cite"))
    return new.new_notebook(cells=cells)


def make_book(folder: Path, chapter=None) -> Path:
    """A book of one chapter with its own copy of `mini_lib.book`. Returns its root."""
    (folder / "chapters/model").mkdir(parents=True)
    (folder / "mini_lib/tiny/weights").mkdir(parents=True)
    for name in ("_config.yml", "mini_lib/__init__.py"):
        shutil.copy(REPOSITORY / name, folder / name)
    for name in ("mini_lib/book", "mini_lib/taxonomy"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mini_lib/tiny/weights/config.json").write_text("{}")
    (folder / "chapters/questions.yaml").write_text(QUESTIONS)
    (folder / "references.bib").write_text("@misc{a, eprint = {2412.02104}}\n")
    notebook = stamp(chapter or make_chapter(), SLUG, folder)
    nbformat.write(notebook, folder / f"chapters/{SLUG}.ipynb")
    return folder
